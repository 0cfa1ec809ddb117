"""A block of a transition table: every path from a state to where one link ends.

A block is what one call of the tree decoder settles: from a source pointer in a
decision span to the END of the first link, or to the end of the span. Its paths form a
tree of edges, kept in pre-order; the selection rules work on that. Where that is too
large, a call settles the beginning of it, and the next block begins there.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from insgenel_jax.decoding.forward import log_softmax
from insgenel_jax.decoding.table import CLOSE, COPY, END, ENTITY, OPEN, Table


class Block(NamedTuple):
    """Edges in pre-order, int32 [n] each.

    edge: its number in the table. parent: the edge before it (-1: none). end: the edges
    i <= j < end[i] are i and what lies below. depth: edges before it. decided: bool, is
    there another edge beside it. asked: bool, does the token behind this edge have to
    be run, because something is decided behind it. cut: are there edges missing, so
    that some paths end before their link does.
    """

    edge: np.ndarray
    parent: np.ndarray
    end: np.ndarray
    depth: np.ndarray
    decided: np.ndarray
    asked: np.ndarray
    cut: bool


def find_block(
    table: Table,
    state: int,
    *,
    whole: bool = False,
    titles: bool = True,
    most: int | None = None,
) -> Block:
    """The block that begins at `state`, which has edges.

    whole: edges within links count as decided even where there is no other, so that
    each of them is scored. titles: without, links end at ENTITY. most: a block that
    asks for more tokens is cut; what is nearest to its beginning stays.
    """
    last = len(table.span_end) - 1
    stop = table.span_end[state] if state <= last else -1
    indptr, kinds, following = table.indptr, table.kind, table.next
    edge, parent, decided, asked = [], [], [], set()
    below: dict[int, range] = {}
    queue = collections.deque([(-1, state)])  # edges, and the states behind them
    while queue:
        up, here = queue[0]
        row = range(indptr[here], indptr[here + 1])
        scored = len(row) > 1
        if whole and not scored:
            scored = here > last or kinds[row[0]] != COPY
        new, above = set(), up
        while scored and above >= 0 and above not in asked:
            new.add(above)
            above = parent[above]
        if most is not None and edge and len(asked) + len(new) > most:
            break
        queue.popleft()
        asked |= new
        below[up] = range(len(edge), len(edge) + len(row))
        edge += row
        parent += [up] * len(row)
        decided += [scored] * len(row)
        for i, e in zip(below[up], row, strict=True):
            to, kind = int(following[e]), kinds[e]
            ends = kind == END or (kind == COPY and to == stop)
            if not ends and (titles or kind != ENTITY):
                queue.append((i, to))
    order, stack = [], [*reversed(below[-1])]
    while stack:
        order.append(i := stack.pop())
        stack += reversed(below.get(i, ()))
    place = np.full(len(order) + 1, -1, np.int32)  # the last one: of the beginning, -1
    place[order] = np.arange(len(order))
    parent = place[parent][order]
    depth, end = np.zeros(len(order), np.int32), np.arange(1, len(order) + 1)
    for i, up in enumerate(parent.tolist()):
        depth[i] = depth[up] + 1 if up >= 0 else 0
    for i in range(len(order) - 1, -1, -1):  # what lies below comes first
        if parent[i] >= 0:
            end[parent[i]] = max(end[parent[i]], end[i])
    run = np.zeros(len(order), bool)
    run[place[np.array(sorted(asked), int)]] = True
    return Block(
        edge=np.array(edge, np.int32)[order],
        parent=parent,
        end=end.astype(np.int32),
        depth=depth,
        decided=np.array(decided)[order],
        asked=run,
        cut=bool(queue),
    )


def pieces(
    block: Block, nodes: int, edges: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cut a block so that no call runs more than `nodes` tokens or scores more `edges`.

    -> (asked edges whose tokens are run, decided edges that are scored), each in
    pre-order; every scored edge has all that is above it in its own piece. A path of
    more than `nodes` tokens is still one piece.
    """
    asked: dict[int, None] = {}  # in order
    scored: list[int] = []

    def piece():
        return np.array(list(asked), np.int32), np.array(scored, np.int32)

    for i in np.flatnonzero(block.decided).tolist():
        chain = _above(block, i)
        new = sum(a not in asked for a in chain)
        if scored and (len(asked) + new > nodes or len(scored) == edges):
            yield piece()
            asked, scored = {}, []
        asked |= dict.fromkeys(chain)
        scored.append(i)
    yield piece()


def _above(block: Block, i: int) -> list[int]:
    """The edges above edge i, from the root on."""
    chain = []
    while (i := int(block.parent[i])) >= 0:
        chain.append(i)
    return chain[::-1]


class Chosen(NamedTuple):
    """A path through a block, and how clear the choice was.

    path: edges of the block. gap: of the closest decision, between the best and the
    second.
    """

    path: list[int]
    gap: float


def log_probs(table: Table, block: Block, logits: np.ndarray) -> np.ndarray:
    """ln p of each edge of a block, float64 [n], from logits (with bias) [n].

    Over the edges that are allowed beside it; 0 where there is no other.
    """
    order = np.argsort(block.edge)
    source = np.searchsorted(table.indptr, block.edge[order], side="right") - 1
    found = np.zeros(len(logits))
    found[order] = log_softmax(logits[order], source)
    return found


def select(
    table: Table,
    block: Block,
    logits: np.ndarray,
    log_probs: np.ndarray,
    selection: str,
) -> Chosen:
    """Choose a path by "greedy" or "marginal" (DESIGN.md section 6).

    logits [n] with bias, and their log_probs [n]. Ties go to the smaller token.
    """
    if selection == "greedy":
        return _greedy(block, logits)
    return _marginal(table, block, _sum_along(block, log_probs))


def _sum_along(block: Block, values: np.ndarray) -> np.ndarray:
    """The sum of values from the root to each edge, itself included."""
    total = values.copy()
    for depth in range(1, int(block.depth.max()) + 1):
        at = np.flatnonzero(block.depth == depth)
        total[at] += total[block.parent[at]]
    return total


def _greedy(block: Block, logits: np.ndarray) -> Chosen:
    children: dict[int, list[int]] = {}
    for i, up in enumerate(block.parent.tolist()):
        children.setdefault(up, []).append(i)
    path, gap, at = [], np.inf, -1
    while options := children.get(at):
        at = max(options, key=lambda i: logits[i])  # the first of equals
        if len(options) > 1:
            best, second = sorted((logits[i] for i in options), reverse=True)[:2]
            gap = min(gap, best - second)
        path.append(at)
    return Chosen(path, float(gap))


def _marginal(table: Table, block: Block, total: np.ndarray) -> Chosen:
    kinds = table.kind[block.edge]
    leaf = block.end == np.arange(1, len(block.end) + 1)
    passed = np.flatnonzero(leaf & (kinds == COPY))  # at most one: no mention
    closed = np.flatnonzero(kinds == CLOSE)
    options = [*passed.tolist(), *closed.tolist()]
    gap = np.inf
    if options:  # else the mention is settled, and only its title is open
        best = max(options, key=lambda i: total[i])
        gap = _lead(total[options])
        if best in passed:
            return Chosen([*_above(block, best), best], gap)
        below = np.arange(best, block.end[best])
    else:
        below = np.arange(len(kinds))
    titles = below[kinds[below] == END]
    if not len(titles):  # the block ends at ENTITY
        return Chosen([*_above(block, below[-1]), int(below[-1])], gap)
    entity = int(titles[np.argmax(total[titles])])
    return Chosen([*_above(block, entity), entity], min(gap, _lead(total[titles])))


def _lead(values: np.ndarray) -> float:
    if len(values) < 2:
        return float("inf")
    second, best = np.partition(values, -2)[-2:]
    return float(best - second)


def best_unlinked(
    table: Table, block: Block, log_probs: np.ndarray, path: list[int]
) -> list[int]:
    """The best link of a block, uncut, that a path through it passes over, if any.

    The best mention that does not overlap the one taken, then its best entity; as edges
    of the block from OPEN to END.
    """
    total = _sum_along(block, log_probs)
    kinds = table.kind[block.edge]
    closed = np.flatnonzero(kinds == CLOSE)
    spans = [table.mentions[m][:2] for m in table.value[block.edge[closed]]]
    taken = next((spans[k] for k, i in enumerate(closed) if i in path), None)
    if taken is not None:  # what opens behind it comes with the next block
        before = [end <= taken[0] for _, end in spans]
        closed = closed[np.array(before, bool)]
    if not len(closed):
        return []
    best = int(closed[np.argmax(total[closed])])
    below = np.arange(best, block.end[best])
    titles = below[kinds[below] == END]
    entity = int(titles[np.argmax(total[titles])])
    link = [*_above(block, entity), entity]
    opened = [k for k, i in enumerate(link) if kinds[i] == OPEN]
    return link[opened[0] :] if opened else []  # else the block begins within a link
