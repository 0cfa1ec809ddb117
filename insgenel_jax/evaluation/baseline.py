"""The prior-only baseline: documents in, documents linked by the dictionary alone out.

It takes the longest dictionary matches from left to right and links each to its most
frequent entity, without reading the context. Its settings are tuned on a development
set, which makes it as strong as such a linker can be.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from insgenel_jax.evaluation.scoring import Same, score
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.kb.occurrences import (
    CAPITALISED_RUNS,
    CASES,
    NAME_PARTS,
    Occurrences,
    Span,
    find_name_parts,
    find_occurrences,
    passes,
)
from insgenel_jax.text.document import Document, Mention

# the values of min_link_probability that tuning tries
CUT_OFFS: tuple[float, ...] = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07)
CUT_OFFS += (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclasses.dataclass(frozen=True)
class PriorLinker:
    """Links documents by link counts.

    case, min_link_probability, capitalised_run: filters of candidate mentions, see
    `kb.occurrences.passes`. name_parts: what a part of a linked name means in the rest
    of the document, see `kb.occurrences.find_name_parts`. threshold: a link below this
    score is left out. A link's score is p(entity | surface form), and 1 for a part of a
    name. Raises ValueError for an unknown choice.
    """

    kb: KnowledgeBase
    case: str = "any"
    min_link_probability: float = 0.0
    capitalised_run: str = "any"
    name_parts: str = "off"
    threshold: float = 0.0

    def __post_init__(self):
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name}: expected one of {choices}, found {value!r}")

    def __call__(self, documents: Iterable[Document]) -> list[Document]:
        """The documents with the baseline's mentions in place of their own."""
        return [self.link(d, find_occurrences(self.kb, d.text)) for d in documents]

    def link(self, document: Document, occurrences: Occurrences) -> Document:
        """Link a document whose dictionary matches are known."""
        rows = passes(
            occurrences, self.case, self.min_link_probability, self.capitalised_run
        )
        columns = (occurrences.starts, occurrences.ends, occurrences.forms)
        columns = (column[rows].tolist() for column in columns)
        forms = {(start, end): form for start, end, form in zip(*columns, strict=True)}
        linked = {span: self._most_frequent(forms[span]) for span in choose(forms)}
        # Parts have no parts of their own, and a part is linked only where no longer
        # mention is: the names stay linked when their parts are added.
        parts = find_name_parts(
            document.text,
            [
                (*span, entity)
                for span, (entity, score) in linked.items()
                if score >= self.threshold
            ],
            forms.keys(),
            self.name_parts,
            self.capitalised_run,
        )
        meant = {(start, end): (entity, 1.0) for start, end, entity in parts}
        for span in choose(forms.keys() | meant.keys()) if meant else ():
            linked[span] = meant.get(span) or linked[span]
        mentions = [
            Mention(
                *span, self.kb.title(entity), self.kb.external_id(entity), score=score
            )
            for span, (entity, score) in sorted(linked.items())
            if score >= self.threshold
        ]
        return dataclasses.replace(document, mentions=tuple(mentions))

    def _most_frequent(self, form: int) -> tuple[int, float]:
        """The entity that a form names most often, and how large its share is."""
        entities, counts = self.kb.candidates(form)
        return int(entities[0]), float(counts[0] / counts.sum())


CHOICES = {
    "case": CASES,
    "capitalised_run": CAPITALISED_RUNS,
    "name_parts": NAME_PARTS,
}


def choose(spans: Iterable[Span]) -> list[Span]:
    """From left to right, the longest spans that do not overlap."""
    chosen, reached = [], 0
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start >= reached:
            chosen.append((start, end))
            reached = end
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
