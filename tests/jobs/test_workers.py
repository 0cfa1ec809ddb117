"""Workers that die: each shard is linked once, or said to be left out."""

import collections
import random

import pytest

from insgenel_jax.jobs.job import Job, JobError, Request
from insgenel_jax.jobs.measure import Measured
from insgenel_jax.jobs.part import Done, Linked
from insgenel_jax.jobs.shards import Shard
from insgenel_jax.jobs.workers import (
    TRIES,
    Again,
    Backend,
    Broken,
    Crew,
    Dead,
    Failed,
    Measure,
    Ready,
)

REQUEST = Request("l", {"batch": 1}, {}, False, [["a", 1]], None, ".jsonl", 1, None)
SHARDS = [Shard(n, 0, n, n + 1, n, n, 1, "") for n in range(40)]
JOB = Job("id", REQUEST, None, {}, {}, SHARDS)


class Actors:
    """Workers of no process. They die by chance, and of the shards in `deadly`."""

    def __init__(self, seed, dies=0.2, deadly=(), stillborn=0.0):
        self.chance = random.Random(seed)
        self.dies, self.deadly, self.stillborn = dies, deadly, stillborn
        self.started = 0
        self.ended = []
        self.linked = collections.Counter()

    def backend(self):
        return Backend(self.start, self.send, self.receive, self.ended.append)

    def start(self, number):
        self.started += 1
        first = Dead("at birth") if self.chance.random() < self.stillborn else Ready()
        return {"number": number, "job": None, "answers": [first]}

    def send(self, worker, task):
        if isinstance(task, Job):
            assert not task.shards
            worker["job"] = task
        elif isinstance(task, Measure):
            worker["answers"].append(Measured(7, {}))
        else:
            assert worker["job"].id == "id" and not worker["answers"]
            worker["answers"] += [Linked(task.number, 1, 0)]
            if task.number in self.deadly or self.chance.random() < self.dies:
                worker["answers"].append(Dead("killed"))
            else:
                self.linked[task.number] += 1
                worker["answers"].append(Done(task.number, {}))

    def receive(self, workers, seconds):
        able = [n for n, w in enumerate(workers) if w["answers"]]
        if not able or self.chance.random() < 0.1:
            return []
        return [(n, workers[n]["answers"].pop(0)) for n in able[:2]]


@pytest.mark.parametrize("seed", range(10))
def test_every_shard_is_done_once(seed):
    actors = Actors(seed, deadly=(7, 31) if seed % 2 else ())
    crew = Crew.start(actors.backend(), 1 + seed % 4)
    crew.wait()
    assert crew.measure(Measure([], False, 1.0)).batch == 7
    events = list(crew.link(JOB, SHARDS))
    crew.end()
    done = [event.shard for event in events if isinstance(event, Done)]
    failed = {event.shard for event in events if isinstance(event, Failed)}
    assert sorted([*done, *failed]) == list(range(40))
    assert failed >= set(actors.deadly) and max(actors.linked.values()) == 1
    again = collections.Counter(e.shard for e in events if isinstance(e, Again))
    assert all(again[shard] == TRIES - 1 for shard in failed)
    assert max(again.values(), default=0) < TRIES
    assert len(actors.ended) == actors.started


def test_workers_that_cannot_start():
    """Some deaths at the start are borne; when all die there, the job ends."""
    crew = Crew.start(Actors(0, dies=0.0, stillborn=0.3).backend(), 3)
    assert sum(isinstance(e, Done) for e in crew.link(JOB, SHARDS)) == 40
    crew = Crew.start(Actors(0, stillborn=1.0).backend(), 3)
    with pytest.raises(JobError, match="3 workers in a row died .*at birth"):
        list(crew.link(JOB, SHARDS))


def test_what_a_worker_raises_is_raised_here():
    actors = Actors(0)
    actors.receive = lambda workers, seconds: [(0, Broken(OSError(28, "full")))]
    with pytest.raises(OSError, match="full"):
        list(Crew.start(actors.backend(), 2).link(JOB, SHARDS))
