"""Tables of entities, surface forms and redirects in; a knowledge base directory out.

kb/knowledge_base.py reads what is written here.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path

import marisa_trie
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int

from insgenel_jax import artifact
from insgenel_jax.kb.build.context import context_column
from insgenel_jax.kb.build.document_counts import DocumentCounts
from insgenel_jax.kb.build.name_rules import FormRule
from insgenel_jax.kb.build.surface_forms import (
    WrittenForms,
    batches,
    make_rule_pairs,
    narrow,
    values,
    write_forms,
)
from insgenel_jax.kb.folding import title_key
from insgenel_jax.kb.knowledge_base import KIND, VERSION, Case, Settings
from insgenel_jax.kb.matcher import Matcher
from insgenel_jax.text.formats.rejects import InputError

ENTITIES = pa.schema(
    [
        ("title", pa.large_string()),
        ("description", pa.large_string()),
        ("external_id", pa.large_string()),
        ("inlinks", pa.int64()),
        ("redirects", pa.int64()),  # how many lead to the entity
    ]
)
FORMS = pa.schema(
    [("form", pa.large_string()), ("title", pa.large_string()), ("count", pa.int64())]
)
REDIRECTS = pa.schema([("source", pa.large_string()), ("title", pa.large_string())])

_LONGEST_CHAIN = 10  # redirects to redirects
_MOST = 2**31  # what 32 bits with a sign do not reach


def build_from_tables(
    path: str | os.PathLike,
    entities: pa.Table,
    forms: pa.Table,
    redirects: pa.Table | None = None,
    *,
    sentences: pa.Table | None = None,
    form_rules: Sequence[FormRule] = (),
    case: Case = "any",
    count_documents: Callable[[Matcher, Path], DocumentCounts] | None = None,
) -> dict[str, int]:
    """Write a knowledge base; return its counts.

    entities: the columns of ENTITIES, with titles unique by `title_key`; their order
    numbers the entities. A column `context` is added to what is written.
    forms: the columns of FORMS, where `form` is folded by `form_key`. The entities' own
    names are among them. Counts of equal (form, title) are summed; rows with an unknown
    title are dropped.
    redirects: the columns of REDIRECTS. A redirect to a redirect is followed; one that
    leads to no entity is dropped.
    sentences: the columns of SENTENCES; those of an entity without a description are in
    its context, beside its most frequent forms.
    form_rules: rules that make more surface forms of titles and of redirects' names.
    case: stored in the settings; `count_documents` must have counted accordingly.
    count_documents: a function of a matcher over all forms, and of the file of its trie
    (for other processes). Without it no form counts as seen.
    Raises InputError if there is no entity, ValueError if two have one title.
    """
    if len(entities) == 0:
        raise InputError(
            f"{path}: expected an entity to build a knowledge base from, found none "
            "(left); look at the input and at what was rejected"
        )
    entities = entities.select(ENTITIES.names).cast(ENTITIES).combine_chunks()
    keys = title_keys(entities["title"])
    if len(keys.unique()) < len(keys):
        raise ValueError(f"{path}: two entities of one title; use `unique_titles`")
    with artifact.create(path, KIND, VERSION) as draft:
        resolved = _resolve_redirects(keys, redirects)
        pairs = make_rule_pairs(entities, resolved, form_rules)
        written = write_forms(draft.path, keys, forms, pairs)
        trie, _, longest = written
        context = context_column(entities, keys, sentences, draft.path, trie)
        documents = np.zeros((len(trie), 2), np.int32)  # linked, seen
        if count_documents is not None:
            counts = count_documents(
                Matcher(trie, longest), draft.path / "surface_forms.marisa"
            )
            documents[counts.forms] = np.stack([counts.linked, counts.seen], axis=1)
        entities = entities.append_column("context", context)
        settings = Settings(case, longest, list(form_rules))
        write_rest(draft, entities, keys, resolved, written, documents, settings)
    return draft.counts


def follow_redirects(
    title: str, targets: Mapping[str, str], known: Container[str]
) -> str:
    """The title at the end of the chain of redirects that begins with `title`.

    targets: alias -> title. known: titles that end a chain. A chain is followed over
    `_LONGEST_CHAIN` redirects at most, since redirects may form a circle.
    """
    for _ in range(_LONGEST_CHAIN):
        title = title if title in known else targets.get(title, title)
    return title


def write_rest(
    draft: artifact.Draft,
    entities: pa.Table,
    keys: pa.Array,
    redirects: pa.Table,
    written: WrittenForms,
    documents: Int[np.ndarray, "F 2"],
    settings: Settings,
) -> None:
    """Write what a knowledge base has beside its surface forms, and count all.

    keys: of the titles of all entities. redirects: the key of each one's name, and the
    row of its entity. documents: of F surface forms, how many link and have each.
    """
    _write_entities(entities, keys, redirects, draft.path)
    np.save(draft.path / "form_documents.npy", narrow(documents))
    text = json.dumps(dataclasses.asdict(settings)) + "\n"
    (draft.path / "settings.json").write_text(text)
    draft.counts = {
        "entities": len(entities),
        "surface forms": len(written.trie),
        "candidates": written.pairs,
        "redirects": len(redirects),
    }


def _write_entities(
    entities: pa.Table, keys: pa.Array, redirects: pa.Table, path: Path
) -> None:
    """The entities, the redirects, and the tries of titles and external ids.

    keys: the key of each entity's title. The trie of titles holds the sources of the
    redirects too, with the rows that follow those of the entities.
    """
    _write_table(entities, path / "entities.arrow")
    _write_table(redirects, path / "redirects.arrow")
    _write_rows(
        pa.chunked_array([keys, *redirects["source"].cast(keys.type).chunks]),
        path / "titles.marisa",
        path / "title_rows.npy",
    )
    _write_rows(
        entities["external_id"],
        path / "external_ids.marisa",
        path / "external_id_rows.npy",
    )


def _resolve_redirects(keys: pa.Array, redirects: pa.Table | None) -> pa.Table:
    """The redirects as (key of the source, row of the entity), sorted by source.

    Left out are those whose source is a title and those that lead to no entity.
    """
    if redirects is None:
        redirects = pa.table({"source": [], "title": []}, REDIRECTS)
    # of a source that is given twice the last target counts
    table = pa.table(
        {
            "source": title_keys(redirects["source"]),
            "title": title_keys(redirects["title"]),
            "row": np.arange(len(redirects)),
        }
    )
    table = table.group_by("source", use_threads=False)
    table = table.aggregate([("title", "last"), ("row", "max")])
    sources = table["source"].combine_chunks()
    titles = table["title_last"].combine_chunks()
    entity = _indices(titles, keys)
    following = _indices(titles, sources)
    at = np.arange(len(sources))
    for _ in range(_LONGEST_CHAIN):
        goes_on = (entity[at] < 0) & (following[at] >= 0)
        at = np.where(goes_on, following[at], at)
    entity = entity[at]
    kept = (entity >= 0) & (_indices(sources, keys) < 0)
    kept &= pc.not_equal(sources, "").to_numpy(zero_copy_only=False)
    resolved = pa.table({"source": sources, "entity": pa.array(entity, pa.int32())})
    return resolved.filter(pa.array(kept)).sort_by("source")


def _indices(values: pa.Array, among: pa.Array) -> Int[np.ndarray, " N"]:
    """Where each value stands in an array of different ones; -1 where it does not."""
    return pc.fill_null(pc.index_in(values, among), -1).to_numpy()


def title_keys(titles: pa.ChunkedArray) -> pa.Array:
    """The key of each title."""
    parts = [
        pa.array(map(title_key, part), pa.large_string(), size=len(part))
        for part in batches(titles)
    ]
    return pa.chunked_array(parts, pa.large_string()).combine_chunks()


def _write_rows(keys: pa.ChunkedArray, trie_file: Path, rows_file: Path) -> None:
    """Write a trie of the keys that are not null, and each key's row by trie id."""
    keys = pa.chunked_array([keys]) if isinstance(keys, pa.Array) else keys
    given = np.flatnonzero(keys.is_valid().to_numpy())
    keys = keys.drop_null()
    trie = marisa_trie.Trie(values(keys))
    trie.save(str(trie_file))
    ids = np.fromiter(map(trie.key_id, values(keys)), np.int64, len(keys))
    table = np.empty(len(trie), np.int32)
    table[ids] = given  # of equal keys the last counts
    np.save(rows_file, table)


def _write_table(table: pa.Table, file: Path) -> None:
    table = pa.table({name: _narrow(table[name]) for name in table.column_names})
    with pa.ipc.new_file(str(file), table.schema) as writer:
        writer.write_table(table.combine_chunks())


def _narrow(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column with numbers and offsets of 32 bits, where these are enough."""
    if pa.types.is_large_string(column.type) and column.nbytes < _MOST:
        return column.cast(pa.string())
    if pa.types.is_int64(column.type) and (pc.max(column).as_py() or 0) < _MOST:
        return column.cast(pa.int32())
    return column
