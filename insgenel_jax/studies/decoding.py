"""A linker and labelled documents in; F1, calls and seconds of each way to decode out.

All ways decide the same candidate mentions with the same weights. With "whole trie" the
title of each may be any of the knowledge base, as where a decoder has one prefix tree
of all titles in place of candidates.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from insgenel_jax.evaluation.scoring import Resolve, Same, same_entity, score
from insgenel_jax.linker import Linker
from insgenel_jax.linker.chunks import (
    ChunkMaker,
    DocumentChunk,
    LeftOut,
    add_candidates,
)
from insgenel_jax.linker.scores import score_links
from insgenel_jax.linker.titles import SHARE, make_titles
from insgenel_jax.studies.rows import Progress, Row, silent
from insgenel_jax.studies.runtime import REPEATS, Timed, bare, time_linker
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.rejects import InputError

GREEDY = {"selection": "greedy", "decoder": "auto"}
WAYS: dict[str, dict[str, Any]] = {
    "greedy": GREEDY,
    "marginal": {"selection": "marginal", "decoder": "auto"},
    "2 beams": {"selection": "greedy", "decoder": "beam", "beams": 2},
    "6 beams": {"selection": "greedy", "decoder": "beam", "beams": 6},
}
WHOLE = "whole trie"
# Links passed over, and parts of names, are further decisions; a threshold needs a
# calibrator, which holds for one way to decode alone.
ALIKE = {"consider_unlinked": False, "name_parts": "off", "threshold": 0.0}


def study_decoding(
    linker: Linker,
    sets: Mapping[str, Sequence[Document]],
    resolve: Resolve,
    ways: Sequence[str] = (*WAYS, WHOLE),
    repeats: int = REPEATS,
    progress: Progress = silent,
) -> list[Row]:
    """For each way to decode, a row for each set. linker: without a calibrator.

    Raises InputError for a way that there is not.
    """
    same, rows = same_entity(resolve), []
    for way in ways:
        if way not in (*WAYS, WHOLE):
            raise InputError(f"--way {way}: expected one of {(*WAYS, WHOLE)}")
    for way in ways:
        progress(f"opening the linker: {way}")
        if way == WHOLE:
            opened, time_way = allow_all_titles(linker), time_whole
        else:
            opened = linker.with_settings(**ALIKE, **WAYS[way])
            time_way = time_linker
        for name, documents in sets.items():
            progress(f"decoding {name}: {way}")
            timed = time_way(opened, documents, repeats)
            rows.append(make_row(name, way, documents, timed, same))
    return rows


def make_row(
    name: str, way: str, documents: Sequence[Document], timed: Timed, same: Same
) -> Row:
    """A row: how good, and how dear."""
    micro = score(documents, timed.documents, same=same).micro
    return {
        "documents": name,
        "decoding": way,
        "texts": len(documents),
        "precision, %": 100 * micro.precision,
        "recall, %": 100 * micro.recall,
        "F1, %": 100 * micro.f1,
        "calls": timed.calls,
        "tokens": timed.tokens,
        "seconds": timed.seconds,
    }


def allow_all_titles(linker: Linker) -> Linker:
    """The linker with the tree of all titles, made anew where it is not open."""
    plain = linker.with_settings(**ALIKE, **GREEDY)
    settings = dataclasses.replace(plain.settings, titles="all", decoder="step")
    generator = linker.generator
    longest = generator.max_positions // SHARE
    titles = linker.titles or make_titles(linker.kb, generator.tokenizer, longest)
    parts = (generator, linker.kb, linker.retriever, linker.index)
    return Linker(*parts, settings, titles)


def time_whole(linker: Linker, documents: Sequence[Document], repeats: int) -> Timed:
    """Link as `time_linker` does, with any title for each candidate mention."""
    before = linker.stats.copy()
    linked, seconds = link_whole(linker, documents), []
    spent = linker.stats - before
    for _ in range(repeats):
        began = time.perf_counter()
        link_whole(linker, documents)
        seconds.append(time.perf_counter() - began)
    return Timed(linked, spent["calls"], spent["tokens"], statistics.median(seconds))


def link_whole(linker: Linker, documents: Sequence[Document]) -> list[Document]:
    """The documents with links to any title, on the linker's candidate mentions."""
    settings = linker.settings
    maker = ChunkMaker(
        linker.generator,
        linker.title_tokens,
        settings.weights,
        settings.chunk_tokens or linker.generator.chunk_tokens,
        linker.titles,
    )
    texts = bare(documents)
    chunks = [open_up(maker, chunk) for chunk in linker.chunks(texts)]
    mentions: list[list] = [[] for _ in texts]
    for chunk, path in zip(chunks, linker.decode(chunks), strict=True):
        for link in score_links(linker.kb, chunk, path, unlinked=False):
            mentions[chunk.document].append(link.mention)
    return [
        dataclasses.replace(
            text, mentions=tuple(sorted(found, key=lambda m: (m.start, m.end)))
        )
        for text, found in zip(texts, mentions, strict=True)
    ]


def open_up(maker: ChunkMaker, chunk: DocumentChunk) -> DocumentChunk:
    """A chunk whose candidate mentions may take any title.

    Those for which the model has no positions left keep their candidates.
    """
    anything = [
        dataclasses.replace(
            c,
            entities=c.entities[:0],
            log_prior=c.log_prior[:0],
            log_retriever=c.log_retriever[:0],
            retriever_scores=None,
            any_title=True,
        )
        for c in chunk.candidates
    ]
    return add_candidates(maker, chunk, anything, LeftOut()) or chunk
