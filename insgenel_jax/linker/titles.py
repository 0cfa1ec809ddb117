"""A knowledge base and a tokenizer in; the prefix tree of all titles out."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from insgenel_jax.decoding.title_trie import (
    TitleTrie,
    build_title_trie,
    open_title_trie,
    save_title_trie,
)
from insgenel_jax.generator import Generator
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.linker.bundled import is_bundled
from insgenel_jax.text.linked_text import encode_titles
from insgenel_jax.tokenizer import Tokenizer

TOGETHER = 20_000  # titles that are tokenised in one call
# A title may have at most 1 / SHARE as many tokens as the model has positions.
SHARE = 4


def open_titles(
    path: Path,
    made_from: Mapping[str, str],
    kb: KnowledgeBase,
    generator: Generator,
    *,
    verify: bool = False,
) -> TitleTrie:
    """The tree in titles/ of a linker directory. It is made where there is none.

    It is not kept in the bundled linker, which is part of the installation.

    made_from: of the linker. verify: compare the hashes of the tree's files. Raises
    ArtifactError for a tree that is damaged or was made from other parts, ValueError
    where there is no title to make one of.
    """
    parts = {part: made_from[part] for part in ("generator", "kb")}
    folder = path / "titles"
    if folder.is_dir():
        return open_title_trie(folder, parts, verify=verify)
    longest = generator.max_positions // SHARE
    titles = make_titles(kb, generator.tokenizer, longest)
    if not is_bundled(path):
        with contextlib.suppress(OSError):  # a read-only directory stays without
            save_title_trie(titles, folder, parts)
    return titles


def make_titles(kb: KnowledgeBase, tokenizer: Tokenizer, longest: int) -> TitleTrie:
    """The tree of all titles that have tokens, and at most `longest` of them."""
    ids, lengths = [np.zeros(0, np.int32)], np.zeros(len(kb), np.int64)
    for first in range(0, len(kb), TOGETHER):
        rows = range(first, min(first + TOGETHER, len(kb)))
        encoded = encode_titles(tokenizer, [kb.title(entity) for entity in rows])
        lengths[rows.start : rows.stop] = [len(title) for title in encoded]
        ids.append(np.array([t for title in encoded for t in title], np.int32))
    kept = (lengths > 0) & (lengths <= longest)
    kept[kb.removed] = False
    entities, tokens = np.flatnonzero(kept), np.concatenate(ids)
    titles = build_title_trie(
        tokens[np.repeat(kept, lengths)], lengths[kept], tokenizer.size, tokenizer.end
    )
    return dataclasses.replace(titles, entity=entities[titles.entity].astype(np.int32))
