"""A knowledge base in; one of its best known entities alone out.

Titles, ids, links, redirects and surface forms stay as they were, counts included. So
the prior p(entity given surface form) becomes a share among the entities that are kept.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

import marisa_trie
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int, Int32

from insgenel_jax import artifact
from insgenel_jax.kb.build.overlay import check_plain
from insgenel_jax.kb.build.surface_forms import WrittenForms, write_candidates
from insgenel_jax.kb.build.tables import write_rest
from insgenel_jax.kb.folding import title_key
from insgenel_jax.kb.form_filter import write_filter
from insgenel_jax.kb.knowledge_base import (
    KIND,
    VERSION,
    KnowledgeBase,
    open_array,
    open_table,
    open_trie,
)


class _Pairs(NamedTuple):
    """N pairs (form, entity), sorted by form, of an entity's new row."""

    forms: Int[np.ndarray, " N"]
    entities: Int[np.ndarray, " N"]
    counts: Float[np.ndarray, " N"] | Int[np.ndarray, " N"]


def write_subset(
    kb: KnowledgeBase,
    path: str | os.PathLike,
    entities: int,
    *,
    keep_text: bool = False,
    keep_redirects: bool = True,
    max_candidates: int | None = None,
    min_link_probability: float = 0.0,
    min_count: float = 0.0,
) -> dict[str, int]:
    """Write the knowledge base of the best known entities; return its counts.

    entities: how many. Those with most inlinks are known best, among equals those with
    most redirects. They keep their order.
    keep_text: descriptions and contexts too. Without them an entity is its title alone
    to a retriever.
    keep_redirects: the other titles by which an entity is found, as far as they lead to
    one that is kept.
    max_candidates: so many entities of a surface form, the most frequent ones [all].
    min_link_probability: surface forms of a lower link probability are left out. A
    linker with that setting would not link them, but for mentions given to it.
    min_count: surface forms that no document links are left out where their most
    frequent entity counts less. What a rule for names alone gives counts less than 1.
    A surface form goes where none of its entities is kept; else its numbers of
    documents (linked, seen), and so its link probability, stay as they are.
    """
    check_plain(kb)
    rows, table = _best_known(kb, entities, keep_text)
    keys = pa.array(map(title_key, table["title"].to_pylist()), pa.large_string())
    new_rows = np.full(len(kb), -1, np.int32)  # of the entities, by old row
    new_rows[rows] = np.arange(len(rows))
    forms = _likely(kb, min_link_probability, min_count)
    pairs = _pairs(kb, new_rows, forms, max_candidates)
    old = np.unique(pairs.forms)
    with artifact.create(path, KIND, VERSION) as draft:
        written, forms = _write_forms(kb, old, pairs, draft.path)
        documents = np.empty((len(old), 2), np.int64)
        documents[forms] = open_array(kb.path / "form_documents.npy")[old]
        settings = dataclasses.replace(kb.settings, longest_form=written.longest)
        redirects = open_table(kb.path / "redirects.arrow")
        ends = new_rows[redirects["entity"].to_numpy()]
        redirects = redirects.set_column(1, "entity", pa.array(ends))
        redirects = redirects.filter(pa.array((ends >= 0) & keep_redirects))
        write_rest(draft, table, keys, redirects, written, documents, settings)
        draft.made_from[KIND] = kb.identity
    return draft.counts


def _best_known(
    kb: KnowledgeBase, entities: int, keep_text: bool
) -> tuple[Int[np.ndarray, " E"], pa.Table]:
    """The rows of the best known entities, in order, and their table."""
    table = open_table(kb.path / "entities.arrow")
    order = [("inlinks", "descending"), ("row", "ascending")]
    if "redirects" in table.column_names:  # version 0.1 did not store it
        order.insert(1, ("redirects", "descending"))
    numbered = table.append_column("row", pa.array(np.arange(len(kb))))
    best = pc.sort_indices(numbered, order)[:entities]
    rows = np.sort(best.to_numpy()).astype(np.int64)
    table = table.take(pa.array(rows))
    if not keep_text:
        for number, name in enumerate(table.column_names):
            if name in ("description", "context"):
                empty = pa.array([""] * len(rows), pa.large_string())
                table = table.set_column(number, name, empty)
    return rows, table


def _likely(
    kb: KnowledgeBase, min_link_probability: float, min_count: float
) -> Bool[np.ndarray, " F"]:
    """Which surface forms are linked often enough, or known well enough."""
    starts = open_array(kb.path / "form_indptr.npy")[:-1].astype(np.int64)
    forms = np.arange(len(starts))
    likely = kb.link_probability(forms) >= min_link_probability
    linked, _ = kb.document_counts(forms)
    counts = open_array(kb.path / "form_counts.npy")
    best = np.maximum.reduceat(counts, starts) if len(starts) else np.zeros(0)
    return likely & ((linked > 0) | (best >= min_count))


def _pairs(
    kb: KnowledgeBase,
    new_rows: Int32[np.ndarray, " E"],
    likely: Bool[np.ndarray, " F"],
    max_candidates: int | None,
) -> _Pairs:
    """The pairs that stay, those of a form in their old order.

    new_rows: of each entity, -1 for one that goes. likely: the forms that may stay.
    """
    indptr = open_array(kb.path / "form_indptr.npy").astype(np.int64)
    forms = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    entities = new_rows[open_array(kb.path / "form_entities.npy")]
    kept = (entities >= 0) & likely[forms]
    if max_candidates is not None:
        before = np.cumsum(kept) - kept  # kept pairs before each pair
        kept &= before - before[indptr[forms]] < max_candidates
    counts = open_array(kb.path / "form_counts.npy")
    return _Pairs(forms[kept], entities[kept], counts[kept])


def _write_forms(
    kb: KnowledgeBase, old: Int[np.ndarray, " F"], pairs: _Pairs, path: Path
) -> tuple[WrittenForms, Int[np.ndarray, " F"]]:
    """Write the trie of F surface forms and their candidates.

    old: the numbers that the forms had. Returns their new ones too.
    """
    names = list(
        map(open_trie(kb.path / "surface_forms.marisa").restore_key, old.tolist())
    )
    trie = marisa_trie.Trie(names)
    trie.save(str(path / "surface_forms.marisa"))
    write_filter(path, names, len(names))
    new = np.fromiter(map(trie.key_id, names), np.int64, len(names))
    forms = new[np.searchsorted(old, pairs.forms)]
    order = np.argsort(forms, kind="stable")  # the candidates of a form stay in order
    indptr = np.searchsorted(forms[order], np.arange(len(trie) + 1))
    write_candidates(path, indptr, pairs.entities[order], pairs.counts[order])
    longest = max(map(len, names), default=1)
    return WrittenForms(trie, len(order), longest), new
