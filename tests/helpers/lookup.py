"""INSGENEL beside the lookup baseline: with large weights they give the same links."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from insgenel_jax.evaluation.baseline import PriorLinker
from insgenel_jax.kb.occurrences import (
    Occurrences,
    find_name_parts,
    find_occurrences,
    passes,
)
from insgenel_jax.linker import Linker
from insgenel_jax.linker.chunks import DocumentChunk
from insgenel_jax.text.document import WORD, Document
from insgenel_jax.text.linked_text import find_tokens

LARGE = {
    "system": "insgenel",
    "mention_bias": 1e3,
    "length_bias": 1e3,
    "prior_weight": 1e6,
}
Span = tuple[int, int]
Links = dict[Span, str | None]


class Comparison(NamedTuple):
    """What comes of linking documents both ways.

    links: how many the baseline gives. ambiguous: those whose form has several
    entities. ties: those whose form has several entities of the highest count. parts:
    those of parts of names. cut: dictionary matches that a "token" or a "chunk" cuts.
    reasons: places that differ for a reason that DESIGN.md names: a "token" or a
    "chunk" cuts a mention there, or counts "tie" (there, or for the name whose part it
    is). exceptions: the other places that differ, as (document, text, the baseline's
    entity, INSGENEL's).
    """

    links: int
    ambiguous: int
    ties: int
    parts: int
    cut: Counter[str]
    reasons: Counter[str]
    exceptions: list[tuple[str, str, str | None, str | None]]


def compare(linker: Linker, documents: Sequence[Document]) -> Comparison:
    """Link documents both ways, with the filters that the linker's settings have."""
    kb, settings = linker.kb, linker.settings
    filters = (settings.case, settings.min_link_probability, settings.capitalised_run)
    baseline = PriorLinker(kb, *filters, settings.name_parts)
    links = ambiguous = ties = parts = 0
    cut, reasons, exceptions = Counter(), Counter(), []
    chunks = [[] for _ in documents]
    for chunk in linker.chunks(documents):
        chunks[chunk.document].append(chunk)
    for document, chunked, linked in zip(
        documents, chunks, linker(documents), strict=True
    ):
        found = find_occurrences(kb, document.text)
        found = select(found, passes(found, *filters))
        why = np.array([cut_by(chunked, span) for span in spans_of(found)], str)
        placed = [c.chunk.table.mentions for c in chunked]
        assert (why == "").sum() == sum(map(len, placed))
        cut.update(why[why != ""].tolist())
        everything, within_chunks, expected = (
            as_links(baseline.link(document, select(found, ~np.isin(why, left_out))))
            for left_out in ([], ["chunk"], ["chunk", "token"])
        )
        # what the cut matches change of the baseline itself
        reasons["chunk"] += differ(everything, within_chunks)
        reasons["token"] += differ(within_chunks, expected)
        ours = as_links(linked)
        links += len(expected)
        tied = tied_words(linker, document.text, expected)
        meant = name_parts_of(linker, document.text, expected)
        for span in sorted(expected.keys() | ours.keys()):
            surface = document.text[slice(*span)]
            best = set() if span in meant else most_frequent(linker, surface)
            pair = expected.get(span), ours.get(span)
            parts += span in meant
            ambiguous += span not in meant and candidates_of(linker, surface) > 1
            ties += len(best) > 1
            if pair[0] == pair[1]:
                continue
            if best.issuperset(pair) or surface in tied:
                reasons["tie"] += 1
            elif span in meant and (reason := place_cut_by(chunked, span)):
                reasons[reason] += 1
            else:
                exceptions.append((document.id, surface, *pair))
    return Comparison(links, ambiguous, ties, parts, cut, +reasons, exceptions)


def select(found: Occurrences, rows: np.ndarray) -> Occurrences:
    """Some of the matches of a text."""
    columns = ("starts", "ends", "forms", "probability", "lower")
    return dataclasses.replace(
        found, **{name: getattr(found, name)[rows] for name in columns}
    )


def spans_of(found: Occurrences) -> list[Span]:
    return list(zip(found.starts.tolist(), found.ends.tolist(), strict=True))


def as_links(document: Document) -> Links:
    return {(m.start, m.end): m.entity for m in document.mentions}


def differ(a: Links, b: Links) -> int:
    """At how many places two linkings of a text differ."""
    return sum(a.get(span) != b.get(span) for span in a.keys() | b.keys())


def cut_by(chunks: Sequence[DocumentChunk], span: Span) -> str:
    """What keeps a match from being a candidate mention: "chunk", "token" or ""."""
    reason = "chunk"
    for chunk in chunks:
        if any((c.start, c.end) == span for c in chunk.candidates):
            at = span[0] - chunk.start, span[1] - chunk.start
            on_tokens = {(c.start, c.end) for _, _, c in chunk.chunk.table.mentions}
            reason = "" if at in on_tokens else "token"
    return reason


def place_cut_by(chunks: Sequence[DocumentChunk], span: Span) -> str:
    """The same of a place that the dictionary need not know: a part of a name."""
    for chunk in chunks:
        if chunk.start <= span[0] and span[1] <= chunk.end:
            at = span[0] - chunk.start, span[1] - chunk.start
            return "token" if find_tokens(chunk.tokens, *at) is None else ""
    return "chunk"


def name_parts_of(linker: Linker, text: str, links: Links) -> set[Span]:
    """The links that come of parts of names, by the rule that both sides share."""
    names = [(*span, linker.kb.find(title)) for span, title in links.items()]
    settings = linker.settings
    how = (settings.name_parts, settings.capitalised_run)
    if how[0] == "new":
        how = ("override", how[1])  # what overlaps candidates is not linked anyway
    return {part[:2] for part in find_name_parts(text, names, [], *how)} & links.keys()


def tied_words(linker: Linker, text: str, links: Links) -> set[str]:
    """The words of names of which several entities have the highest count."""
    if linker.settings.name_parts == "off":
        return set()
    return {
        word
        for start, end in links
        if len(words := WORD.findall(text, start, end)) > 1
        and len(most_frequent(linker, text[start:end])) > 1
        for word in words
    }


def candidates_of(linker: Linker, surface: str) -> int:
    return len(linker.kb.candidates(linker.kb.form(surface))[0])


def most_frequent(linker: Linker, surface: str) -> set[str | None]:
    """The titles of the entities that share the highest count of a surface form."""
    form = linker.kb.form(surface)
    if form is None:
        return set()
    entities, counts = linker.kb.candidates(form)
    return {linker.kb.title(e) for e in entities[counts == counts[0]].tolist()}
