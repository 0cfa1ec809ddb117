"""Linkers and documents in; calls, choices, tokens and seconds out.

This is the paper's table 4. Seconds are the median of some runs over all documents,
after one run that compiles, and include tokenising and the retriever.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax

from insgenel_jax.linker import Linker
from insgenel_jax.linker.chunks import DocumentChunk
from insgenel_jax.retrieval.scope import retrieve
from insgenel_jax.studies.rows import Progress, Row, silent
from insgenel_jax.text.document import Document

REPEATS = 3


class Timed(NamedTuple):
    """Documents as a linker links them; its calls and tokens; the median seconds."""

    documents: list[Document]
    calls: int
    tokens: int
    seconds: float


def study_runtime(
    linkers: Iterable[tuple[str, Linker]],
    sets: Mapping[str, Sequence[Document]],
    repeats: int = REPEATS,
    progress: Progress = silent,
) -> list[Row]:
    """A row for each linker and each set.

    linkers: with their names; may be a generator, which then opens a linker when its
    turn comes.
    """
    rows = []
    for name, linker in linkers:
        for of_set, documents in sets.items():
            progress(f"timing {name} on {of_set}")
            timed = time_linker(linker, documents, repeats)
            row = {
                "documents": of_set,
                "linker": name,
                "parameters": count_parameters(linker),
                "texts": len(documents),
                "calls": timed.calls,
                "choices": count_choices(linker.chunks(bare(documents))),
                "tokens": timed.tokens,
                "seconds": timed.seconds,
                "of them retrieval": time_retrieval(linker, documents, repeats),
                "calls a document": timed.calls / len(documents),
                "ms a document": 1000 * timed.seconds / len(documents),
            }
            rows.append(row)
    return rows


def bare(documents: Sequence[Document]) -> list[Document]:
    """The documents without their labels."""
    return [Document(document.id, document.text) for document in documents]


def time_linker(
    linker: Linker, documents: Sequence[Document], repeats: int = REPEATS
) -> Timed:
    """Link documents once to compile, and then `repeats` times."""
    texts = bare(documents)
    before = linker.stats.copy()
    linked = linker(texts)
    spent = linker.stats - before
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        linker(texts)
        seconds.append(time.perf_counter() - began)
    median = statistics.median(seconds)
    return Timed(linked, spent["calls"], spent["tokens"], median)


def time_retrieval(
    linker: Linker, documents: Sequence[Document], repeats: int = REPEATS
) -> float | None:
    """The seconds that the retriever alone takes; None for a linker without one."""
    settings = linker.settings
    if settings.system != "insgenel-r":
        return None
    texts, seconds = [document.text for document in documents], []
    for _ in range(repeats):
        began = time.perf_counter()
        retrieve(linker.retriever, linker.index, texts, top_k=settings.top_k)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def count_choices(chunks: Sequence[DocumentChunk]) -> int:
    """What the paper's release counts: each candidate mention, and each entity of those
    mentions that have several."""
    entities = [len(c.entities) for chunk in chunks for c in chunk.candidates]
    return len(entities) + sum(count for count in entities if count > 1)


def count_parameters(linker: Linker) -> int:
    """The number of the generator's parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(linker.generator.params))
