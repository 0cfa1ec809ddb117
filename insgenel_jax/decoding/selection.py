"""A block and the logits of its edges in; the path that is chosen through it out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from insgenel_jax.decoding.blocks import Block, above
from insgenel_jax.decoding.path import TitleScores, log_softmax
from insgenel_jax.decoding.table import CLOSE, COPY, END, OPEN, Table


class Selected(NamedTuple):
    """A path through a block, as edges of the block, and how clear the choice was.

    margin: of the closest decision, the best outcome's value minus the second's; inf
    where nothing was decided.
    """

    path: list[int]
    margin: float


def log_probs(
    table: Table, block: Block, logits: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """ln p of each edge of a block among the edges allowed beside it, float64.

    logits: with bias. ln p is 0 where no other edge is allowed.
    """
    order = np.argsort(block.edge)
    state = np.searchsorted(table.indptr, block.edge[order], side="right") - 1
    result = np.zeros(len(logits))
    result[order] = log_softmax(logits[order], state)
    return result


def select(
    table: Table,
    block: Block,
    logits: Float[np.ndarray, " n"],
    log_probs: Float[np.ndarray, " n"],
    selection: str,
) -> Selected:
    """Choose a path by "greedy" or "marginal" selection.

    greedy (*paper*, 3.3): the best edge at each decision. marginal: the best of {no
    mention, each mention} by its probability summed over entities, then the mention's
    best entity. logits: with bias; log_probs: as `log_probs` gives them. Ties go to the
    smaller token. The margin is in logits for greedy, in ln p for marginal.
    """
    if selection == "greedy":
        return _greedy(block, logits)
    return _marginal(table, block, _sum_along(block, log_probs))


def _sum_along(
    block: Block, values: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """The sum of values from the block's beginning to each edge, itself included."""
    total = values.copy()
    for depth in range(1, int(block.depth.max()) + 1):
        at = np.flatnonzero(block.depth == depth)
        total[at] += total[block.parent[at]]
    return total


def _greedy(block: Block, logits: Float[np.ndarray, " n"]) -> Selected:
    children: dict[int, list[int]] = {}
    for i, up in enumerate(block.parent.tolist()):
        children.setdefault(up, []).append(i)
    values = logits.tolist()
    path, margin, at = [], float("inf"), -1
    while choices := children.get(at):
        at, *rest = sorted(choices, key=values.__getitem__, reverse=True)  # stable
        if rest:
            margin = min(margin, values[at] - values[rest[0]])
        path.append(at)
    return Selected(path, margin)


def _marginal(table: Table, block: Block, total: Float[np.ndarray, " n"]) -> Selected:
    """total: ln p of the path to each edge.

    The model decides on titles after CLOSE. So ln p of the path to CLOSE is the
    mention's probability summed over its entities.
    """
    kinds = table.kind[block.edge]
    leaf = block.end == np.arange(1, len(block.end) + 1)
    unlinked = np.flatnonzero(leaf & (kinds == COPY))  # at most one: no mention
    closed = np.flatnonzero(kinds == CLOSE)
    outcomes = [*unlinked.tolist(), *closed.tolist()]
    margin = float("inf")
    if outcomes:
        best = max(outcomes, key=lambda i: total[i])
        margin = _margin(total[outcomes])
        if best in unlinked:
            return Selected([*above(block, best), best], margin)
        below = np.arange(best, block.end[best])
    else:  # the mention is settled already, only its title is open
        below = np.arange(len(kinds))
    titles = below[kinds[below] == END]
    if not len(titles):  # the block ends at ENTITY
        return Selected([*above(block, int(below[-1])), int(below[-1])], margin)
    entity = int(titles[np.argmax(total[titles])])
    return Selected(
        [*above(block, entity), entity], min(margin, _margin(total[titles]))
    )


def _margin(values: Float[np.ndarray, " n"]) -> float:
    """The best value minus the second best; inf for a single one."""
    if len(values) < 2:
        return float("inf")
    second, best = np.partition(values, -2)[-2:]
    return float(best - second)


def best_unlinked(
    table: Table, block: Block, log_probs: Float[np.ndarray, " n"], path: list[int]
) -> list[int]:
    """The best link of a block, uncut, that a path through it leaves unlinked.

    That is the most probable mention that does not overlap the linked one, with its
    most probable entity, as edges of the block from OPEN to END; [] if there is none.
    """
    total = _sum_along(block, log_probs)
    kinds = table.kind[block.edge]
    closed = np.flatnonzero(kinds == CLOSE)
    spans = [table.mentions[m][:2] for m in table.value[block.edge[closed]]]
    linked = next((spans[k] for k, i in enumerate(closed) if i in path), None)
    if linked is not None:  # mentions after it belong to the next block
        before = [end <= linked[0] for _, end in spans]
        closed = closed[np.array(before, bool)]
    if not len(closed):
        return []
    best = int(closed[np.argmax(total[closed])])
    below = np.arange(best, block.end[best])
    titles = below[kinds[below] == END]
    entity = int(titles[np.argmax(total[titles])])
    link = [*above(block, entity), entity]
    opened = [k for k, i in enumerate(link) if kinds[i] == OPEN]
    return link[opened[0] :] if opened else []  # else the block begins within a link


def score_titles(
    table: Table,
    block: Block,
    biased: Float[np.ndarray, " n"],
    raw: Float[np.ndarray, " n"],
    before: list[int],
) -> list[TitleScores]:
    """The titles of each mention whose titles a block decides on, with their ln p.

    biased, raw: the logits with and without bias. before: the path up to the block, in
    which the mention may be settled already.
    """
    kinds = table.kind[block.edge]
    ends = np.flatnonzero(kinds == END)
    if not len(ends):
        return []
    totals = [_sum_along(block, log_probs(table, block, x)) for x in (biased, raw)]
    # the CLOSE above each END; -1 where it is on the path before the block
    closed = np.full(len(kinds), -1)
    for i in np.flatnonzero(kinds == CLOSE):
        closed[i : block.end[i]] = i
    scores = []
    for close in np.unique(closed[ends]).tolist():
        edge = int(block.edge[close])
        if close < 0:
            edge = next(e for e in reversed(before) if table.kind[e] == CLOSE)
        own = ends[closed[ends] == close]
        linked = [total[own] - (total[close] if close >= 0 else 0) for total in totals]
        entities = table.value[block.edge[own]]
        scores.append(TitleScores(int(table.value[edge]), entities, *linked))
    return scores
