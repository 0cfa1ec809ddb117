"""A knowledge base, and entities to add to it and to leave out, in; an overlay out.

Nothing of the base is read again but its surface forms' candidates: the new directory
has its files by hard links, and the added entities as a knowledge base beside them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Int32

from insgenel_jax import artifact
from insgenel_jax.kb.build.entity_list import (
    ListedEntity,
    build_from_entities,
    read_entities,
)
from insgenel_jax.kb.folding import title_key, title_variants
from insgenel_jax.kb.knowledge_base import KIND, VERSION, KnowledgeBase
from insgenel_jax.kb.matcher import trie_id
from insgenel_jax.kb.overlay import ADDED, BASE, EMPTIED, REMOVED, SAME, is_among
from insgenel_jax.kb.segment import Segment
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.lines import decode_lines
from insgenel_jax.text.formats.rejects import InputError, Rejects


def write_overlay(
    base: KnowledgeBase,
    path: str | os.PathLike,
    rejects: Rejects,
    *,
    source: str | os.PathLike | None = None,
    remove: str | os.PathLike | None = None,
    documents: str | os.PathLike | None = None,
) -> dict[str, int]:
    """Write the knowledge base that is `base` with more and fewer entities.

    source: the list of entities that are added, see `entity_list.read_entities`. An
    entity with the title of one of the base gets another title, as in one list.
    remove: a file of titles or external ids, one a line. A title that was removed is
    free for an added entity. documents: labelled documents, whose links to added
    entities are counted. The rules for surface forms, and the case policy, are the
    base's. What cannot be read, is unknown or is there already goes to `rejects`.

    Returns counts. Raises InputError where the base is an overlay itself, and where
    nothing is added or removed.
    """
    check_plain(base)
    removed = np.zeros(0, np.int32)
    if remove is not None:
        removed = read_removed(base, remove, rejects)
    listed: list[ListedEntity] = []
    if source is not None:
        listed = _read_added(base, source, removed, rejects)
    labelled = [] if documents is None else list(read_documents(documents, rejects))
    if not listed and not len(removed):
        raise InputError(
            f"{path}: expected entities to add or to remove, found none; look at the "
            "input and at what was rejected"
        )
    segment = Segment(base.path)
    with artifact.create(path, KIND, VERSION) as draft:
        _link_base(base, draft)
        if listed:
            _write_added(base, draft, listed, labelled, removed, rejects, str(source))
        added = Segment(draft.path / ADDED) if listed else None
        same = same_forms(segment, added)
        is_kept = np.ones(len(segment), bool)
        is_kept[removed] = False
        kept = is_kept[segment.entities]
        emptied = emptied_forms(segment, kept)
        np.save(draft.path / REMOVED, removed)
        np.save(draft.path / SAME, same)
        np.save(draft.path / EMPTIED, emptied)
        new_forms = np.count_nonzero((same < 0) | is_among(same, emptied))
        draft.counts = {
            "entities": len(segment) - len(removed) + len(listed),
            "surface forms": len(segment.form_trie) - len(emptied) + int(new_forms),
            "candidates": int(kept.sum()) + (len(added.entities) if added else 0),
            "redirects": int(is_kept[np.asarray(segment.redirects, np.int64)].sum()),
            "added": len(listed),
            "removed": len(removed),
        }
    return draft.counts


def check_plain(kb: KnowledgeBase) -> None:
    """Raise InputError for a knowledge base that is an overlay itself."""
    if kb.base_rows is not None:
        raise InputError(
            f"{kb.path}: expected a knowledge base without an overlay, found one; give "
            f"its {kb.path}/{BASE}, with all entities to add or to remove"
        )


def read_removed(
    base: KnowledgeBase, path: str | os.PathLike, rejects: Rejects
) -> Int32[np.ndarray, " R"]:
    """The rows, ascending, of the entities whose titles or ids are in a file.

    A name that is unknown, or that of a redirect, goes to `rejects`.
    """
    rows: set[int] = set()
    for number, line in decode_lines(path, rejects):
        name = line.strip()
        if not name:
            continue
        row, reason = base.find(name), "removal of an unknown entity"
        if row is not None and title_key(base.title(row)) not in title_variants(name):
            reason = f"removal of a redirect: it leads to {base.title(row)!r}"
            row = None
        if row is None:
            row = base.find_external(name)
        if row is None:
            rejects.add(str(path), number, reason, line)
        elif row in rows:
            rejects.add(str(path), number, "removed by an earlier line", line)
        else:
            rows.add(row)
    return np.array(sorted(rows), np.int32)


def _read_added(
    base: KnowledgeBase,
    path: str | os.PathLike,
    removed: Int32[np.ndarray, " R"],
    rejects: Rejects,
) -> list[ListedEntity]:
    """The entities of a list without those whose id an entity of the base has."""
    gone, listed = set(removed.tolist()), []
    for item in read_entities(path, rejects):
        identifier = item.entity.external_id
        row = None if identifier is None else base.find_external(identifier)
        if row is None or row in gone:
            listed.append(item)
            continue
        reason = f"id taken by an entity of the knowledge base: {base.title(row)!r}"
        rejects.add(str(path), item.line, reason, item.entity.title)
    return listed


def _link_base(base: KnowledgeBase, draft: artifact.Draft) -> None:
    """Put the base's files into the draft, with the hashes that they have there."""
    shutil.copytree(base.path, draft.path / BASE, copy_function=artifact.link_or_copy)
    files = artifact.read(base.path).files
    draft.known.update({f"{BASE}/{name}": facts for name, facts in files.items()})
    draft.made_from[BASE] = base.identity


def _write_added(
    base: KnowledgeBase,
    draft: artifact.Draft,
    listed: Sequence[ListedEntity],
    documents: Sequence[Document],
    removed: Int32[np.ndarray, " R"],
    rejects: Rejects,
    source: str,
) -> None:
    """Write the added entities as a knowledge base of their own."""
    build_from_entities(
        draft.path / ADDED,
        [(entity, aliases) for entity, aliases, _ in listed],
        rejects,
        documents=documents,
        form_rules=list(base.settings.form_rules),
        case=base.settings.case,
        source=source,
        lines=[line for _, _, line in listed],
        is_taken=_titles_of(base, removed),
    )
    draft.made_from[ADDED] = artifact.identity(draft.path / ADDED)


def _titles_of(
    base: KnowledgeBase, removed: Int32[np.ndarray, " R"]
) -> Callable[[str], bool]:
    """Whether an entity of the base that stays has the title of a key."""
    segment, gone = Segment(base.path), set(removed.tolist())

    def is_taken(key: str) -> bool:
        row = segment.title_row(key)
        return row is not None and row < len(segment) and row not in gone

    return is_taken


def same_forms(base: Segment, added: Segment | None) -> Int32[np.ndarray, " G"]:
    """Of each added form, the number that the base has for it, or -1."""
    names = (
        []
        if added is None
        else map(added.form_trie.restore_key, range(len(added.form_trie)))
    )
    numbers = (trie_id(base.form_trie, name) for name in names)
    return np.array([-1 if n is None else n for n in numbers], np.int32)


def emptied_forms(
    base: Segment, kept: Bool[np.ndarray, " N"]
) -> Int32[np.ndarray, " E"]:
    """The forms of the base none of whose candidates is kept."""
    if not len(kept):
        return np.zeros(0, np.int32)
    left = np.logical_or.reduceat(kept, np.asarray(base.indptr[:-1], np.int64))
    return np.flatnonzero(~left).astype(np.int32)
