"""Entry point: train a generator or a retriever.

python -m insgenel_jax.train --config=FILE --workdir=DIR [--set KEY=VALUE ...]
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import jax
import typer
from rich.markup import escape

from insgenel_jax import cli, lock
from insgenel_jax.training import run
from insgenel_jax.training.config import load
from insgenel_jax.training.metrics import CONSOLE, NotFinite
from insgenel_jax.training.settings import ConfigError, explain_settings
from insgenel_jax.training.signals import Preempted

PREEMPTED = 85  # exit status: stopped by SIGTERM and saved; start it again
NOT_FINITE = 86  # exit status: NaN or infinity


@cli.user_errors(ConfigError)
def main(
    config: Annotated[str, typer.Option(help="config file, path.py or path.py:arg")],
    workdir: Annotated[Path, typer.Option(help="checkpoints, metrics and the model")],
    set_: Annotated[list[str] | None, cli.settings_option(explain_settings)] = None,
) -> None:
    """Train, or go on where WORKDIR stands; WORKDIR/model is the trained model.

    Exit status: 0; 2 for what you have to fix; 3 when bad input was left out, see
    WORKDIR/rejects.jsonl; 85 when told to stop, the same command goes on; 86 for NaN.
    """
    settings = load(config, set_ or [])
    first = jax.process_index() == 0  # of the processes of this run
    path = workdir / "rejects.jsonl" if first else None
    try:
        with contextlib.ExitStack() as stack:
            if first:
                stack.enter_context(lock.hold(workdir))
            made_from = run.begin(settings, workdir)
            rejects = stack.enter_context(cli.rejecting(path, CONSOLE))
            counts = run.train(settings, workdir, made_from, rejects)
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
