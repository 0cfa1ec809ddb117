"""What a job was asked for in; its `job.json` out, which every restart goes by.

The file holds the linker's identity, all settings, the input files and their shards,
and the batch size that was found. A job that is asked for anything else is refused.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from insgenel_jax.jobs import store
from insgenel_jax.jobs.shards import Shard
from insgenel_jax.text.formats.lines import OTHER_PACKED, PACKED_ENDINGS
from insgenel_jax.text.formats.rejects import InputError

VERSION = 1
FILE = "job.json"


@dataclasses.dataclass(frozen=True)
class Request:
    """What a job was asked for: with the same request the parts are the same.

    linker: its identity. settings: all of them; overrides: those that were given.
    files: [path, bytes] of each. format: of the input, None by its endings. parts: how
    the names of the parts end, such as ".jsonl.gz". documents: the most in a shard.
    """

    linker: str
    settings: Mapping[str, Any]
    overrides: Mapping[str, Any]
    given: bool
    files: Sequence[Sequence[Any]]
    format: str | None
    parts: str
    documents: int
    limit: int | None


@dataclasses.dataclass(frozen=True)
class Job:
    """A job as its `job.json` has it.

    id: made up when it was planned; each part carries it. batch: the linker's setting
    that was found by measuring; None where it is the one of `request.settings`.
    measured: documents a second by batch. made_with: versions.
    """

    id: str
    request: Request
    batch: int | None
    measured: Mapping[str, float]
    made_with: Mapping[str, str]
    shards: Sequence[Shard]

    def file(self, shard: Shard) -> str:
        """The path of the file that a shard is cut from."""
        return self.request.files[shard.file][0]


class JobError(RuntimeError):
    """Some shards of a job could not be linked; all others are there."""


def join(folder: str, name: str) -> str:
    """The path of a file in the folder of a job, on disk or in a bucket."""
    return f"{folder.rstrip('/')}/{name}"


def write_job(folder: str, job: Job) -> None:
    """Write a job's `job.json`."""
    record = {"kind": "batch-job", "version": VERSION, **dataclasses.asdict(job)}
    record["shards"] = [list(dataclasses.astuple(shard)) for shard in job.shards]
    store.write_json(join(folder, FILE), record)


def read_job(folder: str) -> Job | None:
    """The job of a folder; None where it has none. Raises InputError for a bad file."""
    path = join(folder, FILE)
    try:
        record = store.read_json(path)
        if record is None:
            return None
        if (record.pop("kind"), record.pop("version")) != ("batch-job", VERSION):
            raise ValueError("another kind or version")
        record["request"] = Request(**record["request"])
        record["shards"] = [Shard(*fields) for fields in record["shards"]]
        return Job(**record)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path}: expected the plan of a batch job, found something else "
            f"({type(error).__name__}: {error}); begin the job in a new folder"
        ) from error


def check_new(folder: str) -> None:
    """Refuse to begin a job in a folder with files. Raises InputError."""
    opened = store.open_path(folder)
    if not opened.exists():
        return
    names = sorted(p.name for p in opened.iterdir() if not p.name.startswith("."))
    if names:
        raise InputError(
            f"{folder}: expected a new or empty folder, or one with the {FILE} of this "
            f"job, found {', '.join(names[:3])}; choose another folder"
        )


def check_same(folder: str, job: Job, asked: Request) -> None:
    """Refuse another linker, setting or input than a job began with.

    Raises InputError that says what differs.
    """
    differences = list(_differences(job.request, asked))
    if differences:
        raise InputError(
            f"{folder}: this job began with other settings: {'; '.join(differences)}; "
            "ask for the same as then, or choose another folder"
        )


def _differences(then: Request, now: Request) -> list[str]:
    found = []
    for field in dataclasses.fields(Request):
        old, new = _plain(getattr(then, field.name)), _plain(getattr(now, field.name))
        if field.name == "files":
            found += _file_differences(old, new)
        elif isinstance(old, Mapping):
            found += [
                f"{field.name}.{key}: {old.get(key)!r} then, {new.get(key)!r} now"
                for key in sorted({*old, *new})
                if old.get(key) != new.get(key)
            ]
        elif old != new:
            old, new = (v[:12] if field.name == "linker" else v for v in (old, new))
            found.append(f"{field.name}: {old!r} then, {new!r} now")
    return found


def _plain(value: Any) -> Any:
    """A value as it comes back from JSON."""
    return json.loads(json.dumps(value))


def _file_differences(old: list[list[Any]], new: list[list[Any]]) -> list[str]:
    before, after = dict(map(tuple, old)), dict(map(tuple, new))
    gone = [f"input {path} is missing" for path in before if path not in after]
    added = [f"input {path} is new" for path in after if path not in before]
    changed = [
        f"input {path}: {size} bytes then, {after[path]} now"
        for path, size in before.items()
        if path in after and after[path] != size
    ]
    if before == after and old != new:
        changed.append("the inputs come in another order")
    found = changed + gone + added
    more = [f"and {len(found) - 5} more inputs"] if len(found) > 5 else []
    return found[:5] + more


def part_name(number: int, ending: str, kind: str = "part") -> str:
    """The name of a file that belongs to shard `number`."""
    return f"{kind}-{number:06}{ending}"


def part_ending(output: str, format: str | None) -> str:
    """How parts' names end, by the name of the output folder and a format.

    A folder `x.jsonl.gz` has packed parts, `x.parquet` Parquet; others have `.jsonl`.
    Raises InputError for a format that parts cannot have.
    """
    name = PurePosixPath(output).name
    packed = next((e for e in (*PACKED_ENDINGS, *OTHER_PACKED) if name.endswith(e)), "")
    kind = format or ("parquet" if name.endswith(".parquet") else "jsonl")
    unknown = kind not in ("jsonl", "parquet") or packed in OTHER_PACKED
    if unknown or (packed and kind == "parquet"):
        raise InputError(
            f"{output}: expected parts in jsonl (also .gz or .bz2) or parquet, found "
            f"{kind}{packed}; say --output-format"
        )
    return f".{kind}{packed}"
