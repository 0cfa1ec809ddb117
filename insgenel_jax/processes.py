"""The processes of one run: joined at the start, ended together.

JAX finds the coordinator, the number of processes and this one's in the environment
of Cloud TPU, Slurm, Kubernetes and Open MPI; or they are given.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Literal

import jax
from jax.experimental import multihost_utils

# exit status: another process ended; the same command goes on. JAX aborts (134)
# where it notices first
LOST = 87
WRONG = 2  # exit status: something to fix, as of every command
HEARTBEAT = 30  # seconds of silence after which a process counts as dead
GRACE = 60  # seconds that JAX itself waits longer than we do, before it aborts
# words in the errors of gloo, NCCL and the coordinator when a connection breaks
BROKEN = ("gloo", "nccl", "connection closed", "heartbeat", "unavailable", "coordinat")

Mode = Literal["auto", "on", "off"]


class JoinError(ValueError):
    """What was said of the processes does not go together, or none were found."""


@dataclasses.dataclass(frozen=True)
class Join:
    """How this process finds the others.

    mode: "on" joins them, "off" runs alone, "auto" joins them where the environment or
    the other fields name them. coordinator: host:port of process 0. process: the number
    of this one. count: of all processes. What is left out is asked of the environment.
    wait: seconds that the others may take to come.
    """

    mode: Mode = "auto"
    coordinator: str | None = None
    process: int | None = None
    count: int | None = None
    wait: int = 300

    @property
    def given(self) -> bool:
        """Whether anything is said beside the mode."""
        said = (self.coordinator, self.process, self.count)
        return any(value is not None for value in said)


def join(how: Join) -> None:
    """Join the other processes, before JAX looks for devices.

    Raises JoinError for what does not go together, and where nothing tells of others.
    Where they do not come in time, the process ends with a message: JAX would abort.
    """
    if how.mode == "off":
        if how.given:
            raise JoinError(
                "--distributed off: leave out coordinator, process and count"
            )
        return
    if jax.distributed.is_initialized():
        return
    bad_port = how.coordinator and not how.coordinator.rpartition(":")[2].isdigit()
    if bad_port or how.wait < 1:
        raise JoinError(
            f"--coordinator {how.coordinator}, --wait {how.wait}: expected host:port "
            "and at least a second"
        )
    clock = threading.Timer(how.wait, _give_up, [how])
    clock.daemon = True
    clock.start()
    try:
        jax.distributed.initialize(
            how.coordinator,
            how.count,
            how.process,
            initialization_timeout=how.wait + GRACE,
            heartbeat_timeout_seconds=HEARTBEAT,
        )
    except (ValueError, TypeError) as error:
        if how.mode == "on" or how.given:
            raise JoinError(
                f"cannot join other processes ({error}): expected the environment of "
                "Cloud TPU, Slurm, Kubernetes or Open MPI, or all of --coordinator, "
                "--process-id and --processes"
            ) from error
    except RuntimeError as error:
        # within a Python that has used JAX before, as a test or a notebook
        if how.given or how.mode == "on" or "must be called before" not in str(error):
            raise
    finally:
        clock.cancel()


def _give_up(how: Join) -> None:
    where = how.coordinator or "the coordinator that the environment names"
    who = f"process {how.process} of {how.count}" if how.given else "this process"
    print(
        f"error: {who} waited {how.wait} s for the others at {where}: start all of "
        "them, with the same coordinator and count, where they can reach it; or raise "
        "--wait, or run alone with --distributed off",
        file=sys.stderr,
        flush=True,
    )
    os._exit(WRONG)


@contextlib.contextmanager
def joined(
    how: Join, describe: Callable[[BaseException], str], fixable: tuple[type, ...]
) -> Iterator[bool]:
    """Join the other processes; gives whether this is the first, which alone writes.

    An exception ends this process at once, without waiting for the others, which end
    when they notice. describe: an error in one line; fixable: errors of the user.
    """
    join(how)
    try:
        yield jax.process_index() == 0
        if jax.distributed.is_initialized():
            jax.distributed.shutdown()  # when all have come here
    except BaseException as error:
        if jax.process_count() == 1:
            raise
        _end(error, describe, fixable)


def _end(
    error: BaseException,
    describe: Callable[[BaseException], str],
    fixable: tuple[type, ...],
) -> None:
    """Say why this process ends, and end it; JAX would wait for the others first."""
    who = f"process {jax.process_index()} of {jax.process_count()}"
    if isinstance(error, SystemExit):  # it has said why
        status = error.code if isinstance(error.code, int) else 1
    elif isinstance(error, fixable):
        status = WRONG
        print(f"error: {who}: {describe(error)}", file=sys.stderr)
    elif _is_lost(error):
        status = LOST
        print(
            f"error: {who}: another process ended, or cannot be reached "
            f"({describe(error)}); its own message says why. The same command goes on "
            "from the last checkpoint",
            file=sys.stderr,
        )
    else:
        status = 1
        traceback.print_exception(error)
        print(f"error: {who} failed; all processes end", file=sys.stderr)
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(status)


def _is_lost(error: BaseException) -> bool:
    """Whether an error, or what caused it, tells of a connection that broke."""
    while error is not None:
        text = str(error).lower()
        if isinstance(error, jax.errors.JaxRuntimeError) and any(
            word in text for word in BROKEN
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def first_alone(name: str) -> Iterator[None]:
    """Let the first process do what is inside, and the others after it.

    So what the first one writes, the others find. name: of the place in the program.
    """
    if jax.process_index():
        wait_for_all(name)
    yield
    if jax.process_index() == 0:
        wait_for_all(name)


def wait_for_all(name: str) -> None:
    """Wait until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
