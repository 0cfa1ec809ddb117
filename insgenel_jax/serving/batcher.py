"""Single items from many requests in; results of them, computed in batches, out.

One worker thread computes. Items wait in one queue; those of a batch share a key. The
oldest item decides which key is next, so no key waits for ever.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import dataclasses
import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from insgenel_jax.serving.limits import Limits, Refusal
from insgenel_jax.serving.metrics import Metrics

LOG = logging.getLogger(__name__)

# Characters of the items of a batch, unless it has a single one. A batch that has begun
# cannot be stopped, and all others wait for it.
TOGETHER = 50_000


@dataclasses.dataclass(frozen=True)
class Waiting:
    """An item in the queue. size: its characters. arrived: by the loop's clock."""

    key: Hashable
    item: Any
    size: int
    result: asyncio.Future[Any]
    arrived: float


class Batcher:
    """Gathers items into batches, for a worker thread that runs `work(key, items)`.

    most: items of a batch. Start `run` as a task of the event loop; `close` finishes
    what waits and ends it.
    """

    def __init__(
        self,
        work: Callable[[Any, list[Any]], Sequence[Any]],
        most: int,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self.work = work
        self.most = most
        self.limits = limits
        self.metrics = metrics
        self.thread = concurrent.futures.ThreadPoolExecutor(1, "linking")
        self._queue: collections.deque[Waiting] = collections.deque()
        self._news = asyncio.Event()  # an item has come, or the end
        self._closed = False

    async def compute(
        self, key: Hashable, items: Sequence[Any], sizes: Sequence[int]
    ) -> list[Any]:
        """The results of a request's items, in order.

        Raises Refusal where the queue is full or closed, and where the time is over.
        """
        if self._closed:
            raise Refusal(503, "the service is stopping; ask another, or later")
        if len(self._queue) + len(items) > self.limits.queue:
            raise Refusal(
                503,
                f"{len(self._queue)} documents wait already, and at most "
                f"{self.limits.queue} may; try again in a second",
            )
        loop = asyncio.get_running_loop()
        arrived = loop.time()
        waiting = [
            Waiting(key, item, size, loop.create_future(), arrived)
            for item, size in zip(items, sizes, strict=True)
        ]
        self._queue.extend(waiting)
        self._notice()
        results = asyncio.gather(*(each.result for each in waiting))
        try:  # on its way out, wait_for cancels the futures, so that none is computed
            return await asyncio.wait_for(results, self.limits.seconds)
        except TimeoutError:
            raise Refusal(
                503,
                f"no answer within {self.limits.seconds:g} seconds: the service has "
                "too much to do, or the text is too long for it; try again later, or "
                "with less text",
            ) from None

    async def run(self) -> None:
        """Compute batches until `close` is called and the queue is empty."""
        while True:
            while not self._queue and not self._closed:
                self._news.clear()
                await self._news.wait()
            if not self._queue:
                return
            await self._gather()
            if batch := self._take():
                await self._compute(batch)

    async def close(self) -> None:
        """Refuse what comes from now on."""
        self._closed = True
        self._news.set()

    async def _gather(self) -> None:
        """Wait until a batch is full, or its oldest item has waited long enough."""
        loop = asyncio.get_running_loop()
        oldest = self._queue[0]
        end = oldest.arrived + self.limits.delay
        while not self._closed and (left := end - loop.time()) > 0:
            if sum(each.key == oldest.key for each in self._queue) >= self.most:
                return
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), left)
            except TimeoutError:
                return

    def _take(self) -> list[Waiting]:
        """The next batch, taken out of the queue. Cancelled items are dropped."""
        batch: list[Waiting] = []
        kept: list[Waiting] = []
        size = 0
        while self._queue and len(batch) < self.most:
            each = self._queue.popleft()
            if each.result.done():
                continue
            if batch and (each.key != batch[0].key or size + each.size > TOGETHER):
                kept.append(each)
                continue
            batch.append(each)
            size += each.size
        self._queue.extendleft(reversed(kept))
        self._notice()
        return batch

    async def _compute(self, batch: list[Waiting]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        key, items = batch[0].key, [each.item for each in batch]
        results = await loop.run_in_executor(self.thread, self._attempt, key, items)
        for each, result in zip(batch, results, strict=True):
            if each.result.done():  # cancelled meanwhile
                continue
            if isinstance(result, Exception):
                each.result.set_exception(result)
            else:
                each.result.set_result(result)
        self.metrics.batch_documents.observe(len(batch))
        self.metrics.batch_seconds.observe(loop.time() - began)

    def _attempt(self, key: Any, items: list[Any]) -> Sequence[Any]:
        """The results of a batch; in the worker thread.

        Where the batch fails, as for want of memory, its items are tried one by one.
        The result of one that fails alone is the exception.
        """
        try:
            return self.work(key, items)
        except Exception as error:
            if len(items) == 1:
                LOG.exception("linking failed")
                return [error]
            LOG.warning("a batch of %d failed, going on singly: %s", len(items), error)
        return list(self._singly(key, items))

    def _singly(self, key: Any, items: list[Any]) -> Iterator[Any]:
        for item in items:
            yield self._attempt(key, [item])[0]

    def _notice(self) -> None:
        self.metrics.waiting.set(len(self._queue))
        self._news.set()
