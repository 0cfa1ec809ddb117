"""A block of a transition table: every path from a state to where one link ends.

A block is what one call of the tree decoder settles: from a source pointer in a
decision span to the END of the first link, or to the end of the span. Its paths form a
tree of edges, kept in pre-order. Where that tree is too large for one call, either the
block is cut short (the next block begins where it ends), or its tokens are run in
pieces.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from insgenel_jax.decoding.table import COPY, END, ENTITY, Table


class Block(NamedTuple):
    """The n edges of a block, in pre-order.

    edge: its number in the table. parent: the edge before it, -1 if there is none. end:
    the edges i <= j < end[i] are i and those below it. depth: how many edges are before
    it. decided: whether another edge is allowed beside it. asked: whether its token has
    to be run, because something is decided below it. cut: whether edges are missing, so
    that some paths stop before their link ends.
    """

    edge: Int[np.ndarray, " n"]
    parent: Int[np.ndarray, " n"]
    end: Int[np.ndarray, " n"]
    depth: Int[np.ndarray, " n"]
    decided: Bool[np.ndarray, " n"]
    asked: Bool[np.ndarray, " n"]
    cut: bool


class Piece(NamedTuple):
    """The part of a block that one call runs: edges of the block, in pre-order.

    asked: whose tokens it runs. scored: whose logits it forms.
    """

    asked: Int[np.ndarray, " a"]
    scored: Int[np.ndarray, " s"]


@dataclasses.dataclass
class _Growth:
    """The edges of a block in the order in which they were found, breadth first.

    below: an edge, or -1 for the block's first state -> the edges after it.
    """

    edge: list[int] = dataclasses.field(default_factory=list)
    parent: list[int] = dataclasses.field(default_factory=list)
    decided: list[bool] = dataclasses.field(default_factory=list)
    asked: set[int] = dataclasses.field(default_factory=set)
    below: dict[int, range] = dataclasses.field(default_factory=dict)
    cut: bool = False

    def add(self, up: int, edges: range, decided: bool) -> range:
        """Put edges below the edge `up`."""
        self.below[up] = range(len(self.edge), len(self.edge) + len(edges))
        self.edge += edges
        self.parent += [up] * len(edges)
        self.decided += [decided] * len(edges)
        return self.below[up]

    def unasked_above(self, i: int) -> set[int]:
        """Edge i and those above it whose tokens are not to be run so far."""
        new = set()
        while i >= 0 and i not in self.asked:
            new.add(i)
            i = self.parent[i]
        return new


def find_block(
    table: Table,
    state: int,
    *,
    whole: bool = False,
    titles: bool = True,
    most: int | None = None,
) -> Block:
    """The block that begins at `state`, which must have edges.

    whole: mark every edge within a link as decided, also one that has no alternative,
    so that all of them are scored. titles: whether to include the titles; without them,
    links end at ENTITY. most: the largest number of tokens to run. A block that needs
    more is cut: the edges nearest to its beginning are kept.
    """
    last = len(table.span_end) - 1
    stop = int(table.span_end[state]) if state <= last else -1
    indptr, following, kinds = table.lists
    growth = _Growth()
    queue = collections.deque([(-1, state)])  # edges, and the states after them
    while queue:
        up, here = queue[0]
        edges = range(indptr[here], indptr[here + 1])
        decided = len(edges) > 1
        if whole and not decided:
            decided = here > last or kinds[edges[0]] != COPY
        new = growth.unasked_above(up) if decided else set()
        if most is not None and growth.edge and len(growth.asked) + len(new) > most:
            break
        queue.popleft()
        growth.asked |= new
        for i, e in zip(growth.add(up, edges, decided), edges, strict=True):
            to, kind = following[e], kinds[e]
            ends = kind == END or (kind == COPY and to == stop)
            if not ends and (titles or kind != ENTITY):
                queue.append((i, to))
    growth.cut = bool(queue)
    return _in_pre_order(growth)


def _in_pre_order(growth: _Growth) -> Block:
    order, stack = [], [*reversed(growth.below[-1])]
    while stack:
        order.append(i := stack.pop())
        stack += reversed(growth.below.get(i, ()))
    n = len(order)
    place = np.full(n + 1, -1, np.int32)  # its last item is for "no parent", -1
    place[order] = np.arange(n)
    parent = place[growth.parent][order]
    parents, depth, end = parent.tolist(), [0] * n, list(range(1, n + 1))
    for i, up in enumerate(parents):  # parents come before their children
        depth[i] = depth[up] + 1 if up >= 0 else 0
    for i in reversed(range(n)):
        if (up := parents[i]) >= 0:
            end[up] = max(end[up], end[i])
    asked = np.zeros(n, bool)
    asked[place[np.array(sorted(growth.asked), int)]] = True
    return Block(
        edge=np.array(growth.edge, np.int32)[order],
        parent=parent,
        end=np.array(end, np.int32),
        depth=np.array(depth, np.int32),
        decided=np.array(growth.decided)[order],
        asked=asked,
        cut=growth.cut,
    )


def pieces(block: Block, nodes: int, edges: int) -> Iterator[Piece]:
    """Cut a block so that no call runs more than `nodes` tokens or scores more `edges`.

    Every decided edge is scored in one piece, which also runs all edges above it. A
    single path of more than `nodes` tokens is still one piece.
    """
    asked: dict[int, None] = {}  # in order
    scored: list[int] = []

    def piece() -> Piece:
        return Piece(np.array(list(asked), np.int32), np.array(scored, np.int32))

    for i in np.flatnonzero(block.decided).tolist():
        chain = above(block, i)
        new = sum(a not in asked for a in chain)
        if scored and (len(asked) + new > nodes or len(scored) == edges):
            yield piece()
            asked, scored = {}, []
        asked |= dict.fromkeys(chain)
        scored.append(i)
    yield piece()


def above(block: Block, i: int) -> list[int]:
    """The edges above edge i, from the block's beginning on."""
    chain = []
    while (i := int(block.parent[i])) >= 0:
        chain.append(i)
    return chain[::-1]
