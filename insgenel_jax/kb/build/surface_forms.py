"""Surface forms from links, names and rules in; a knowledge base's form files out.

A pair (form, entity) that only a rule of kb/build/name_rules.py gives has no count of
its own. All such pairs of a form share less than one link, in proportion to how well
known each entity is. So a count below 1 tells a pair of a rule.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import marisa_trie
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32, Int, Int32, Int64

from insgenel_jax.kb.build.name_rules import FormRule, read_name, rule_keys
from insgenel_jax.kb.folding import title_key
from insgenel_jax.kb.form_filter import write_filter

_BATCH = 100_000  # names whose forms are held as Python strings at a time


class RulePairs(NamedTuple):
    """N pairs of a folded surface form and the row of an entity; some may be equal.

    popularity: of each entity, at least 1.
    """

    forms: pa.ChunkedArray  # large_string
    entities: Int32[np.ndarray, " N"]
    popularity: Int64[np.ndarray, " E"]


class WrittenForms(NamedTuple):
    """The trie of all forms, the number of pairs, characters of the longest form."""

    trie: marisa_trie.Trie
    pairs: int
    longest: int


def make_rule_pairs(
    entities: pa.Table, redirects: pa.Table, rules: Collection[FormRule]
) -> RulePairs | None:
    """The pairs that rules make of the titles of entities and the names of redirects;
    None where there are no rules.

    entities: with the columns `title`, `description` and `inlinks`. redirects: with
    `source`, a name, and `entity`, the row that it leads to. The popularity of an
    entity is the number of its links and redirects, plus one.
    """
    if not rules:
        return None
    leads = values(entities["description"])
    titles = zip(values(entities["title"]), leads, itertools.count())
    ends = values(redirects["entity"])
    others = ((name, "", next(ends)) for name in values(redirects["source"]))
    names = itertools.chain(titles, others)
    forms, rows = [pa.array([], pa.large_string())], [np.empty(0, np.int32)]
    while batch := list(itertools.islice(names, _BATCH)):
        keys = [rule_keys(read_name(title, lead), rules) for title, lead, _ in batch]
        flat = itertools.chain.from_iterable(map(sorted, keys))
        forms.append(pa.array(flat, pa.large_string()))
        owners = np.array([row for _, _, row in batch], np.int32)
        rows.append(np.repeat(owners, list(map(len, keys))))
    popularity = np.bincount(redirects["entity"].to_numpy(), minlength=len(entities))
    popularity += entities["inlinks"].to_numpy() + 1
    return RulePairs(pa.chunked_array(forms), np.concatenate(rows), popularity)


def write_forms(
    path: Path,
    keys: pa.Array,
    forms: pa.Table,
    rule_pairs: RulePairs | None,
) -> WrittenForms:
    """Write the trie of all forms and the CSR table of their candidates.

    keys: of the titles of all E entities. forms: FORMS; rows with an unknown title are
    dropped. Counts are integers, and float32 where there are `rule_pairs`.
    """
    entity = pc.index_in(
        pa.array(
            map(title_key, values(forms["title"])), pa.large_string(), size=len(forms)
        ),
        keys,
    )
    known = entity.is_valid()
    entity = entity.drop_null().to_numpy().astype(np.int64)
    count = forms["count"].filter(known).to_numpy().astype(np.int64)
    chunks = forms["form"].filter(known).chunks
    if rule_pairs is not None:
        chunks = [*chunks, *rule_pairs.forms.chunks]
        entity = np.concatenate([entity, rule_pairs.entities])
        count = np.pad(count, (0, len(rule_pairs.entities)))
    coded = pa.chunked_array(chunks, pa.large_string()).combine_chunks()
    coded = coded.dictionary_encode()
    names = coded.dictionary
    trie = marisa_trie.Trie(values(names))
    trie.save(str(path / "surface_forms.marisa"))
    ids = np.fromiter(map(trie.key_id, values(names)), np.int64, len(names))
    form = ids[coded.indices.to_numpy()] if len(names) else np.empty(0, np.int64)
    longest = pc.max(pc.utf8_length(names)).as_py() or 1
    write_filter(path, values(names), len(names))
    del names, coded, chunks, ids  # gigabytes, where there are millions of entities

    pairs, count = _sum_counts(form * len(keys) + entity, count)
    form, entity = np.divmod(pairs, len(keys))
    if rule_pairs is not None:
        count = _share_links(form, count, rule_pairs.popularity[entity])
    order = np.lexsort((entity, -count, form))
    # `form` is sorted already, so the rows of a form lie together in `order` too.
    indptr = np.searchsorted(form, np.arange(len(trie) + 1))
    write_candidates(path, indptr, entity[order], count[order])
    return WrittenForms(trie, len(pairs), longest)


def write_candidates(
    path: Path,
    indptr: Int64[np.ndarray, " F1"],
    entities: Int[np.ndarray, " N"],
    counts: Int[np.ndarray, " N"] | Float32[np.ndarray, " N"],
) -> None:
    """Write the CSR table of the candidates of all F = F1 - 1 forms."""
    np.save(path / "form_indptr.npy", narrow(indptr))
    np.save(path / "form_entities.npy", entities.astype(np.int32))
    floats = counts.dtype.kind == "f"
    np.save(path / "form_counts.npy", counts if floats else narrow(counts))


def narrow(numbers: np.ndarray) -> np.ndarray:
    """Integers of at least 0, in as few bits (8, 16, 32 or 64) as the largest needs."""
    return numbers.astype(np.min_scalar_type(numbers.max(initial=0)))


def _sum_counts(
    pairs: Int64[np.ndarray, " N"], counts: Int64[np.ndarray, " N"]
) -> tuple[Int64[np.ndarray, " M"], Int64[np.ndarray, " M"]]:
    """The M different pairs, sorted, and the sum of each one's counts."""
    order = np.argsort(pairs, kind="stable")
    pairs, counts = pairs[order], counts[order]
    first = np.flatnonzero(np.diff(pairs, prepend=-1))
    return pairs[first], np.add.reduceat(counts, first) if len(first) else counts


def _share_links(
    forms: Int64[np.ndarray, " N"],
    counts: Int64[np.ndarray, " N"],
    popularity: Int64[np.ndarray, " N"],
) -> Float32[np.ndarray, " N"]:
    """The counts, where the pairs of a form that have none share less than one link.

    forms, counts, popularity: the form of each pair, its count, and how well known its
    entity is. Of the link a part is left for an entity of popularity 1 that is unknown.
    """
    shared = counts == 0
    weights = np.where(shared, popularity, 0)
    total = np.bincount(forms, weights)[forms] if len(forms) else weights
    return np.where(shared, weights / (total + 1), counts).astype(np.float32)


def values(column: pa.Array | pa.ChunkedArray) -> Iterator[Any]:
    """The values of a column as Python objects, a part of it at a time."""
    return itertools.chain.from_iterable(batches(column))


def batches(column: pa.Array | pa.ChunkedArray) -> Iterator[list[Any]]:
    """The values of a column as Python objects, some of them in each list."""
    for start in range(0, len(column), _BATCH):
        yield column.slice(start, _BATCH).to_pylist()
