"""A system and a labelled set in; its links out, those that are kept not made again."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from insgenel_jax.evaluation import keep, losses, modes, scoring
from insgenel_jax.evaluation.systems import System, Unopened, Wanted
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.document import Document, Mention

GROUP = 64  # documents that are linked together: the most that a kill loses


@dataclasses.dataclass(frozen=True)
class Linked:
    """What one system gave for one set, and what that took. Unknown is None.

    everything: `documents` with the links below the threshold too. The rest: see
    `keep.Part` and `keep.Header`.
    """

    documents: Sequence[modes.Labelled]
    everything: Sequence[modes.Labelled]
    seconds: float | None = None
    calls: int | None = None
    candidates: Sequence[losses.Candidates] | None = None
    ranks: Sequence[Sequence[int | None]] | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    decoder: str | None = None
    threshold: float = 0.0
    kb: str | None = None
    golds: str = ""


def link_set(
    system: System | Unopened,
    opened: list[System],
    dataset: str,
    golds: Sequence[modes.Labelled],
    kb: KnowledgeBase | None,
    rules: modes.Rules,
    folder: Path | None,
    progress: Callable[[str], None],
) -> Linked:
    """The links of a set: those that are kept in a folder, and new ones for the rest.

    opened: the system once it is open; empty before. kb: what golds are looked up in.
    """
    documents, labels = modes.gold_documents(golds, rules), keep.digest(golds)
    header, parts, log = None, list[keep.Part](), None
    rows = find_rows(documents, kb, rules)
    if folder is not None:
        log = keep.log_path(folder, system.name, dataset)
        found = keep.resume(log, system.identity, documents, labels, rows)
        header, parts = found or (None, [])
    done = sum(len(part.documents) for part in parts)
    while header is None or done < len(documents):
        progress(
            f"{system.name} on {dataset}: {done} of {len(documents)} documents linked"
        )
        if not opened:
            opened.append(system.open() if isinstance(system, Unopened) else system)
        if header is None:
            header = _make_header(system, labels, rows, kb, opened[0])
            if log is not None:
                keep.begin(log, header)
        group = documents[done : done + GROUP]
        parts.append(_link(opened[0], group, kb, rules))
        if log is not None:
            keep.add(log, parts[-1])
        done += len(group)
    linked = join(header, parts)
    if log is not None:
        keep.finish(log, linked.documents)
    return linked


def join(header: keep.Header, parts: Sequence[keep.Part]) -> Linked:
    """The parts of a set as one, with the threshold applied."""
    everything = [document for part in parts for document in part.documents]
    kept = keep_links(everything, header.threshold)
    seconds = [part.seconds for part in parts if part.seconds is not None]
    calls = [part.calls for part in parts if part.calls is not None]
    candidates = [found for part in parts for found in part.candidates or ()]
    ranks = [found for part in parts for found in part.ranks or ()]
    return Linked(
        kept,
        everything,
        sum(seconds) if seconds else None,
        sum(calls) if calls else None,
        candidates if len(candidates) == len(kept) > 0 else None,
        ranks if len(ranks) == len(kept) > 0 else None,
        header.settings,
        header.decoder,
        header.threshold,
        header.kb,
        header.golds,
    )


def keep_links(documents: Sequence[Document], threshold: float) -> list[Document]:
    """The documents with the links whose score reaches the threshold."""
    return [
        dataclasses.replace(
            document,
            mentions=tuple(
                m for m in document.mentions if (m.score or 0.0) >= threshold
            ),
        )
        for document in documents
    ]


def find_rows(
    golds: Sequence[Document], kb: KnowledgeBase | None, rules: modes.Rules
) -> str:
    """A hash of the rows of the golds' entities; "" without a knowledge base."""
    return "" if kb is None else keep.digest([_wanted(g, kb, rules) for g in golds])


def _make_header(
    system: System | Unopened,
    labels: str,
    rows: str,
    kb: KnowledgeBase | None,
    opened: System,
) -> keep.Header:
    return keep.Header(
        system.name,
        system.identity,
        labels,
        None if kb is None else kb.identity,
        opened.settings,
        opened.decoder,
        opened.threshold,
        rows,
    )


def _link(
    system: System,
    golds: Sequence[Document],
    kb: KnowledgeBase | None,
    rules: modes.Rules,
) -> keep.Part:
    """Link documents without their labels, or with the spans of these alone."""
    bare = [_without_labels(document, spans=system.given) for document in golds]
    calls_before = system.calls() if system.calls else 0
    began = time.perf_counter()
    linked = system.link(bare)
    seconds = time.perf_counter() - began
    calls = system.calls() - calls_before if system.calls else None
    documents = [document for _, document in scoring.pair_documents(bare, linked)]
    candidates = ranks = None
    if kb is not None and system.candidates is not None:
        candidates = [
            _on_golds(gold, found)
            for gold, found in zip(golds, system.candidates(bare), strict=True)
        ]
    if kb is not None and system.ranks is not None:
        ranks = system.ranks(bare, [_wanted(gold, kb, rules) for gold in golds])
    return keep.Part(documents, seconds, calls, candidates, ranks)


def _without_labels(gold: Document, *, spans: bool) -> Document:
    """A document without its labels; with their spans alone if wanted."""
    own = gold.mentions if spans else ()
    return dataclasses.replace(
        modes.bare(gold), mentions=tuple(Mention(m.start, m.end, None) for m in own)
    )


def _on_golds(gold: Document, candidates: losses.Candidates) -> losses.Candidates:
    """The candidates on the spans of a document's golds."""
    spans = {(m.start, m.end) for m in gold.mentions}
    return {span: found for span, found in candidates.items() if span in spans}


def _wanted(gold: Document, kb: KnowledgeBase, rules: modes.Rules) -> list[Wanted]:
    """The golds of a document that a knowledge base holds."""
    rows = [
        (m.start, m.end, losses.find_entity(m, kb, rules.resolve))
        for m in gold.mentions
        if m.entity is not None
    ]
    return [(start, end, row) for start, end, row in rows if row is not None]
