"""The prior-only baseline: documents in, documents linked by the dictionary alone out.

It takes the longest dictionary matches from left to right and links each to its most
frequent entity, without reading the context. Its two settings are tuned on a
development set, which makes it as strong as such a linker can be.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from insgenel_jax.evaluation.scoring import Same, score
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.kb.occurrences import CASES, Occurrences, find_occurrences, passes
from insgenel_jax.text.document import Document, Mention

# the values of min_link_probability that tuning tries
CUT_OFFS: tuple[float, ...] = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07)
CUT_OFFS += (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclasses.dataclass(frozen=True)
class PriorLinker:
    """Links documents by link counts.

    case, min_link_probability: filters of candidate mentions, see
    `kb.occurrences.passes`. Raises ValueError for an unknown case.
    """

    kb: KnowledgeBase
    case: str = "any"
    min_link_probability: float = 0.0

    def __post_init__(self):
        if self.case not in CASES:
            raise ValueError(f"case: expected one of {CASES}, found {self.case!r}")

    def __call__(self, documents: Iterable[Document]) -> list[Document]:
        """The documents with the baseline's mentions in place of their own."""
        return [self.link(d, find_occurrences(self.kb, d.text)) for d in documents]

    def link(self, document: Document, occurrences: Occurrences) -> Document:
        """Link a document whose dictionary matches are known."""
        mentions = []
        for i in self._choose(occurrences):
            entities, counts = self.kb.candidates(int(occurrences.forms[i]))
            entity = int(entities[0])
            mention = Mention(
                start=int(occurrences.starts[i]),
                end=int(occurrences.ends[i]),
                entity=self.kb.title(entity),
                external_id=self.kb.external_id(entity),
                score=float(counts[0] / counts.sum()),
            )
            mentions.append(mention)
        return dataclasses.replace(document, mentions=tuple(mentions))

    def _choose(self, occurrences: Occurrences) -> list[int]:
        """Rows of the matches to link: from left to right, the longest that passes."""
        starts, ends = occurrences.starts, occurrences.ends
        chosen, reached = [], 0
        rows = np.flatnonzero(passes(occurrences, self.case, self.min_link_probability))
        for i in rows[np.lexsort((-ends[rows], starts[rows]))].tolist():
            if starts[i] >= reached:
                chosen.append(i)
                reached = ends[i]
        return chosen


def tune(
    kb: KnowledgeBase, documents: Sequence[Document], same: Same | None = None
) -> PriorLinker:
    """The baseline with the best micro F1 on labelled development documents.

    Among settings with equal F1 the first tried is taken. same: whether two mentions
    name one entity, see `scoring.score`.
    """
    occurrences = [find_occurrences(kb, document.text) for document in documents]
    best, best_f1 = PriorLinker(kb), -1.0
    for case, cut_off in itertools.product(CASES, CUT_OFFS):
        linker = PriorLinker(kb, case, cut_off)
        linked = list(map(linker.link, documents, occurrences))
        f1 = score(documents, linked, same=same).micro.f1
        if f1 > best_f1:
            best, best_f1 = linker, f1
    return best
