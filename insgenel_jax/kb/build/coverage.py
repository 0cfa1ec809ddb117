"""Surface forms by their source, and held-back links, in; what each source adds to
coverage and to ambiguity out.

The links are of pages whose text counts nowhere, so that none of them was learnt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.document import Document

# The histogram's bars: from so many candidates of a form up to the next number.
STEPS = (1, 2, 3, 4, 6, 11, 21, 51, 101)
ALL = "all, with form rules"


class SourceRow(NamedTuple):
    """What the knowledge base has with a source and all those before it.

    forms, pairs: surface forms, and pairs of a form and an entity. links: of held-back
    links the share whose form is known, whose entity is a candidate of it, and how many
    candidates a known form has on average; None where there are no such links.
    """

    source: str
    forms: int
    pairs: int
    known: float | None
    covered: float | None
    candidates: float | None


def source_rows(
    kb: KnowledgeBase,
    titles: pa.ChunkedArray,
    sources: Mapping[str, pa.Table],
    held_back: Sequence[Document],
) -> list[SourceRow]:
    """A row a source, in their order, and one for the whole knowledge base.

    titles: of the entities, by row. sources: tables with the columns of FORMS.
    held_back: documents whose mentions are links alone.
    """
    links = _links(kb, held_back)
    pairs = np.empty(0, np.int64)
    rows = []
    for name, table in sources.items():
        pairs = np.union1d(pairs, _pairs(kb, titles, table))
        rows.append(_row(name, pairs, len(kb), links))
    return [*rows, _row(ALL, _all_pairs(kb), len(kb), links)]


def ambiguity(kb: KnowledgeBase) -> list[tuple[str, int]]:
    """How many surface forms have one candidate, two, and so on: (label, number)."""
    counts = np.diff(np.load(kb.path / "form_indptr.npy").astype(np.int64))
    numbers, _ = np.histogram(counts, [*STEPS, np.iinfo(np.int64).max])
    ends = [following - 1 for following in STEPS[1:]]
    labels = [
        str(first) if first == last else f"{first}-{last}"
        for first, last in zip(STEPS, ends, strict=False)
    ]
    return list(zip([*labels, f"{STEPS[-1]} or more"], numbers.tolist(), strict=True))


def _pairs(
    kb: KnowledgeBase, titles: pa.ChunkedArray, table: pa.Table
) -> Int64[np.ndarray, " N"]:
    """form * entities + entity of each row of FORMS whose title is known, once each."""
    entities = pc.index_in(table["title"], titles)
    table = table.append_column("entity", entities).filter(entities.is_valid())
    coded = table["form"].combine_chunks().dictionary_encode()
    forms = [kb.form(form) for form in coded.dictionary.to_pylist()]
    ids = np.array([-1 if form is None else form for form in forms], np.int64)
    rows = ids[coded.indices.to_numpy()] if len(ids) else ids
    keys = rows * len(kb) + table["entity"].to_numpy()
    return np.unique(keys[rows >= 0])


def _all_pairs(kb: KnowledgeBase) -> Int64[np.ndarray, " N"]:
    counts = np.diff(np.load(kb.path / "form_indptr.npy").astype(np.int64))
    forms = np.repeat(np.arange(len(counts)), counts)
    return np.sort(forms * len(kb) + np.load(kb.path / "form_entities.npy"))


def _links(
    kb: KnowledgeBase, documents: Sequence[Document]
) -> list[tuple[int | None, int]]:
    """(form, entity) of each held-back link."""
    links = []
    for document in documents:
        for mention in document.mentions:
            entity = mention.entity and kb.find(mention.entity)
            if isinstance(entity, int):
                form = kb.form(document.text[mention.start : mention.end])
                links.append((form, entity))
    return links


def _row(
    source: str,
    pairs: Int64[np.ndarray, " N"],
    entities: int,
    links: Sequence[tuple[int | None, int]],
) -> SourceRow:
    """pairs: sorted."""
    if not len(pairs) or not links:
        return SourceRow(source, len(np.unique(pairs // entities)), len(pairs), *_NONE)
    forms = np.array([-1 if form is None else form for form, _ in links], np.int64)
    golds = forms * entities + np.array([entity for _, entity in links], np.int64)
    first = np.searchsorted(pairs, forms * entities)
    last = np.searchsorted(pairs, (forms + 1) * entities)
    known = (forms >= 0) & (last > first)
    place = np.searchsorted(pairs, golds).clip(max=len(pairs) - 1)
    covered = known & (pairs[place] == golds)
    return SourceRow(
        source,
        len(np.unique(pairs // entities)),
        len(pairs),
        float(known.mean()),
        float(covered.mean()),
        float((last - first)[known].mean()) if known.any() else None,
    )


_NONE = (None, None, None)


def kb_rows(
    path: Path,
    titles: pa.ChunkedArray,
    sources: Mapping[str, pa.Table],
    held_back: Sequence[Document],
) -> tuple[list[SourceRow], list[tuple[str, int]]]:
    """The rows of sources, and the histogram of ambiguity, of a knowledge base."""
    kb = KnowledgeBase.open(path)
    return source_rows(kb, titles, sources, held_back), ambiguity(kb)
