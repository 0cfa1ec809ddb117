"""Checked documents in; their scored links, or the documents with links, out.

    decide -> scores -> calibrator -> threshold

What the generator reads may be another text than the document's (`spacing`): links are
moved back to the document's characters before they are scored.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any

from insgenel_jax.linker import spacing
from insgenel_jax.linker.decide import Decided, Parts, decide
from insgenel_jax.linker.features import ScoredLink
from insgenel_jax.linker.scores import score_links
from insgenel_jax.linker.sections import group_sections
from insgenel_jax.linker.settings import Settings
from insgenel_jax.text.document import Document, Mention

Span = tuple[int, int]

# A decision with a smaller margin may come out differently on other hardware or in
# another batch, where rounding differs.
TIE = 1e-4


def link_documents(
    parts: Parts, documents: Sequence[Document], given: list[list[Span]] | None
) -> list[Document]:
    """The documents with the links whose score reaches the threshold.

    given: spans of each document, all of which come back, linked or not.
    """
    settings = parts.settings
    scored = score_documents(parts, documents, given, settings.consider_unlinked)
    linked = []
    for number, links in enumerate(scored):
        mentions = [
            link.mention
            for link in links
            if (link.mention.score or 0.0) >= settings.threshold
        ]
        parts.stats["links"] += len(mentions)
        if given is not None:
            by_span = {(m.start, m.end): m for m in mentions}
            mentions = [
                by_span.get(span, Mention(*span, entity=None)) for span in given[number]
            ]
        mentions.sort(key=lambda m: (m.start, m.end))
        linked.append(dataclasses.replace(documents[number], mentions=tuple(mentions)))
    return linked


def score_documents(
    parts: Parts,
    documents: Sequence[Document],
    given: list[list[Span]] | None,
    unlinked: bool,
    vocabulary: bool = False,
) -> list[list[ScoredLink]]:
    """The links of each document, with their scores; all is counted.

    unlinked, vocabulary: give those passed over too, and vocabulary scores.
    """
    scored: list[list[ScoredLink]] = [[] for _ in documents]
    for group in group_sections(documents, given):
        texts = [section.document for section in group]
        spans = None if given is None else [section.given or [] for section in group]
        decided = decide(parts, *as_read(parts.settings, texts, spans), vocabulary)
        count(parts, decided)
        began = time.perf_counter()
        links = score_decided(parts, texts, decided, unlinked)
        parts.usage["host"] += round((time.perf_counter() - began) * 1e6)
        for section, found in zip(group, links, strict=True):
            scored[section.number] += section.place(found)
    parts.stats["documents"] += len(documents)
    return scored


def as_read(
    settings: Settings,
    documents: Sequence[Document],
    given: Sequence[Sequence[Span]] | None,
) -> tuple[Sequence[Document], Sequence[Sequence[Span]] | None]:
    """The documents, and mentions given for them, as the generator reads them."""
    if settings.punctuation == "as_is":
        return documents, given
    return spacing.space_documents(documents, given)


def places_read(settings: Settings, documents: Sequence[Document]) -> list[Any] | None:
    """Where each character that the generator reads stands in the text; None where it
    reads the text as it is."""
    if settings.punctuation == "as_is":
        return None
    return [spacing.space_punctuation(document.text)[1] for document in documents]


def count(parts: Parts, decided: Sequence[Decided]) -> None:
    """Add what was decided, and what was left out, to the statistics."""
    stats = parts.stats
    for chunk, path in decided:
        stats["decided"] += len(chunk.chunk.table.mentions)
        stats["chunks"] += bool(chunk.chunk.table.mentions)
        stats["dropped"] += chunk.chunk.table.dropped
        stats["ties"] += path.margin < TIE
        stats["dead"] += path.score == -math.inf
    stats["cut"] = parts.left_out.cut
    stats["overlong"] = len(parts.left_out.overlong)
    stats["untokenised"] = len(parts.chunk_maker.title_tokens.untokenised)


def score_decided(
    parts: Parts,
    documents: Sequence[Document],
    decided: Sequence[Decided],
    unlinked: bool,
) -> list[list[ScoredLink]]:
    """The links on the paths that were decided, of each document, with their scores."""
    scored: list[list[ScoredLink]] = [[] for _ in documents]
    for chunk, path in decided:
        scored[chunk.document] += score_links(
            parts.kb,
            chunk,
            path,
            unlinked=unlinked,
            others=parts.settings.other_candidates,
        )
    if (places := places_read(parts.settings, documents)) is not None:
        scored = [
            [spacing.move_back(link, of_text) for link in links]
            for links, of_text in zip(scored, places, strict=True)
        ]
    if parts.calibrator is None:
        return scored
    return [
        parts.calibrator.score(document.text, links)
        for document, links in zip(documents, scored, strict=True)
    ]
