"""The files of one list of entities in; its rows and surface forms out, memory-mapped.

A knowledge base is one segment, or two: a base and what an overlay adds to it. Entities
are numbered by their row, surface forms by their id in the trie. The candidates of all
forms lie in one CSR table: those of a form are a slice of it, highest count first.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import marisa_trie
import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int, Int32, Int64

from insgenel_jax import artifact
from insgenel_jax.kb import form_filter
from insgenel_jax.kb.matcher import Matcher, trie_id

Case = Literal["any", "capitalised"]


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


class Segment:
    """The entities and surface forms in the directory `path`; nothing is read yet."""

    def __init__(self, path: Path):
        self.path = path
        self.settings = Settings(**json.loads((path / "settings.json").read_text()))
        entities = open_table(path / "entities.arrow")
        self.titles = entities["title"].chunk(0)
        self.descriptions = entities["description"].chunk(0)
        self.contexts = None  # older versions wrote none
        if "context" in entities.column_names:
            self.contexts = entities["context"].chunk(0)
        self.external_ids = entities["external_id"].chunk(0)
        self.inlinks = entities["inlinks"].chunk(0)
        # version 0.1 did not store it
        known = "redirects" in entities.column_names
        self.redirect_counts = entities["redirects"].chunk(0) if known else None
        # Titles, then the sources of redirects: a row from len(self) on is a redirect.
        self._title_trie = open_trie(path / "titles.marisa")
        self._title_rows = open_array(path / "title_rows.npy")
        redirects = open_table(path / "redirects.arrow")
        self.redirect_names = redirects["source"]
        redirects = redirects["entity"]
        self.redirects = redirects.chunk(0) if redirects.num_chunks else []
        self._external_trie = open_trie(path / "external_ids.marisa")
        self._external_rows = open_array(path / "external_id_rows.npy")
        self.form_trie = open_trie(path / "surface_forms.marisa")
        self.indptr = open_array(path / "form_indptr.npy")
        self.entities = open_array(path / "form_entities.npy")
        self._counts = open_array(path / "form_counts.npy")
        self._documents = open_array(path / "form_documents.npy")  # linked, seen
        longest, known_forms = self.settings.longest_form, None
        if (path / form_filter.FILE).is_file():  # older versions wrote none
            blocks = open_array(path / form_filter.FILE)
            known_forms = form_filter.FormFilter(blocks, longest)
        self.matcher = Matcher(self.form_trie, longest, known_forms)

    def check_sizes(self, counts: Mapping[str, int]) -> None:
        """Refuse files whose sizes do not fit each other or the manifest's counts."""
        sizes = {
            "entities": len(self),
            "surface forms": len(self.indptr) - 1,
            "candidates": len(self.entities),
            "redirects": len(self.redirects),
        }
        if sizes != {name: counts.get(name) for name in sizes} or not (
            len(self.form_trie) == len(self._documents) == sizes["surface forms"]
            and len(self._title_trie) == len(self._title_rows)
            and len(self._external_trie) == len(self._external_rows)
            and len(self._counts) == sizes["candidates"] == int(self.indptr[-1])
        ):
            raise artifact.ArtifactError(
                f"{self.path}: the files of the knowledge base do not fit each other: "
                f"expected {counts}, found {sizes}; make it again"
            )

    def __len__(self) -> int:
        return len(self.titles)

    def popularity(self, i: int) -> int:
        """How many links and redirects lead to the entity of row i."""
        links = self.inlinks[i].as_py()
        if self.redirect_counts is None:
            return links
        return links + self.redirect_counts[i].as_py()

    def popularities(self, rows: Int[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
        """`popularity` of several rows."""
        at = pa.array(rows)
        links = self.inlinks.take(at).to_numpy().astype(np.int64)
        if self.redirect_counts is not None:
            links += self.redirect_counts.take(at).to_numpy()
        return links

    def title_row(self, key: str) -> int | None:
        """The row of the entity with this key of a title; len(self) + the number of a
        redirect with it; None where there is neither."""
        return _find(self._title_trie, self._title_rows, key)

    def external_row(self, external_id: str) -> int | None:
        """The row of the entity with an external id; None if unknown."""
        return _find(self._external_trie, self._external_rows, external_id)

    def candidates(
        self, form: int
    ) -> tuple[Int32[np.ndarray, " N"], Float64[np.ndarray, " N"]]:
        """The entities of a form, and their counts."""
        row = slice(self.indptr[form], self.indptr[form + 1])
        return self.entities[row], self._counts[row].astype(np.float64)

    def document_counts(self, forms: Int64[np.ndarray, " N"]) -> Int[np.ndarray, "N 2"]:
        """How many documents link each of N forms, and how many have it."""
        # they are stored in as few bits as the largest needs: 255 + 1 must not be 0
        return self._documents[forms].astype(np.int64)


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
