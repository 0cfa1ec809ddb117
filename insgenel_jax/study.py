"""Entry point: studies of what a choice brings and costs.

python -m insgenel_jax.study coverage --linker DIR --documents FILE --out DIR
python -m insgenel_jax.study runtime --linker DIR --documents FILE --out DIR
python -m insgenel_jax.study decoding --linker DIR --documents FILE --out DIR
python -m insgenel_jax.study surface-forms --kb DIR --documents FILE --out DIR
python -m insgenel_jax.study given-mentions --linker DIR --documents FILE --out DIR
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import rich
import typer
from jaxtyping import Int
from rich.text import Text

from insgenel_jax import artifact, cli
from insgenel_jax.evaluation.files import read_redirects
from insgenel_jax.evaluation.scoring import Resolve, make_resolve
from insgenel_jax.kb.build import training_documents
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.linker import bundled
from insgenel_jax.studies import rows as report
from insgenel_jax.studies import surface_form_report
from insgenel_jax.studies.surface_forms import Retrieve, study_surface_forms
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import InputError, Rejects

if TYPE_CHECKING:  # it loads JAX
    from insgenel_jax.linker import Linker

Documents = Annotated[
    list[Path], typer.Option(help="Labelled documents, JSONL; repeatable.")
]
Out = Annotated[Path, typer.Option(help="Directory to write to.")]
Redirects = Annotated[
    Path | None, typer.Option(help="TSV of alias and title, to find golds by.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Linker setting, key=value; repeatable."),
]
OneLinker = Annotated[Path, typer.Option(help="Linker directory.")]
Repeats = Annotated[int, typer.Option(min=1, help="Timed runs, of which the median.")]

app = typer.Typer(add_completion=False, help=__doc__, no_args_is_help=True)


@app.callback()
def main() -> None:
    """Studies of what a choice brings and costs."""


@app.command()
@cli.user_errors()
def surface_forms(
    kb: Annotated[Path, typer.Option(help="Knowledge base directory.")],
    documents: Documents,
    out: Out,
    redirects: Redirects = None,
    linker: Annotated[
        Path | None,
        typer.Option(
            help="Linker directory with this knowledge base: what its retriever keeps."
        ),
    ] = None,
) -> None:
    """Golds that are candidates, and candidates a mention, rule by rule."""
    report.check_plotting()
    outputs = [out / name for name in ("surface_forms.json", "surface_forms.png")]
    outputs.append(out / "rejects.jsonl")
    inputs = [*documents, *([] if redirects is None else [redirects])]
    for path in inputs:
        cli.check_input(path)
    folders = [kb, *([] if linker is None else [linker])]
    for path in folders:
        artifact.read(path)
    for path in outputs:
        cli.check_output(path)
    cli.check_apart(outputs, [*inputs, *folders])
    console = rich.get_console()
    with cli.rejecting(outputs[-1], console) as rejects, console.status("") as status:
        with cli.opening(kb, "knowledge base"):
            opened = KnowledgeBase.open(kb)
        table = {} if redirects is None else read_redirects(redirects, rejects)
        rows = study_surface_forms(
            opened,
            _read_sets(documents, rejects),
            make_resolve(table, opened),
            retrieve=None if linker is None else _open_retriever(linker, opened),
            progress=lambda message: status.update(Text(message)),
        )
        for shown in surface_form_report.make_tables(rows):
            console.print(shown)
        out.mkdir(parents=True, exist_ok=True)
        surface_form_report.write_json(outputs[0], rows)
        surface_form_report.draw(outputs[1], rows)


@app.command()
@cli.user_errors()
def given_mentions(
    linker: Annotated[Path, typer.Option(help="Linker directory.")],
    documents: Annotated[Path, typer.Option(help="Labelled documents, JSONL.")],
    out: Out,
    train: Annotated[
        Path | None,
        typer.Option(help="Training documents, for bags of words; not those above."),
    ] = None,
    mentions: Annotated[
        int | None, typer.Option(min=1, help="The most mentions; whole documents.")
    ] = None,
    redirects: Redirects = None,
    set_: Settings = None,
) -> None:
    """How well prior, retriever and generator choose entities of given mentions."""
    outputs = [out / name for name in ("given_mentions.json", "rejects.jsonl")]
    inputs = [documents, *([] if redirects is None else [redirects])]
    for path in inputs:
        cli.check_input(path)
    artifact.read(linker)
    if train is not None:
        inputs.append(train)
        artifact.check(train, training_documents.KIND, training_documents.VERSION)
    for path in outputs:
        cli.check_output(path)
    cli.check_apart(outputs, [*inputs, linker])
    settings = cli.parse_settings(set_ or [])
    cli.check_effect(settings, linker)

    from insgenel_jax.linker import Linker  # only now: they load JAX
    from insgenel_jax.studies import given_mention_report
    from insgenel_jax.studies.given_mentions import study_given_mentions

    console = rich.get_console()
    with cli.rejecting(outputs[-1], console) as rejects, console.status("") as status:
        (labelled,) = _read_sets([documents], rejects).values()
        with cli.opening(linker, "linker"):
            opened = Linker.from_pretrained(linker, calibrated=False, **settings)
        table = {} if redirects is None else read_redirects(redirects, rejects)
        study = study_given_mentions(
            opened,
            labelled,
            make_resolve(table, opened.kb),
            train=None
            if train is None
            else training_documents.read_training_documents(train),
            most=mentions,
            progress=lambda message: status.update(Text(message)),
        )
        for shown in given_mention_report.make_tables(study):
            console.print(shown)
        for feature, reason in study.skipped.items():
            console.print(Text(f"skipped: {feature}, because {reason}"))
        out.mkdir(parents=True, exist_ok=True)
        given_mention_report.write_json(outputs[0], study)


@app.command()
@cli.user_errors()
def coverage(
    linker: OneLinker,
    documents: Documents,
    out: Out,
    k: Annotated[
        list[int] | None, typer.Option(min=1, help="Entities a window; repeatable.")
    ] = None,
    redirects: Redirects = None,
    set_: Settings = None,
) -> None:
    """Table 3: what the retriever finds and how good the linker is, for each k."""
    with _begin("coverage", documents, [linker], out, redirects) as begun:
        from insgenel_jax.studies.coverage import KS, study_coverage

        opened = begun.open(linker, set_, calibrated=False)
        rows = study_coverage(
            opened, begun.sets, begun.resolve(opened.kb), k or KS, begun.progress
        )
        lines = ("recall@k by window, %", "recall@k by chunk, %", "F1, %")
        begun.write(rows, "k", lines, "documents")


@app.command()
@cli.user_errors()
def runtime(
    linker: Annotated[
        list[Path], typer.Option(help="Linker directory; repeatable, a size each.")
    ],
    documents: Documents,
    out: Out,
    repeats: Repeats = 3,
    set_: Settings = None,
) -> None:
    """Table 4: calls, choices, tokens and seconds of linkers, retrieval included."""
    with _begin("runtime", documents, linker, out) as begun:
        from insgenel_jax.studies.runtime import study_runtime

        opened = ((str(path), begun.open(path, set_)) for path in linker)
        rows = study_runtime(opened, begun.sets, repeats, begun.progress)
        lines = ("calls a document", "ms a document")
        begun.write(rows, "parameters", lines, "documents")


@app.command()
@cli.user_errors()
def decoding(
    linker: OneLinker,
    documents: Documents,
    out: Out,
    repeats: Repeats = 3,
    redirects: Redirects = None,
    set_: Settings = None,
) -> None:
    """Greedy, marginal, 2 and 6 beams, the tree of all titles: F1, calls, seconds."""
    with _begin("decoding", documents, [linker], out, redirects) as begun:
        from insgenel_jax.studies.decoding import study_decoding

        opened = begun.open(linker, set_, calibrated=False)
        resolve = begun.resolve(opened.kb)
        rows = study_decoding(opened, begun.sets, resolve, repeats, begun.progress)
        begun.write(rows, "decoding", ("F1, %", "calls", "seconds"), "documents")


class _Begun(NamedTuple):
    """A study whose inputs are read: where it writes to, and how it goes on."""

    name: str
    sets: Mapping[str, Sequence[Document]]
    redirects: Mapping[str, str]
    out: Path
    progress: report.Progress

    def open(
        self, path: Path, set_: Sequence[str] | None, *, calibrated: bool = True
    ) -> Linker:
        """A linker with some settings."""
        from insgenel_jax.linker import Linker  # only now: it loads JAX

        settings = cli.parse_settings(set_ or [])
        with cli.opening(path, "linker"):
            return Linker.from_pretrained(path, calibrated=calibrated, **settings)

    def resolve(self, kb: KnowledgeBase) -> Resolve:
        """What a gold's title stands for."""
        return make_resolve(dict(self.redirects), kb)

    def write(
        self, rows: Sequence[report.Row], x: str, lines: Sequence[str], line: str
    ) -> None:
        """Print the rows, and write them as JSON and as a figure, see `rows.draw`."""
        rich.get_console().print(report.make_table(self.name, rows))
        self.out.mkdir(parents=True, exist_ok=True)
        report.write_json(self.out / f"{self.name}.json", rows)
        report.draw(self.out / f"{self.name}.png", rows, x, lines, line)


@contextlib.contextmanager
def _begin(
    name: str,
    documents: Sequence[Path],
    linkers: Sequence[Path],
    out: Path,
    redirects: Path | None = None,
) -> Iterator[_Begun]:
    """Check the paths of a study, and read its documents.

    Raises InputError, also for documents without a gold. Bad lines are rejected.
    """
    report.check_plotting()
    outputs = [out / f"{name}.json", out / f"{name}.png", out / "rejects.jsonl"]
    inputs = [*documents, *([] if redirects is None else [redirects])]
    for path in inputs:
        cli.check_input(path)
    folders = [bundled.locate(path) for path in linkers]
    for path in folders:
        artifact.read(path)
    for path in outputs:
        cli.check_output(path)
    cli.check_apart(outputs, [*inputs, *folders])
    console = rich.get_console()
    with cli.rejecting(outputs[-1], console) as rejects, console.status("") as status:
        table = {} if redirects is None else read_redirects(redirects, rejects)
        sets = {
            Path(path).stem: documents
            for path, documents in _read_sets(documents, rejects).items()
        }
        yield _Begun(name, sets, table, out, lambda told: status.update(Text(told)))


def _read_sets(paths: Sequence[Path], rejects: Rejects) -> dict[str, list[Document]]:
    """The labelled documents of each file, by the file's path.

    Raises InputError for a file without a single gold.
    """
    sets = {}
    for path in paths:
        documents = list(read_documents(path, rejects))
        if not any(m.entity is not None for d in documents for m in d.mentions):
            raise InputError(
                f"{path}: expected documents with labelled mentions, found none of "
                f"these in {len(documents)} documents; give another file"
            )
        sets[str(path)] = documents
    return sets


def _open_retriever(path: Path, kb: KnowledgeBase) -> Retrieve:
    """A function from documents to what a linker's retriever finds for each of them.

    Raises InputError for a linker with another knowledge base.
    """
    from insgenel_jax.linker import Linker  # only now: it loads JAX
    from insgenel_jax.retrieval.scope import retrieve

    with cli.opening(path, "linker"):
        linker = Linker.from_pretrained(path, system="insgenel-r")
    if linker.kb.identity != kb.identity:
        raise InputError(
            f"{path}: expected a linker with the knowledge base {kb.path}, found "
            f"another; give --kb {path / 'kb'}"
        )

    def of_documents(
        documents: Sequence[Document],
    ) -> list[Int[np.ndarray, " R"]]:
        found = retrieve(
            linker.retriever,
            linker.index,
            [document.text for document in documents],
            top_k=linker.settings.top_k,
        )
        return [np.unique(windows.entities) for windows in found]

    return of_documents


if __name__ == "__main__":
    app()
