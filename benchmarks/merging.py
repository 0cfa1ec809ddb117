"""Overlapping candidate mentions, merged into decision spans or asked for one by one.

    python benchmarks/merging.py [--documents 200] [--noise 0,0.25,0.5] [--json OUT]

The paper's algorithm 1 on texts of invented words whose candidate mentions overlap
(nested, of one start, chained, several compatible ones within a longer) and whose links
are known. In place of a model an oracle adds 1 to the logit of the right edge, and to
each edge normal noise of a standard deviation, the same for every way; where no edge is
right, as behind a wrong one, noise alone decides. Three ways: merged, as we do; merged, with
one link a span, as the release does; apart, where each candidate mention is asked for by
itself, longest first, and one that overlaps an accepted link is dropped. *length* is of
what is asked for together, in source tokens; *decisions* are choices among several edges,
*calls* those of the tree decoder, one a block.
"""

from __future__ import annotations

import json as jsonlib
import platform
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from decoding import invent_words
from rich.console import Console
from rich.table import Table as RichTable

from insgenel_jax.decoding import decisions
from insgenel_jax.decoding.decisions import CLOSE, COPY, END, ENTITY, OPEN
from insgenel_jax.decoding.spans import CandidateMention, merge_spans
from insgenel_jax.linked_text import Tokens, encode_source, encode_titles
from insgenel_jax.tokenizer import Tokenizer, train_bpe

# Candidate mentions over the words of a name, as (first, behind the last) word, and the
# sets of links that may be right.
PATTERNS = {
    "alone": ([(0, 2)], [[(0, 2)], []]),
    "nested": ([(0, 3), (1, 2)], [[(0, 3)], [(1, 2)], []]),
    "one start": ([(0, 1), (0, 2)], [[(0, 1)], [(0, 2)], []]),
    "chain": ([(0, 2), (1, 3)], [[(0, 2)], [(1, 3)], []]),
    "compatible": (
        [(0, 1), (0, 3), (2, 3)],
        [[(0, 1), (2, 3)], [(0, 3)], [(0, 1)], [(2, 3)], []],
    ),
}
GAP = 3  # words between two names
CANDIDATES = 4  # entities of a mention


class Case(NamedTuple):
    """A text, its candidate mentions, and gold: token start -> (token end, entity)."""

    tokens: Tokens
    mentions: list[CandidateMention]
    title_ids: list[list[int]]
    gold: dict[int, tuple[int, int]]


class Walk(NamedTuple):
    """What was linked, as (start, end, entity), and how often something was asked."""

    links: list[tuple[int, int, int]]
    decisions: int
    calls: int


def main(
    documents: int = 200,
    names: int = 8,
    noise: str = "0,0.25,0.5",
    seed: int = 0,
    json: Annotated[Path | None, typer.Option(help="write the numbers here")] = None,
) -> None:
    """Decode the same texts in the three ways, at each level of noise."""
    console, rng = Console(width=110), np.random.default_rng(seed)
    words = invent_words(rng, 400)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train_bpe([" ".join(words)] * 4, 2000, Path(folder) / "tokenizer")
    cases = [make_case(tokenizer, words, rng, names) for _ in range(documents)]
    about = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "documents": documents,
        "names in each": names,
        "candidate mentions": sum(len(case.mentions) for case in cases),
        "links": sum(len(case.gold) for case in cases),
        "seed": seed,
    }
    rows = []
    for level in map(float, noise.split(",")):
        for way in ("merged", "merged, one link a span", "apart"):
            rows.append(measure(tokenizer, cases, way, level))
    table = RichTable(title="overlapping candidate mentions")
    for name in rows[0]:
        table.add_column(name, justify="left" if name == "way" else "right")
    for row in rows:
        table.add_row(
            *(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values())
        )
    console.print(about)
    console.print(table)
    if json is not None:
        json.write_text(jsonlib.dumps({**about, "rows": rows}, indent=1) + "\n")


def make_case(tokenizer: Tokenizer, words: list[str], rng, names: int) -> Case:
    """A text with a name of every pattern, in turn, each with a random right answer."""
    pieces: list[str] = []
    spans, right = [], []  # in words
    for number in range(names):
        pieces += rng.choice(words, GAP).tolist()
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


def measure(tokenizer: Tokenizer, cases: Sequence[Case], way: str, noise: float):
    """Decode all cases in one way -> a row of the table."""
    lengths, asked, calls, right, found, wanted = [], 0, 0, 0, 0, 0
    for number, case in enumerate(cases):
        if way == "apart":
            by_length = sorted(case.mentions, key=lambda m: (m.start, -m.end))
            groups = [[mention] for mention in by_length]
        else:
            groups = [case.mentions]
        links: list[tuple[int, int, int]] = []
        for group in groups:
            table = decisions.build_table(
                tokenizer,
                case.tokens,
                group,
                case.title_ids.__getitem__,
                decisions.Weights(rest_of_span=way != "merged, one link a span"),
            )
            spans = merge_spans([mention[:2] for mention in table.mentions])
            lengths += [end - start for start, end in spans]
            walked = walk(table, case, f"{number}", noise)
            asked += walked.decisions
            calls += walked.calls
            links += [
                link
                for link in walked.links
                if all(link[1] <= a or b <= link[0] for a, b, _ in links)
            ]
        gold = {(start, end, entity) for start, (end, entity) in case.gold.items()}
        right += len(gold & set(links))
        found += len(links)
        wanted += len(gold)
    return {
        "noise": noise,
        "way": way,
        "spans": len(lengths),
        "length": float(np.mean(lengths)),
        "longest": max(lengths),
        "decisions": asked,
        "calls": calls,
        "P": 100 * right / max(found, 1),
        "R": 100 * right / wanted,
        "F1": 200 * right / (found + wanted),
    }


def walk(table: decisions.Table, case: Case, name: str, noise: float) -> Walk:
    """Greedy decoding with the oracle's logits."""
    state, p, start, prefix = 0, 0, None, None  # prefix: title tokens so far
    links, count, calls, fresh = [], 0, 0, True
    while degree := table.degree(state):
        edges = range(table.indptr[state], table.indptr[state] + degree)
        best = edges[0]
        if degree > 1:
            count, calls, fresh = count + 1, calls + fresh, False
            where = name, p, start, prefix
            logits = [
                _is_right(table, edge, case, p, start, prefix)
                + noise * _normal((*where, int(table.token[edge])))
                for edge in edges
            ]
            best = edges[int(np.argmax(logits))]
        kind = table.kind[best]
        if kind == OPEN:
            start = p
        elif kind == COPY:
            p += 1
        elif kind == ENTITY:
            prefix = ()
        elif kind == END:
            links.append((start, p, int(table.value[best])))
            start, prefix = None, None
        elif kind != CLOSE:
            prefix += (int(table.token[best]),)
        state = int(table.next[best])
        last = len(table.span_end) - 1
        if start is None and (state > last or table.span_end[state] == state):
            fresh = True  # outside of decision spans
        fresh = fresh or kind == END
    return Walk(links, count, calls)


def _is_right(table, edge, case: Case, p, start, prefix) -> bool:
    kind = table.kind[edge]
    if start is None:
        return (kind == OPEN) == (p in case.gold)
    if start not in case.gold:
        return False
    end, entity = case.gold[start]
    if prefix is None:
        return p < end if kind == COPY else p == end
    title = case.title_ids[entity]
    if p != end or tuple(title[: len(prefix)]) != prefix:
        return False
    if kind == END:
        return len(prefix) == len(title)
    return len(prefix) < len(title) and title[len(prefix)] == table.token[edge]


def _normal(key: tuple) -> float:
    """The same draw for the same edge in the same place, in whatever order."""
    return np.random.default_rng(zlib.crc32(repr(key).encode())).normal()


if __name__ == "__main__":
    typer.run(main)
