"""The tree decoder (tree attention): one call a block, a few where a block is large.

A call runs the tokens that are pending and the block's tree, in which each token sees
its own ancestors alone; so every decision of the block is scored at once. The keys and
values of the chosen path stay in the cache. The text copied after it is pending until
the next call, and nothing after the last decision is run.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float

from insgenel_jax.decoding import selection
from insgenel_jax.decoding.blocks import Block, Piece, find_block, pieces
from insgenel_jax.decoding.chunk import Chunk
from insgenel_jax.decoding.continuous import Rows, decode_rows
from insgenel_jax.decoding.forward import Answer, Model
from insgenel_jax.decoding.options import Options
from insgenel_jax.decoding.packing import Request
from insgenel_jax.decoding.path import DecodedPath, ScoredEdges, follow
from insgenel_jax.decoding.table import Table

HONOURS = frozenset({"selection", "unlinked", "vocabulary", "titles_scored"})
EDGES = 4096  # edges that one call scores, of one row
MOVES = 32  # tokens of a chosen path that are kept in the cache; others are run again
NODES = 128  # tokens of a tree that one call runs; larger trees take several calls


@dataclasses.dataclass
class _Scoring:
    """A block that is being scored, a piece a call.

    piece: the one that runs now; left: those to come. Of each edge of the block that is
    scored so far: raw [n] are the model's logits, logits [n] have the bias, log_probs
    [n] are over the whole vocabulary (where wanted).
    """

    block: Block
    piece: Piece
    left: list[Piece]
    raw: Float[np.ndarray, " n"]
    logits: Float[np.ndarray, " n"]
    log_probs: Float[np.ndarray, " n"]


@dataclasses.dataclass
class _Row:
    """Where the decoding of one chunk stands.

    pending: tokens that are settled but not run. length: cache slots in use. moved:
    cache slots whose contents the next call copies into the last of the slots in use,
    that is, into those just before `length`.
    """

    table: Table
    pending: list[int]
    path: DecodedPath
    state: int = 0
    length: int = 0
    moved: list[int] = dataclasses.field(default_factory=list)
    scoring: _Scoring | None = None


def decode(
    model: Model,
    params,
    chunks: Iterable[Chunk],
    *,
    batch: int,
    options: Options,
    **seats: Any,
) -> list[DecodedPath]:
    """Decode chunks, each by its table, at most `batch` at once. (*paper*, 3.3.)

    With the option `vocabulary` every token of a link is run. With it, `unlinked` or
    `titles_scored`, blocks are run whole, however large. seats: see
    `continuous.decode_rows`. Raises ValueError for a mention that may take any title.
    """
    rows = Rows(
        begin=functools.partial(_begin, options=options),
        ask=functools.partial(_ask, options=options),
        take_in=functools.partial(_take_in, options=options),
        bound=lambda chunk: len(chunk.prompt) + chunk.table.longest + NODES,
    )
    return decode_rows(
        model,
        params,
        chunks,
        rows,
        batch=batch,
        vocabulary=options.vocabulary,
        **seats,
    )


def _begin(chunk: Chunk, options: Options) -> _Row:
    chunk.table.refuse_all_titles("tree")
    path = DecodedPath.begin(vocabulary=options.vocabulary)
    row = _Row(chunk.table, list(chunk.prompt), path)
    _follow(row, options)
    return row


def _follow(row: _Row, options: Options) -> None:
    """Take forced edges, up to the next decision or the end of the table."""
    row.state, edges = follow(row.table, row.state, links=not options.vocabulary)
    row.path.extend(edges)
    row.pending += row.table.token[edges].tolist()


def _ask(row: _Row, options: Options) -> Request | None:
    """The pending tokens and the next piece of the row's block; None at its end."""
    table = row.table
    if not table.degree(row.state):
        return None
    if row.scoring is None:
        row.scoring = _begin_block(table, row.state, options)
    block, (asked, scored) = row.scoring.block, row.scoring.piece
    p = len(row.pending)
    n = p + len(asked)
    # an asked edge of the block -> its token in this call; -1 -> the last pending one
    place = {-1: p - 1} | {i: p + k for k, i in enumerate(asked.tolist())}
    # an asked edge and the asked edges below it stand side by side in the piece, too
    ends = p + np.searchsorted(asked, block.end[asked])
    return Request(
        length=row.length,
        moved=row.moved,
        tokens=row.pending + table.token[block.edge[asked]].tolist(),
        depths=[*range(p), *(p + block.depth[asked]).tolist()],
        ends=[*([n] * p), *ends.tolist()],
        at=[place[i] for i in block.parent[scored].tolist()],
        token_ids=table.token[block.edge[scored]],
    )


def _begin_block(table: Table, state: int, options: Options) -> _Scoring:
    block = _next_block(table, state, options)
    first, *left = pieces(block, NODES, EDGES)
    n = len(block.edge)
    return _Scoring(block, first, left, np.zeros(n), np.zeros(n), np.zeros(n))


def _next_block(table: Table, state: int, options: Options) -> Block:
    """The block at a state, or as much of it as its decisions need."""
    if options.unlinked or options.vocabulary or options.titles_scored:
        return find_block(table, state, whole=options.vocabulary)
    block = find_block(table, state, most=NODES)
    if block.cut and options.selection == "marginal":
        # A cut block is enough for greedy selection, which decides edge by edge.
        # Marginal selection has to compare all mentions of the block at once. Titles
        # have no influence on that comparison, so they are left out to make the block
        # smaller.
        return find_block(table, state, titles=False)
    return block


def _take_in(row: _Row, request: Request, answer: Answer, options: Options) -> None:
    """Note the logits of a piece. With the block's last piece, choose and move on."""
    row.path.calls += 1
    row.path.tokens += len(request.tokens)
    scoring = row.scoring
    scored = scoring.piece.scored
    bias = row.table.bias[scoring.block.edge[scored]]
    scoring.raw[scored] = answer.logits
    scoring.logits[scored] = answer.logits + bias
    scoring.log_probs[scored] = answer.logits - answer.normalisers
    if scoring.left:
        # The next piece continues from the same last token, which is run again.
        row.length += len(row.pending) - 1
        row.pending, row.moved = row.pending[-1:], []
        scoring.piece = scoring.left.pop(0)
    else:
        _move_on(row, _choose(row, options), options)


def _choose(row: _Row, options: Options) -> list[int]:
    """Choose a path through the scored block and extend the row's path by it."""
    table, block, logits = row.table, row.scoring.block, row.scoring.logits
    log_probs = selection.log_probs(table, block, logits)
    full = row.scoring.log_probs if options.vocabulary else None
    if options.titles_scored:
        row.path.titles += selection.score_titles(
            table, block, logits, row.scoring.raw, row.path.edges
        )
    chosen = selection.select(table, block, logits, log_probs, options.selection)
    row.path.extend(*_pick(chosen.path, block, log_probs, full))
    row.path.margin = min(row.path.margin, chosen.margin)
    if options.unlinked:
        unlinked = selection.best_unlinked(table, block, log_probs, chosen.path)
        if unlinked:
            row.path.unlinked.append(_pick(unlinked, block, log_probs, full))
    return chosen.path


def _pick(at: list[int], block: Block, log_probs, full) -> ScoredEdges:
    """Edges of a block with their scores."""
    return ScoredEdges(
        block.edge[at], log_probs[at], None if full is None else full[at]
    )


def _move_on(row: _Row, chosen: list[int], options: Options) -> None:
    """Move past the chosen edges; keep their keys and values in the cache."""
    table, block, (asked, scored) = row.table, row.scoring.block, row.scoring.piece
    kept = [i for i in chosen if block.asked[i]][:MOVES]
    if len(scored) < block.decided.sum():  # earlier pieces are not in the cache
        kept = []
    first = row.length + len(row.pending)  # the slot of the piece's first token
    row.moved = (first + np.searchsorted(asked, kept)).tolist()
    row.length = first + len(kept)
    edges = block.edge[chosen]
    row.pending = table.token[edges[len(kept) :]].tolist()
    row.state = int(table.next[edges[-1]])
    row.scoring = None
    _follow(row, options)
