"""The prior-only baseline: documents in, documents linked by the dictionary alone out.

Longest dictionary match from left to right, most frequent entity; no context is read.
Its two settings are tuned on a development set, so that it is as strong as it can be.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from insgenel_jax.document import Document, Mention
from insgenel_jax.evaluation.scoring import Same, score
from insgenel_jax.kb.knowledge_base import KnowledgeBase

CASES = ("any", "capitalised")
CUT_OFFS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
CUT_OFFS += (0.6, 0.7, 0.8, 0.9)


class Found(NamedTuple):
    """The dictionary matches of one text, stop words left out; columns of [N]."""

    starts: np.ndarray
    ends: np.ndarray
    forms: np.ndarray
    probability: np.ndarray
    capitalised: np.ndarray


@dataclasses.dataclass(frozen=True)
class PriorLinker:
    """Links documents by link counts. case: "any", or "capitalised" for mentions whose
    first letter is upper-case. min_link_probability: the cut-off for surface forms."""

    kb: KnowledgeBase
    case: str = "any"
    min_link_probability: float = 0.0

    def __post_init__(self):
        if self.case not in CASES:
            raise ValueError(f"case: expected one of {CASES}, found {self.case!r}")

    def __call__(self, documents: Iterable[Document]) -> list[Document]:
        """The documents with the baseline's mentions in place of their own."""
        return [self._link(d, find(self.kb, d.text)) for d in documents]

    def _link(self, document: Document, found: Found) -> Document:
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

    def _choose(self, found: Found) -> list[int]:
        """Rows of the longest matches that pass, from left to right, none overlapping."""
        passes = found.probability >= self.min_link_probability
        if self.case == "capitalised":
            passes &= found.capitalised
        chosen, reached = [], 0
        rows = np.flatnonzero(passes)
        for i in rows[np.lexsort((-found.ends[rows], found.starts[rows]))].tolist():
            if found.starts[i] >= reached:
                chosen.append(i)
                reached = found.ends[i]
        return chosen


def find(kb: KnowledgeBase, text: str) -> Found:
    """All dictionary matches of a text but the stop words ("us", "Us"; not "US")."""
    starts, ends, forms = kb.matches(text)
    keep, capitalised = [], []
    for i, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        surface = text[start:end]
        if surface[0].lower() + surface[1:] not in stop_words():
            keep.append(i)
            letter = next(filter(str.isalpha, surface), "")
            capitalised.append(letter.isupper())
    forms = forms[keep]
    probability = kb.link_probability(forms)
    return Found(
        starts[keep], ends[keep], forms, probability, np.array(capitalised, bool)
    )


def tune(
    kb: KnowledgeBase, documents: Sequence[Document], same: Same | None = None
) -> PriorLinker:
    """The baseline with the best micro F1 on development documents; ties: the first."""
    found = [find(kb, document.text) for document in documents]
    best, best_f1 = PriorLinker(kb), -1.0
    for case in CASES:
        for cut_off in CUT_OFFS:
            linker = PriorLinker(kb, case, cut_off)
            pairs = zip(documents, found, strict=True)
            f1 = score(documents, [linker._link(*p) for p in pairs], same=same).micro.f1
            if f1 > best_f1:
                best, best_f1 = linker, f1
    return best


@functools.cache
def stop_words() -> frozenset[str]:
    """Words that are no mention by themselves."""
    file = importlib.resources.files("insgenel_jax") / "assets/stop_words.txt"
    return frozenset(file.read_text(encoding="utf-8").split())
