"""A base and an overlay in; what the base is with more entities and without others.

    base/  added/  removed.npy  same_forms.npy  emptied_forms.npy

`base` and `added` are knowledge bases; without added entities the second is missing.
Rows of added entities follow those of the base; removed ones keep their rows, so that
embeddings stay where they are. Numbers of added forms follow those of the base too. A
form that both have goes by its number among the added ones.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int, Int32, Int64

from insgenel_jax import artifact
from insgenel_jax.kb.matcher import Matches
from insgenel_jax.kb.segment import Segment, open_array

BASE, ADDED = "base", "added"
REMOVED, SAME, EMPTIED = "removed.npy", "same_forms.npy", "emptied_forms.npy"

Candidates = tuple[Int32[np.ndarray, " N"], Float64[np.ndarray, " N"]]


@dataclasses.dataclass(frozen=True)
class Overlay:
    """What is added to a base and removed from it.

    removed: rows of the base, ascending. same: of each of G added forms, the number
    that the base has for it, or -1. emptied: forms of the base, ascending, of which no
    entity is left.
    """

    base: Segment
    added: Segment | None
    removed: Int32[np.ndarray, " R"]
    same: Int32[np.ndarray, " G"]
    emptied: Int32[np.ndarray, " E"]

    def forms(self, form: int) -> tuple[int | None, int | None]:
        """The numbers of a form in the base and among the added ones."""
        own = form - len(self.base.form_trie)
        if own < 0:
            return form, None
        same = int(self.same[own])
        return (None if same < 0 else same), own

    def candidates(self, form: int) -> Candidates:
        """As `KnowledgeBase.candidates`, of a form of either."""
        in_base, own = self.forms(form)
        entities, counts = np.zeros(0, np.int32), np.zeros(0)
        changed = False
        if in_base is not None:
            entities, counts = self.base.candidates(in_base)
            gone = is_among(entities, self.removed)
            changed = bool(gone.any())
            if changed:
                entities, counts = entities[~gone], counts[~gone]
        if own is not None:
            more, more_counts = self.added.candidates(own)
            changed |= len(entities) > 0
            entities = np.concatenate([entities, more + np.int32(len(self.base))])
            counts = np.concatenate([counts, more_counts])
        return self._share_again(entities, counts) if changed else (entities, counts)

    def _share_again(
        self, entities: Int32[np.ndarray, " N"], counts: Float64[np.ndarray, " N"]
    ) -> Candidates:
        """The candidates of a form in order, where others share the link of the rules
        than before: as kb/build/surface_forms.py shares it."""
        shared = counts < 1
        if shared.any():
            weights = np.where(shared, self._popularities(entities) + 1, 0)
            parts = weights / (weights.sum() + 1)
            counts = np.where(shared, parts, counts).astype(np.float32)
        order = np.lexsort((entities, -counts))
        return entities[order], counts[order].astype(np.float64)

    def _popularities(self, rows: Int32[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
        own = rows >= len(self.base)
        found = np.zeros(len(rows), np.int64)
        found[~own] = self.base.popularities(rows[~own])
        if own.any():
            found[own] = self.added.popularities(rows[own] - len(self.base))
        return found

    def join(self, base: Matches, added: Matches | None) -> Matches:
        """The matches of both in a text, by (start, end)."""
        kept = ~is_among(base.forms, self.emptied)
        starts, ends, forms = (column[kept] for column in base)
        if added is None:
            return Matches(starts, ends, forms)
        # the first of equal places is taken, which is the added one
        starts = np.concatenate([added.starts, starts])
        ends = np.concatenate([added.ends, ends])
        own = added.forms + np.int32(len(self.base.form_trie))
        forms = np.concatenate([own, forms])
        _, rows = np.unique(starts.astype(np.int64) << 32 | ends, return_index=True)
        return Matches(starts[rows], ends[rows], forms[rows])

    def document_counts(self, forms: Int64[np.ndarray, " N"]) -> Int[np.ndarray, "N 2"]:
        """As `Segment.document_counts`, of the documents of both."""
        own = forms - len(self.base.form_trie)
        is_own = own >= 0
        in_base = forms.copy()
        in_base[is_own] = self.same[own[is_own]]
        counts = np.zeros((len(forms), 2), np.int64)
        known = in_base >= 0
        counts[known] = self.base.document_counts(in_base[known])
        if is_own.any():
            counts[is_own] += self.added.document_counts(own[is_own])
        return counts


def is_among(
    numbers: Int[np.ndarray, "*N"], ascending: Int[np.ndarray, " M"]
) -> Bool[np.ndarray, "*N"]:
    """Which of some numbers are among others, which ascend."""
    if not len(ascending):
        return np.zeros(numbers.shape, bool)
    at = np.minimum(np.searchsorted(ascending, numbers), len(ascending) - 1)
    return ascending[at] == numbers


def open_overlay(path: Path, made_from: dict[str, str]) -> Overlay:
    """Open the overlay in a directory.

    made_from: of its manifest. Raises ArtifactError where the base is another than the
    one that the overlay was made for.
    """
    for part in (BASE, ADDED):
        found = (path / part).is_dir() and artifact.read(path / part).identity
        if made_from.get(part, False) != found:
            raise artifact.ArtifactError(
                f"{path}/{part}: the overlay was made for the knowledge base "
                f"{str(made_from.get(part))[:12]}, found {str(found)[:12]} in its "
                "place; make the overlay again for this one"
            )
    segments = []
    for part in (BASE, ADDED):
        if part in made_from:
            segments.append(Segment(path / part))
            segments[-1].check_sizes(artifact.read(path / part).counts)
    arrays = [open_array(path / name) for name in (REMOVED, SAME, EMPTIED)]
    added = segments[1] if len(segments) > 1 else None
    return Overlay(segments[0], added, *arrays)
