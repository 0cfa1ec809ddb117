"""Workers on a cluster: actors of Ray, one for each accelerator, or each few cores.

The nodes read the linker and the input, and write the parts, themselves: all of these
are on a file system that they share, or in a bucket.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from insgenel_jax.cluster import connect
from insgenel_jax.jobs.job import Job
from insgenel_jax.jobs.processes import portable
from insgenel_jax.jobs.workers import (
    Answer,
    Backend,
    Broken,
    Crew,
    Dead,
    Hands,
    Opening,
    Ready,
    Task,
    Worker,
)

ACCELERATORS = ("GPU", "TPU")


@dataclasses.dataclass
class Started:
    """An actor, and the answer that it owes us: an ObjectRef."""

    actor: Any
    owed: Any


class Actor:
    """A worker in a process of the cluster."""

    def __init__(self, opening: Opening, threads: int) -> None:
        os.environ["NPROC"] = str(threads)  # before XLA starts
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self._opening = opening
        self._worker: Worker | None = None

    def open(self) -> Answer:
        """Open the linker."""
        try:
            self._worker = Worker(self._opening)
            return Ready()
        except Exception as error:  # noqa: BLE001 (raised where the job is run)
            return Broken(portable(error))

    def do(self, task: Task) -> Answer | None:
        """Do a task; the last answer to it, None to a job."""
        assert self._worker is not None  # a worker that answered is open
        try:
            answers = list(self._worker.do(task))
            return answers[-1] if answers else None
        except Exception as error:  # noqa: BLE001 (raised where the job is run)
            return Broken(portable(error))


@contextlib.contextmanager
def open_cluster(
    opening: Opening, address: str, count: int | None
) -> Iterator[tuple[Hands, int]]:
    """Hands of actors, and how many; one for each accelerator, unless `count` is given.

    address: as of `connect`. Without accelerators there is an actor for each core.
    """
    with connect(address) as ray:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        wants, threads, count = share_out(nodes, count)
        remote = ray.remote(Actor).options(max_restarts=0, **wants)
        crew = Crew.start(_backend(opening, ray, remote, threads), count)
        try:
            crew.wait()
            yield Hands(crew.measure, crew.link), count
        finally:
            crew.end()


def share_out(
    nodes: Sequence[Mapping[str, float]], count: int | None
) -> tuple[dict[str, Any], int, int]:
    """What an actor asks Ray for, how many threads it has, and how many there are.

    nodes: the resources of each node. count: of actors; None for as many as fit.
    """
    cores = sum(node.get("CPU", 0) for node in nodes)
    least = min((node.get("CPU", 0) for node in nodes), default=0)
    for name in ACCELERATORS:
        if have := int(sum(node.get(name, 0) for node in nodes)):
            count = min(count or have, have)
            wants = {"num_gpus": 1} if name == "GPU" else {"resources": {name: 1}}
            return {"num_cpus": 1, **wants}, max(int(cores // count), 1), count
    count = count or max(int(cores), 1)
    threads = max(int(min(cores // count, least)), 1)
    return {"num_cpus": threads}, threads, count


def _backend(opening: Opening, ray: Any, remote: Any, threads: int) -> Backend:
    """How actors are started, given tasks, listened to and ended."""

    def start(number: int) -> Started:
        actor = remote.remote(opening, threads)
        return Started(actor, actor.open.remote())

    def send(worker: Started, task: Task) -> None:
        owed = worker.actor.do.remote(task)
        if not isinstance(task, Job):  # which is kept, and not answered
            worker.owed = owed

    def receive(workers: Sequence[Started], seconds: float) -> list[tuple[int, Answer]]:
        owing = {w.owed: n for n, w in enumerate(workers) if w.owed is not None}
        if not owing:
            return []
        come, _ = ray.wait(list(owing), num_returns=1, timeout=seconds)
        answers: list[tuple[int, Answer]] = []
        for owed in come:
            number = owing[owed]
            workers[number].owed = None
            try:
                answers.append((number, ray.get(owed)))
            except ray.exceptions.RayError as error:  # of the actor, or of its node
                reason = str(error).strip().split("\n")[0]
                answers.append((number, Dead(f"{type(error).__name__}: {reason}")))
        return answers

    def end(worker: Started) -> None:
        with contextlib.suppress(Exception):  # it may be dead, or Ray disconnected
            ray.kill(worker.actor)

    return Backend(start, send, receive, end)
