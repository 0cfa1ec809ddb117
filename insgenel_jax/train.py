"""Entry point: train a generator or a retriever.

python -m insgenel_jax.train --config=FILE --workdir=DIR [--set KEY=VALUE ...]
"""

from __future__ import annotations

import contextlib
import functools
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from insgenel_jax import cli, lock, processes
from insgenel_jax.ahead.command import report
from insgenel_jax.ahead.options import CompileOnly, Topology
from insgenel_jax.ahead.programs import compile_training
from insgenel_jax.artifact import ArtifactError
from insgenel_jax.text.formats.rejects import InputError
from insgenel_jax.training import metrics, run
from insgenel_jax.training.config import load
from insgenel_jax.training.metrics import CONSOLE, NotFinite
from insgenel_jax.training.settings import Config, ConfigError, explain_settings
from insgenel_jax.training.signals import Preempted

PREEMPTED = 85  # exit status: stopped by SIGTERM and saved; start it again
NOT_FINITE = 86  # exit status: NaN or infinity


FIXABLE = (ConfigError, processes.JoinError, ArtifactError, InputError, OSError)

Distributed = Annotated[
    processes.Mode,
    typer.Option(
        help="Join other processes: auto where the environment of Cloud TPU, Slurm, "
        "Kubernetes or Open MPI names them, or the options below."
    ),
]
Coordinator = Annotated[
    str | None, typer.Option(help="host:port of process 0", show_default="environment")
]
ProcessId = Annotated[
    int | None, typer.Option(help="number of this process", show_default="environment")
]
Processes = Annotated[
    int | None,
    typer.Option("--processes", help="how many", show_default="environment"),
]
Wait = Annotated[int, typer.Option(help="seconds to wait for the other processes")]


@cli.user_errors(ConfigError, processes.JoinError)
def main(
    config: Annotated[str, typer.Option(help="config file, path.py or path.py:arg")],
    workdir: Annotated[
        Path | None, typer.Option(help="checkpoints, metrics and the model")
    ] = None,
    set_: Annotated[list[str] | None, cli.settings_option(explain_settings)] = None,
    distributed: Distributed = "auto",
    coordinator: Coordinator = None,
    process_id: ProcessId = None,
    count: Processes = None,
    wait: Wait = 300,
    profile: Annotated[
        Path | None, typer.Option(help="folder for a profile of steps 2 to 6")
    ] = None,
    compile_only: CompileOnly = False,
    topology: Topology = None,
) -> None:
    """Train, or go on where WORKDIR stands; WORKDIR/model is the trained model.

    Exit status: 0; 2 for what you have to fix; 3 when bad input was left out, see
    WORKDIR/rejects.jsonl; 85 when told to stop, the same command goes on; 86 for NaN;
    87 when another process of this run ended. With --compile-only: 4 for what does
    not fit.
    """
    settings = load(config, set_ or [])
    if compile_only:
        report(topology, functools.partial(compile_training, settings))
    if workdir is None or topology is not None:
        wrong = "expected --workdir" if workdir is None else "--topology: no effect"
        raise typer.BadParameter(f"{wrong} without --compile-only")
    how = processes.Join(distributed, coordinator, process_id, count, wait)
    with processes.joined(how, cli.describe, FIXABLE) as first:
        train(settings, workdir, first, profile)


def train(settings: Config, workdir: Path, first: bool, profile: Path | None) -> None:
    """Train in one of the processes of a run, of which the first writes and tells."""
    path = workdir / "rejects.jsonl" if first else None
    metrics.CONSOLE.quiet = not first
    try:
        with contextlib.ExitStack() as stack:
            if first:
                stack.enter_context(lock.hold(workdir))
            with processes.first_alone("begin"):
                made_from = run.begin(settings, workdir)
            rejects = stack.enter_context(cli.rejecting(path, CONSOLE))
            counts = run.train(settings, workdir, made_from, rejects, profile)
            for name, count in sorted(counts.items()):
                CONSOLE.print(f"{name}: {count:,}")
    except Preempted as stopped:
        CONSOLE.print(str(stopped))
        sys.exit(PREEMPTED)
    except NotFinite as error:
        CONSOLE.print(f"[red]{escape(cli.describe(error))}", soft_wrap=True)
        sys.exit(NOT_FINITE)
    if counts["unreadable documents"]:
        sys.exit(cli.REJECTED)


if __name__ == "__main__":
    typer.run(main)
