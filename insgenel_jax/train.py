"""Entry point: train a generator or a retriever.

python -m insgenel_jax.train --config=FILE --workdir=DIR [--set KEY=VALUE ...]
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from insgenel_jax import artifact, cli, lock, processes
from insgenel_jax.ahead.command import report
from insgenel_jax.ahead.options import CompileOnly, Topology
from insgenel_jax.ahead.programs import compile_training
from insgenel_jax.artifact import ArtifactError
from insgenel_jax.generator import Generator
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import InputError, Rejects
from insgenel_jax.training import metrics, run
from insgenel_jax.training.config import load
from insgenel_jax.training.generator import LINK_SCORES, Link
from insgenel_jax.training.metrics import CONSOLE, NotFinite
from insgenel_jax.training.settings import (
    Config,
    ConfigError,
    GeneratorData,
    explain_settings,
)
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
            link = make_link(settings) if settings.loop.best == "F1" else None
            counts = run.train(settings, workdir, made_from, rejects, profile, link)
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


def make_link(settings: Config) -> Link:
    """What links the development documents by a generator, and scores its links."""
    from insgenel_jax.evaluation.scoring import make_resolve, same_entity, score
    from insgenel_jax.kb import KnowledgeBase
    from insgenel_jax.linker import Linker, Settings
    from insgenel_jax.linker.directory import BESIDE, VERSION, open_retrieval
    from insgenel_jax.linker.settings import read_settings

    data = settings.data
    assert isinstance(data, GeneratorData)
    retrieval, how = (None, None), Settings(system="insgenel")
    path = Path(data.dev_linker)
    if data.dev_linker:
        artifact.check(path, "linker", VERSION, beside=BESIDE)
        how = read_settings(path)
        # a calibrator was fitted to the linker's own generator, and so its threshold
        how = dataclasses.replace(how, threshold=0.0, titles="candidates")
        if how.system == "insgenel-r":
            retrieval = open_retrieval(path)
    kb = KnowledgeBase.open(path / "kb" if data.dev_linker else data.kb)
    documents = read_documents(data.dev, Rejects())
    gold = list(itertools.islice(documents, data.dev_documents))
    texts = [Document(d.id, d.text, d.title) for d in gold]
    same = same_entity(make_resolve({}, kb))

    def link(generator: Generator) -> dict[str, float]:
        linked = Linker(generator, kb, *retrieval, how)(texts)
        values = score(gold, linked, same=same).micro
        return dict(zip(LINK_SCORES, map(float, values), strict=True))

    return link


if __name__ == "__main__":
    typer.run(main)
