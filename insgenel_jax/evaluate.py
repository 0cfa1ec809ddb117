"""Score linkers: python -m insgenel_jax.evaluate --linker DIR --documents FILE

Options that take several files, linkers or systems are given several times.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.status import Status
from rich.text import Text

from insgenel_jax import artifact, cli, evaluation, stopping
from insgenel_jax.evaluation import files, modes, report, scoring, systems, tuning
from insgenel_jax.evaluation.search import Sets
from insgenel_jax.evaluation.systems import PRIOR, System, Unopened
from insgenel_jax.kb.knowledge_base import KnowledgeBase
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


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A linker's directory, a system and settings to open it with; None for prior."""

    name: str
    path: Path | None
    system: str
    settings: Mapping[str, Any]


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
    check_paths(inputs, [*linkers, kb], [json, page, rejects], predictions, out)
    chosen = choose_systems(linkers, names, set_ or [], given)
    kb = linkers[0] / "kb" if kb is None and linkers else kb

    console = make_console()
    with (
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
        for warning in warn_of_tuning(sets, chosen, dev):
            console.print(Text(f"warning: {warning}", "yellow"), soft_wrap=True)
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


def open_systems(
    chosen: Sequence[Chosen],
    kb: KnowledgeBase | None,
    dev: Sets,
    redirects: Mapping[str, str] | None,
    verify: bool,
    given: bool,
    status: Status,
) -> Iterator[System | Unopened]:
    """Each system when its turn comes; linkers are opened when they have to link.

    kb: for the prior. given: linkers get the gold mentions.
    """
    for each in chosen:
        if each.path is not None:
            yield prepare_linker(each, redirects, verify, given)
        elif kb is not None:
            yield open_prior(kb, dev, scoring.make_resolve(redirects, kb), status)


def prepare_linker(
    chosen: Chosen, redirects: Mapping[str, str] | None, verify: bool, given: bool
) -> Unopened:
    """A linker of which only the knowledge base is open."""
    path = chosen.path or Path()
    kb = open_kb(path / "kb", verify)
    resolve = scoring.make_resolve(redirects, kb)
    settings = {"system": chosen.system, **chosen.settings}
    identity = artifact.identity(path)

    def open_linker() -> System:
        from insgenel_jax.linker import Linker  # only now: it loads JAX

        with cli.opening(path, "linker"):
            linker = Linker.from_pretrained(path, verify=verify, **settings)
        return evaluation.linker_system(
            linker, chosen.name, resolve=resolve, identity=identity, given=given
        )

    links = {**settings, "given": given}  # what they depend on
    return Unopened(
        chosen.name, open_linker, kb, resolve, systems.identify(identity, links)
    )


def open_kb(path: Path | None, verify: bool) -> KnowledgeBase | None:
    """The knowledge base at a path, if there is one; `verify` compares hashes."""
    if path is None:
        return None
    with cli.opening(path, "knowledge base"):
        return KnowledgeBase.open(path, verify=verify)


def open_prior(
    kb: KnowledgeBase, dev: Sets, resolve: scoring.Resolve, status: Status
) -> System:
    """The prior-only baseline, tuned; what tuning reached and chose is printed."""
    count = sum(map(len, dev.values()))
    status.update(f"tuning {PRIOR} on {count} documents")
    linker, tuned = tuning.tune_prior(kb, dev, scoring.same_entity(resolve))
    told = (
        f"{PRIOR}, tuned on {count} documents to a mean F1 of "
        f"{100 * tuned.calibrated.best.f1:.1f}: {tuned.settings}"
    )
    status.console.print(Text(told))
    return systems.as_prior_system(linker, tuned, resolve)


def choose_systems(
    linkers: Sequence[Path],
    names: Sequence[str],
    given: Sequence[str],
    spans: bool = False,
) -> list[Chosen]:
    """The systems to score, in the order of `names`: those of each linker, and prior.

    Without `names` each linker is the system that it says it is. given: settings.
    spans: linkers get the gold mentions. Raises InputError for settings, see
    `check_settings`.
    """
    chosen: list[Chosen] = []
    if (given or spans) and not linkers:
        check_settings(Path(), names, given, spans)
    own = {path: [n for n in names if n != PRIOR] or [] for path in linkers}
    for path in linkers:
        if not names:
            own[path] = [read_system(path)]
    settings = {path: check_settings(path, own[path], given, spans) for path in linkers}
    for name in names or [""]:
        if name == PRIOR:
            chosen.append(Chosen(PRIOR, None, PRIOR, {}))
            continue
        for path, label in zip(linkers, name_linkers(linkers), strict=True):
            system = name or own[path][0]
            several = len(own[path]) > 1
            label = f"{label} {system}" if several else label
            if len(linkers) == 1:
                label = system
            label = f"{label}, gold spans" if spans else label
            chosen.append(Chosen(label, path, system, settings[path][system]))
    return chosen


def read_system(path: Path) -> str:
    """The system that a linker's directory says it is. Raises InputError."""
    from insgenel_jax.linker.settings import Settings, read_settings  # it loads JAX

    if not (path / "linker.json").is_file():  # opening the linker says what is wrong
        return Settings.system
    with cli.opening(path, "linker"):
        return read_settings(path).system


def name_linkers(paths: Sequence[Path]) -> list[str]:
    """A name for each linker: its folder's, or its whole path where that is not new."""
    names = [path.parent.name if path.name == "linker" else path.name for path in paths]
    clear = all(names) and len(frozenset(names)) == len(names)
    return names if clear and PRIOR not in names else [str(path) for path in paths]


def check_paths(
    inputs: Sequence[Path | None],
    folders: Sequence[Path | None],
    outputs: Sequence[Path | None],
    predictions: Sequence[Path] = (),
    out: Path | None = None,
) -> None:
    """Refuse paths that cannot be read or written, before any work."""
    inputs, folders, outputs = (
        [path for path in paths if path is not None]
        for paths in (inputs, folders, outputs)
    )
    for path in inputs:
        cli.check_input(path)
    for path in predictions:
        cli.check_input(path, folder=True)
    for path in folders:
        artifact.read(path)
    for path in outputs:
        cli.check_output(path)
    cli.check_apart(outputs, [*inputs, *predictions, *folders])
    if out is not None:
        if out.exists() and not out.is_dir():
            raise InputError(f"{out}: expected a folder for --out, found a file")
        cli.check_parent(out)
        cli.check_apart([out], folders)


def check_settings(
    linker: Path, names: Sequence[str], given: Sequence[str], spans: bool = False
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
        whole = [path.resolve() for path in paths]
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
