"""Overlapping candidate mentions in; F1 and calls of each way to decide on them out.

This measures the paper's algorithm 1 on texts of invented words whose candidate
mentions overlap (nested, with the same start, chained, several compatible ones within a
longer one) and whose links are known. The tree decoder asks an oracle in place of a
model. The oracle gives the right next token the logit 1, and adds normal noise to every
token. Both depend on the text so far alone, as a model's logits do, and never on what
is allowed; so noise alone decides where no right token is allowed, as behind a wrong
one.

"merged" is our way, "merged, one link a span" the release's. "apart" decides on each
candidate mention by itself; of links that overlap only one can be marked. "in order"
keeps the first one, and the shortest of the same start (the longest would do worse). It
loses much, because the oracle opens wherever a right mention starts, and then a wrong
mention with that start can no longer be left unlinked. The fair rival is therefore "by
probability", which keeps the most probable of all links. *length* is that of the text
decided on together, in source tokens; *decisions* are choices among several edges;
*calls* are those of the tree decoder (each with a fresh prompt, if apart).
"""

from __future__ import annotations

import functools
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from insgenel_jax.decoding import tree
from insgenel_jax.decoding.build import build_table
from insgenel_jax.decoding.chunk import Chunk
from insgenel_jax.decoding.forward import Model
from insgenel_jax.decoding.mentions import CandidateMention, merge_spans
from insgenel_jax.decoding.options import Options
from insgenel_jax.decoding.path import read_links
from insgenel_jax.decoding.table import Table, Weights
from insgenel_jax.studies.rows import Progress, Row, silent
from insgenel_jax.text.linked_text import Tokens, encode_source, encode_titles
from insgenel_jax.tokenizer import Tokenizer, train_bpe

# name -> the candidate mentions over its words, as (first word, word behind the last),
# and the sets of links of which one is right
PATTERNS = {
    "alone": ([(0, 2)], [[(0, 2)], []]),
    "nested": ([(0, 3), (1, 2)], [[(0, 3)], [(1, 2)], []]),
    "one start": ([(0, 1), (0, 2)], [[(0, 1)], [(0, 2)], []]),
    "chain": (
        [(0, 2), (1, 3), (2, 4)],
        [[(0, 2), (2, 4)], [(0, 2)], [(1, 3)], [(2, 4)], []],
    ),
    "compatible": (
        [(0, 1), (0, 3), (2, 3)],
        [[(0, 1), (2, 3)], [(0, 3)], [(0, 1)], [(2, 3)], []],
    ),
}
BETWEEN = 3  # words between two names
CANDIDATES = 4  # entities of a mention
BATCH = 16
WAYS = (
    "merged",
    "merged, one link a span",
    "apart, in order",
    "apart, by probability",
)

Span = tuple[int, int]


class Case(NamedTuple):
    """A text, its candidate mentions by start and end, and what is right.

    gold: token start -> (token end, entity).
    """

    tokens: Tokens
    mentions: list[CandidateMention]
    title_ids: list[list[int]]
    gold: dict[int, tuple[int, int]]


def study_merging(
    documents: int = 200,
    names: int = 10,
    noises: Sequence[float] = (0.0, 0.25, 0.5),
    seed: int = 0,
    progress: Progress = silent,
) -> list[Row]:
    """A row for each way at each level of noise. names: those in each document."""
    rng = np.random.default_rng(seed)
    words = invent_words(rng, 400)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train_bpe([" ".join(words)] * 4, 2000, Path(folder) / "tokenizer")
    cases = [make_case(tokenizer, words, rng, names) for _ in range(documents)]
    model = Oracle(tokenizer, cases, seed).model()
    asked = {way: tables(tokenizer, cases, way) for way in WAYS}
    rows = []
    for noise in noises:
        for way in WAYS:
            progress(f"noise {noise:g}: {way}")
            figures = decode_all(model, cases, way, asked[way], noise)
            rows.append({"noise": noise, "way": way, **figures})
    return rows


def invent_words(rng: np.random.Generator, count: int) -> list[str]:
    """Words of two to four syllables."""
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    return ["".join(rng.choice(syllables, rng.integers(2, 5))) for _ in range(count)]


def make_case(tokenizer: Tokenizer, words: list[str], rng, names: int) -> Case:
    """A text with a name of every pattern, in turn, each with a random right answer."""
    pieces: list[str] = []
    spans, right = [], []  # in words
    for number in range(names):
        pieces += rng.choice(words, BETWEEN).tolist()
        candidates, answers = list(PATTERNS.values())[number % len(PATTERNS)]
        first = len(pieces)
        pieces += rng.choice(words, max(end for _, end in candidates)).tolist()
        spans += [(first + a, first + b) for a, b in candidates]
        answer = answers[rng.integers(len(answers))]
        right += [(first + a, first + b) for a, b in answer]
    starts = np.cumsum([0, *(len(piece) + 1 for piece in pieces)])
    tokens = encode_source(tokenizer, " ".join(pieces))
    titles, mentions, gold = [], [], {}
    for first, behind in sorted(spans):
        name = " ".join(pieces[first:behind])
        entities = np.arange(len(titles), len(titles) + CANDIDATES, dtype=np.int32)
        titles += [f"{name} ({word})" for word in rng.choice(words, CANDIDATES, False)]
        start, end = int(starts[first]), int(starts[behind]) - 1
        flat = np.full(CANDIDATES, -np.log(CANDIDATES))
        mentions.append(CandidateMention(start, end, entities, flat, 0 * flat))
        if (first, behind) in right:
            on = np.searchsorted(tokens.starts, [start, end]).tolist()
            gold[on[0]] = on[1], int(rng.choice(entities))
    return Case(tokens, mentions, encode_titles(tokenizer, titles), gold)


class Oracle:
    """A model that knows the right links. A prompt is the number of a case."""

    def __init__(self, tokenizer: Tokenizer, cases: Sequence[Case], seed: int):
        self.tokenizer, self.cases, self.seed = tokenizer, cases, seed
        self.places: list[tuple] = []  # as `_read` gives them
        self.numbers: dict[tuple, int] = {}  # of each of them

    def model(self) -> Model:
        """The functions of a model.

        `params` is the noise's standard deviation, a hidden state a place's number.
        """

        def forward(params, tokens, positions, mask, cache):
            rows = jnp.arange(len(tokens))[:, None]
            seen = cache["tokens"].at[rows, cache["slots"]].set(tokens, mode="drop")
            hidden = jax.ShapeDtypeStruct((*tokens.shape, 1), np.float32)
            hidden = jax.pure_callback(self._find, hidden, seen, *mask)
            return hidden, cache | {"tokens": seen}

        def unembed(params, hidden, token_ids):
            logits = jax.ShapeDtypeStruct(token_ids.shape, np.float32)
            return jax.pure_callback(self._score, logits, params, hidden, token_ids)

        def init_cache(batch, slots):
            tokens = jnp.zeros((batch, slots), jnp.int32)
            return {"tokens": tokens, "length": jnp.zeros(batch, jnp.int32)}

        def move_slots(cache, source, target):
            rows, old = jnp.arange(len(source))[:, None], cache["tokens"]
            kept = old.at[rows, source].get(mode="clip")
            return cache | {"tokens": old.at[rows, target].set(kept, mode="drop")}

        def tiles(pages, queries, seen, place, page):
            # the slots of each tile's row, in order
            slots = pages[..., None] * page + jnp.arange(page)
            return slots.reshape(*pages.shape[:2], -1), seen, place

        return Model(forward, unembed, init_cache, move_slots, tiles)

    def _find(self, tokens, slots, seen, place) -> np.ndarray:
        """The number of the place behind each token of a pack.

        tokens [1 S]: those in the cache. slots [1 G W]: of each tile's row, in order;
        seen [1 G Q W], place [1 N]: see models.tiles.
        """
        tokens, slots, seen, place = (
            np.asarray(x)[0] for x in (tokens, slots, seen, place)
        )
        numbers = np.zeros((1, len(place), 1), np.float32)
        for n, (tile, query) in enumerate(
            zip(*divmod(place, seen.shape[1]), strict=True)
        ):
            before = tokens[slots[tile][seen[tile, query]]]
            found = self._read(before.tolist())
            if found not in self.numbers:
                self.numbers[found] = len(self.places)
                self.places.append(found)
            numbers[0, n] = self.numbers[found]
        return numbers

    def _read(self, tokens: list[int]) -> tuple:
        """Case, source pointer, where a link was opened, and its title so far."""
        if not tokens:  # padding sees nothing
            return 0, 0, None, None
        p, start, title = 0, None, None
        for token in tokens[1:]:
            if token == self.tokenizer.open:
                start = p
            elif token == self.tokenizer.entity:
                title = ()
            elif token == self.tokenizer.end:
                start, title = None, None
            elif title is not None:
                title += (token,)
            elif token != self.tokenizer.close:
                p += 1
        return tokens[0], p, start, title

    def _score(self, noise, places, token_ids) -> np.ndarray:
        """The logits of token_ids [... C] at places [... 1]."""
        noise, token_ids = float(noise), np.asarray(token_ids)
        places = np.broadcast_to(np.asarray(places), token_ids.shape)
        logits = np.zeros(token_ids.shape, np.float32)
        for at in np.ndindex(token_ids.shape):
            place, token = self.places[int(places[at])], int(token_ids[at])
            right = token == self._right(place)
            logits[at] = right + noise * draw((self.seed, *place, token))
        return logits

    def _right(self, place: tuple) -> int | None:
        """The right next token; None behind a wrong one."""
        number, p, start, title = place
        case, tokenizer = self.cases[number], self.tokenizer
        if start is None:
            if p in case.gold:
                return tokenizer.open
            return int(case.tokens.ids[p]) if p < len(case.tokens) else None
        if start not in case.gold:
            return None
        end, entity = case.gold[start]
        if title is None and p < end:
            return int(case.tokens.ids[p])
        if p != end:
            return None
        if title is None:
            return tokenizer.close
        right = (*case.title_ids[entity], tokenizer.end)
        return right[len(title)] if right[: len(title)] == title else None


@functools.cache
def draw(key: tuple) -> float:
    """A normally distributed number that depends on the key alone."""
    return np.random.default_rng(zlib.crc32(repr(key).encode())).normal()


def tables(
    tokenizer: Tokenizer, cases: Sequence[Case], way: str
) -> list[tuple[int, Table]]:
    """The tables to decode in this way, each with the number of its case, in order."""
    weights = Weights(rest_of_span=way != "merged, one link a span")
    built = []
    for number, case in enumerate(cases):
        groups = [case.mentions]
        if way.startswith("apart"):
            groups = [[mention] for mention in case.mentions]
        for group in groups:
            table = build_table(
                tokenizer, case.tokens, group, case.title_ids.__getitem__, weights
            )
            built.append((number, table))
    return built


def decode_all(
    model: Model,
    cases: Sequence[Case],
    way: str,
    asked: Sequence[tuple[int, Table]],
    noise: float,
) -> dict[str, int | float]:
    """Decode all cases in one way. Returns the rest of a row of the printed table."""
    lengths, decided, calls = [], 0, 0
    linked: list[list] = [[] for _ in cases]  # (ln p, span on tokens, entity)
    for first in range(0, len(asked), BATCH):
        numbers, group = zip(*asked[first : first + BATCH], strict=True)
        chunks = [
            Chunk([number], [], table)
            for number, table in zip(numbers, group, strict=True)
        ]
        paths = tree.decode(
            model, np.float32(noise), chunks, batch=BATCH, options=Options()
        )
        for number, table, path in zip(numbers, group, paths, strict=True):
            spans = merge_spans([mention[:2] for mention in table.mentions])
            lengths += [end - start for start, end in spans]
            degrees = np.diff(table.indptr)
            states = np.searchsorted(table.indptr, path.edges, side="right") - 1
            decided += int((degrees[states] > 1).sum())
            calls += path.calls
            on_tokens = {id(c): (start, end) for start, end, c in table.mentions}
            linked[number] += [
                (link.log_prob, on_tokens[id(link.mention)], link.entity)
                for link in read_links(table, path.edges, path.log_probs)
            ]
    right = given = wanted = 0
    for case, links in zip(cases, linked, strict=True):
        if way == "apart, by probability":
            links.sort(key=lambda link: -link[0])
        kept: dict[Span, int] = {}
        for _, (start, end), entity in links:
            if all(end <= a or b <= start for a, b in kept):
                kept[start, end] = entity
        gold = {((start, end), e) for start, (end, e) in case.gold.items()}
        right += len(gold & set(kept.items()))
        given += len(kept)
        wanted += len(gold)
    return {
        "spans": len(lengths),
        "length": float(np.mean(lengths)),
        "longest": max(lengths),
        "decisions": decided,
        "calls": calls,
        "precision, %": 100 * right / max(given, 1),
        "recall, %": 100 * right / wanted,
        "F1, %": 200 * right / (given + wanted),
    }
