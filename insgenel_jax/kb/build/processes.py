"""A function over many items, by processes here or on a cluster; results in order."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple, TypeVar

from insgenel_jax.cluster import connect

Item = TypeVar("Item")
Result = TypeVar("Result")

# How many processes of this machine, or the address of a cluster of Ray ("local": one
# is started here). Its nodes read and write the files of a build themselves.
Workers = int | str


class _Pool(NamedTuple):
    """begin: begins with an item. wait: for what `begin` gave, gives the result.
    count: how many items are worked on at a time."""

    begin: Callable[[Any], Any]
    wait: Callable[[Any], Any]
    count: int


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: Workers
) -> Iterator[Result]:
    """function(item) of each item, in order.

    With one worker it runs in this process. With more, few items are in flight at a
    time, so that memory stays bounded when the results are read slowly.
    """
    if workers in (0, 1):
        yield from map(function, items)
        return
    pool = _cluster if isinstance(workers, str) else _processes
    with pool(function, workers) as (begin, wait, count):
        pending: deque[Any] = deque()
        for item in items:
            pending.append(begin(item))
            if len(pending) > 2 * count:
                yield wait(pending.popleft())
        while pending:
            yield wait(pending.popleft())


@contextlib.contextmanager
def _processes(function: Callable, count: int) -> Iterator[_Pool]:
    # Arrow starts threads, and a process with threads cannot safely be forked.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context) as pool:
        yield _Pool(
            lambda item: pool.submit(function, item), lambda f: f.result(), count
        )


@contextlib.contextmanager
def _cluster(function: Callable, address: str) -> Iterator[_Pool]:
    with connect(address) as ray:
        call = ray.remote(_call)
        shared = ray.put(function)  # sent to each node once
        cores = int(ray.cluster_resources().get("CPU", 1))
        yield _Pool(lambda item: call.remote(shared, item), ray.get, cores)


def _call(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)
