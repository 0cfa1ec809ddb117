"""The tree decoder: one call a block, and a few where a block is large.

A call runs the text that is pending and the block's tree, each path of it seeing its
own tokens alone; so every decision of the block is scored at once. The keys and values
of the chosen path stay in the cache, what is copied after it rides in the next call,
and nothing behind the last decision is run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from insgenel_jax.decoding import blocks
from insgenel_jax.decoding.chunk import Chunk
from insgenel_jax.decoding.forward import (
    EDGES,
    MOVES,
    SLOTS,
    Cache,
    Model,
    Request,
    call,
)
from insgenel_jax.decoding.options import Options
from insgenel_jax.decoding.table import Path, Table, follow
from insgenel_jax.tokenizer.padding import next_power

HONOURS = frozenset({"selection", "unlinked", "vocabulary"})
NODES = 128  # tokens of a tree that one call runs; larger trees take several calls


@dataclasses.dataclass
class _Row:
    """Where the decoding of one chunk stands."""

    table: Table
    pending: list[int]  # tokens that are settled but not run
    path: Path
    state: int = 0
    length: int = 0
    moved: list[int] = dataclasses.field(default_factory=list)
    block: blocks.Block | None = None
    pieces: list = dataclasses.field(default_factory=list)
    piece: tuple = ()
    logits: np.ndarray | None = None
    normaliser: np.ndarray | None = None


def shape(chunk: Chunk, options: Options) -> tuple[int]:
    """The cache slots that decoding a chunk may take."""
    return (next_power(len(chunk.prompt) + chunk.table.longest + NODES, SLOTS),)


def decode(
    model: Model,
    params,
    chunks: Sequence[Chunk],
    *,
    batch: int,
    options: Options,
) -> list[Path]:
    """Decode at most `batch` chunks, each by its table. (*paper*, 3.3.)

    With `vocabulary` every token of a link is run. With it or with `unlinked`, blocks
    are run whole, however large.
    """
    for chunk in chunks:
        chunk.table.refuse_all_titles("tree")
    rows = [
        _Row(chunk.table, list(chunk.prompt), Path.begin(vocabulary=options.vocabulary))
        for chunk in chunks
    ]
    for row in rows:
        _follow(row, options)
    cache = Cache(batch)
    while any(row.table.degree(row.state) for row in rows):
        requests = [_ask(row, options) for row in rows]
        found = call(model, params, cache, requests, vocabulary=options.vocabulary)
        for row, request, answer in zip(rows, requests, found, strict=True):
            if request is not None:
                row.path.calls += 1
                row.path.tokens += len(request.tokens)
                _settle(row, *answer, options)
    return [row.path for row in rows]


def _follow(row: _Row, options: Options) -> None:
    """Take what is forced, up to the next decision or the end of the table."""
    row.state, edges = follow(row.table, row.state, links=not options.vocabulary)
    row.path.extend(edges)
    row.pending += row.table.token[edges].tolist()


def _find_block(table: Table, state: int, options: Options) -> blocks.Block:
    """The block at a state, or as much of it as its decisions need."""
    if options.unlinked or options.vocabulary:
        return blocks.find_block(table, state, whole=options.vocabulary)
    block = blocks.find_block(table, state, most=NODES)
    if block.cut and options.selection == "marginal":
        # greedy goes edge by edge; here first of all mentions one is chosen, which its
        # titles have no say in
        return blocks.find_block(table, state, titles=False)
    return block


def _ask(row: _Row, options: Options) -> Request | None:
    table = row.table
    if not table.degree(row.state):
        return None
    if row.block is None:
        row.block = _find_block(table, row.state, options)
        row.pieces = list(blocks.pieces(row.block, NODES, EDGES[-1]))
        row.logits = np.zeros(len(row.block.edge))
        row.normaliser = np.zeros(len(row.block.edge))
    row.piece = row.pieces.pop(0)
    asked, scored = row.piece
    block, p = row.block, len(row.pending)
    n = p + len(asked)
    where = {-1: p - 1} | {i: p + k for k, i in enumerate(asked.tolist())}
    # an asked edge and what is below it are neighbours within the piece too
    ends = p + np.searchsorted(asked, block.end[asked])
    return Request(
        length=row.length,
        moved=row.moved,
        tokens=row.pending + table.token[block.edge[asked]].tolist(),
        depths=[*range(p), *(p + block.depth[asked])],
        ends=[*([n] * p), *ends],
        at=[where[i] for i in block.parent[scored].tolist()],
        token_ids=table.token[block.edge[scored]],
    )


def _settle(row: _Row, logits, normaliser, options: Options) -> None:
    """Note a piece's logits; with the last piece choose a path and move on."""
    table, block = row.table, row.block
    asked, scored = row.piece
    row.logits[scored] = logits + table.bias[block.edge[scored]]
    row.normaliser[scored] = logits - normaliser
    base = row.length + len(row.pending)
    row.moved = []
    if row.pieces:  # the next one hangs on the same last token, which is run again
        row.length, row.pending = base - 1, row.pending[-1:]
        return
    log_probs = blocks.log_probs(table, block, row.logits)
    chosen = blocks.select(table, block, row.logits, log_probs, options.selection)
    edges = block.edge[chosen.path]

    def scores(at: list[int]) -> tuple:
        full = row.normaliser[at] if options.vocabulary else None
        return block.edge[at], log_probs[at], full

    row.path.extend(*scores(chosen.path))
    row.path.gap = min(row.path.gap, chosen.gap)
    if options.unlinked:
        passed = blocks.best_unlinked(table, block, log_probs, chosen.path)
        if passed:
            row.path.unlinked.append(scores(passed))
    kept = [i for i in chosen.path if block.asked[i]][:MOVES]
    if len(scored) < block.decided.sum():  # what came before is not in the cache
        kept = []
    row.moved = (base + np.searchsorted(asked, kept)).tolist()
    row.length = base + len(kept)
    row.pending = table.token[edges[len(kept) :]].tolist()
    row.state = int(table.next[edges[-1]])
    row.block = None
    _follow(row, options)
