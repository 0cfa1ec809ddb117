"""A knowledge base directory, opened by memory mapping: entities and surface forms.

Entities are numbered by their row, surface forms by their id in the trie. Candidates of
all forms lie in one CSR table, highest count first.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tokenize
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import marisa_trie
import numpy as np
import pyarrow as pa

from insgenel_jax import artifact
from insgenel_jax.kb.matcher import Matcher, Matches, fold, trie_id
from insgenel_jax.text.document import normalise

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
    """A row of the knowledge base. `inlinks`: how many links point to it."""

    title: str
    description: str = ""
    external_id: str | None = None
    inlinks: int = 0


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a knowledge base was made.

    case: the occurrences that (linked, seen) were counted over: "any", or "capitalised"
    for those that do not start in lower case. longest_form: characters of the longest
    surface form.
    """

    case: Case
    longest_form: int


def title_key(title: str) -> str:
    """The key of a title: normalised, underscores are spaces, none at the ends."""
    return normalise(title).replace("_", " ").strip()


def title_variants(title: str) -> tuple[str, str]:
    """The keys to look a title up by: as given, then its first letter the other case."""
    key = title_key(title)
    return key, key[:1].swapcase() + key[1:]


def form_key(surface: str) -> str:
    """The key of a surface form: folded, without spaces at the ends."""
    return fold(surface).strip()


class KnowledgeBase:
    """Entities of a knowledge base and the surface forms that may name them."""

    path: Path
    identity: str
    settings: Settings

    @classmethod
    def open(cls, path: str | os.PathLike, *, verify: bool = False) -> KnowledgeBase:
        """Open a directory that `kb.build` wrote; nothing is read into memory.

        verify: compare the files' hashes too. Raises artifact.ArtifactError that names
        what is missing, damaged or of another version.
        """
        path = Path(path)
        manifest = artifact.check(path, KIND, VERSION, verify=verify)
        try:
            kb = cls._open_files(path)
        except _UNREADABLE as error:
            raise artifact.ArtifactError(
                f"{path}: a file of the knowledge base cannot be read ({error}); open "
                "it with verify=True to learn which, or make it again"
            ) from error
        kb.identity = manifest.identity
        found = {
            "entities": len(kb),
            "surface forms": len(kb._indptr) - 1,
            "candidates": len(kb._candidates),
            "redirects": len(kb._redirects),
        }
        if found != {name: manifest.counts.get(name) for name in found} or not (
            len(kb._form_trie) == len(kb._documents) == found["surface forms"]
            and len(kb._title_trie) == len(kb._title_rows)
            and len(kb._external_trie) == len(kb._external_rows)
            and len(kb._counts) == found["candidates"] == int(kb._indptr[-1])
        ):
            raise artifact.ArtifactError(
                f"{path}: the files of the knowledge base do not fit each other: "
                f"expected {manifest.counts}, found {found}; make it again"
            )
        return kb

    @classmethod
    def _open_files(cls, path: Path) -> KnowledgeBase:
        kb = cls()
        kb.path = path
        kb.settings = Settings(**json.loads((path / "settings.json").read_text()))
        entities = _open_table(path / "entities.arrow")
        kb._titles = entities["title"].chunk(0)
        kb._descriptions = entities["description"].chunk(0)
        kb._external_ids = entities["external_id"].chunk(0)
        kb._inlinks = entities["inlinks"].chunk(0)
        redirects = _open_table(path / "redirects.arrow")["entity"]
        kb._redirects = redirects.chunk(0) if redirects.num_chunks else []
        kb._title_trie = _open_trie(path / "titles.marisa")
        kb._title_rows = _open_array(path / "title_rows.npy")
        kb._external_trie = _open_trie(path / "external_ids.marisa")
        kb._external_rows = _open_array(path / "external_id_rows.npy")
        kb._form_trie = _open_trie(path / "surface_forms.marisa")
        kb._indptr = _open_array(path / "form_indptr.npy")
        kb._candidates = _open_array(path / "form_entities.npy")
        kb._counts = _open_array(path / "form_counts.npy")
        kb._documents = _open_array(path / "form_documents.npy")
        kb._matcher = Matcher(kb._form_trie, kb.settings.longest_form)
        return kb

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

    def external_id(self, i: int) -> str | None:
        """The external id of row i, if it has one."""
        return self._external_ids[i].as_py()

    def find(self, title: str) -> int | None:
        """The entity of a title or a redirect to it.

        An underscore is a space; where the title as given is unknown, its first letter
        is taken in the other case.
        """
        for variant in title_variants(title):
            row = _find(self._title_trie, self._title_rows, variant)
            if row is not None:
                redirect = row - len(self)
                return row if redirect < 0 else self._redirects[redirect].as_py()
        return None

    def find_external(self, external_id: str) -> int | None:
        """The entity of an external id."""
        return _find(self._external_trie, self._external_rows, external_id)

    def matches(self, text: str) -> Matches:
        """Every occurrence of a surface form, sorted by (start, end).

        It starts where a word starts, or at punctuation after a space, an opening
        bracket or nothing, and does not end inside a word. There is no other filter.
        """
        return self._matcher.match(text)

    def form(self, surface: str) -> int | None:
        """The number of a surface form, whatever its case."""
        return trie_id(self._form_trie, form_key(surface))

    def candidates(self, form: int) -> tuple[np.ndarray, np.ndarray]:
        """Entities int32 [n] of a form and their counts int64 [n].

        Highest count first, ties by entity. A count is that of the links, plus one for
        each of the entity's own names that is this form; never 0.
        """
        row = slice(self._indptr[form], self._indptr[form + 1])
        return self._candidates[row], self._counts[row]

    def link_probability(self, forms: Sequence[int] | np.ndarray) -> np.ndarray:
        """linked / seen, in documents, of each form: float32 [n].

        1 where a form was never seen: nothing speaks against it.
        """
        linked, seen = self._documents[np.asarray(forms, np.int64)].T
        return np.where(seen == 0, 1, linked / np.maximum(seen, 1)).astype(np.float32)


def _find(trie: marisa_trie.Trie, rows: np.ndarray, key: str) -> int | None:
    i = trie_id(trie, key)
    return None if i is None else int(rows[i])


def _open_table(file: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def _open_trie(file: Path) -> marisa_trie.Trie:
    trie = marisa_trie.Trie()
    trie.mmap(str(file))
    return trie


def _open_array(file: Path) -> np.ndarray:
    return np.asarray(np.load(file, mmap_mode="r"))
