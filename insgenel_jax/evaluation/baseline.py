"""The prior-only baseline: documents in, documents linked by the dictionary alone out.

Longest dictionary match from left to right, most frequent entity; no context is read.
Its two settings are tuned on a development set, so that it is as strong as it can be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from insgenel_jax.evaluation.scoring import Same, score
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.kb.occurrences import CASES, Occurrences, find_occurrences, passes
from insgenel_jax.text.document import Document, Mention

CUT_OFFS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
CUT_OFFS += (0.6, 0.7, 0.8, 0.9)


@dataclasses.dataclass(frozen=True)
class PriorLinker:
    """Links documents by link counts. case, min_link_probability: the filters of
    kb.occurrences.passes."""

    kb: KnowledgeBase
    case: str = "any"
    min_link_probability: float = 0.0

    def __post_init__(self):
        if self.case not in CASES:
            raise ValueError(f"case: expected one of {CASES}, found {self.case!r}")

    def __call__(self, documents: Iterable[Document]) -> list[Document]:
        """The documents with the baseline's mentions in place of their own."""
        return [self._link(d, find_occurrences(self.kb, d.text)) for d in documents]

    def _link(self, document: Document, found: Occurrences) -> Document:
        mentions = []
        for i in self._choose(found):
            entities, counts = self.kb.candidates(int(found.forms[i]))
            entity = int(entities[0])
            mention = Mention(
                start=int(found.starts[i]),
                end=int(found.ends[i]),
                entity=self.kb.title(entity),
                external_id=self.kb.external_id(entity),
                score=float(counts[0] / counts.sum()),
            )
            mentions.append(mention)
        return dataclasses.replace(document, mentions=tuple(mentions))

    def _choose(self, found: Occurrences) -> list[int]:
        """Rows of the longest matches that pass, from left to right, none overlapping."""
        passing = passes(found, self.case, self.min_link_probability)
        chosen, reached = [], 0
        rows = np.flatnonzero(passing)
        for i in rows[np.lexsort((-found.ends[rows], found.starts[rows]))].tolist():
            if found.starts[i] >= reached:
                chosen.append(i)
                reached = found.ends[i]
        return chosen


def tune(
    kb: KnowledgeBase, documents: Sequence[Document], same: Same | None = None
) -> PriorLinker:
    """The baseline with the best micro F1 on development documents; ties: the first."""
    found = [find_occurrences(kb, document.text) for document in documents]
    best, best_f1 = PriorLinker(kb), -1.0
    for case in CASES:
        for cut_off in CUT_OFFS:
            linker = PriorLinker(kb, case, cut_off)
            pairs = zip(documents, found, strict=True)
            f1 = score(documents, [linker._link(*p) for p in pairs], same=same).micro.f1
            if f1 > best_f1:
                best, best_f1 = linker, f1
    return best
