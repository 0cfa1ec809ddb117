"""A knowledge base directory in; entities and the surface forms that name them out.

The files are memory-mapped. Entities are numbered by their row, surface forms by their
id in the trie. The candidates of all forms lie in one CSR table: those of a form are a
slice of it, highest count first.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tokenize
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import marisa_trie
import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Float64, Int, Int32

from insgenel_jax import artifact
from insgenel_jax.kb import form_filter
from insgenel_jax.kb.folding import fold, form_key, title_variants
from insgenel_jax.kb.matcher import Matcher, Matches, trie_id

KIND = "knowledge-base"
VERSION = 1

Case = Literal["any", "capitalised"]

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


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a knowledge base was made.

    case: the occurrences over which documents were counted: "any", or "capitalised" for
    those that do not start in lower case. longest_form: characters of the longest
    surface form. form_rules: the rules of kb/build/name_rules.py that made more forms.
    """

    case: Case
    longest_form: int
    form_rules: Sequence[str] = ()


class KnowledgeBase:
    """Entities of a knowledge base and the surface forms that may name them.

    Open one with `KnowledgeBase.open`. identity: the hash of its content, by which
    other artifacts say that they were made from it.
    """

    def __init__(self, path: Path, identity: str):
        self.path = path
        self.identity = identity
        self.settings = Settings(**json.loads((path / "settings.json").read_text()))
        entities = open_table(path / "entities.arrow")
        self._titles = entities["title"].chunk(0)
        self._descriptions = entities["description"].chunk(0)
        self._contexts = None  # older versions wrote none
        if "context" in entities.column_names:
            self._contexts = entities["context"].chunk(0)
        self._external_ids = entities["external_id"].chunk(0)
        self._inlinks = entities["inlinks"].chunk(0)
        # version 0.1 did not store it
        known = "redirects" in entities.column_names
        self._redirect_counts = entities["redirects"].chunk(0) if known else None
        # Titles, then the sources of redirects: a row from len(self) on is a redirect.
        self._title_trie = open_trie(path / "titles.marisa")
        self._title_rows = open_array(path / "title_rows.npy")
        redirects = open_table(path / "redirects.arrow")
        self._redirect_names = redirects["source"]
        redirects = redirects["entity"]
        self._redirects = redirects.chunk(0) if redirects.num_chunks else []
        self._external_trie = open_trie(path / "external_ids.marisa")
        self._external_rows = open_array(path / "external_id_rows.npy")
        self._form_trie = open_trie(path / "surface_forms.marisa")
        self._indptr = open_array(path / "form_indptr.npy")
        self._candidates = open_array(path / "form_entities.npy")
        self._counts = open_array(path / "form_counts.npy")
        self._documents = open_array(path / "form_documents.npy")  # linked, seen
        longest, filter = self.settings.longest_form, None
        if (path / form_filter.FILE).is_file():  # older versions wrote none
            blocks = open_array(path / form_filter.FILE)
            filter = form_filter.FormFilter(blocks, longest)
        self._matcher = Matcher(self._form_trie, longest, filter)

    @classmethod
    def open(cls, path: str | os.PathLike, *, verify: bool = False) -> KnowledgeBase:
        """Open a directory that `kb.build` wrote; nothing is read into memory.

        verify: compare the hashes of the files too. Raises artifact.ArtifactError that
        names what is missing, damaged or of another version.
        """
        path = Path(path)
        manifest = artifact.check(path, KIND, VERSION, verify=verify)
        try:
            kb = cls(path, manifest.identity)
        except _UNREADABLE as error:
            raise artifact.ArtifactError(
                f"{path}: a file of the knowledge base cannot be read ({error}); open "
                "it with verify=True to learn which, or make it again"
            ) from error
        kb._check_sizes(manifest.counts)
        return kb

    def _check_sizes(self, counts: dict[str, int]) -> None:
        """Refuse files whose sizes do not fit each other or the manifest's counts."""
        sizes = {
            "entities": len(self),
            "surface forms": len(self._indptr) - 1,
            "candidates": len(self._candidates),
            "redirects": len(self._redirects),
        }
        if sizes != {name: counts.get(name) for name in sizes} or not (
            len(self._form_trie) == len(self._documents) == sizes["surface forms"]
            and len(self._title_trie) == len(self._title_rows)
            and len(self._external_trie) == len(self._external_rows)
            and len(self._counts) == sizes["candidates"] == int(self._indptr[-1])
        ):
            raise artifact.ArtifactError(
                f"{self.path}: the files of the knowledge base do not fit each other: "
                f"expected {counts}, found {sizes}; make it again"
            )

    def __len__(self) -> int:
        return len(self._titles)

    def entity(self, i: int) -> Entity:
        """The entity of row i."""
        return Entity(
            self.title(i),
            self.description(i),
            self.external_id(i),
            self._inlinks[i].as_py(),
        )

    def title(self, i: int) -> str:
        """The title of row i."""
        return self._titles[i].as_py()

    def description(self, i: int) -> str:
        """The description of row i; empty where there is none."""
        return self._descriptions[i].as_py()

    def popularity(self, i: int) -> int:
        """How well known the entity of row i is: its links and redirects, counted."""
        links = self._inlinks[i].as_py()
        if self._redirect_counts is None:
            return links
        return links + self._redirect_counts[i].as_py()

    def entity_text(self, i: int) -> str:
        """What says most about the entity of row i, for the retriever.

        It is the description; where there is none, other names of the entity and
        sentences that link to it; empty where there is nothing of these either.
        """
        text = self.description(i)
        if not text and self._contexts is not None:
            text = self._contexts[i].as_py()
        return text

    def external_id(self, i: int) -> str | None:
        """The external id of row i, if it has one."""
        return self._external_ids[i].as_py()

    def find(self, title: str) -> int | None:
        """The entity of a title, or of a redirect with that title; None if unknown.

        An underscore is a space. If the title as given is unknown, it is looked up with
        the case of its first letter swapped.
        """
        for variant in title_variants(title):
            row = _find(self._title_trie, self._title_rows, variant)
            if row is not None:
                redirect = row - len(self)
                return row if redirect < 0 else self._redirects[redirect].as_py()
        return None

    def find_external(self, external_id: str) -> int | None:
        """The entity of an external id; None if unknown."""
        return _find(self._external_trie, self._external_rows, external_id)

    def redirects(self) -> Iterator[tuple[str, int]]:
        """The name of every redirect, and the entity that it leads to."""
        for name, row in zip(self._redirect_names, self._redirects, strict=True):
            yield name.as_py(), row.as_py()

    def matches(self, text: str) -> Matches:
        """Every occurrence of a surface form in a text, sorted by (start, end).

        An occurrence starts where a word starts, or at punctuation that follows a
        space, an opening bracket or nothing. It does not end inside a word. Nothing
        else is filtered; kb/occurrences.py has stop words and the linker's filters.
        """
        return self._matcher.match(text)

    def substring_matches(self, text: str) -> Matches:
        """As `matches`, and every occurrence that starts or ends inside a word."""
        return self._matcher.match_substrings(text)

    def form(self, surface: str) -> int | None:
        """The number of a surface form, whatever its case; None if unknown.

        It is looked up composed (NFC), and as it is, for older directories.
        """
        form = trie_id(self._form_trie, form_key(surface))
        if form is None and not unicodedata.is_normalized("NFC", surface):
            return trie_id(self._form_trie, fold(surface).strip())
        return form

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
        row = slice(self._indptr[form], self._indptr[form + 1])
        return self._candidates[row], self._counts[row].astype(np.float64)

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

        Both are 0 where the knowledge base was made without labelled documents.
        """
        # they are stored in as few bits as the largest needs: 255 + 1 must not be 0
        counts = self._documents[np.asarray(forms, np.int64)].astype(np.int64)
        return counts[:, 0], counts[:, 1]


def _find(
    trie: marisa_trie.Trie, rows: Int32[np.ndarray, " N"], key: str
) -> int | None:
    i = trie_id(trie, key)
    return None if i is None else int(rows[i])


def open_table(file: Path) -> pa.Table:
    """A table of a knowledge base, memory-mapped."""
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def open_trie(file: Path) -> marisa_trie.Trie:
    """A trie of a knowledge base, memory-mapped."""
    trie = marisa_trie.Trie()
    trie.mmap(str(file))
    return trie


def open_array(file: Path) -> np.ndarray:
    """An array of a knowledge base, memory-mapped."""
    return np.asarray(np.load(file, mmap_mode="r"))
