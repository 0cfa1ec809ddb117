"""A knowledge base directory in; entities and the surface forms that name them out.

The files are memory-mapped, see kb/segment.py. A directory may also hold an overlay: a
base with more entities and without others, see kb/overlay.py.
"""

from __future__ import annotations

import dataclasses
import os
import tokenize
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Float64, Int, Int32

from insgenel_jax import artifact
from insgenel_jax.kb.folding import fold, form_key, title_variants
from insgenel_jax.kb.matcher import Matcher, Matches
from insgenel_jax.kb.overlay import BASE, Overlay, is_among, open_overlay
from insgenel_jax.kb.segment import (
    Case,
    Segment,
    Settings,
    open_array,
    open_table,
    open_trie,
)

__all__ = [
    "Case",
    "Entity",
    "KnowledgeBase",
    "Settings",
    "open_array",
    "open_table",
    "open_trie",
]

KIND = "knowledge-base"
VERSION = 1

# what json, arrow, marisa (RuntimeError) and numpy (TokenError) raise on a damaged file
_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    RuntimeError,
    tokenize.TokenError,
    pa.ArrowException,
)


@dataclasses.dataclass(frozen=True)
class Entity:
    """A row of the knowledge base. inlinks: the number of links that point to it."""

    title: str
    description: str = ""
    external_id: str | None = None
    inlinks: int = 0


class KnowledgeBase:
    """Entities of a knowledge base and the surface forms that may name them.

    Open one with `KnowledgeBase.open`. identity: the hash of its content, by which
    other artifacts say that they were made from it. removed: the rows, ascending, of
    entities that an overlay removed. They count in `len`, and nothing leads to them.
    """

    def __init__(
        self, path: Path, identity: str, base: Segment, overlay: Overlay | None = None
    ):
        self.path = path
        self.identity = identity
        self.settings = base.settings
        self.removed: Int32[np.ndarray, " R"] = np.zeros(0, np.int32)
        self._base = base
        self._overlay = overlay
        self._added: Segment | None = None
        if overlay is not None:
            self.removed, self._added = overlay.removed, overlay.added

    @classmethod
    def open(cls, path: str | os.PathLike, *, verify: bool = False) -> KnowledgeBase:
        """Open a directory that `kb.build` wrote; nothing is read into memory.

        verify: compare the hashes of the files too. Raises artifact.ArtifactError that
        names what is missing, damaged or of another version.
        """
        path = Path(path)
        manifest = artifact.check(path, KIND, VERSION, verify=verify)
        try:
            if BASE in manifest.made_from:
                overlay = open_overlay(path, manifest.made_from)
                return cls(path, manifest.identity, overlay.base, overlay)
            base = Segment(path)
        except artifact.ArtifactError:
            raise
        except _UNREADABLE as error:
            raise artifact.ArtifactError(
                f"{path}: a file of the knowledge base cannot be read ({error}); open "
                "it with verify=True to learn which, or make it again"
            ) from error
        base.check_sizes(manifest.counts)
        return cls(path, manifest.identity, base)

    @property
    def base_rows(self) -> int | None:
        """With an overlay: how many rows its base has; the added ones follow."""
        return None if self._overlay is None else len(self._base)

    def __len__(self) -> int:
        return len(self._base) + (0 if self._added is None else len(self._added))

    def entity(self, i: int) -> Entity:
        """The entity of row i."""
        segment, row = self._at(i)
        return Entity(
            self.title(i),
            self.description(i),
            self.external_id(i),
            segment.inlinks[row].as_py(),
        )

    def _at(self, i: int) -> tuple[Segment, int]:
        """The segment that has row i, and its row there."""
        first = len(self._base)
        if self._added is None or i < first:
            return self._base, i
        return self._added, i - first

    def title(self, i: int) -> str:
        """The title of row i."""
        segment, row = self._at(i)
        return segment.titles[row].as_py()

    def description(self, i: int) -> str:
        """The description of row i; empty where there is none."""
        segment, row = self._at(i)
        return segment.descriptions[row].as_py()

    def popularity(self, i: int) -> int:
        """How well known the entity of row i is: its links and redirects, counted."""
        segment, row = self._at(i)
        return segment.popularity(row)

    def entity_text(self, i: int) -> str:
        """What says most about the entity of row i, for the retriever.

        It is the description; where there is none, other names of the entity and
        sentences that link to it; empty where there is nothing of these either.
        """
        text = self.description(i)
        segment, row = self._at(i)
        if not text and segment.contexts is not None:
            text = segment.contexts[row].as_py()
        return text

    def external_id(self, i: int) -> str | None:
        """The external id of row i, if it has one."""
        segment, row = self._at(i)
        return segment.external_ids[row].as_py()

    def find(self, title: str) -> int | None:
        """The entity of a title, or of a redirect with that title; None if unknown.

        An underscore is a space. If the title as given is unknown, it is looked up with
        the case of its first letter swapped.
        """
        for variant in title_variants(title):
            redirect = None
            for segment, first in self._segments():
                row = segment.title_row(variant)
                if row is None:
                    continue
                is_redirect = row >= len(segment)
                if is_redirect:
                    row = segment.redirects[row - len(segment)].as_py()
                if self._is_removed(first + row):
                    continue
                if not is_redirect:
                    return first + row
                redirect = first + row if redirect is None else redirect
            if redirect is not None:
                return redirect
        return None

    def find_external(self, external_id: str) -> int | None:
        """The entity of an external id; None if unknown."""
        for segment, first in self._segments():
            row = segment.external_row(external_id)
            if row is not None and not self._is_removed(first + row):
                return first + row
        return None

    def _segments(self) -> list[tuple[Segment, int]]:
        """Each segment with the row of its first entity."""
        segments = [(self._base, 0)]
        if self._added is not None:
            segments.append((self._added, len(self._base)))
        return segments

    def _is_removed(self, row: int) -> bool:
        if not len(self.removed):
            return False
        return bool(is_among(np.array([row]), self.removed)[0])

    def redirects(self) -> Iterator[tuple[str, int]]:
        """The name of every redirect, and the entity that it leads to."""
        for segment, first in self._segments():
            for name, row in zip(
                segment.redirect_names, segment.redirects, strict=True
            ):
                source, entity = name.as_py(), first + row.as_py()
                # an added entity of that title, or nothing, may stand in its place
                if self._overlay is None or self.find(source) == entity:
                    yield source, entity

    def matches(self, text: str) -> Matches:
        """Every occurrence of a surface form in a text, sorted by (start, end).

        An occurrence starts where a word starts, or at punctuation that follows a
        space, an opening bracket or nothing. It does not end inside a word. Nothing
        else is filtered; kb/occurrences.py has stop words and the linker's filters.
        """
        return self._match(text, Matcher.match)

    def substring_matches(self, text: str) -> Matches:
        """As `matches`, and every occurrence that starts or ends inside a word."""
        return self._match(text, Matcher.match_substrings)

    def _match(self, text: str, match: Callable[[Matcher, str], Matches]) -> Matches:
        found = match(self._base.matcher, text)
        if self._overlay is None:
            return found
        added = None if self._added is None else match(self._added.matcher, text)
        return self._overlay.join(found, added)

    def form(self, surface: str) -> int | None:
        """The number of a surface form, whatever its case; None if unknown.

        It is looked up composed (NFC), and as it is, for older directories.
        """
        form = self._form(form_key(surface))
        if form is None and not unicodedata.is_normalized("NFC", surface):
            return self._form(fold(surface).strip())
        return form

    def _form(self, key: str) -> int | None:
        """The number of a folded surface form; None if unknown."""
        if self._added is not None:
            form = self._added.matcher.form(key)
            if form is not None:
                return len(self._base.form_trie) + form
        form = self._base.matcher.form(key)
        if form is None or self._overlay is None:
            return form
        emptied = is_among(np.array([form]), self._overlay.emptied)[0]
        return None if emptied else form

    def candidates(
        self, form: int
    ) -> tuple[Int32[np.ndarray, " N"], Float64[np.ndarray, " N"]]:
        """The N entities that a form may name, and their counts.

        The highest count comes first; among equal counts, the lower entity. A count is
        the number of links with this form to the entity, plus one for each of the
        entity's own names that is this form, plus the counts of given aliases. The
        entities that only rules (kb/build/name_rules.py) give share less than one
        link. A count is never 0.
        """
        return (self._overlay or self._base).candidates(form)

    def link_probability(
        self, forms: Sequence[int] | Int[np.ndarray, " N"]
    ) -> Float32[np.ndarray, " N"]:
        """The share of the documents with a form that link it, for each of N forms.

        It is 1 for a form that no document had, since nothing speaks against it.
        """
        linked, seen = self.document_counts(forms)
        return np.where(seen == 0, 1, linked / np.maximum(seen, 1)).astype(np.float32)

    def document_counts(
        self, forms: Sequence[int] | Int[np.ndarray, " N"]
    ) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]]:
        """How many documents link each of N forms, and how many have it (seen).

        Both are 0 where the knowledge base was made without labelled documents. What an
        overlay adds to a form was not counted in the base's documents.
        """
        counts = (self._overlay or self._base).document_counts(
            np.asarray(forms, np.int64)
        )
        return counts[:, 0], counts[:, 1]
