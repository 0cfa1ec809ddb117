"""INSGENEL beside the lookup baseline: with large weights they give the same links."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from insgenel_jax.evaluation.baseline import PriorLinker
from insgenel_jax.kb.occurrences import find_occurrences, passes
from insgenel_jax.linker import Linker
from insgenel_jax.text.document import Document

LARGE = {
    "system": "insgenel",
    "mention_bias": 1e3,
    "length_bias": 1e3,
    "prior_weight": 1e6,
}


class Comparison(NamedTuple):
    """What comes of linking documents both ways.

    links: how many the baseline gives. ambiguous: those whose form has several
    entities. ties: those whose form has several entities of the highest count; any of
    these will do. cut: dictionary matches that a token or a chunk cuts; the baseline is
    not given them either. exceptions: the links that differ, as (document, surface
    form, the baseline's entity, INSGENEL's).
    """

    links: int
    ambiguous: int
    ties: int
    cut: int
    exceptions: list[tuple[str, str, str | None, str | None]]


def compare(linker: Linker, documents: Sequence[Document]) -> Comparison:
    """Link documents both ways, with the filters that the linker's settings have."""
    kb, settings = linker.kb, linker.settings
    baseline = PriorLinker(kb, settings.case, settings.min_link_probability)
    links = ambiguous = ties = cut = 0
    exceptions = []
    for document, candidates, linked in zip(
        documents, linker.candidates(documents), linker(documents), strict=True
    ):
        found = find_occurrences(kb, document.text)
        placed = {(c.start, c.end) for c in candidates}
        spans = zip(found.starts.tolist(), found.ends.tolist(), strict=True)
        whole = np.array([span in placed for span in spans], bool)
        passing = passes(found, settings.case, settings.min_link_probability)
        assert whole.sum() == len(placed) and not (whole & ~passing).any()
        cut += int((passing & ~whole).sum())
        columns = ("starts", "ends", "forms", "probability", "lower")
        kept = dataclasses.replace(
            found, **{name: getattr(found, name)[whole] for name in columns}
        )
        expected, ours = (
            {(m.start, m.end): m.entity for m in linking.mentions}
            for linking in (baseline.link(document, kept), linked)
        )
        links += len(expected)
        for span in sorted(expected.keys() | ours.keys()):
            surface = document.text[slice(*span)]
            best = most_frequent(linker, surface)
            pair = expected.get(span), ours.get(span)
            ambiguous += len(kb.candidates(kb.form(surface))[0]) > 1
            ties += len(best) > 1
            if None in pair or not best.issuperset(pair):
                exceptions.append((document.id, surface, *pair))
    return Comparison(links, ambiguous, ties, cut, exceptions)


def most_frequent(linker: Linker, surface: str) -> set[str]:
    """The titles of the entities that share the highest count of a surface form."""
    entities, counts = linker.kb.candidates(linker.kb.form(surface))
    return {linker.kb.title(e) for e in entities[counts == counts[0]].tolist()}
