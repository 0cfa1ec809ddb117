"""Score linkers: python -m insgenel_jax.evaluate --linker DIR --documents FILE

Options that take several files or systems are given several times.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from insgenel_jax import artifact, cli
from insgenel_jax.evaluation import baseline, report, scoring
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.lines import decode_lines
from insgenel_jax.text.formats.rejects import InputError, Rejects

PRIOR = "prior"
WIDTH = 120  # characters of a line in a log, where no terminal says how many


@dataclasses.dataclass(frozen=True)
class System:
    """Something that links documents.

    offer: the entities it may choose from, for each document and span. calls: how often
    the generator was called so far. timed: whether it links now, or did before.
    """

    name: str
    link: Callable[[Sequence[Document]], list[Document]]
    offer: Callable[[Sequence[Document]], list[scoring.Offered]] | None = None
    calls: Callable[[], int] | None = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    timed: bool = True


@cli.user_errors()
def main(
    documents: Annotated[
        list[Path], typer.Option(help="gold documents, JSONL; repeatable")
    ],
    linker: Annotated[Path | None, typer.Option(help="linker directory")] = None,
    system: Annotated[
        list[str] | None,
        typer.Option(help="insgenel-r, insgenel or prior; repeatable [insgenel-r]"),
    ] = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option(help="documents already linked, one file for each --documents"),
    ] = None,
    kb: Annotated[
        Path | None, typer.Option(help="knowledge base directory [the linker's]")
    ] = None,
    tune: Annotated[
        list[Path] | None,
        typer.Option(help="development documents for prior; repeatable"),
    ] = None,
    redirects: Annotated[
        Path | None, typer.Option(help="TSV of alias and title, to compare titles by")
    ] = None,
    titles: Annotated[
        Path | None, typer.Option(help="all titles there are, one a line")
    ] = None,
    set: Annotated[
        list[str] | None, typer.Option(help="linker setting, key=value; repeatable")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="compare the hash of every file first")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="write all numbers here")] = None,
    rejects: Annotated[
        Path | None,
        typer.Option(
            help="bad input [JSON.rejects.jsonl, evaluate.rejects.jsonl without --json]"
        ),
    ] = None,
) -> None:
    """Score systems on sets of labelled documents, side by side.

    Exit status: 0, or 3 when something was rejected.
    """
    names = system or (["insgenel-r"] if linker is not None else [])
    _check_options(documents, linker, kb, names, predictions, tune)
    if rejects is None:
        rejects = Path(f"{json or 'evaluate'}.rejects.jsonl")
    _check_paths(
        [*documents, *(predictions or []), *(tune or []), redirects, titles],
        [linker, kb],
        [json, rejects],
    )
    settings = _check_settings(linker, names, set or [])
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    with cli.rejecting(rejects, console) as rejected:
        sets = {
            name: _read(path, rejected)
            for name, path in zip(name_files(documents), documents, strict=True)
        }
        dev = [d for path in tune or [] for d in _read(path, rejected)]
        linked = [
            _read_predictions(path, golds, rejected)
            for path, golds in zip(predictions or [], sets.values(), strict=False)
        ]
        opened = None
        if part := linker / "kb" if kb is None and linker is not None else kb:
            with cli.opening(part, "knowledge base"):
                opened = KnowledgeBase.open(part, verify=verify)
        table = None if redirects is None else read_redirects(redirects, rejected)
        known = None if titles is None else read_titles(titles, rejected)
        resolve = scoring.make_resolve(table, opened)
        results: dict[str, list[report.Result]] = {name: [] for name in sets}

        def add(dataset: str, system: System) -> None:
            golds = sets[dataset]
            told = Text(f"{system.name} on {dataset}: {len(golds)} documents")
            with console.status(told):
                result = run(system, golds, opened, resolve, known)
            results[dataset].append(dataclasses.replace(result, dataset=dataset))

        for name in names:
            if name == PRIOR:
                with console.status(f"tuning {name} on {len(dev)} documents"):
                    running = open_prior(opened, dev, resolve)
                told = f"{name}, tuned on {len(dev)} documents: {running.settings}"
                console.print(Text(told))
            else:
                with cli.opening(linker, "linker"):
                    running = open_linker(linker, name, settings, verify)
            for dataset in sets:
                add(dataset, running)
        for dataset, name, found in zip(
            sets, name_files(predictions or [], names), linked, strict=False
        ):
            add(dataset, System(name, lambda _, found=found: found, timed=False))
        flat = [result for rows in results.values() for result in rows]
        comparisons = [
            report.Comparison(
                rows[0].dataset,
                rows[0].system,
                other.system,
                scoring.compare(rows[0].scores, other.scores),
            )
            for rows in results.values()
            for other in rows[1:]
        ]
        console.print(report.score_table(flat))
        console.print(report.cost_table(flat))
        if opened is not None:
            console.print(report.loss_table(flat))
        if comparisons:
            console.print(report.comparison_table(comparisons))
        if json is not None:
            report.write_json(json, flat, comparisons)


def run(
    system: System,
    golds: Sequence[Document],
    kb: KnowledgeBase | None,
    resolve: scoring.Resolve,
    titles: frozenset[str] | None,
) -> report.Result:
    """Link the documents without their labels, and score what comes back."""
    bare = [dataclasses.replace(document, mentions=()) for document in golds]
    calls = system.calls() if system.calls else 0
    began = time.perf_counter()
    linked = system.link(bare)
    seconds = time.perf_counter() - began
    calls = system.calls() - calls if system.calls else None
    same = scoring.same_entity(resolve)
    within = losses = None
    if kb is not None:
        within = scoring.score(
            golds,
            linked,
            same=same,
            titles=titles,
            within=lambda m: scoring.find_entity(m, kb, resolve) is not None,
        )
        real = golds
        if titles is not None:
            real = scoring.make_nil(golds, lambda m: scoring.is_gone(m, titles))
        offered = system.offer(bare) if system.offer else None
        losses = scoring.count_losses(real, linked, kb, resolve, offered)
    return report.Result(
        dataset="",
        system=system.name,
        scores=scoring.score(golds, linked, same=same, titles=titles),
        within=within,
        losses=losses,
        seconds=seconds if system.timed else None,
        calls=calls,
        settings=system.settings,
    )


def open_linker(
    path: Path, name: str, settings: dict[str, Any], verify: bool = False
) -> System:
    """INSGENEL or INSGENEL-R from a linker directory; `verify` compares hashes."""
    from insgenel_jax.linker import Linker

    linker = Linker.from_pretrained(path, verify=verify, system=name, **settings)

    def offer(documents: Sequence[Document]) -> list[scoring.Offered]:
        return [
            {(c.start, c.end): frozenset(c.entities.tolist()) for c in candidates}
            for candidates in linker.candidates(documents)
        ]

    return System(
        name,
        linker,
        offer,
        lambda: linker.stats["calls"],
        dataclasses.asdict(linker.settings),
    )


def open_prior(
    kb: KnowledgeBase, dev: Sequence[Document], resolve: scoring.Resolve
) -> System:
    """The prior-only baseline, tuned."""
    tuned = baseline.tune(kb, dev, scoring.same_entity(resolve))
    settings = {
        "case": tuned.case,
        "min_link_probability": tuned.min_link_probability,
    }
    return System(PRIOR, tuned, settings=settings)


def read_redirects(path: Path, rejects: Rejects) -> dict[str, str]:
    """alias -> title from lines "alias<TAB>title"; others go to `rejects`."""
    table = {}
    for number, line in decode_lines(path, rejects):
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) == 2 and all(fields):
            table[fields[0]] = fields[1]
        elif line.strip():
            rejects.add(str(path), number, "not an alias, a tab and a title", line)
    return table


def read_titles(path: Path, rejects: Rejects) -> frozenset[str]:
    """The folded titles of a file, one a line."""
    lines = (scoring.fold_title(line) for _, line in decode_lines(path, rejects))
    return frozenset(title for title in lines if title)


def name_files(paths: Sequence[Path], taken: Sequence[str] = ()) -> list[str]:
    """A name for each file: its stem, or the path where stems leave some in doubt."""
    stems = [path.stem for path in paths]
    clear = len(frozenset(stems)) == len(stems) and frozenset(taken).isdisjoint(stems)
    return stems if clear else [str(path) for path in paths]


def _read(path: Path, rejects: Rejects) -> list[Document]:
    documents = list(read_documents(path, rejects))
    if not documents:
        raise InputError(
            f"{path}: expected labelled documents, one a line, found none that can be "
            "read; check the file"
        )
    return documents


def _read_predictions(
    path: Path, golds: Sequence[Document], rejects: Rejects
) -> list[Document]:
    documents = list(read_documents(path, rejects))
    try:  # before any system runs
        scoring.pair_documents(golds, documents)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return documents


def _check_paths(files, folders, outputs) -> None:
    """Refuse paths that cannot be read or written, before any work."""
    files, folders, outputs = (
        [path for path in paths if path is not None]
        for paths in (files, folders, outputs)
    )
    for path in files:
        cli.check_input(path)
    for path in folders:
        artifact.read(path)
    for path in outputs:
        cli.check_output(path)
    cli.check_apart(outputs, files + folders)


def _check_settings(
    linker: Path | None, names: Sequence[str], given: Sequence[str]
) -> dict[str, Any]:
    """The linker's settings of --set, and the systems, known to be good."""
    settings = cli.parse_settings(given)
    systems = [name for name in names if name != PRIOR]
    if settings and not systems:
        raise InputError(
            f"--set {given[0]}: expected a system that has settings, found"
            f" {names}; give --linker or leave --set out"
        )
    if "system" in settings:
        raise InputError("--set system: expected --system, which chooses it")
    for name in systems:
        cli.check_settings(settings | {"system": name}, linker)
    return settings


def _check_options(documents, linker, kb, names, predictions, tune) -> None:
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
