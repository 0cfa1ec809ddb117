"""Chunks in, as they come; their paths out: continuous batching.

A batch has `batch` seats. A row that ends gives its seat to the next chunk at once, in
the next call, so that a batch has no tail. What a chunk's path is does not depend on
the rows beside it: a row sees the cache pages that are its own, and those of the
beginning that all prompts share, which one row computes for all.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import os.path
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from insgenel_jax.decoding.chunk import Chunk
from insgenel_jax.decoding.forward import Answer, Cache, Model, read, send
from insgenel_jax.decoding.packing import PAGE, Request, Seat
from insgenel_jax.decoding.path import DecodedPath

# Tokens of a call, for each seat of its batch, up to which new chunks are begun. A row
# that goes on asks for some 60, a new one for a prompt more.
TOKENS = 128


class Rows(NamedTuple):
    """A decoder as functions of a row, the state of one chunk's decoding.

    begin(chunk) -> a row, with its `path`. ask(row) -> what it asks of the next call;
    None at its end. take_in(row, request, answer): go on with the answer to a request.
    bound(chunk) -> the cache slots that a row may take.
    """

    begin: Callable[[Chunk], Any]
    ask: Callable[[Any], Request | None]
    take_in: Callable[[Any, Request, Answer], None]
    bound: Callable[[Chunk], int]


@dataclasses.dataclass
class _Live:
    """A row that waits for a seat or has one, and what it asks of the next call.

    shared: how many of its pages, the first ones, are not its own.
    """

    row: Any
    request: Request
    prompt: list[int]
    bound: int
    seat: Seat | None = None
    shared: int = 0


class Usage(collections.Counter):
    """How the calls of the device were used, counted.

    calls, seats, rows: of the device's calls, the seats in them, and those that had a
    row. tokens, run: the rows' tokens, and with padding. host, overlapped, waited:
    microseconds in which the host worked while the device had nothing to do, worked
    while a call was under way, and only waited for one.
    """

    @property
    def rows_live(self) -> float:
        """The share of the calls' seats that had a row."""
        return self["rows"] / max(self["seats"], 1)

    @property
    def tokens_live(self) -> float:
        """The share of the tokens that the device ran that are a row's."""
        return self["tokens"] / max(self["run"], 1)

    @property
    def host_share(self) -> float:
        """The share of the time in which the device had nothing to do."""
        spent = sum(self[part] for part in ("host", "overlapped", "waited"))
        return self["host"] / max(spent, 1)


def decode_rows(
    model: Model,
    params,
    chunks: Iterable[Chunk],
    rows: Rows,
    *,
    batch: int,
    packs: int = 1,
    slots: int | None = None,
    vocabulary: bool = False,
    usage: Usage | None = None,
) -> list[DecodedPath]:
    """The path of each chunk, in order.

    chunks: taken a few at a time, while the device works. batch: the most rows at once;
    packs: the parts of a mesh that they are spread over. slots: the most cache slots
    that the rows may take together; a single row may take more.
    """
    work = _Work(rows, chunks, max(batch // packs, 1), packs, slots)
    cache, usage = Cache(packs), Usage() if usage is None else usage
    clock = _Clock(usage)
    while True:
        work.seat_rows(cache)
        if not work.live:
            clock.note("host")
            return work.paths
        asked = [(live.seat, live.request) for live in work.live]
        sent = send(model, params, cache, asked, vocabulary=vocabulary)
        usage.update(calls=1, seats=batch, rows=len(asked), run=sent.tokens)
        usage["tokens"] += sum(len(request.tokens) for _, request in asked)
        clock.note("host")
        work.look_ahead(batch)
        clock.note("overlapped")
        answers = read(sent)
        clock.note("waited")
        work.take_in(answers, cache)


@dataclasses.dataclass
class _Clock:
    """Adds up microseconds, by what they were spent on."""

    usage: Usage
    last: float = dataclasses.field(default_factory=time.perf_counter)

    def note(self, spent: str) -> None:
        now = time.perf_counter()
        self.usage[spent] += round((now - self.last) * 1e6)
        self.last = now


class _Work:
    """The rows at work, and those that wait for a seat."""

    def __init__(
        self,
        rows: Rows,
        chunks: Iterable[Chunk],
        seats: int,
        packs: int,
        slots: int | None,
    ) -> None:
        self.rows = rows
        self.seats = seats  # of a pack
        self.slots = math.inf if slots is None else slots
        self.paths: list[DecodedPath] = []
        self.live: list[_Live] = []
        self._coming = iter(chunks)
        self._waiting: collections.deque[_Live] = collections.deque()
        self._prefix: list[int] | None = None  # what all prompts begin with
        self._prefix_pages: list[list[int]] = [[] for _ in range(packs)]

    def look_ahead(self, count: int) -> None:
        """Have `count` rows wait, if there are so many."""
        while len(self._waiting) < count:
            chunk = next(self._coming, None)
            if chunk is None:
                return
            row = self.rows.begin(chunk)
            self.paths.append(row.path)
            if (request := self.rows.ask(row)) is not None:
                bound = self.rows.bound(chunk)
                self._waiting.append(_Live(row, request, chunk.prompt, bound))

    def seat_rows(self, cache: Cache) -> None:
        """Give free seats to rows that wait, as long as tokens and slots last."""
        packs = range(len(cache.pools))
        self.look_ahead(self.seats * len(packs))
        taken = collections.Counter(live.seat.pack for live in self.live)
        tokens = collections.Counter()
        for live in self.live:
            tokens[live.seat.pack] += len(live.request.tokens)
        slots = sum(live.bound for live in self.live)
        while self._waiting:
            live = self._waiting[0]
            pack = min(packs, key=taken.__getitem__)
            slots += live.bound
            new = tokens[pack] + len(live.request.tokens)
            if (
                taken[pack] == self.seats
                or (self.live and slots > self.slots)
                or (tokens[pack] and new > self.seats * TOKENS)
            ):
                return
            self._seat(self._waiting.popleft(), pack, cache)
            taken[pack] += 1
            tokens[pack] += len(live.request.tokens)

    def _seat(self, live: _Live, pack: int, cache: Cache) -> None:
        """Seat a row, with the pages that hold the beginning of its prompt."""
        live.seat = Seat(pack)
        self.live.append(live)
        if self._prefix is None:
            self._prefix = self._find_prefix()
        pages = self._prefix_pages[pack]
        if live.prompt[: len(self._prefix)] != self._prefix:
            return
        if pages:
            live.request = _without(live.request, len(self._prefix))
        else:  # this row runs it for all
            pages += [
                cache.pools[pack].take() for _ in range(len(self._prefix) // PAGE)
            ]
        live.seat.pages += pages
        live.shared = len(pages)

    def _find_prefix(self) -> list[int]:
        """Whole pages of tokens with which the prompts seen so far begin."""
        prompts = [live.prompt for live in (*self.live, *self._waiting)]
        if len(prompts) == 1:
            return []
        shared = len(os.path.commonprefix(prompts))
        shared = min(shared, min(map(len, prompts)) - 1)
        return prompts[0][: shared // PAGE * PAGE]

    def take_in(self, answers: list[Answer], cache: Cache) -> None:
        """Go on with the answers. A row that ends gives its seat and its pages back."""
        going = []
        for live, answer in zip(self.live, answers, strict=True):
            self.rows.take_in(live.row, live.request, answer)
            request = self.rows.ask(live.row)
            if request is None:
                own = live.seat.pages[live.shared :]
                cache.pools[live.seat.pack].give_back(own)
            else:
                live.request = request
                going.append(live)
        self.live = going


def _without(request: Request, first: int) -> Request:
    """A request, of a row without a cache so far, without its `first` tokens."""
    n = len(request.tokens)
    return dataclasses.replace(
        request,
        length=first,
        tokens=request.tokens[first:],
        depths=[depth - first for depth in request.depths[first:n]],
        ends=[end - first for end in request.ends[first:n]],
        at=[at - first for at in request.at],
    )
