"""The prior-only baseline: documents in, documents linked by the dictionary alone out.

It takes the longest dictionary matches from left to right and links each to its most
frequent entity, without reading the context. Its settings are tuned on a development
set (`tuning.tune_prior`), which makes it as strong as such a linker can be.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np

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
from insgenel_jax.linker.calibrator import Calibrator
from insgenel_jax.linker.features import Features, ScoredLink, prior_margin
from insgenel_jax.text.document import Document, Mention


@dataclasses.dataclass(frozen=True)
class PriorLinker:
    """Links documents by link counts.

    case, min_link_probability, capitalised_run: filters of candidate mentions, see
    `kb.occurrences.passes`. name_parts: what a part of a linked name means in the rest
    of the document, see `kb.occurrences.find_name_parts`. threshold: a link below this
    score is left out, at the very end: a name lends its parts whatever its score. A
    link's score is the calibrator's; without one it is p(entity | surface form), and 1
    for a part of a name. Raises ValueError for an unknown choice.
    """

    kb: KnowledgeBase
    case: str = "any"
    min_link_probability: float = 0.0
    capitalised_run: str = "any"
    name_parts: str = "off"
    threshold: float = 0.0
    calibrator: Calibrator | None = None

    def __post_init__(self):
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name}: expected one of {choices}, found {value!r}")

    def __call__(self, documents: Iterable[Document]) -> list[Document]:
        """The documents with the baseline's mentions in place of their own."""
        return [self.link(d, find_occurrences(self.kb, d.text)) for d in documents]

    def link(self, document: Document, occurrences: Occurrences) -> Document:
        """Link a document whose dictionary matches are known."""
        mentions = self._find(document.text, occurrences)
        if self.calibrator is not None:
            linked = dataclasses.replace(document, mentions=mentions)
            links = self.calibrator.score(document.text, explain(self.kb, linked))
            mentions = tuple(link.mention for link in links)
        kept = tuple(m for m in mentions if (m.score or 0.0) >= self.threshold)
        return dataclasses.replace(document, mentions=kept)

    def _find(self, text: str, occurrences: Occurrences) -> tuple[Mention, ...]:
        """All mentions of a text, with scores that are not calibrated."""
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
            text,
            [(*span, entity) for span, (entity, _) in linked.items()],
            forms.keys(),
            self.name_parts,
            self.capitalised_run,
        )
        meant = {(start, end): (entity, 1.0) for start, end, entity in parts}
        for span in choose(forms.keys() | meant.keys()) if meant else ():
            linked[span] = meant.get(span) or linked[span]
        return tuple(
            Mention(
                *span, self.kb.title(entity), self.kb.external_id(entity), score=score
            )
            for span, (entity, score) in sorted(linked.items())
        )

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


def explain(kb: KnowledgeBase, document: Document) -> list[ScoredLink]:
    """The baseline's links of a document, with what link counts tell of each.

    document: as the baseline has linked it.
    """
    return [
        ScoredLink(mention, True, _features(kb, document.text, mention))
        for mention in document.mentions
    ]


def _features(kb: KnowledgeBase, text: str, mention: Mention) -> Features:
    """What link counts tell of a link; nan for what a generator or retriever would."""
    unknown = Features(*[math.nan] * len(Features._fields))
    form = kb.form(text[mention.start : mention.end])
    entity = kb.find(mention.entity or "")
    popularity = math.nan if entity is None else kb.popularity(entity)
    if form is None:  # a part of a name
        return unknown._replace(
            documents_linked=0, documents_seen=0, candidates=1, popularity=popularity
        )
    entities, counts = kb.candidates(form)
    log_prior = np.log(counts / counts.sum())
    row = np.flatnonzero(entities == entity)
    linked, seen = (int(n[0]) for n in kb.document_counts([form]))
    return unknown._replace(
        prior=float(log_prior[row[0]]) if len(row) else math.nan,
        link_probability=float(kb.link_probability([form])[0]),
        documents_linked=linked,
        documents_seen=seen,
        candidates=len(entities),
        prior_margin=prior_margin(log_prior, row),
        popularity=popularity,
    )
