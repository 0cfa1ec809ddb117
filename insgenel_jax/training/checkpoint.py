"""Checkpoints by orbax: train state and data iterator together, committed whole.

The workdir's `hashes.json` has the sha256 of each file of each checkpoint: orbax does
not notice a flipped bit.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grain
import jax
from orbax.checkpoint import v1 as ocp

from insgenel_jax.artifact import ArtifactError, hash_file
from insgenel_jax.training.settings import ConfigError

KEPT = 2
RECORD = "training.json"  # in a workdir: what it was begun with
STEPS = "loop.steps"  # the setting that may grow
HASHES = "hashes.json"  # in a workdir: checkpoint -> file of it -> sha256
OLD_RECORD = "config.json"  # its name up to version 0.2, that of a model's config, too
FORGET_BEST = "delete this folder: the best so far is forgotten, training goes on"


class Place(grain.DatasetIterator):
    """Stands in for a data iterator in a checkpoint, with a state that it had earlier.

    It yields nothing. It is saved where the real iterator may have moved on since, as
    when SIGTERM interrupts the reading of a batch.
    """

    def __init__(self, state: dict[str, Any]):
        super().__init__()
        self._state = state

    def __next__(self):
        raise StopIteration

    def get_state(self) -> dict[str, Any]:
        return self._state

    def set_state(self, state: dict[str, Any]) -> None:
        self._state = state


@contextlib.contextmanager
def open_checkpoints(
    path: Path, keep: int = KEPT
) -> Iterator[ocp.training.Checkpointer]:
    """The checkpoints under `path`, of which the last `keep` stay.

    Nothing is saved unless `save` is called. What a killed process left half-written
    is removed. Raises ArtifactError where the checkpoints cannot be listed.
    """
    with contextlib.ExitStack() as stack:
        with _readable(path, "move this folder away to begin without it"):
            checkpoints = stack.enter_context(
                ocp.training.Checkpointer(
                    path.absolute(),
                    preservation_policy=ocp.training.preservation_policies.LatestN(
                        keep
                    ),
                    cleanup_tmp_directories=True,
                )
            )
        yield checkpoints


def save(
    checkpoints: ocp.training.Checkpointer,
    step: int,
    state: Any,
    data: grain.DatasetIterator,
) -> None:
    """Save the state after `step` steps and the place of the data, unless it is saved.

    Returns when all is written.
    """
    if checkpoints.latest is None or checkpoints.latest.step != step:
        checkpoints.save_checkpointables(
            step, {"state": state, "data": data}, force=True
        )
        _note_hashes(checkpoints)


def restore(
    checkpoints: ocp.training.Checkpointer,
    abstract_state: Any,
    data: grain.DatasetIterator,
) -> Any:
    """The latest state, or None where there is no checkpoint; sets `data` back.

    Its arrays are born in the shardings of `abstract_state`. Raises ArtifactError where
    the checkpoint is damaged.
    """
    if not checkpoints.checkpoints:
        return None
    *before, latest = checkpoints.checkpoints
    goes_on = f"from step {before[-1].step}" if before else "from the beginning"
    with _readable(latest.path, f"delete this folder and the run goes on {goes_on}"):
        _check_hashes(latest.path)
        places = sorted(Path(latest.path).glob("data/process_*-of-*.json"))
        if len(places) == jax.process_count():
            wanted = {"state": abstract_state, "data": data}
            return checkpoints.load_checkpointables(latest.step, wanted)["state"]
        # saved by another number of processes, each of which had its own streams
        loaded = checkpoints.load_checkpointables(
            latest.step, {"state": abstract_state}
        )
        data.set_state({n: at for p in places for n, at in _read_place(p).items()})
    return loaded["state"]


def _read_place(file: Path) -> dict[str, Any]:
    """The state of the data iterator of one process."""
    return json.loads(file.read_text(encoding="utf-8"))


def save_best(
    best: ocp.training.Checkpointer, step: int, params: dict, loss: float
) -> None:
    """Keep the parameters of the best evaluation so far, and its loss."""
    best.save_checkpointables(
        step, {"params": params}, force=True, overwrite=True, metrics={"loss": loss}
    )
    _note_hashes(best)


def best_loss(best: ocp.training.Checkpointer) -> float:
    """The loss of the parameters kept as best; infinity where there are none."""
    if best.latest is None:
        return float("inf")
    with _readable(best.latest.path, FORGET_BEST):
        return best.latest.metrics["loss"]


def restore_best(best: ocp.training.Checkpointer, abstract_params: dict) -> dict:
    """The parameters kept as best."""
    with _readable(best.latest.path, FORGET_BEST):
        _check_hashes(best.latest.path)
        abstract = {"params": abstract_params}
        loaded = best.load_checkpointables(best.latest.step, abstract)
    return loaded["params"]


def _note_hashes(checkpoints: ocp.training.Checkpointer) -> None:
    """Note the hashes of the files of the checkpoint just saved, and forget others.

    Those of checkpoints that are no more are forgotten.
    """
    if jax.process_index() or checkpoints.latest is None:
        return
    folder = Path(checkpoints.latest.path)
    workdir = folder.parent.parent
    noted = {
        name: hashes
        for name, hashes in _read_hashes(workdir).items()
        if (workdir / name).is_dir()
    }
    noted[f"{folder.parent.name}/{folder.name}"] = {
        file.relative_to(folder).as_posix(): hash_file(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    _write_json(workdir / HASHES, noted)


def _check_hashes(path: os.PathLike) -> None:
    """Raise ValueError for the first file of a checkpoint that is not as it was saved.

    One without noted hashes passes: its process was killed before it noted them, or it
    is of an older version.
    """
    folder = Path(path)
    noted = _read_hashes(folder.parent.parent)
    for name, sha256 in noted.get(f"{folder.parent.name}/{folder.name}", {}).items():
        if hash_file(folder / name) != sha256:
            raise ValueError(f"{name} has another sha256 than when it was saved")


def _read_hashes(workdir: Path) -> dict[str, dict[str, str]]:
    """The noted hashes of a workdir; none where they cannot be read."""
    try:
        noted = json.loads((workdir / HASHES).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _write_json(file: Path, record: dict[str, Any]) -> None:
    """Write JSON aside, and move it to the file."""
    aside = file.with_name(f".{file.name}")
    aside.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    aside.rename(file)


@contextlib.contextmanager
def _readable(path: os.PathLike, remedy: str) -> Iterator[None]:
    """Any error becomes an ArtifactError that names the folder and what to do.

    orbax raises whatever the file format beneath it raises; the reason is the innermost
    cause.
    """
    try:
        yield
    except Exception as error:
        reason = error
        while reason.__cause__ is not None:
            reason = reason.__cause__
        told = " ".join(f"{type(reason).__name__}: {reason}".split())[:200]
        raise ArtifactError(
            f"{path}: this checkpoint is damaged or incomplete ({told}); {remedy}"
        ) from error


def claim_workdir(workdir: Path) -> None:
    """Make the workdir, or take one that is empty or of an earlier run.

    Hidden files are ignored. Raises ConfigError where it has files of something else,
    such as a model, which training would overwrite.
    """
    if workdir.exists() and not (workdir / RECORD).is_file():
        if _is_old_record(workdir / OLD_RECORD):
            if jax.process_index() == 0:
                (workdir / OLD_RECORD).rename(workdir / RECORD)
        elif other := sorted(p for p in workdir.glob("*") if p.name[0] != "."):
            raise ConfigError(
                f"{workdir}: expected a new or empty folder, or one with the "
                f"{RECORD} of an earlier run, found {other[0].name}; choose another "
                "workdir"
            )
    workdir.mkdir(parents=True, exist_ok=True)


def _is_old_record(file: Path) -> bool:
    """Whether a file has the settings of a run, and is no model's config."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and record.keys() >= {"task", "loop", "made_from"}


# Settings that version 0.2 added, with what was done before there were any: a workdir
# that was begun without them goes on.
ADDED = {
    "data.packed": True,
    "data.share": 1.0,
    "data.streams": 1,
    "data.more_instructions": [],
    "data.prompt_text": True,
    "optimizer.warmup_share": 0.0,
    "loop.epochs": 0.0,
}


def check_same_config(file: Path, record: dict[str, Any]) -> None:
    """Record what a new workdir is begun with; refuse to go on with anything else.

    record: the settings and the identities of the data, as nested dicts of JSON values.
    A workdir without checkpoints is new, whatever was tried in it, so that a first
    start that failed can be fixed and started again. A run that has finished may be
    given more steps: the learning rate goes on as if it had been begun with these.
    Raises ConfigError that names every setting that differs.
    """
    record = json.loads(json.dumps(record))  # as it is read back: no tuples
    saved = (
        p for name in ("checkpoints", "best") for p in file.parent.glob(f"{name}/*")
    )
    steps = {int(path.name) for path in saved if path.name.isdigit()}
    if not (file.is_file() and steps):
        if jax.process_index() == 0:
            _write_json(file, record)
        return
    try:
        before = dict(_leaves(json.loads(file.read_text())))
    except (ValueError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"{file}: not a readable record of a run ({error}); choose another workdir"
        ) from error
    now = dict(_leaves(record))
    before = {n: value for n, value in ADDED.items() if n in now} | before
    changed = [
        f"{name}: {before.get(name)!r} -> {now.get(name)!r}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
    more = [STEPS] == [n for n in {**before, **now} if before.get(n) != now.get(n)]
    if more and before.get(STEPS) in steps and before[STEPS] < now[STEPS]:
        if jax.process_index() == 0:
            _write_json(file, record)
        return
    if changed:
        raise ConfigError(
            f"{file}: this workdir was begun with other settings or data "
            f"({'; '.join(changed)}); choose another workdir or go back to those"
        )


def kept_streams(workdir: Path) -> int | None:
    """The streams of the run that a workdir has a checkpoint of; else None."""
    if not any(workdir.glob("checkpoints/[0-9]*")):
        return None
    try:
        data = json.loads((workdir / RECORD).read_text(encoding="utf-8"))["data"]
        return int(data.get("streams", ADDED["data.streams"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _leaves(record: dict[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{where}{name}.")
        else:
            yield where + name, value
