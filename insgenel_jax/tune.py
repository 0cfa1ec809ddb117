"""Tune a linker: python -m insgenel_jax.tune --linker DIR --documents FILE"""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from insgenel_jax import artifact, cli, paths
from insgenel_jax.evaluation import calibration, files, report, scoring, tuning
from insgenel_jax.evaluation.search import Log, Sets
from insgenel_jax.linker.bundled import is_bundled, locate
from insgenel_jax.text.formats.rejects import InputError

SYSTEMS = ("insgenel-r", "insgenel")
WIDTH = 120  # characters of a line in a log, where no terminal says how many


@cli.user_errors()
def main(
    linker: Annotated[Path, typer.Option(help="Linker directory; it is changed.")],
    documents: Annotated[
        list[Path], typer.Option(help="Labelled documents, JSONL; repeatable.")
    ],
    system: Annotated[
        str | None,
        typer.Option(
            help="insgenel-r or insgenel; the linker keeps it as its system.",
            show_default="as the linker has it",
        ),
    ] = None,
    redirects: Annotated[
        Path | None,
        typer.Option(help="TSV of alias and title, to compare titles by."),
    ] = None,
    budget: Annotated[
        float, typer.Option(help="Seconds of linking; calibrating comes after.")
    ] = 600,
    log: Annotated[
        Path | None,
        typer.Option(help="JSONL file of what was tried; a rerun goes on from it."),
    ] = None,
    documents_per_set: Annotated[
        int | None, typer.Option(min=1, help="Take at most so many of each file.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="PNG file for a reliability diagram.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare the hash of every file first.")
    ] = False,
    rejects: Annotated[Path, typer.Option(help="File for bad input.")] = Path(
        "tune.rejects.jsonl"
    ),
) -> None:
    """Choose a linker's settings on labelled documents, and calibrate its scores.

    The linker keeps both, and the names and hashes of the documents. Exit status: 0, or
    3 when something was rejected.
    """
    if system not in (None, *SYSTEMS):
        raise typer.BadParameter(f"--system {system}: expected one of {SYSTEMS}")
    inputs = [*documents, *([redirects] if redirects else [])]
    outputs = [path for path in (log, figure, rejects) if path is not None]
    linker = locate(linker)
    check_paths(linker, inputs, outputs, figure)
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    with cli.rejecting(rejects, console) as rejected:
        sets = tuning.sample(files.read_sets(documents, rejected), documents_per_set)
        tuning.check_golds(sets)
        table = files.read_redirects(redirects, rejected) if redirects else {}
        tuned = tune(linker, sets, system, table, budget, log, verify, console)
        for shown in report.make_tuning_tables(tuned):
            console.print(shown)
        if figure is not None:
            calibration.draw(figure, tuned.calibrated.scores, tuned.calibrated.right)
        console.print(Text(f"linker: {linker}, now with {dict(tuned.settings)}"))


def check_paths(
    linker: Path, inputs: list[Path], outputs: list[Path], figure: Path | None
) -> None:
    """Refuse paths that cannot be read or written, before any work."""
    artifact.read(linker)
    if is_bundled(linker):
        raise InputError(
            f"{linker}: expected a linker that may be changed, found the one that "
            f'comes with the package; cp -r "{linker}" work/nano, and give --linker '
            "work/nano"
        )
    paths.check_target(linker, "linker")
    for path in inputs:
        paths.check_input(path)
    for path in outputs:
        paths.check_output(path)
    paths.check_apart([linker, *outputs], inputs)
    if figure is not None and importlib.util.find_spec("matplotlib") is None:
        raise InputError(
            f"--figure {figure}: expected matplotlib to draw with, found none; pip "
            "install 'insgenel_jax[plot]', or leave --figure out"
        )


def tune(
    path: Path,
    sets: Sets,
    system: str | None,
    redirects: dict[str, str],
    budget: float,
    log: Path | None,
    verify: bool,
    console: Console,
) -> tuning.Tuned:
    """Tune the linker in a directory, and write into it what was found."""
    from insgenel_jax.linker import Linker  # only now: it loads JAX
    from insgenel_jax.linker.tuned import identify_parts, write_tuned

    chosen = {} if system is None else {"system": system}
    with cli.opening(path, "linker"):
        linker = Linker.from_pretrained(path, verify=verify, calibrated=False, **chosen)
    same = scoring.same_entity(scoring.make_resolve(redirects, linker.kb))
    parts = identify_parts(artifact.read(path).made_from)
    kept = Log(log, tuning.log_header(linker, parts, sets, redirects))
    with console.status("") as status:
        tuned = tuning.tune_linker(
            linker,
            sets,
            same,
            budget=budget,
            log=kept,
            tell=lambda message: status.update(Text(message)),
        )
    found = tuned.found
    console.print(
        f"{found.points} points on {sum(map(len, sets.values()))} documents, "
        f"{found.seconds:.0f} s: {found.stopped}"
    )
    settings = dataclasses.replace(linker.settings, **tuned.settings)
    write_tuned(path, settings, tuned.calibrated.calibrator, tuning.hash_sets(sets))
    return tuned


if __name__ == "__main__":
    typer.run(main)
