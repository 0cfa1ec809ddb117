"""Token sequences in, prefix trees as integer arrays out, by sorting alone.

The trees of several groups (one per candidate mention) form one forest. Nodes are
numbered breadth first: roots 0..G-1, and edge e leads to node G + e, so children need
no array of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np


class Forest(NamedTuple):
    """Prefix trees of G groups, E edges in all.

    The edges of node i are indptr[i]:indptr[i + 1], by token; edge e leads to node
    G + e. `mass` and `size` sum the weights and count the sequences below each root,
    then below each edge; `leaf` is the sequence that ends on an edge, or -1.
    """

    indptr: np.ndarray  # int64 [G + E + 1]
    token: np.ndarray  # int32 [E]
    mass: np.ndarray  # float64 [G + E]
    size: np.ndarray  # int64 [G + E]
    leaf: np.ndarray  # int64 [E]


class Level(NamedTuple):
    """The edges of one depth: M of them, in order, and the n sequences that are on one.

    Sequence live[i] takes edge[i], counted from the first edge of this level.
    """

    parent: np.ndarray  # int64 [M], nodes
    token: np.ndarray  # int64 [M]
    live: np.ndarray  # int64 [n]
    edge: np.ndarray  # int64 [n]


def build_forest(
    sequences: Sequence[Sequence[int]],
    groups: np.ndarray,
    weights: np.ndarray,
    count: int,
) -> Forest:
    """Build the prefix trees of N sequences, each in one of `count` groups.

    Sequences end with a token that occurs nowhere else in them, so none is a prefix of
    another. Equal sequences in a group share their leaf, which names the first.
    """
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    flat = np.fromiter((t for s in sequences for t in s), np.int64, lengths.sum())
    node = np.asarray(groups, np.int64).copy()
    parents, tokens = [], []
    masses = [np.bincount(node, weights, count)]
    sizes = [np.bincount(node, minlength=count)]
    for parent, token, live, edge in grow(flat, lengths, node, count):
        parents.append(parent)
        tokens.append(token)
        masses.append(np.bincount(edge, weights[live], len(parent)))
        sizes.append(np.bincount(edge, minlength=len(parent)))
    edges = sum(map(len, parents))
    leaf = np.full(edges, -1, np.int64)
    leaf[node[::-1] - count] = np.arange(len(node))[::-1]  # the first of equals stays
    degree = np.bincount(_concatenate(parents, np.int64), minlength=count + edges)
    return Forest(
        indptr=np.concatenate([[0], np.cumsum(degree)]),
        token=_concatenate(tokens, np.int32),
        mass=np.concatenate(masses),
        size=np.concatenate(sizes),
        leaf=leaf,
    )


def grow(
    flat: np.ndarray, lengths: np.ndarray, node: np.ndarray, roots: int
) -> Iterator[Level]:
    """Grow trees from `roots` roots, one level of edges at a time.

    flat: the tokens of N sequences, one behind the other; lengths int64 [N]. node int64
    [N]: the root of each, moved in place to where it stands, at last to where it ends.
    """
    firsts = np.cumsum(lengths) - lengths
    vocabulary = int(flat.max(initial=0)) + 1
    live = np.flatnonzero(lengths > 0)
    depth, nodes = 0, roots
    while len(live):
        # breadth-first numbers grow with (parent, token): sorting keys is all there is
        keys = node[live] * vocabulary + flat[firsts[live] + depth]
        found, edge = np.unique(keys, return_inverse=True)
        node[live] = nodes + edge
        yield Level(found // vocabulary, found % vocabulary, live, edge)
        nodes += len(found)
        depth += 1
        live = live[lengths[live] > depth]


def _concatenate(parts: list[np.ndarray], dtype) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *parts], dtype=dtype, casting="unsafe")
