"""What the rows of a call ask in; the arrays of the call out, without padding between.

A call has D packs, one for each part of a mesh that rows are spread over, else one. A
pack is the new tokens of its rows, one row after the other. Its KV cache is a pool of
pages of PAGE slots. Each row has pages of its own, in order, and gives them back when
it ends; rows whose prompts begin alike share the pages of that beginning.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Int

from insgenel_jax.tokenizer.padding import next_power, padded_length

PAGE = 16  # slots of a page of the KV cache
QUERIES = 32  # tokens of one row that attention takes together, as a tile
SLOTS = 512  # the smallest number of slots of a pack's cache, and
WINDOW = 128  # of those that a call's queries see; then as `padded_length` has it
EDGES = 256  # the smallest number of edges that a call scores; then 4 times as many
MOVES = 64  # the smallest number of slots that a call moves; then 4 times as many
TOKENS = 16  # the smallest number of tokens of a pack


@dataclasses.dataclass
class Request:
    """What one row asks of a call.

    length: cache slots in use. moved: slots whose contents are copied to the slots just
    before `length`, in order. tokens: the new ones; token i has the position
    length + depths[i] and is seen by the tokens i <= j < ends[i]. at, token_ids: the
    edges to score; edge e is the token token_ids[e] after the new token at[e].
    """

    length: int
    tokens: Sequence[int]
    depths: Sequence[int]
    ends: Sequence[int]
    at: Sequence[int]
    token_ids: Sequence[int] | Int[np.ndarray, " E"]
    moved: Sequence[int] = ()


@dataclasses.dataclass
class Seat:
    """The place of a row: its pack, and its pages of that pack's cache, in order."""

    pack: int
    pages: list[int] = dataclasses.field(default_factory=list)


class Pool:
    """The pages of one pack's cache. The lowest free one is taken first."""

    def __init__(self) -> None:
        self.made = 0
        self._free: list[int] = []

    def take(self) -> int:
        """A page that no row has."""
        if self._free:
            return heapq.heappop(self._free)
        self.made += 1
        return self.made - 1

    def give_back(self, pages: Sequence[int]) -> None:
        """Let other rows have these pages."""
        for page in pages:
            heapq.heappush(self._free, page)


class Inputs(NamedTuple):
    """The requests of a call as padded arrays: D packs of N tokens in G tiles.

    moves: source and target slots. positions, ends, slots, place: of each token: its
    position; the tokens of its row that see it end there; the slot to write its key to;
    its query, counted over all tiles. pages: of each tile's row, in order. first,
    length, count: of each tile's row: its first token, the slots it has in use, its
    tokens. begin: which of these the tile begins with. at, token_ids: edges.
    """

    moves: Int[Array | np.ndarray, "2 D M"]
    tokens: Int[Array | np.ndarray, "D N"]
    positions: Int[Array | np.ndarray, "D N"]
    ends: Int[Array | np.ndarray, "D N"]
    slots: Int[Array | np.ndarray, "D N"]
    place: Int[Array | np.ndarray, "D N"]
    pages: Int[Array | np.ndarray, "D G P"]
    first: Int[Array | np.ndarray, "D G"]
    length: Int[Array | np.ndarray, "D G"]
    count: Int[Array | np.ndarray, "D G"]
    begin: Int[Array | np.ndarray, "D G"]
    at: Int[Array | np.ndarray, "D E"]
    token_ids: Int[Array | np.ndarray, "D E"]


class Packed(NamedTuple):
    """The arrays of a call, and where the edges of each request stand in them."""

    inputs: Inputs
    edges: list[tuple[int, slice]]


def packed_length(tokens: int) -> int:
    """The static number of tokens of a pack, in steps of 8 or, from 128 on, of an
    eighth of a power of two."""
    step = max(next_power(tokens, TOKENS) // 8, 8)
    return max(-(-tokens // step) * step, TOKENS)


def pages_of(slots: int) -> int:
    """The pages that so many slots take."""
    return -(-slots // PAGE)


def pool_slots(made: int) -> int:
    """The static number of slots of a pack's cache with so many pages in use."""
    return next_power(made * PAGE, SLOTS)


def pack(asked: Sequence[tuple[Seat, Request]], packs: int, pool_slots: int) -> Packed:
    """The arrays of a call. The pages of the seats must hold the new tokens."""
    tokens, tiles, edges, moves = np.zeros((4, packs), int)
    for seat, r in asked:
        tokens[seat.pack] += len(r.tokens)
        tiles[seat.pack] += -(-len(r.tokens) // QUERIES)
        edges[seat.pack] += len(r.at)
        moves[seat.pack] += len(r.moved)
    N = packed_length(int(tokens.max()))
    G = _tiles(N, int(tiles.max()))
    E = next_power(int(edges.max()), EDGES, 4)
    M = next_power(int(moves.max()), MOVES, 4)
    window = max(r.length + len(r.tokens) for _, r in asked)
    P = pages_of(padded_length(max(window, WINDOW)))
    # a write after the last slot is dropped
    inputs = Inputs(
        np.full((2, packs, M), pool_slots, np.int32),
        *np.zeros((3, packs, N), np.int32),
        np.full((packs, N), pool_slots, np.int32),
        np.zeros((packs, N), np.int32),
        np.zeros((packs, G, P), np.int32),
        *np.zeros((4, packs, G), np.int32),
        *np.zeros((2, packs, E), np.int32),
    )
    used = np.zeros((4, packs), int)  # tokens, tiles, edges and moves so far
    places = []
    for seat, request in asked:
        places.append((seat.pack, _write(inputs, used[:, seat.pack], seat, request)))
    return Packed(inputs, places)


def _tiles(tokens: int, needed: int) -> int:
    """The static number of tiles: as few as hold the tokens, or that 1.5, 2 ... times.

    (A row's last tile is seldom full.)
    """
    fewest = -(-tokens // QUERIES)
    half = -(-fewest // 2)
    return fewest + max(-(-(needed - fewest) // half), 0) * half


def _write(inputs: Inputs, used: Int[np.ndarray, 4], seat: Seat, r: Request) -> slice:
    """Write one request behind those before it; return the place of its edges."""
    d, n, length = seat.pack, len(r.tokens), r.length
    first, tile, edge, move = used.tolist()
    pages = np.array(seat.pages, np.int32)
    new = np.arange(n)
    row = slice(first, first + n)
    inputs.tokens[d, row] = r.tokens
    inputs.positions[d, row] = length + np.asarray(r.depths)
    inputs.ends[d, row] = r.ends
    inputs.slots[d, row] = _slots(pages, length + new)
    inputs.place[d, row] = tile * QUERIES + new
    tiles = -(-n // QUERIES)
    own = slice(tile, tile + tiles)
    inputs.pages[d, own, : len(pages)] = pages[: inputs.pages.shape[2]]
    inputs.first[d, own] = first
    inputs.length[d, own] = length
    inputs.count[d, own] = n
    inputs.begin[d, own] = np.arange(tiles) * QUERIES
    edges = slice(edge, edge + len(r.at))
    inputs.at[d, edges] = first + np.asarray(r.at, np.int32)
    inputs.token_ids[d, edges] = r.token_ids
    moves = slice(move, move + len(r.moved))
    target = np.arange(length - len(r.moved), length)
    inputs.moves[0, d, moves] = _slots(pages, np.asarray(r.moved, int))
    inputs.moves[1, d, moves] = _slots(pages, target)
    used += (n, tiles, len(r.at), len(r.moved))
    return edges


def _slots(
    pages: Int[np.ndarray, " P"], places: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """The slots of a pack's cache at the places of a row."""
    return pages[places // PAGE] * PAGE + places % PAGE
