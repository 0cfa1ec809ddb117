"""Shards in; what happens to them out. The workers that link them may die.

A worker is a process on this machine (`processes`) or an actor of a cluster
(`cluster`); both come in as the functions of `Backend`. Each worker has one shard at a
time, so that none of them runs ahead and none waits behind a slow one.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from insgenel_jax import cli
from insgenel_jax.jobs.job import Job, JobError
from insgenel_jax.jobs.measure import Measured, measure_batch
from insgenel_jax.jobs.part import Done, Linked, link_shard
from insgenel_jax.jobs.read import Reader
from insgenel_jax.jobs.shards import Shard
from insgenel_jax.linker.linker import Linker
from insgenel_jax.text.document import Document

TRIES = 3  # workers that may die over one shard, or in a row while they start
TICK = 1.0  # seconds after which "nothing happened" is reported


@dataclasses.dataclass(frozen=True)
class Opening:
    """How a worker opens its linker, and the folder of the job."""

    linker: str
    overrides: Mapping[str, Any]
    verify: bool
    folder: str


@dataclasses.dataclass(frozen=True)
class Measure:
    """The task of measuring; the arguments of `measure_batch`."""

    documents: Sequence[Document]
    given: bool
    each: float


@dataclasses.dataclass(frozen=True)
class Ready:
    """A worker has opened its linker."""


@dataclasses.dataclass(frozen=True)
class Dead:
    """A worker is no more."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Broken:
    """A worker raised an exception, which ends the job."""

    error: Exception


@dataclasses.dataclass(frozen=True)
class Again:
    """The worker of a shard died; the shard is linked again, by another."""

    shard: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Failed:
    """The workers of a shard died time after time; it is left out."""

    shard: int
    reason: str


Task = Measure | Job | Shard
Answer = Ready | Measured | Linked | Done | Dead | Broken
Event = Linked | Done | Again | Failed | None  # None: a tick


@dataclasses.dataclass(frozen=True)
class Hands:
    """What links shards: this process, or workers."""

    measure: Callable[[Measure], Measured]
    link: Callable[[Job, Sequence[Shard]], Iterator[Event]]


@dataclasses.dataclass(frozen=True)
class Backend:
    """How workers are started, given tasks, listened to and ended.

    receive: the answers that have come, with the number of their worker in the
    sequence; it waits for one, but not longer than some seconds.
    """

    start: Callable[[int], Any]
    send: Callable[[Any, Task], None]
    receive: Callable[[Sequence[Any], float], list[tuple[int, Answer]]]
    end: Callable[[Any], None]


class Worker:
    """An open linker that does tasks. It lives in a process of its own, or in ours."""

    def __init__(self, opening: Opening) -> None:
        overrides = dict(opening.overrides)
        with cli.opening(opening.linker, "linker"):
            self._linker = Linker.from_pretrained(
                opening.linker, verify=opening.verify, **overrides
            )
        self._folder = opening.folder
        self._reader = Reader()
        self._job: Job | None = None

    def do(self, task: Task) -> Iterator[Measured | Linked | Done]:
        """Do a task; a job is kept for the shards of it that come next."""
        if isinstance(task, Job):
            self._job = task
        elif isinstance(task, Measure):
            yield measure_batch(self._linker, task.documents, task.given, task.each)
        else:
            assert self._job is not None  # sent before
            yield from link_shard(
                self._linker, self._job, self._folder, task, self._reader
            )

    def close(self) -> None:
        """Close the input."""
        self._reader.close()


@contextlib.contextmanager
def open_alone(opening: Opening) -> Iterator[Hands]:
    """Hands that link in this process."""
    worker = Worker(opening)

    def measure(task: Measure) -> Measured:
        (measured,) = worker.do(task)
        assert isinstance(measured, Measured)
        return measured

    def link(job: Job, shards: Sequence[Shard]) -> Iterator[Event]:
        list(worker.do(job))
        for shard in shards:
            yield from worker.do(shard)  # type: ignore[misc]  # a shard measures nothing

    try:
        yield Hands(measure, link)
    finally:
        worker.close()


@dataclasses.dataclass
class Crew:
    """Workers that are replaced when they die. at: the shard that each has."""

    backend: Backend
    workers: list[Any]
    ready: list[bool]
    at: list[Shard | None]
    job: Job | None = None
    deaths: int = 0  # in a row, while starting

    @classmethod
    def start(cls, backend: Backend, count: int) -> Crew:
        """Start so many workers."""
        workers = [backend.start(number) for number in range(count)]
        return cls(backend, workers, [False] * count, [None] * count)

    def wait(self) -> None:
        """Wait until a worker is open. Raises JobError where they die."""
        while not any(self.ready):
            self._listen()

    def measure(self, task: Measure) -> Measured:
        """Let the first worker measure, once it is open. Raises JobError if it dies."""
        while not self.ready[0]:
            self._listen()
        self.backend.send(self.workers[0], task)
        while True:
            for number, answer in self.backend.receive(self.workers[:1], TICK):
                if isinstance(answer, Measured):
                    return answer
                if isinstance(answer, Broken):
                    raise answer.error
                raise JobError(f"worker {number} died while it measured: {answer}")

    def link(self, job: Job, shards: Sequence[Shard]) -> Iterator[Event]:
        """Link shards, each once; see `Again` and `Failed` for what goes wrong."""
        self.job = dataclasses.replace(job, shards=())  # what a worker needs of it
        for worker, ready in zip(self.workers, self.ready, strict=True):
            if ready:
                self.backend.send(worker, self.job)
        todo = collections.deque(shards)
        tries: collections.Counter[int] = collections.Counter()
        while todo or any(self.at):
            for number, worker in enumerate(self.workers):
                if todo and self.ready[number] and self.at[number] is None:
                    self.at[number] = todo.popleft()
                    self.backend.send(worker, self.at[number])
            events = self._listen()
            if not events:
                yield None
            for event in events:
                if isinstance(event, Linked | Done):
                    yield event
                    continue
                shard, dead = event
                tries[shard.number] += 1
                if tries[shard.number] < TRIES:
                    todo.appendleft(shard)
                    yield Again(shard.number, dead.reason)
                else:
                    yield Failed(shard.number, f"{TRIES} workers died: {dead.reason}")

    def _listen(self) -> list[Linked | Done | tuple[Shard, Dead]]:
        """What happened to shards; dead workers are replaced. Raises what they do."""
        happened: list[Linked | Done | tuple[Shard, Dead]] = []
        for number, answer in self.backend.receive(self.workers, TICK):
            if isinstance(answer, Broken):
                raise answer.error
            if isinstance(answer, Dead):
                if (shard := self.at[number]) is not None:
                    happened.append((shard, answer))
                self._replace(number, answer)
            elif isinstance(answer, Ready):
                self.ready[number], self.deaths = True, 0
                if self.job is not None:
                    self.backend.send(self.workers[number], self.job)
            elif isinstance(answer, Linked | Done):
                if isinstance(answer, Done):
                    self.at[number] = None
                happened.append(answer)
        return happened

    def _replace(self, number: int, dead: Dead) -> None:
        self.deaths += not self.ready[number]
        if self.deaths >= TRIES:
            raise JobError(
                f"{TRIES} workers in a row died while they opened the linker: "
                f"{dead.reason}; is there memory for each of them?"
            )
        self.backend.end(self.workers[number])
        self.workers[number] = self.backend.start(number)
        self.ready[number], self.at[number] = False, None

    def end(self) -> None:
        """End all workers, at once."""
        for worker in self.workers:
            self.backend.end(worker)
