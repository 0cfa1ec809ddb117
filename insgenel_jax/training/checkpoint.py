"""Checkpoints by orbax: train state and data iterator together, committed whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import grain
import jax
from orbax.checkpoint import v1 as ocp

from insgenel_jax.training.config import ConfigError

KEPT = 2


@contextlib.contextmanager
def open_checkpoints(
    path: Path, keep: int = KEPT
) -> Iterator[ocp.training.Checkpointer]:
    """The checkpoints under `path`, of which the last `keep` stay.

    Nothing is saved unless asked for; what a killed process left half-written is
    cleared away.
    """
    with ocp.training.Checkpointer(
        path.absolute(),
        preservation_policy=ocp.training.preservation_policies.LatestN(keep),
        cleanup_tmp_directories=True,
    ) as checkpoints:
        yield checkpoints


def save(
    checkpoints: ocp.training.Checkpointer,
    step: int,
    state,
    data: grain.DatasetIterator,
) -> None:
    """Save the state after `step` steps and the place of the data; returns when done."""
    if checkpoints.latest is None or checkpoints.latest.step != step:
        checkpoints.save_checkpointables(
            step, {"state": state, "data": data}, force=True
        )


def restore(
    checkpoints: ocp.training.Checkpointer,
    abstract_state,
    data: grain.DatasetIterator,
):
    """The latest state, born in the shardings of `abstract_state`; sets `data` back.

    Returns None where there is no checkpoint.
    """
    if checkpoints.latest is None:
        return None
    found = checkpoints.load_checkpointables(
        checkpoints.latest.step, {"state": abstract_state, "data": data}
    )
    return found["state"]


def save_best(
    best: ocp.training.Checkpointer, step: int, params: dict, loss: float
) -> None:
    """Keep the parameters of the best evaluation so far, and its loss."""
    best.save_checkpointables(
        step, {"params": params}, force=True, overwrite=True, metrics={"loss": loss}
    )


def best_loss(best: ocp.training.Checkpointer) -> float:
    """The loss of the parameters kept as best; infinity where there are none."""
    return float("inf") if best.latest is None else best.latest.metrics["loss"]


def restore_best(best: ocp.training.Checkpointer, abstract_params: dict) -> dict:
    """The parameters kept as best."""
    found = best.load_checkpointables(best.latest.step, {"params": abstract_params})
    return found["params"]


def check_same_config(file: Path, config: str) -> None:
    """Write the config of a new workdir; refuse to go on under another one."""
    if not file.is_file():
        if jax.process_index() == 0:
            file.write_text(config)
        return
    before = file.read_text()
    if before != config:
        pairs = zip(before.splitlines(), config.splitlines(), strict=False)
        changed = [
            f"{old.strip()} -> {new.strip()}" for old, new in pairs if old != new
        ]
        raise ConfigError(
            f"{file}: this workdir was begun with another config "
            f"({'; '.join(changed)}); choose another workdir or go back to that config"
        )
