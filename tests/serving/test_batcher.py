"""Batches of items: one key each, no longer than allowed, in order, none lost."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from insgenel_jax.serving.batcher import TOGETHER, Batcher
from insgenel_jax.serving.limits import Limits, Refusal
from insgenel_jax.serving.metrics import make_metrics


def run(work, scenario, most=4, **limits):
    """Run `scenario(batcher)` with a batcher; then drain it."""

    async def main():
        batcher = Batcher(work, most, Limits(**limits), make_metrics())
        running = asyncio.create_task(batcher.run())
        try:
            return await scenario(batcher)
        finally:
            await batcher.close()
            await asyncio.wait_for(running, 10)
            batcher.thread.shutdown()

    return asyncio.run(main())


class Recorder:
    """Work that notes its batches and doubles what it is given."""

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()  # a batch ends once it is open
        self.gate.set()
        self.begun = False

    def __call__(self, key, items):
        self.begun = True
        self.gate.wait(30)
        self.batches.append((key, list(items)))
        return [2 * item for item in items]


async def until_begun(work):
    while not work.begun:
        await asyncio.sleep(0.005)


async def ask(batcher, key, *items, size=1):
    return await batcher.compute(key, items, [size] * len(items))


def test_requests_share_a_batch_and_keep_their_order():
    work = Recorder()

    async def scenario(batcher):
        return await asyncio.gather(
            ask(batcher, "a", 1, 2), ask(batcher, "a", 3), ask(batcher, "a", 4)
        )

    assert run(work, scenario, delay=5) == [[2, 4], [6], [8]]
    assert work.batches == [("a", [1, 2, 3, 4])]  # full: nobody waits for 5 s


def test_a_lone_item_waits_no_longer_than_the_delay():
    work = Recorder()

    async def scenario(batcher):
        began = time.monotonic()
        await ask(batcher, "a", 1)
        return time.monotonic() - began

    assert 0.05 <= run(work, scenario, delay=0.05) < 2


def test_a_batch_has_one_key_and_the_oldest_goes_first():
    work = Recorder()
    work.gate.clear()

    async def scenario(batcher):
        first = asyncio.create_task(ask(batcher, "a", 0))
        await until_begun(work)
        later = [
            asyncio.create_task(ask(batcher, key, item))
            for key, item in [("b", 1), ("a", 2), ("b", 3), ("a", 4)]
        ]
        await asyncio.sleep(0)
        work.gate.set()
        await asyncio.gather(first, *later)

    run(work, scenario, delay=0)
    assert work.batches == [("a", [0]), ("b", [1, 3]), ("a", [2, 4])]


def test_long_items_are_not_put_together():
    work = Recorder()

    async def scenario(batcher):
        await ask(batcher, "a", 1, 2, 3, size=TOGETHER // 2)
        await ask(batcher, "a", 4, size=10 * TOGETHER)

    run(work, scenario, delay=0)
    assert work.batches == [("a", [1, 2]), ("a", [3]), ("a", [4])]


def test_a_full_queue_refuses_at_once_and_recovers():
    work = Recorder()
    work.gate.clear()

    async def scenario(batcher):
        first = asyncio.create_task(ask(batcher, "a", 0))
        await until_begun(work)
        waiting = asyncio.create_task(ask(batcher, "a", 1, 2, 3))
        await asyncio.sleep(0)
        began = time.monotonic()
        with pytest.raises(Refusal, match="3 documents wait already") as refused:
            await ask(batcher, "a", 4)
        assert refused.value.status == 503 and time.monotonic() - began < 0.5
        work.gate.set()
        await asyncio.gather(first, waiting)
        return await ask(batcher, "a", 5)

    assert run(work, scenario, queue=3) == [10]


def test_what_takes_too_long_is_refused_and_not_computed():
    work = Recorder()
    work.gate.clear()

    async def scenario(batcher):
        first = asyncio.create_task(ask(batcher, "a", 0))
        await until_begun(work)
        late = asyncio.create_task(ask(batcher, "b", 1))
        for waiting in (first, late):
            with pytest.raises(Refusal, match="no answer within 1 seconds"):
                await waiting
        work.gate.set()
        return await ask(batcher, "a", 2)

    assert run(work, scenario, seconds=1) == [4]
    assert work.batches == [("a", [0]), ("a", [2])]


def test_one_bad_item_does_not_harm_its_batch():
    def work(key, items):
        if 2 in items:
            raise MemoryError("2")
        return items

    async def scenario(batcher):
        asked = [ask(batcher, "a", item) for item in (1, 2, 3)]
        return await asyncio.gather(*asked, return_exceptions=True)

    first, second, third = run(work, scenario)
    assert (first, third) == ([1], [3]) and isinstance(second, MemoryError)


def test_closing_answers_what_waits_and_refuses_the_rest():
    work = Recorder()
    work.gate.clear()

    async def scenario(batcher):
        waiting = [asyncio.create_task(ask(batcher, k, 1)) for k in "abc"]
        await until_begun(work)
        await batcher.close()
        with pytest.raises(Refusal, match="stopping"):
            await ask(batcher, "a", 2)
        work.gate.set()
        return await asyncio.gather(*waiting)

    assert run(work, scenario) == [[2], [2], [2]]
