"""Token sequences in; prefix trees as integer arrays out, built by sorting alone.

The sequences come in G groups (one for each candidate mention), and each group has a
tree of its own; together they are a forest. Nodes are numbered breadth first: the roots
are 0 to G - 1, and edge e leads to node G + e, so that children need no array.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Forest(NamedTuple):
    """Prefix trees of G groups, E edges in all.

    The edges of node i are indptr[i]:indptr[i + 1], by token; edge e leads to node
    G + e. `mass` sums the weights of the sequences below each root, then below each
    edge, and `size` counts them. `leaf` is the sequence that ends on an edge, or -1.
    """

    indptr: np.ndarray  # int64 [G + E + 1]
    token: np.ndarray  # int32 [E]
    mass: np.ndarray  # float64 [G + E]
    size: np.ndarray  # int64 [G + E]
    leaf: np.ndarray  # int64 [E]


class Level(NamedTuple):
    """The M edges of one depth, in order, and the n sequences that reach this depth.

    Sequence live[i] takes edge[i], counted from the first edge of this level.
    """

    parent: Int[np.ndarray, " M"]  # nodes
    token: Int[np.ndarray, " M"]
    live: Int[np.ndarray, " n"]
    edge: Int[np.ndarray, " n"]


def build_forest(
    sequences: Sequence[Sequence[int]],
    groups: Int[np.ndarray, " N"],
    weights: Float[np.ndarray, " N"],
    count: int,
) -> Forest:
    """Build the prefix trees of N sequences, each in one of `count` groups.

    groups, weights: of each sequence. Every sequence must end with a token that occurs
    nowhere else in it; so none is a prefix of another. Equal sequences of a group share
    a leaf, which names the first of them.
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
    # written last to first, so that the first of several equal sequences stays
    leaf[node[::-1] - count] = np.arange(len(node))[::-1]
    degree = np.bincount(_concatenate(parents, np.int64), minlength=count + edges)
    return Forest(
        indptr=np.concatenate([[0], np.cumsum(degree)]),
        token=_concatenate(tokens, np.int32),
        mass=np.concatenate(masses),
        size=np.concatenate(sizes),
        leaf=leaf,
    )


def grow(
    flat: Int[np.ndarray, " T"],
    lengths: Int[np.ndarray, " N"],
    node: Int[np.ndarray, " N"],
    roots: int,
) -> Iterator[Level]:
    """Grow prefix trees from `roots` roots, one level of edges at a time.

    flat: the tokens of N sequences, one sequence after the other; lengths: how many
    tokens each has. node: the root of each sequence; it is changed in place, to the
    node that each sequence has reached with the levels so far.
    """
    firsts = np.cumsum(lengths) - lengths
    vocabulary = int(flat.max(initial=0)) + 1
    live = np.flatnonzero(lengths > 0)
    depth, nodes = 0, roots
    while len(live):
        # Breadth-first numbers ascend with (parent, token), so sorting the pairs, each
        # as one integer, numbers the edges.
        pairs = node[live] * vocabulary + flat[firsts[live] + depth]
        edges, edge = np.unique(pairs, return_inverse=True)
        node[live] = nodes + edge
        yield Level(edges // vocabulary, edges % vocabulary, live, edge)
        nodes += len(edges)
        depth += 1
        live = live[lengths[live] > depth]


def _concatenate(parts: list[np.ndarray], dtype) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *parts], dtype=dtype, casting="unsafe")
