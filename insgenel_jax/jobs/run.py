"""A linker and files in; a folder of linked parts out, as many times as it takes.

    request -> job (job.json) -> shards that are not done -> hands -> parts

`run_job` is what `insgenel link` calls for folders, globs, buckets, workers and
clusters.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import importlib.metadata
import itertools
import os
import platform
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from insgenel_jax import artifact
from insgenel_jax.jobs import claim, store
from insgenel_jax.jobs.cluster import open_cluster
from insgenel_jax.jobs.inputs import find_files
from insgenel_jax.jobs.job import (
    Job,
    JobError,
    Request,
    check_new,
    check_same,
    part_ending,
    read_job,
    write_job,
)
from insgenel_jax.jobs.measure import SAMPLE, Measured
from insgenel_jax.jobs.part import Done, Linked, check_part
from insgenel_jax.jobs.processes import open_processes
from insgenel_jax.jobs.read import Reader, read_shard
from insgenel_jax.jobs.shards import Shard, cut_files
from insgenel_jax.jobs.workers import Again, Failed, Hands, Measure, Opening, open_alone
from insgenel_jax.linker.bundled import locate
from insgenel_jax.linker.settings import read_settings
from insgenel_jax.stopping import StopRequests
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.rejects import Rejects

DOCUMENTS = 1000  # of a shard
WAITED = 3600.0  # seconds that a slice waits for slice 0 to plan the job


@dataclasses.dataclass(frozen=True)
class How:
    """How a job is run; none of it changes what comes out.

    workers: processes on this machine, or actors of the cluster [one for each
    accelerator]. cluster: its address, see `cluster.open_cluster`. slice: (i, n) takes
    the shards i, i + n, i + 2n, ... and leaves the others to other processes. verify:
    compare the hashes of the linker's files, and of the parts that are there.
    """

    workers: int | None = None
    cluster: str | None = None
    slice: tuple[int, int] = (0, 1)
    verify: bool = False


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a job, or its slice, is.

    documents, done: all of them, and those linked or skipped so far. linked, links,
    seconds: of this run. shards, shards_done: the same of shards.
    """

    documents: int
    done: int
    shards: int
    shards_done: int
    linked: int
    links: int
    seconds: float

    @property
    def rate(self) -> float:
        """Documents a second."""
        return self.linked / self.seconds if self.seconds else 0.0

    @property
    def left(self) -> float | None:
        """Seconds that are left; None where that is not known yet."""
        return (self.documents - self.done) / self.rate if self.rate else None


@dataclasses.dataclass(frozen=True)
class JobSummary:
    """What a job, or its slice, came to; counts include the parts of earlier runs.

    shards: of the slice; skipped: those that were there. redone: parts that were there
    and damaged: shard -> why. notes: what else is to be known. others: shards that are
    not done and belong to other slices.
    """

    folder: str
    shards: int
    skipped: int
    redone: Mapping[int, str]
    documents: int
    rejects: int
    reasons: Mapping[str, int]
    stats: Mapping[str, int]
    seconds: float
    linked: int
    notes: Sequence[str]
    others: int


def run_job(
    linker: str | os.PathLike[str],
    inputs: Sequence[str],
    output: str,
    *,
    settings: Mapping[str, Any] | None = None,
    given: bool = False,
    format: str | None = None,
    output_format: str | None = None,
    limit: int | None = None,
    documents: int = DOCUMENTS,
    how: How = How(),  # frozen
    watch: Callable[[Progress], None] = lambda progress: None,
    stop: StopRequests | None = None,
) -> JobSummary:
    """Link all documents of files into a folder of parts; go on with what is there.

    inputs: files, folders, globs, also gs:// and s3://, of JSONL, text (paragraphs) or
    Parquet. output: the folder, see `part_ending` for its name; `cat` of its parts in
    order is the whole output, in the order of the input. settings: of the linker, as in
    `Linker.from_pretrained`. given: link the mentions that documents have. limit: only
    that many documents, the first. documents: the most in a part. watch: called often,
    from this thread. stop: where it got a signal, or `ask` was called, the job ends
    with Stopped; parts that are there stay.

    Raises InputError where the folder has a job with another linker, other settings or
    other inputs, or is in use; JobError where shards were left out because their
    workers died time after time; OSError where a part cannot be written. After each of
    them, the same call goes on where this one ended.
    """
    linker, output = locate(Path(linker)).resolve(), _absolute(output)
    asked = Request(
        linker=artifact.read(linker).identity,
        settings=dataclasses.asdict(read_settings(linker, **(settings or {}))),
        overrides=dict(settings or {}),
        given=given,
        files=[[path, store.file_size(path)] for path in find_files(inputs, format)],
        format=format,
        parts=part_ending(output, output_format),
        documents=documents,
        limit=limit,
    )
    opening = Opening(str(linker), asked.overrides, how.verify, output)
    stop = stop or StopRequests()
    with contextlib.ExitStack() as stack:
        stack.enter_context(claim.hold(output, *how.slice))
        job = find_job(output, asked, how, stop)
        found = None if job is None else find_parts(output, job, how)
        if job is not None and found is not None and not found.todo:
            return _summarise(output, job, found, len(found.records), 0.0, 0)
        hands, count = stack.enter_context(_open_hands(opening, how))
        if job is None:
            job = plan_job(output, asked, hands, count * how.slice[1])
        found = found or find_parts(output, job, how)
        return _link(output, job, found, hands, how, watch, stop)


def _absolute(path: str) -> str:
    return path.rstrip("/") if store.is_remote(path) else os.path.abspath(path)


@contextlib.contextmanager
def _open_hands(opening: Opening, how: How) -> Iterator[tuple[Hands, int]]:
    if how.cluster is not None:
        with open_cluster(opening, how.cluster, how.workers) as opened:
            yield opened
    elif (how.workers or 1) > 1:
        assert how.workers is not None
        with open_processes(opening, how.workers) as hands:
            yield hands, how.workers
    else:
        with open_alone(opening) as hands:
            yield hands, 1


def find_job(output: str, asked: Request, how: How, stop: StopRequests) -> Job | None:
    """The job that a folder holds; None where it is to be planned, by slice 0.

    The other slices wait for that. Raises InputError for a job that is not the same.
    """
    began = time.monotonic()
    while (job := read_job(output)) is None:
        check_new(output)
        if how.slice[0] == 0:
            return None
        if time.monotonic() - began > WAITED:
            raise JobError(f"{output}: slice 0 has not planned the job; start it first")
        stop.check()
        time.sleep(1)
    check_same(output, job, asked)
    return job


def plan_job(output: str, asked: Request, hands: Hands, processes: int) -> Job:
    """Cut the input into shards, find the batch size, and write `job.json`.

    processes: how many link, in all. Raises OSError for an input that cannot be opened.
    """
    files = [path for path, _ in asked.files]
    shards = cut_files(files, asked.format, asked.documents, asked.limit)
    measured = Measured(None, {})
    if "batch" not in asked.overrides:
        total = sum(shard.documents for shard in shards)
        documents = take_sample(asked, shards) if total >= SAMPLE else []
        measured = hands.measure(Measure(documents, asked.given, total / processes))
    identity = secrets.token_hex(8)
    job = Job(identity, asked, measured.batch, measured.rates, made_with(), shards)
    if not store.is_remote(output):
        Path(output).mkdir(parents=True, exist_ok=True)
    write_job(output, job)
    return job


def take_sample(asked: Request, shards: Sequence[Shard]) -> list[Document]:
    """Some documents of a job: the first ones of shards all over it."""
    sample: list[Document] = []
    some = shards[:: max(len(shards) // 4, 1)][:4]
    reader = Reader()
    for shard in some:
        path = asked.files[shard.file][0]
        documents = read_shard(path, asked.format, shard, Rejects(None), reader)
        sample += itertools.islice(documents, SAMPLE // len(some))
    reader.close()
    return sample


def made_with() -> dict[str, str]:
    """The versions that other last digits of scores may come from."""
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib")}
    return {**versions, "machine": platform.machine()}


@dataclasses.dataclass(frozen=True)
class Found:
    """The shards of a slice: those to link, the records of those done, the damaged."""

    todo: list[Shard]
    records: dict[int, dict[str, Any]]
    redone: dict[int, str]
    others: int


def find_parts(output: str, job: Job, how: How) -> Found:
    """Which parts of a job are there, in this slice; their files' sizes are checked."""
    number, count = how.slice
    with ThreadPoolExecutor(16) as pool:  # for buckets, where each look takes a while
        checked = pool.map(
            lambda shard: check_part(output, job, shard, how.verify), job.shards
        )
        states = list(zip(job.shards, checked, strict=True))
    mine = {s.number: (s, state) for s, state in states if s.number % count == number}
    todo = [shard for shard, state in mine.values() if isinstance(state, str)]
    records = {n: state for n, (_, state) in mine.items() if isinstance(state, dict)}
    redone = {n: r for n, (_, r) in mine.items() if isinstance(r, str) and r}
    undone = sum(isinstance(state, str) for _, state in states)
    return Found(todo, records, redone, undone - len(todo))


def _link(
    output: str,
    job: Job,
    found: Found,
    hands: Hands,
    how: How,
    watch: Callable[[Progress], None],
    stop: StopRequests,
) -> JobSummary:
    """Link what is to be linked."""
    mine = [s for s in job.shards if s.number % how.slice[1] == how.slice[0]]
    total, before = sum(s.documents for s in mine), len(found.records)
    skipped = total - sum(shard.documents for shard in found.todo)
    planned = {shard.number: shard.documents for shard in mine}
    at_hand: collections.Counter[int] = collections.Counter()  # of shards not done
    links: collections.Counter[int] = collections.Counter()
    failed: dict[int, str] = {}
    linked = done = 0
    began = time.perf_counter()
    for event in hands.link(job, found.todo):
        if isinstance(event, Linked):
            at_hand[event.shard] += event.documents
            links[event.shard] += event.links
        elif isinstance(event, Done):
            found.records[event.shard] = event.record
            linked += event.record["documents"]
            links[event.shard] = event.record["stats"]["links"]
            done += planned[event.shard]
            del at_hand[event.shard]
        elif isinstance(event, Again | Failed):
            del at_hand[event.shard], links[event.shard]
            if isinstance(event, Failed):
                failed[event.shard] = event.reason
        seconds, running = time.perf_counter() - began, at_hand.total()
        watch(
            Progress(
                documents=total,
                done=skipped + done + running,
                shards=len(mine),
                shards_done=len(found.records),
                linked=linked + running,
                links=links.total(),
                seconds=seconds,
            )
        )
        stop.check(f"stopped; {len(found.records)} of {len(mine)} parts are there")
    if failed:
        reasons = "; ".join(f"shard {n}: {why}" for n, why in sorted(failed.items()))
        raise JobError(
            f"{output}: {len(failed)} of {len(mine)} shards could not be linked, all "
            f"others are there: {reasons}; run the same again to try them once more"
        )
    seconds = time.perf_counter() - began
    return _summarise(output, job, found, before, seconds, linked)


def _summarise(
    output: str, job: Job, found: Found, skipped: int, seconds: float, linked: int
) -> JobSummary:
    stats: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    notes = []
    if (now := made_with()) != job.made_with:
        notes.append(f"the job began with {dict(job.made_with)}, this run has {now}")
    for number, record in sorted(found.records.items()):
        stats.update(record["stats"])
        reasons.update(record["reasons"])
        notes += [f"shard {number}: {note}" for note in record["notes"]]
    return JobSummary(
        folder=output,
        shards=len(found.records),
        skipped=skipped,
        redone=found.redone,
        documents=sum(record["documents"] for record in found.records.values()),
        rejects=sum(record["rejects"] for record in found.records.values()),
        reasons=reasons,
        stats=stats,
        seconds=seconds,
        linked=linked,
        notes=notes,
        others=found.others,
    )
