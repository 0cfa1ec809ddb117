"""Documents in; chunks to decode out: candidate mentions, prompt and transition table."""

from __future__ import annotations

import bisect
import collections
import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from insgenel_jax.decoding import mentions as spans
from insgenel_jax.decoding import table as decisions
from insgenel_jax.decoding.mentions import CandidateMention
from insgenel_jax.decoding.title_trie import TitleTrie
from insgenel_jax.generator import Generator
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.kb.occurrences import find_occurrences, is_stop_word, passes
from insgenel_jax.linker.directory import Settings
from insgenel_jax.retrieval.index import Index
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.retrieval.scope import retrieve
from insgenel_jax.text import chunking
from insgenel_jax.text.document import WORD, Document, Mention
from insgenel_jax.text.linked_text import (
    Tokens,
    encode_prompt,
    encode_source,
    encode_titles,
)

Span = tuple[int, int]

TITLES = 500_000  # whose tokens are remembered
MARGIN = 16  # tokens that the prompt may have more than the cut source


@dataclasses.dataclass(frozen=True)
class Parts:
    """All that linking needs.

    titles: the tree of all titles, where given mentions without candidates may take any
    of them. title_ids remembers the tokens of titles. Entities are left out if the
    generator's tokenizer has no tokens for their titles (untokenised), or, of a mention,
    if the model has no positions for mention and title, alone in a text (overlong).
    """

    generator: Generator
    kb: KnowledgeBase
    retriever: Retriever | None
    index: Index | None
    settings: Settings
    titles: TitleTrie | None = None
    title_ids: dict[int, list[int]] = dataclasses.field(default_factory=dict)
    untokenised: set[int] = dataclasses.field(default_factory=set)
    overlong: set[int] = dataclasses.field(default_factory=set)

    @functools.cached_property
    def room(self) -> int:
        """Positions that the instruction leaves for prompt and target of a chunk."""
        generator = self.generator
        taken = len(encode_prompt(generator.tokenizer, generator.instruction, ""))
        return generator.max_positions - taken - MARGIN


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Characters [start, end) of document number `document`, ready to decode.

    candidates are in the document's characters, the table's in the chunk's. source: the
    source tokens of the target, and EOS.
    """

    document: int
    start: int
    end: int
    candidates: list[CandidateMention]
    prompt: list[int]
    source: list[int]
    table: decisions.Table


def make_chunks(
    parts: Parts,
    documents: Sequence[Document],
    given: Sequence | None,
    lost: collections.Counter | None = None,
) -> list[Chunk]:
    """Cut documents into chunks that have something to decide, or may come to have.

    given: the spans to link of each document, in place of the dictionary's. lost: counts
    the candidate mentions that the border of a chunk cuts, as "cut".
    """
    lost = collections.Counter() if lost is None else lost
    if len(parts.title_ids) > TITLES:
        parts.title_ids.clear()
    matches = [
        _matches(parts, document.text, given and given[number])
        for number, document in enumerate(documents)
    ]
    lookups = _lookups(parts, documents, matches)
    # what may be allowed anywhere in the document bounds what a chunk can grow to
    allowed = [
        _allow_all(parts, found, lookup, None, given)
        for found, lookup in zip(matches, lookups, strict=True)
    ]
    _encode_titles(parts, [c for candidates in allowed for c in candidates])
    chunks = []
    for number, (document, candidates) in enumerate(
        zip(documents, allowed, strict=True)
    ):
        if not candidates:
            continue  # nothing to tokenise for
        tokens = encode_source(parts.generator.tokenizer, document.text)
        unfit = _find_unfit(parts, tokens, candidates)
        candidates = _leave_out(candidates, unfit)
        if not candidates:
            continue
        here = {(c.start, c.end) for c in candidates}
        found = [match for match in matches[number] if match[:2] in here]
        firsts = [match[0] for match in found]
        for start, end in _cut(parts, document.text, tokens, candidates):
            i, j = (bisect.bisect_left(firsts, edge) for edge in (start, end))
            inside = [match for match in found[i:j] if match[1] <= end]
            lost["cut"] += j - i - len(inside)
            kept = _allow_all(parts, inside, lookups[number], (start, end), given)
            kept = _leave_out(kept, unfit)
            args = parts, number, document.text, (start, end)
            chunk, cut = _build_fitting(*args, kept)
            lost["cut"] += cut
            if chunk is None and parts.settings.name_parts and given is None:
                chunk = build_chunk(*args, [])
            if chunk is not None:
                chunks.append(chunk)
    return chunks


def build_chunk(
    parts: Parts,
    number: int,
    text: str,
    span: Span,
    candidates: Sequence[CandidateMention],
) -> Chunk:
    """A chunk of a text with candidate mentions, which lie within it."""
    start, end = span
    inside = [
        dataclasses.replace(c, start=c.start - start, end=c.end - start)
        for c in candidates
    ]
    generator = parts.generator
    _encode_titles(parts, candidates)
    tokens = encode_source(generator.tokenizer, text[start:end])
    table = decisions.build_table(
        generator.tokenizer,
        tokens,
        inside,
        parts.title_ids.__getitem__,
        parts.settings.weights,
        parts.titles,
    )
    prompt = encode_prompt(generator.tokenizer, generator.instruction, text[start:end])
    source = [*tokens.ids.tolist(), generator.tokenizer.eos]
    return Chunk(number, start, end, list(candidates), prompt, source, table)


def add_name_parts(
    parts: Parts,
    documents: Sequence[Document],
    chunks: Sequence[Chunk],
    found: Sequence[Sequence[Mention]],
    lost: collections.Counter | None = None,
) -> dict[int, Chunk]:
    """Chunks in which parts of names linked before them are candidates: number -> chunk.

    A part is a word of a linked mention of several words that begins with a capital, is
    no initial and no stop word, and belongs to the names of one linked entity alone; it
    is a candidate, for that entity, wherever it stands behind the name and no candidate
    mention does. lost: counts those that the chunk has no room for, as "cut".
    """
    extra: dict[int, list[CandidateMention]] = {}
    by_document: dict[int, list[int]] = {}
    for number, chunk in enumerate(chunks):
        by_document.setdefault(chunk.document, []).append(number)
    for document, numbers in by_document.items():
        text = documents[document].text
        taken = [(c.start, c.end) for n in numbers for c in chunks[n].candidates]
        for start, end, title in _name_parts(text, found[document]):
            entity = parts.kb.find(title)
            if any(s < end and start < e for s, e in taken):
                continue
            for n in numbers:
                if chunks[n].start <= start and end <= chunks[n].end:
                    one = np.zeros(1)
                    extra.setdefault(n, []).append(
                        CandidateMention(start, end, np.array([entity]), one, one)
                    )
    again = {}
    for n, new in extra.items():
        old = chunks[n]
        text, span = documents[old.document].text, (old.start, old.end)
        chunk, cut = _build_fitting(
            parts, old.document, text, span, new, old.candidates
        )
        if chunk is not None:
            again[n] = chunk
        if lost is not None:
            lost["cut"] += cut
    return again


def _build_fitting(
    parts: Parts, number: int, text: str, span: Span, new, old=()
) -> tuple[Chunk | None, int]:
    """A chunk with as many of the new candidates as it has positions for, if any.

    -> it, and how many of them were cut.
    """
    kept = new
    while kept:
        candidates = sorted([*old, *kept], key=lambda c: (c.start, c.end))
        chunk = build_chunk(parts, number, text, span, candidates)
        size = len(chunk.prompt) + chunk.table.longest
        if size <= parts.generator.max_positions:
            return chunk, len(new) - len(kept)
        kept = kept[: len(kept) * 7 // 8]
    return None, len(new)


def _name_parts(text: str, mentions: Sequence[Mention]) -> list[tuple[int, int, str]]:
    """Where parts of linked names stand behind them: (start, end, title)."""
    first: dict[str, int] = {}
    titles: dict[str, set[str]] = {}
    for mention in sorted(mentions, key=lambda m: m.start):
        words = list(WORD.finditer(text, mention.start, mention.end))
        for word in words if len(words) > 1 and mention.entity else ():
            if word[0][0].isupper() and len(word[0]) > 1 and not is_stop_word(word[0]):
                first.setdefault(word[0], mention.end)
                titles.setdefault(word[0], set()).add(mention.entity)
    return [
        (word.start(), word.end(), *titles[word[0]])
        for word in WORD.finditer(text)
        if len(titles.get(word[0], ())) == 1 and word.start() >= first[word[0]]
    ]


def _matches(parts: Parts, text: str, given) -> list[tuple[int, int, int | None]]:
    """(start, end, form) of what may be a mention, in order."""
    if given is not None:
        return [(*s, parts.kb.form(text[slice(*s)])) for s in sorted(set(given))]
    found, settings = find_occurrences(parts.kb, text), parts.settings
    keep = passes(found, settings.case, settings.min_link_probability)
    return list(zip(*(column[keep].tolist() for column in found[:3]), strict=True))


def _lookups(parts: Parts, documents, matches) -> list[Callable]:
    """For each document: (chunk or None for all of it, mention) -> entities retrieved."""
    settings = parts.settings
    if settings.system == "insgenel":
        return [lambda chunk, span: None] * len(documents)
    texts = [
        document.text if found else ""  # nothing to link, nothing to retrieve
        for document, found in zip(documents, matches, strict=True)
    ]
    retrieved = retrieve(parts.retriever, parts.index, texts, top_k=settings.top_k)

    def lookup_in(text, windows):
        known = {}

        def lookup(chunk, span):
            whole = (0, len(text))
            place = {
                "window": span if chunk else whole,
                "chunk": chunk or whole,
                "document": whole,
            }[settings.scope]
            if place not in known:
                known.clear()  # mentions come in order: only the last place is of use
                known[place] = windows.touching(*place)
            return known[place]

        return lookup

    return list(map(lookup_in, texts, retrieved))


def _allow_all(parts: Parts, matches, lookup, chunk, given) -> list[CandidateMention]:
    allowed = []
    for start, end, form in matches:
        retrieved = lookup(chunk, (start, end))
        if form is not None:
            candidate = spans.allow(parts.kb, form, start, end, retrieved)
        elif retrieved is not None and len(retrieved.entities):
            candidate = spans.allow_all(start, end, retrieved)
        else:
            candidate = None
        if candidate is None and given is not None and parts.titles is not None:
            candidate = spans.allow_any_title(start, end)
        if candidate is not None:
            optional = given is None
            allowed.append(dataclasses.replace(candidate, optional=optional))
    return allowed


def _cut(
    parts: Parts, text: str, tokens: Tokens, candidates: Sequence[CandidateMention]
) -> list[Span]:
    """Chunks in which neither chunk_tokens nor the generator's positions run out.

    Every source token stands in the prompt and in the target; links add at most what
    those of any path do: four boundary tokens and the mention's longest title each.
    """
    generator = parts.generator
    first, last = _tokens_of(tokens, candidates)
    at, most = [0], [0]  # most[k]: what the links that end by token at[k] can add
    for k in np.argsort(last, kind="stable").tolist():
        titles = [len(parts.title_ids[e]) for e in candidates[k].entities.tolist()]
        if parts.titles is not None and not candidates[k].optional:
            # in its chunk it may have no candidates; END is among the four
            titles.append(parts.titles.longest - 1)
        before = most[bisect.bisect_right(at, first[k]) - 1]
        added = max(most[-1], before + 4 + max(titles))
        if last[k] > at[-1]:
            at.append(int(last[k]))
            most.append(added)
        most[-1] = added
    growth = np.zeros(len(tokens))
    growth[np.array(at[1:], int) - 1] = np.diff(most)
    # of whichever is scarcer, the share that a token takes
    per_chunk = parts.settings.chunk_tokens or generator.chunk_tokens
    costs = np.maximum(1 / per_chunk, (2 + growth) / max(parts.room, 1))
    joined = [(c.start, c.end) for c in candidates]
    return chunking.chunks(text, tokens.starts, costs, 1 + 1e-9, joined)


def _tokens_of(
    tokens: Tokens, candidates: Sequence[CandidateMention]
) -> tuple[np.ndarray, np.ndarray]:
    """The tokens [first, last) that each candidate mention takes, at least one."""
    starts, ends = np.array([(c.start, c.end) for c in candidates]).reshape(-1, 2).T
    first = np.searchsorted(tokens.starts, starts, side="left")
    first = np.minimum(first, len(tokens) - 1)
    return first, np.maximum(
        np.searchsorted(tokens.ends, ends, side="right"), first + 1
    )


def _encode_titles(parts: Parts, candidates: Sequence[CandidateMention]) -> None:
    """Put the tokens of all titles that the candidates need into `title_ids`.

    Those of a title without tokens stay out: its entity comes to `untokenised`.
    """
    title_ids = parts.title_ids
    wanted = {e for c in candidates for e in c.entities.tolist()}
    missing = sorted(wanted - title_ids.keys() - parts.untokenised)
    if not missing:
        return
    titles = [parts.kb.title(entity) for entity in missing]
    ids = encode_titles(parts.generator.tokenizer, titles)
    title_ids.update((e, i) for e, i in zip(missing, ids, strict=True) if i)
    parts.untokenised.update(e for e, i in zip(missing, ids, strict=True) if not i)


def _find_unfit(
    parts: Parts, tokens: Tokens, candidates: Sequence[CandidateMention]
) -> dict[Span, set[int]]:
    """The entities that a candidate mention cannot have, for those that have any such.

    They are in `untokenised`, or come to `overlong`.
    """
    unfit = {}
    first, last = _tokens_of(tokens, candidates)
    most = (parts.room - 4 - 2 * (last - first)).tolist()
    for candidate, room in zip(candidates, most, strict=True):
        here = set()
        for entity in candidate.entities.tolist():
            title = parts.title_ids.get(entity)
            if title is None or len(title) > room:
                here.add(entity)
        if here:
            unfit[candidate.start, candidate.end] = here
            parts.overlong.update(here - parts.untokenised)
    return unfit


def _leave_out(
    candidates: Sequence[CandidateMention], unfit: dict[Span, set[int]]
) -> list[CandidateMention]:
    """Candidate mentions without entities they cannot have, if others are left."""
    kept = []
    for candidate in candidates:
        left_out = unfit.get((candidate.start, candidate.end))
        if left_out:
            candidate = spans.leave_out(candidate, left_out)
        if candidate is not None:
            kept.append(candidate)
    return kept
