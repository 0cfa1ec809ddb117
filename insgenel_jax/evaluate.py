"""Score linkers: python -m insgenel_jax.evaluate --linker DIR --documents FILE

Options that take several files or systems are given several times.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.status import Status
from rich.text import Text

from insgenel_jax import artifact, cli, evaluation
from insgenel_jax.evaluation import files, report, scoring
from insgenel_jax.evaluation.run import PRIOR, System
from insgenel_jax.evaluation.search import Sets
from insgenel_jax.evaluation.tuning import hash_sets, overlaps
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.linker.bundled import locate
from insgenel_jax.text.formats.rejects import InputError

SYSTEMS = {"insgenel-r", "insgenel", PRIOR}
WIDTH = 120  # characters of a line in a log, where no terminal says how many

Documents = Annotated[
    list[Path], typer.Option(help="Labelled documents, JSONL; repeatable.")
]
LinkerPath = Annotated[
    Path | None,
    typer.Option(help="Linker directory; nano is the one that comes with the package."),
]
Names = Annotated[
    list[str] | None,
    typer.Option(help="insgenel-r (the default), insgenel or prior; repeatable."),
]
Linked = Annotated[
    list[Path] | None,
    typer.Option(help="Documents linked already, one file for each --documents."),
]
KB = Annotated[
    Path | None, typer.Option(help="Knowledge base directory; else the linker's.")
]
Tune = Annotated[
    list[Path] | None,
    typer.Option(help="Labelled documents to tune prior on; repeatable."),
]
Redirects = Annotated[
    Path | None, typer.Option(help="TSV of alias and title, to compare titles by.")
]
Titles = Annotated[Path | None, typer.Option(help="All titles that exist, one a line.")]
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
    kb: KB = None,
    tune: Tune = None,
    redirects: Redirects = None,
    titles: Titles = None,
    set_: Settings = None,
    verify: Verify = False,
    given: Given = False,
    json: Json = None,
    rejects: RejectsPath = None,
) -> None:
    """Score systems on sets of labelled documents, side by side.

    Exit status: 0, or 3 when something was rejected.
    """
    names = system or (["insgenel-r"] if linker is not None else [])
    predictions, tune = predictions or [], tune or []
    check_options(documents, linker, kb, names, predictions, tune)
    linker = None if linker is None else locate(linker)
    if rejects is None:
        rejects = Path(f"{json or 'evaluate'}.rejects.jsonl")
    inputs = [*documents, *predictions, *tune, redirects, titles]
    check_paths(inputs, [linker, kb], [json, rejects])
    settings = check_settings(linker, names, set_ or [], given)

    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    with cli.rejecting(rejects, console) as rejected, console.status("") as status:
        sets = files.read_sets(documents, rejected)
        dev = files.read_sets(tune, rejected)
        linked = files.read_predictions(predictions, sets, names, rejected)
        opened = open_kb(linker / "kb" if kb is None and linker else kb, verify)
        table = None if redirects is None else files.read_redirects(redirects, rejected)
        known = None if titles is None else files.read_titles(titles, rejected)
        resolve = scoring.make_resolve(table, opened)
        for warning in warn_of_tuning(sets, linker, names, dev):
            console.print(Text(f"warning: {warning}", "yellow"), soft_wrap=True)
        evaluated = evaluation.run(
            sets,
            (  # one at a time: each is opened when the one before it has linked all
                open_prior(opened, dev, resolve, status)
                if name == PRIOR
                else open_linker(linker, name, settings[name], verify, given)
                for name in names
            ),
            linked,
            kb=opened,
            resolve=resolve,
            titles=known,
            progress=lambda message: status.update(Text(message)),
        )
        for shown in report.make_tables(evaluated):
            console.print(shown)
        if json is not None:
            report.write_json(json, evaluated)


def warn_of_tuning(
    sets: Sets, linker: Path | None, names: Sequence[str], dev: Sets
) -> list[str]:
    """A sentence for each set with documents that a system was tuned on."""
    told = []
    if linker is not None and any(name != PRIOR for name in names):
        from insgenel_jax.linker.tuned import read_tuned_on  # it loads JAX

        found = overlaps(sets, read_tuned_on(linker))
        told += [f"the linker {linker}: {sentence}" for sentence in found]
    if PRIOR in names:
        found = overlaps(sets, hash_sets(dev))
        told += [f"{PRIOR}: {sentence}" for sentence in found]
    return told


def open_kb(path: Path | None, verify: bool) -> KnowledgeBase | None:
    """The knowledge base at a path, if there is one; `verify` compares hashes."""
    if path is None:
        return None
    with cli.opening(path, "knowledge base"):
        return KnowledgeBase.open(path, verify=verify)


def open_linker(
    path: Path, name: str, settings: dict[str, Any], verify: bool, given: bool
) -> System:
    """INSGENEL or INSGENEL-R from a linker directory; `verify` compares hashes.

    given: it gets the gold mentions.
    """
    from insgenel_jax.linker import Linker  # only now: it loads JAX

    with cli.opening(path, "linker"):
        linker = Linker.from_pretrained(path, verify=verify, system=name, **settings)
    return evaluation.linker_system(linker, given=given)


def open_prior(
    kb: KnowledgeBase, dev: Sets, resolve: scoring.Resolve, status: Status
) -> System:
    """The prior-only baseline, tuned; the settings that tuning chose are printed."""
    count = sum(map(len, dev.values()))
    status.update(f"tuning {PRIOR} on {count} documents")
    system = evaluation.prior_system(kb, dev, resolve)
    told = f"{PRIOR}, tuned on {count} documents: {system.settings}"
    status.console.print(Text(told))
    return system


def check_paths(
    inputs: Sequence[Path | None],
    folders: Sequence[Path | None],
    outputs: Sequence[Path | None],
) -> None:
    """Refuse paths that cannot be read or written, before any work."""
    inputs, folders, outputs = (
        [path for path in paths if path is not None]
        for paths in (inputs, folders, outputs)
    )
    for path in inputs:
        cli.check_input(path)
    for path in folders:
        artifact.read(path)
    for path in outputs:
        cli.check_output(path)
    cli.check_apart(outputs, inputs + folders)


def check_settings(
    linker: Path | None, names: Sequence[str], given: Sequence[str], spans: bool = False
) -> dict[str, dict[str, Any]]:
    """The settings of --set that have an effect, for each of the linker's systems.

    spans: these get the gold mentions. Raises InputError for a bad setting, for one
    that changes none of the systems, and for a bad system.
    """
    settings = cli.parse_settings(given)
    systems = [name for name in names if name != PRIOR]
    if spans and not systems:
        raise InputError(
            f"--given: expected a linker, which links the gold mentions, found {names};"
            " give --linker or leave it out"
        )
    if settings and not systems:
        raise InputError(
            f"--set {given[0]}: expected a system that has settings, found"
            f" {names}; give --linker or leave --set out"
        )
    if "system" in settings:
        raise InputError("--set system: expected --system, which chooses it")
    useless = {
        name: cli.check_settings(settings | {"system": name}, linker, given=spans)
        for name in systems
    }
    for setting in settings:
        needed = [needs[setting] for needs in useless.values() if setting in needs]
        if needed and len(needed) == len(systems):
            raise InputError(
                f"--set {setting}: no effect on {systems}, it needs {needed[0]}; leave "
                "it out or set what it needs"
            )
    return {
        name: {k: v for k, v in settings.items() if k not in useless[name]}
        for name in systems
    }


def check_options(
    documents: Sequence[Path],
    linker: Path | None,
    kb: Path | None,
    names: Sequence[str],
    predictions: Sequence[Path],
    tune: Sequence[Path],
) -> None:
    """Refuse options that do not go together. Raises typer.BadParameter."""
    problem = None
    whole = [path.resolve() for path in documents]
    twice = [p for p, w in zip(documents, whole, strict=True) if whole.count(w) > 1]
    if twice:
        problem = (
            f"--documents {twice[0]} is given {len(twice)} times: expected each file "
            "once, leave the others out"
        )
    elif len(frozenset(names)) < len(names):
        problem = f"--system {names}: expected each system once"
    elif not names and not predictions:
        problem = "expected --linker, --system or --predictions: nothing to score"
    elif predictions and len(predictions) != len(documents):
        problem = (
            f"expected one --predictions for each of {len(documents)} --documents, "
            f"found {len(predictions)}"
        )
    elif unknown := sorted(set(names) - SYSTEMS):
        problem = f"--system {unknown}: expected some of {sorted(SYSTEMS)}"
    elif linker is None and any(name != PRIOR for name in names):
        problem = f"--system {names} expects --linker"
    elif PRIOR in names and linker is None and kb is None:
        problem = "--system prior expects --kb or --linker"
    elif PRIOR in names and not tune:
        problem = "--system prior expects --tune: documents to choose its settings on"
    if problem:
        raise typer.BadParameter(problem)


if __name__ == "__main__":
    typer.run(main)
