"""Tables of entities, surface forms and redirects in; a knowledge base directory out."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import marisa_trie
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex

from insgenel_jax import artifact
from insgenel_jax.kb.knowledge_base import (
    KIND,
    VERSION,
    Case,
    Entity,
    Settings,
    form_key,
    title_key,
)
from insgenel_jax.kb.matcher import Matcher
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.rejects import InputError, Rejects

LONGEST = 200  # characters of a title or surface form
_SURROGATE = regex.compile("[\ud800-\udfff]")
_LONGEST_CHAIN = 10  # redirects to redirects

ENTITIES = pa.schema(
    [
        ("title", pa.large_string()),
        ("description", pa.large_string()),
        ("external_id", pa.large_string()),
        ("inlinks", pa.int64()),
    ]
)
FORMS = pa.schema(
    [("form", pa.large_string()), ("title", pa.large_string()), ("count", pa.int64())]
)
REDIRECTS = pa.schema([("source", pa.large_string()), ("title", pa.large_string())])

# form ids int64 [n] with the numbers of documents in which each is linked and seen
DocumentCounts = tuple[np.ndarray, np.ndarray, np.ndarray]


def build(
    path: str | os.PathLike,
    entities: pa.Table,
    forms: pa.Table,
    redirects: pa.Table | None = None,
    *,
    case: Case = "any",
    count_documents: Callable[[Matcher, Path], DocumentCounts] | None = None,
    made_from: dict[str, str] | None = None,
) -> dict[str, int]:
    """Write a knowledge base; returns its counts.

    entities: as ENTITIES, titles unique by `title_key`; their order numbers them.
    forms: as FORMS, `form` folded by `form_key`; rows of the same pair are summed, rows
    of an unknown title dropped. The entities' own names are among them (`title_forms`).
    redirects: as REDIRECTS; short chains are followed, what leads nowhere is dropped.
    count_documents: from the matcher (and the file of its trie, for other processes) to
    (linked, seen) of each form; without it no form was ever seen.
    Raises InputError for a table without entities, ValueError for a title twice.
    """
    if len(entities) == 0:
        raise InputError(
            f"{path}: expected an entity to build a knowledge base from, found none "
            "(left); look at the input and at what was rejected"
        )
    entities = entities.select(ENTITIES.names).cast(ENTITIES).combine_chunks()
    keys = pa.array(map(title_key, entities["title"].to_pylist()), pa.large_string())
    if len(keys.unique()) < len(keys):
        raise ValueError(f"{path}: two entities of one title; use `unique_titles`")
    with artifact.create(path, KIND, VERSION) as draft:
        _write_table(entities, draft.path / "entities.arrow")
        redirects = _resolve_redirects(keys, redirects)
        _write_table(redirects, draft.path / "redirects.arrow")
        _write_rows(
            pa.chunked_array([keys, *redirects["source"].chunks]),
            draft.path / "titles.marisa",
            draft.path / "title_rows.npy",
        )
        _write_rows(
            entities["external_id"],
            draft.path / "external_ids.marisa",
            draft.path / "external_id_rows.npy",
        )
        trie, table = _write_forms(keys, forms, draft.path)
        longest = pc.max(pc.utf8_length(forms["form"])).as_py() or 1
        settings = Settings(case, longest)
        (draft.path / "settings.json").write_text(
            json.dumps(dataclasses.asdict(settings)) + "\n"
        )
        documents = np.zeros((len(trie), 2), np.int32)
        if count_documents is not None:
            ids, linked, seen = count_documents(
                Matcher(trie, longest), draft.path / "surface_forms.marisa"
            )
            documents[ids] = np.stack([linked, seen], axis=1)
        np.save(draft.path / "form_documents.npy", documents)
        draft.counts = {
            "entities": len(entities),
            "surface forms": len(trie),
            "candidates": table,
            "redirects": len(redirects),
        }
        draft.made_from = dict(made_from or {})
    return draft.counts


def title_forms(title: str) -> Iterator[str]:
    """The surface forms that a title gives: whole, without parenthesis or comma part.

    Underscores are spaces, as in `title_key`: texts have spaces there.
    """
    title = title.replace("_", " ")
    yield title
    short = title
    if short.endswith(")") and " (" in short:
        short = short[: short.rindex(" (")]
        if short.strip():
            yield short
    if ", " in short and short.split(", ")[0].strip():
        yield short.split(", ")[0]


def unique_titles(
    entities: Iterable[Entity],
    rejects: Rejects,
    source: str,
    lines: Iterable[int] = (),
) -> list[Entity]:
    """Entities with titles unique by `title_key`: the later gets " (2)", " (3)" ...

    Each changed title is reported to `rejects`; the entity stays. source, lines: where
    the entities stand, a line each; without lines the reports have none.
    """
    entities = list(entities)
    taken = {title_key(entity.title) for entity in entities}
    used: set[str] = set()
    unique = []
    for entity, line in itertools.zip_longest(entities, lines):
        title, number = entity.title, 2
        if title_key(title) in used:
            while title_key(title := f"{entity.title} ({number})") in taken:
                number += 1
            taken.add(title_key(title))
            rejects.add(source, line, f"title taken: made {title!r}", entity.title)
        used.add(title_key(title))
        unique.append(dataclasses.replace(entity, title=title))
    return unique


def check_name(name: str) -> str | None:
    """What is wrong with a title or surface form, if anything."""
    if not name.strip():
        return "empty name"
    if len(name) > LONGEST:
        return f"over-long name: {len(name)} characters, at most {LONGEST}"
    if "\0" in name:
        return f"NUL in a name: character {name.index(chr(0))}"
    return None if check_text(name) else "lone surrogate in a name"


def check_text(text: str) -> bool:
    """Whether UTF-8 can hold the text: it has no lone surrogate."""
    return not _SURROGATE.search(text)


def count_documents(
    matcher: Matcher, documents: Iterable[Document], case: Case
) -> DocumentCounts:
    """In how many documents each form is linked, and seen (linked or found).

    case: "any", or "capitalised" to leave out occurrences that start in lower case.
    """
    linked_ids, seen_ids = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for document in documents:
        text = document.text
        found = matcher.match(text)
        forms = found.forms
        if case == "capitalised":
            starts = found.starts.tolist()
            forms = forms[[not text[start].islower() for start in starts]]
        linked = {
            matcher.form(form_key(text[mention.start : mention.end]))
            for mention in document.mentions
            if mention.entity is not None
        } - {None}
        linked = np.array(sorted(linked), np.int64)
        linked_ids.append(linked)
        seen_ids.append(np.union1d(linked, forms))
    return _sum_counts(np.concatenate(linked_ids), np.concatenate(seen_ids))


def add_counts(counts: Sequence[DocumentCounts]) -> DocumentCounts:
    """The counts over all documents, from those over parts of them."""
    if not counts:
        return tuple(np.empty(0, np.int64) for _ in range(3))
    ids, inverse = np.unique(
        np.concatenate([part[0] for part in counts]), return_inverse=True
    )
    linked, seen = (
        np.bincount(inverse, np.concatenate([part[i] for part in counts]), len(ids))
        for i in (1, 2)
    )
    return ids, linked.astype(np.int64), seen.astype(np.int64)


def _sum_counts(linked_ids: np.ndarray, seen_ids: np.ndarray) -> DocumentCounts:
    ids, seen = np.unique(seen_ids, return_counts=True)
    linked = np.bincount(np.searchsorted(ids, linked_ids), minlength=len(ids))
    return ids, linked, seen


def _resolve_redirects(keys: pa.Array, redirects: pa.Table | None) -> pa.Table:
    """Redirects as (source key, entity row), sorted; titles and dead ends left out."""
    targets: dict[str, str] = {}
    if redirects is not None:
        sources = map(title_key, redirects["source"].to_pylist())
        names = map(title_key, redirects["title"].to_pylist())
        targets = dict(zip(sources, names))
    rows: dict[str, int] = {}
    if targets:
        rows = {key: row for row, key in enumerate(keys.to_pylist())}
    resolved = []
    for source in sorted(targets.keys() - rows.keys() - {""}):
        target = targets[source]
        for _ in range(_LONGEST_CHAIN):  # a circle leads nowhere
            target = target if target in rows else targets.get(target, target)
        if target in rows:
            resolved.append((source, rows[target]))
    return pa.table(
        {
            "source": pa.array([s for s, _ in resolved], pa.large_string()),
            "entity": pa.array([row for _, row in resolved], pa.int32()),
        }
    )


def _write_forms(
    keys: pa.Array, forms: pa.Table, path: Path
) -> tuple[marisa_trie.Trie, int]:
    """The trie of all forms and the CSR table of their candidates, highest first."""
    entity = pc.index_in(
        pa.array(map(title_key, forms["title"].to_pylist()), pa.large_string()), keys
    )
    known = entity.is_valid()
    entity = entity.drop_null().to_numpy().astype(np.int64)
    count = forms["count"].filter(known).to_numpy().astype(np.int64)
    coded = forms["form"].combine_chunks().filter(known).dictionary_encode()
    names = coded.dictionary.to_pylist()
    trie = marisa_trie.Trie(names)
    trie.save(str(path / "surface_forms.marisa"))
    ids = np.fromiter(map(trie.key_id, names), np.int64, len(names))
    form = ids[coded.indices.to_numpy()] if len(names) else np.empty(0, np.int64)

    pairs, inverse = np.unique(form * len(keys) + entity, return_inverse=True)
    count = np.bincount(inverse, count, len(pairs)).astype(np.int64)
    form, entity = np.divmod(pairs, len(keys))
    order = np.lexsort((entity, -count, form))
    indptr = np.searchsorted(form, np.arange(len(names) + 1))  # form is sorted already
    np.save(path / "form_indptr.npy", indptr.astype(np.int64))
    np.save(path / "form_entities.npy", entity[order].astype(np.int32))
    np.save(path / "form_counts.npy", count[order])
    return trie, len(pairs)


def _write_rows(keys: pa.ChunkedArray, trie_file: Path, rows_file: Path) -> None:
    """A trie of the keys that are not null, and the row of each key by its trie id."""
    rows = [(key, row) for row, key in enumerate(keys.to_pylist()) if key is not None]
    trie = marisa_trie.Trie(key for key, _ in rows)
    trie.save(str(trie_file))
    table = np.empty(len(trie), np.int32)
    for key, row in rows:
        table[trie.key_id(key)] = row
    np.save(rows_file, table)


def _write_table(table: pa.Table, file: Path) -> None:
    with pa.ipc.new_file(str(file), table.schema) as writer:
        writer.write_table(table.combine_chunks())
