"""The titles of a whole knowledge base as one prefix tree: built, saved and opened.

    root 0 --token--> node --token--> node --END--> leaf: an entity

Nodes are numbered breadth first and edge e leads to node 1 + e, so five flat arrays
hold the tree. They are memory-mapped on the host; `jax.device_put(trie)` brings them to
a device, where `title_choice` goes through them.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, Int, Integer

from insgenel_jax import artifact
from insgenel_jax.decoding.trie import grow

KIND = "title-trie"
VERSION = 1
MOST = np.iinfo(np.int32).max - 1  # edges that int32 can count
ARRAYS = ("indptr", "token", "root", "ends", "entity")

_static = functools.partial(dataclasses.field, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TitleTrie:
    """The prefix tree of N different titles: E edges over V tokens.

    The edges of node i are indptr[i]:indptr[i + 1], by token. The root has many, so
    `root` gives its edge for every token of the vocabulary, or -1. `ends` lists the
    edges that close a title, in ascending order, and `entity` whose title each of them
    closes. widest: edges of the widest node below the root. longest: edges on the
    longest path. repeated: how many titles were left out because an earlier one had the
    same tokens.
    """

    indptr: Int[Array | np.ndarray, " _"]  # int32 [E + 2]
    token: Integer[
        Array | np.ndarray, " E"
    ]  # uint16 where the vocabulary fits, or int32
    root: Int[Array | np.ndarray, " V"]  # int32
    ends: Int[Array | np.ndarray, " N"]  # int32
    entity: Int[Array | np.ndarray, " N"]  # int32
    widest: int = _static()
    longest: int = _static()
    repeated: int = _static()


def build_title_trie(
    ids: Int[np.ndarray, " T"],
    lengths: Int[np.ndarray, " N"],
    vocabulary: int,
    end: int,
) -> TitleTrie:
    """Build the prefix tree of N titles. Title i has the next lengths[i] of the tokens.

    end: the token that closes every title, so that one title may be a prefix of
    another. Among titles with equal tokens the first is kept. Raises ValueError if
    there are no titles, if a title has no tokens, if it holds `end` or a token outside
    the vocabulary, and if there are more edges than int32 can count.
    """
    ids, lengths = np.asarray(ids), np.asarray(lengths, np.int64)
    _check_titles(ids, lengths, vocabulary, end)
    titles = np.arange(len(lengths))
    closed = np.full(len(ids) + len(lengths), end, np.int32)
    closed[np.arange(len(ids)) + np.repeat(titles, lengths)] = ids
    node = np.zeros(len(lengths), np.int64)
    degrees, tokens = [], []
    first, parents = 0, 1  # the first node of the level above; how many it has
    narrow = np.uint16 if vocabulary <= 1 << 16 else np.int32
    for parent, token, _, _ in grow(closed, lengths + 1, node, 1):
        degrees.append(np.bincount(parent - first, minlength=parents))
        tokens.append(token.astype(narrow))
        first, parents = first + parents, len(token)
    edges = sum(map(len, tokens))
    if edges > MOST:
        raise ValueError(f"expected at most {MOST} edges, found {edges}; split titles")
    indptr = np.zeros(edges + 2, np.int32)
    # the nodes of the last level are leaves
    np.cumsum(np.concatenate(degrees), out=indptr[1 : edges + 2 - parents])
    indptr[edges + 2 - parents :] = edges
    root = np.full(vocabulary, -1, np.int32)
    root[tokens[0]] = np.arange(len(tokens[0]))
    leaves, entity = np.unique(node, return_index=True)
    return TitleTrie(
        indptr=indptr,
        token=np.concatenate(tokens),
        root=root,
        ends=(leaves - 1).astype(np.int32),
        entity=entity.astype(np.int32),
        widest=max(int(degree.max()) for degree in degrees[1:]),
        longest=len(tokens),
        repeated=len(lengths) - len(leaves),
    )


def _check_titles(ids, lengths, vocabulary: int, end: int) -> None:
    if not len(lengths):
        raise ValueError("expected at least one title, found none")
    if (lengths < 1).any() or lengths.sum() != len(ids):
        empty = np.flatnonzero(lengths < 1)[:5].tolist()
        raise ValueError(
            f"expected titles of at least one token, {len(ids)} in all; found lengths "
            f"that sum to {lengths.sum()}, titles without tokens: {empty}"
        )
    if not 0 <= end < vocabulary:
        raise ValueError(f"expected end in [0, {vocabulary}), found {end}")
    wrong = np.flatnonzero((ids < 0) | (ids >= vocabulary) | (ids == end))
    if len(wrong):
        title = int(np.searchsorted(np.cumsum(lengths), wrong[0], side="right"))
        raise ValueError(
            f"title {title}: expected tokens in [0, {vocabulary}) other than END "
            f"({end}), found {ids[wrong[0]]}; {len(wrong)} tokens like that in all"
        )


def save_title_trie(
    trie: TitleTrie, path: str | os.PathLike, made_from: Mapping[str, str]
) -> None:
    """Write the tree's directory.

    made_from: the identities of the knowledge base and the tokenizer.
    """
    with artifact.create(path, KIND, VERSION) as draft:
        draft.made_from.update(made_from)
        draft.counts.update(
            titles=len(trie.ends),
            edges=len(trie.token),
            tokens=len(trie.root),
            widest=trie.widest,
            longest=trie.longest,
            repeated=trie.repeated,
        )
        for name in ARRAYS:
            np.save(draft.path / f"{name}.npy", getattr(trie, name))


def open_title_trie(
    path: str | os.PathLike, made_from: Mapping[str, str], *, verify: bool = False
) -> TitleTrie:
    """Open a tree's directory, memory-mapped.

    verify: also compare the files' hashes. Raises artifact.ArtifactError if the tree
    was made from other parts than `made_from`, or is damaged.
    """
    path = Path(path)
    manifest = artifact.check(path, KIND, VERSION, verify=verify)
    for role in sorted(manifest.made_from.keys() | made_from.keys()):
        found, expected = manifest.made_from.get(role), made_from.get(role)
        if found != expected:
            raise artifact.ArtifactError(
                f"{path}: made from the {role} {found}, expected {expected}; build the "
                "title trie again with these parts"
            )
    try:
        arrays = {
            name: np.asarray(np.load(path / f"{name}.npy", mmap_mode="r"))
            for name in ARRAYS
        }
        sizes = [manifest.counts[name] for name in ("titles", "edges", "tokens")]
        known = {n: manifest.counts[n] for n in ("widest", "longest", "repeated")}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise artifact.ArtifactError(
            f"{path}: a file of the title trie cannot be read ({error}); make it again"
        ) from error
    _check_sizes(path, arrays, *sizes)
    return TitleTrie(**arrays, **known)


def _check_sizes(
    path: Path, arrays: dict[str, np.ndarray], titles: int, edges: int, tokens: int
) -> None:
    expected = {
        "indptr": edges + 2,
        "token": edges,
        "root": tokens,
        "ends": titles,
        "entity": titles,
    }
    sizes = {name: len(array) for name, array in arrays.items()}
    if sizes != expected or arrays["indptr"][-1] != edges:
        raise artifact.ArtifactError(
            f"{path}: the files of the title trie do not fit each other: expected rows "
            f"{expected}, found {sizes}; make it again"
        )


def children(trie: TitleTrie, node: int) -> tuple[np.ndarray, range]:
    """On the host: the tokens of a node's edges, ascending, and the nodes after."""
    row = range(trie.indptr[node], trie.indptr[node + 1])
    return trie.token[row.start : row.stop], range(row.start + 1, row.stop + 1)


def find_leaf(trie: TitleTrie, edge: int) -> int | None:
    """On the host: the entity whose title ends on an edge, or None."""
    i = int(np.searchsorted(trie.ends, edge))
    if i == len(trie.ends) or trie.ends[i] != edge:
        return None
    return int(trie.entity[i])
