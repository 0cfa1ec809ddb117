"""Worker processes on this machine, each with a share of its cores, or a GPU."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import importlib.util
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from insgenel_jax.artifact import ArtifactError
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
from insgenel_jax.text.formats.rejects import InputError

# kind, the variable that says which a process sees, the files of those there are, and
# what else such a process needs
ACCELERATORS: tuple[tuple[str, str, tuple[str, ...], dict[str, str]], ...] = (
    ("GPU", "CUDA_VISIBLE_DEVICES", ("/dev/nvidia[0-9]*",), {}),
    (
        "TPU",
        "TPU_VISIBLE_CHIPS",
        ("/dev/accel[0-9]*", "/dev/vfio/[0-9]*"),
        {"TPU_CHIPS_PER_HOST_BOUNDS": "1,1,1", "TPU_HOST_BOUNDS": "1,1,1"},
    ),
)


@dataclasses.dataclass(frozen=True)
class Started:
    """A worker process, and our end of the pipe to it."""

    process: BaseProcess
    connection: Connection


@contextlib.contextmanager
def open_processes(opening: Opening, count: int) -> Iterator[Hands]:
    """Hands of so many processes; they end with the `with` body, and with us.

    Raises InputError where there are fewer GPUs than processes.
    """
    variables = [share(number, count) for number in range(count)]
    backend = Backend(
        start=lambda number: _start(opening, variables[number]),
        send=_send,
        receive=_receive,
        end=_end,
    )
    crew = Crew.start(backend, count)
    try:
        crew.wait()
        yield Hands(crew.measure, crew.link)
    finally:
        crew.end()


def share(number: int, count: int) -> dict[str, str]:
    """The environment variables that give process `number` of `count` its share.

    NPROC is the number of threads that XLA starts on a CPU: without it each process
    would start one a core. With GPUs, or the chips of a TPU host, each process sees one
    of them. Raises InputError where there are fewer of these than processes.
    """
    cores = len(os.sched_getaffinity(0))
    variables = {
        "NPROC": str(max(cores // count, 1)),
        "TOKENIZERS_PARALLELISM": "false",
    }
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return variables
    for kind, visible, files, more in ACCELERATORS:
        if kind == "TPU" and importlib.util.find_spec("libtpu") is None:
            continue  # other devices may have such files
        have = [str(i) for pattern in files for i in range(len(glob.glob(pattern)))]
        named = os.environ.get(visible)
        have = have if named is None else [i for i in named.split(",") if i]
        if not have:
            continue
        if count > len(have):
            raise InputError(
                f"--workers {count}: expected at most one for each {kind}, found "
                f"{len(have)} of these; set JAX_PLATFORMS=cpu to use none"
            )
        return {**variables, visible: have[number], **more}
    return variables


def _start(opening: Opening, variables: dict[str, str]) -> Started:
    # A fork would not have the threads of JAX and Arrow, and would wait for them.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, opening), daemon=True)
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)  # read when XLA starts: too late in the process itself
    try:
        process.start()
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
    theirs.close()  # so that its death ends the pipe
    return Started(process, ours)


def _work(connection: Connection, opening: Opening) -> None:
    """What a worker process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        worker = Worker(opening)
        connection.send(Ready())
        while True:
            for answer in worker.do(connection.recv()):
                connection.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):  # nobody listens any more
        return
    except Exception as error:  # noqa: BLE001 (raised where the job is run)
        connection.send(Broken(portable(error)))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)  # a part that is being written is not committed


def portable(error: Exception) -> Exception:
    """An exception that another process can be sent, with its cause in words."""
    if isinstance(error, InputError | ArtifactError):
        return type(error)(str(error))
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, error.strerror, error.filename)
    return RuntimeError(f"in a worker, {type(error).__name__}: {error}")


def _send(worker: Started, task: Task) -> None:
    with contextlib.suppress(OSError):  # its death is the next that is received
        worker.connection.send(task)


def _receive(workers: Sequence[Started], seconds: float) -> list[tuple[int, Answer]]:
    numbers = {worker.connection: n for n, worker in enumerate(workers)}
    answers: list[tuple[int, Answer]] = []
    for connection in wait(list(numbers), seconds):
        assert isinstance(connection, Connection)
        number = numbers[connection]
        try:
            answers.append((number, connection.recv()))
        except (EOFError, OSError):
            process = workers[number].process
            process.join(10)
            answers.append((number, Dead(f"exit code {process.exitcode}")))
    return answers


def _end(worker: Started) -> None:
    worker.process.kill()
    worker.process.join()
    worker.connection.close()
