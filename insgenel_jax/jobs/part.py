"""A shard in; its part out: linked documents, rejects, and a record that commits both.

    part-000007.jsonl  rejects-000007.jsonl  part-000007.json

The record is written last. A part without it, or with other sizes than it says, is not
there, and its shard is linked again.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from insgenel_jax.jobs import store
from insgenel_jax.jobs.job import Job, join, part_name
from insgenel_jax.jobs.read import Reader, read_shard
from insgenel_jax.jobs.shards import Shard
from insgenel_jax.linker.inputs import own_mentions, take_group
from insgenel_jax.linker.linker import Linker
from insgenel_jax.text.document import Document, dumps
from insgenel_jax.text.formats.lines import pack_lines
from insgenel_jax.text.formats.parquet import write_rows
from insgenel_jax.text.formats.rejects import Rejects, entry_line

# Documents that are linked together, fewer where they are long: the more there are, the
# more of them are alike in length, and share batches.
GROUP = 1024
RECORD = ".json"
# of `Linker.stats`: those that add up over shards
STATS = ("mentions", "decided", "links", "chunks", "calls", "tokens")
STATS += ("dropped", "cut", "dead", "ties")


@dataclasses.dataclass(frozen=True)
class Linked:
    """Some documents of a shard were linked; the part is not there yet."""

    shard: int
    documents: int
    links: int


@dataclasses.dataclass(frozen=True)
class Done:
    """A part is there. record: what its record says."""

    shard: int
    record: dict[str, Any]


def link_shard(
    linker: Linker, job: Job, folder: str, shard: Shard, reader: Reader
) -> Iterator[Linked | Done]:
    """Link a shard, and commit its part.

    A document that cannot be linked is a reject, with the reason. Where the device has
    no memory for a batch, the shard is linked again with half of it, and the record
    says so. Raises OSError where the part cannot be written; InputError where the
    input is not the one that was cut.
    """
    batch = job.batch or int(job.request.settings["batch"])
    notes: list[str] = []
    began = time.perf_counter()
    while True:
        linker.settings = dataclasses.replace(linker.settings, batch=batch)
        before = linker.stats.copy()
        rejects = Rejects(None)
        linked: list[Document] = []
        try:
            for group in _link(linker, job, shard, rejects, reader):
                linked += group
                links = sum(len(document.mentions) for document in group)
                yield Linked(shard.number, len(group), links)
            break
        except Exception as error:
            if batch == 1 or not is_out_of_memory(error):
                raise
            notes.append(f"out of memory with batch {batch}: linked with {batch // 2}")
            batch //= 2
    stats = collections.Counter(linker.stats)
    stats.subtract(before)
    record = {
        "job": job.id,
        "documents": len(linked),
        "rejects": rejects.count,
        "reasons": dict(rejects.by_reason),
        "stats": {name: stats[name] for name in STATS},
        "seconds": round(time.perf_counter() - began, 3),
        "notes": notes,
    }
    yield Done(shard.number, commit(folder, job, shard, linked, rejects, record))


def _link(
    linker: Linker, job: Job, shard: Shard, rejects: Rejects, reader: Reader
) -> Iterator[list[Document]]:
    """The linked documents of a shard, in groups; rejects."""
    file, format = job.file(shard), job.request.format
    documents = iter(read_shard(file, format, shard, rejects, reader))
    while group := take_group(documents, GROUP):
        try:
            yield link_documents(linker, group, job.request.given)
        except (OSError, MemoryError, FloatingPointError):
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            yield _link_each(linker, group, job, shard, rejects)


def link_documents(
    linker: Linker, documents: Sequence[Document], given: bool
) -> list[Document]:
    """Documents, linked. given: the mentions that each has, and no others."""
    return linker(documents, own_mentions(documents) if given else None)


def _link_each(
    linker: Linker, group: list[Document], job: Job, shard: Shard, rejects: Rejects
) -> list[Document]:
    """A group of which some document cannot be linked, one by one.

    Raises the error of the last one where it is that of all: then they are not at
    fault.
    """
    linked: list[Document] = []
    errors: list[Exception] = []
    for document in group:
        try:
            linked += link_documents(linker, [document], job.request.given)
        except (OSError, MemoryError, FloatingPointError):
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            errors.append(error)
            reason = f"cannot be linked: {type(error).__name__}: {error}"
            rejects.add(job.file(shard), None, reason, dumps(document))
    if errors and not linked:
        raise errors[-1]
    return linked


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of JAX says that a device has no memory left."""
    return type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError") and (
        "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)
    )


def commit(
    folder: str,
    job: Job,
    shard: Shard,
    documents: Sequence[Document],
    rejects: Rejects,
    record: dict[str, Any],
) -> dict[str, Any]:
    """Write a part, its rejects and, last, its record, which is returned."""
    ending = job.request.parts

    def write(stream: BinaryIO) -> None:
        if ending == ".parquet":
            write_rows(stream, documents)
        else:
            pack_lines(stream, map(dumps, documents), f".{ending.split('.')[-1]}")

    files = {}
    name = part_name(shard.number, ending)
    files[name] = store.write_whole(join(folder, name), write)
    name = part_name(shard.number, ".jsonl", "rejects")
    if rejects.entries:
        lines = [entry_line(entry) for entry in rejects.entries]
        files[name] = store.write_whole(
            join(folder, name), lambda stream: pack_lines(stream, lines, "")
        )
    elif store.file_size(join(folder, name)) is not None:
        store.open_path(join(folder, name)).unlink()  # of an older try
    record = {**record, "files": files}
    store.write_json(join(folder, part_name(shard.number, RECORD)), record)
    return record


def check_part(
    folder: str, job: Job, shard: Shard, verify: bool
) -> dict[str, Any] | str:
    """The record of a part that is there, or why it is not; "" where it never was.

    verify: compare the hashes of the files too.
    """
    try:
        record = store.read_json(join(folder, part_name(shard.number, RECORD)))
        if record is None:
            return ""
        if record["job"] != job.id:
            return "it is of another job"
        for name, facts in record["files"].items():
            path = join(folder, name)
            size = store.file_size(path)
            if size != facts["bytes"]:
                found = "nothing" if size is None else f"{size}"
                return f"{name}: expected {facts['bytes']} bytes, found {found}"
            if verify and store.hash_at(path) != facts["sha256"]:
                return f"{name}: another sha256"
        return record
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return f"its record cannot be read ({error})"
