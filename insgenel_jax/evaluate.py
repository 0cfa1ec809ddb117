"""Score linkers: python -m insgenel_jax.evaluate --linker DIR --documents FILE

Options that take several files, linkers or systems are given several times.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.status import Status
from rich.text import Text

from insgenel_jax import cli, evaluation, lock, stopping
from insgenel_jax.evaluation import files, modes, report, scoring, tuning
from insgenel_jax.evaluation.chosen import (
    Chosen,
    choose_systems,
    open_kb,
    open_systems,
)
from insgenel_jax.evaluation.search import Sets
from insgenel_jax.evaluation.systems import PRIOR
from insgenel_jax.linker.bundled import locate
from insgenel_jax.text.formats.rejects import InputError, Rejects

SYSTEMS = {"insgenel-r", "insgenel", PRIOR}
WIDTH = 120  # characters of a line in a log, where no terminal says how many

Documents = Annotated[
    list[Path],
    typer.Option(help="Labelled documents, JSONL, or a benchmark of ELEVANT's."),
]
LinkerPath = Annotated[
    list[Path] | None,
    typer.Option(help="Linker directory; nano is the one that comes with the package."),
]
Names = Annotated[
    list[str] | None,
    typer.Option(
        help="insgenel-r, insgenel or prior", show_default="as each linker has it"
    ),
]
Linked = Annotated[
    list[Path] | None,
    typer.Option(
        help="Documents linked already: a file for each --documents, in order, or a "
        "folder that --out has made for a system."
    ),
]
Mode = Annotated[str, typer.Option(help="Whose rules count: gerbil or elevant.")]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder to keep all links in. What is there is not linked again, so the "
        "same command goes on where it stopped."
    ),
]
KB = Annotated[
    Path | None,
    typer.Option(
        help="Knowledge base directory, for prior and for predictions; else that of "
        "the first linker."
    ),
]
Tune = Annotated[
    list[Path] | None,
    typer.Option(help="Labelled documents to tune prior on."),
]
Redirects = Annotated[
    Path | None, typer.Option(help="TSV of alias and title, to compare titles by.")
]
Titles = Annotated[Path | None, typer.Option(help="All titles that exist, one a line.")]
Ids = Annotated[
    Path | None,
    typer.Option(
        help="TSV of title and Wikidata id, for benchmarks of ELEVANT's, beside the "
        "ids that knowledge bases hold."
    ),
]
Settings = Annotated[
    list[str] | None,
    cli.settings_option(cli.linker_settings),
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Compare the hash of every file first.")
]
Given = Annotated[
    bool,
    typer.Option(
        "--given", help="The linker gets the gold spans: entities are scored."
    ),
]
Json = Annotated[Path | None, typer.Option(help="File to write all numbers to.")]
Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        help="HTML file to look at: every table, figures, and the documents with what "
        "was found and missed in them.",
    ),
]
RejectsPath = Annotated[
    Path | None,
    typer.Option(
        help="File for bad input; else JSON.rejects.jsonl, or evaluate.rejects.jsonl "
        "without --json."
    ),
]


@cli.user_errors()
def main(
    documents: Documents,
    linker: LinkerPath = None,
    system: Names = None,
    predictions: Linked = None,
    mode: Mode = "gerbil",
    out: Out = None,
    kb: KB = None,
    tune: Tune = None,
    redirects: Redirects = None,
    titles: Titles = None,
    ids: Ids = None,
    set_: Settings = None,
    verify: Verify = False,
    given: Given = False,
    json: Json = None,
    page: Report = None,
    rejects: RejectsPath = None,
) -> None:
    """Score systems on sets of labelled documents, side by side.

    Exit status: 0; 3 when something was rejected; 130 or 143 when told to stop.
    """
    linkers, names = [locate(path) for path in linker or []], system or []
    predictions, tune = predictions or [], tune or []
    check_options(documents, linkers, kb, names, predictions, tune)
    check_mode(mode, titles, page)
    rejects = rejects or Path(f"{json or 'evaluate'}.rejects.jsonl")
    inputs = [*documents, *tune, redirects, titles, ids]
    cli.check_paths(inputs, [*linkers, kb], [json, page, rejects], predictions)
    chosen = choose_systems(linkers, names, set_ or [], given)
    kb = linkers[0] / "kb" if kb is None and linkers else kb
    console = make_console()
    with (
        holding(out, [*linkers, kb]),
        cli.rejecting(rejects, console) as rejected,
        stopping.stop_requests() as stop,
        console.status("") as status,
    ):
        sets = files.read_benchmarks(documents, rejected)
        dev = files.read_sets(tune, rejected)
        taken = [each.name for each in chosen]
        linked = files.read_predictions(predictions, sets, taken, rejected)
        opened = open_kb(kb, verify)
        table, known, by_title = read_tables(redirects, titles, ids, rejected)
        show_warnings(console, warn_of_tuning(sets, chosen, dev))
        evaluated = evaluation.run(
            sets,
            open_systems(chosen, opened, dev, table, verify, given, status),
            linked,
            mode=mode,
            kb=opened,
            resolve=scoring.make_resolve(table, opened),
            titles=known,
            ids=by_title,
            out=out,
            progress=functools.partial(show_progress, status, stop, out),
        )
        write(evaluated, console, json, page)


def show_warnings(console: Console, warnings: Iterable[str]) -> None:
    """Print each warning on a line of its own."""
    for warning in warnings:
        console.print(Text(f"warning: {warning}", "yellow"), soft_wrap=True)


def make_console() -> Console:
    """Where to print: as wide as the tables, where no terminal says how wide."""
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    return console


def show_progress(
    status: Status, stop: stopping.StopRequests, out: Path | None, message: str
) -> None:
    """Show what begins. Raises Stopped once a signal has come."""
    stop.check("stopped" if out is None else f"stopped; {out} keeps the links so far")
    status.update(Text(message))


def read_tables(
    redirects: Path | None, titles: Path | None, ids: Path | None, rejects: Rejects
) -> tuple[dict[str, str] | None, frozenset[str] | None, dict[str, str] | None]:
    """Redirects, titles that exist, and Wikidata ids by title; None without a file."""
    return (
        None if redirects is None else files.read_redirects(redirects, rejects),
        None if titles is None else files.read_titles(titles, rejects),
        None if ids is None else files.read_ids(ids, rejects),
    )


def write(
    evaluated: evaluation.Evaluation,
    console: Console,
    json: Path | None,
    page: Path | None,
) -> None:
    """Print the tables; write the JSON file and the HTML report where asked for."""
    for shown in report.make_tables(evaluated):
        console.print(shown)
    if json is not None:
        report.write_json(json, evaluated)
    if page is not None:
        from insgenel_jax.evaluation import html  # it needs the extra

        html.write_report(page, evaluated)
        console.print(Text(f"report: {page}"), soft_wrap=True)


def warn_of_tuning(
    sets: Mapping[str, Sequence[modes.Labelled]], chosen: Sequence[Chosen], dev: Sets
) -> list[str]:
    """A sentence for each set with documents that a system was tuned on."""
    told = []
    bare = {name: list(map(modes.bare, golds)) for name, golds in sets.items()}
    for path in dict.fromkeys(each.path for each in chosen if each.path is not None):
        from insgenel_jax.linker.tuned import read_tuned_on  # it loads JAX

        found = tuning.overlaps(bare, read_tuned_on(path))
        told += [f"the linker {path}: {sentence}" for sentence in found]
    if any(each.path is None for each in chosen):
        found = tuning.overlaps(bare, tuning.hash_sets(dev))
        told += [f"{PRIOR}: {sentence}" for sentence in found]
    return told


@contextlib.contextmanager
def holding(out: Path | None, artifacts: Sequence[Path | None]) -> Iterator[None]:
    """Hold the lock of --out. Raises InputError where that is no folder, lies in what
    is read, or another process holds it."""
    if out is None:
        yield
        return
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder for --out, found a file")
    cli.check_parent(out)
    cli.check_apart([out], [path for path in artifacts if path is not None])
    with lock.hold(out):
        yield


def check_mode(mode: str, titles: Path | None, page: Path | None) -> None:
    """Refuse a mode that is unknown or cannot use --titles, and a report without the
    libraries that make it. Raises typer.BadParameter, InputError."""
    if mode not in modes.MODES:
        raise typer.BadParameter(f"--mode {mode}: expected one of {modes.MODES}")
    if mode == "elevant" and titles is not None:
        raise typer.BadParameter(
            "--titles: no effect with --mode elevant, leave it out"
        )
    missing = [n for n in ("jinja2", "matplotlib") if not importlib.util.find_spec(n)]
    if page is not None and missing:
        raise InputError(
            f"--report {page}: expected {' and '.join(missing)} to make it with, found "
            "none; pip install 'insgenel_jax[report]', or leave --report out"
        )


def check_options(
    documents: Sequence[Path],
    linkers: Sequence[Path],
    kb: Path | None,
    names: Sequence[str],
    predictions: Sequence[Path],
    tune: Sequence[Path],
) -> None:
    """Refuse options that do not go together. Raises typer.BadParameter."""
    problem = check_repeated(documents, linkers, names, predictions)
    files = sum(not path.is_dir() for path in predictions)
    if problem:
        pass
    elif not names and not linkers and not predictions:
        problem = "expected --linker, --system or --predictions: nothing to score"
    elif files % len(documents):
        problem = (
            f"expected one --predictions for each of {len(documents)} --documents, "
            f"found {files}"
        )
    elif unknown := sorted(set(names) - SYSTEMS):
        problem = f"--system {unknown}: expected some of {sorted(SYSTEMS)}"
    elif not linkers and any(name != PRIOR for name in names):
        problem = f"--system {names} expects --linker"
    elif PRIOR in names and not linkers and kb is None:
        problem = "--system prior expects --kb or --linker"
    elif PRIOR in names and not tune:
        problem = "--system prior expects --tune: documents to choose its settings on"
    if problem:
        raise typer.BadParameter(problem)


def check_repeated(
    documents: Sequence[Path],
    linkers: Sequence[Path],
    names: Sequence[str],
    predictions: Sequence[Path],
) -> str | None:
    """What is wrong where something is given twice that may be given once."""
    for option, paths in (
        ("--documents", documents),
        ("--linker", linkers),
        ("--predictions", predictions),
    ):
        whole = [os.path.realpath(path) for path in paths]
        for path, resolved in zip(paths, whole, strict=True):
            if whole.count(resolved) > 1:
                return (
                    f"{option} {path} is given {whole.count(resolved)} times: expected "
                    "each once, leave the others out"
                )
    if len(frozenset(names)) < len(names):
        return f"--system {names}: expected each system once"
    return None


if __name__ == "__main__":
    typer.run(main)
