"""Entry point: studies of what a choice brings and costs.

python -m insgenel_jax.study surface-forms --kb DIR --documents FILE --out DIR
python -m insgenel_jax.study given-mentions --linker DIR --documents FILE --out DIR
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import rich
import typer
from jaxtyping import Int
from rich.text import Text

from insgenel_jax import artifact, cli
from insgenel_jax.evaluation.files import read_redirects
from insgenel_jax.evaluation.scoring import make_resolve
from insgenel_jax.kb.build import training_documents
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.studies import surface_form_report
from insgenel_jax.studies.surface_forms import Retrieve, study_surface_forms
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import InputError, Rejects

app = typer.Typer(add_completion=False, help=__doc__, no_args_is_help=True)


@app.callback()
def main() -> None:
    """Studies of what a choice brings and costs."""


@app.command()
@cli.user_errors()
def surface_forms(
    kb: Annotated[Path, typer.Option(help="Knowledge base directory.")],
    documents: Annotated[
        list[Path], typer.Option(help="Labelled documents, JSONL; repeatable.")
    ],
    out: Annotated[Path, typer.Option(help="Directory to write to.")],
    redirects: Annotated[
        Path | None, typer.Option(help="TSV of alias and title, to find golds by.")
    ] = None,
    linker: Annotated[
        Path | None,
        typer.Option(
            help="Linker directory with this knowledge base: what its retriever keeps."
        ),
    ] = None,
) -> None:
    """Golds that are candidates, and candidates a mention, rule by rule."""
    surface_form_report.check_plotting()
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
    out: Annotated[Path, typer.Option(help="Directory to write to.")],
    train: Annotated[
        Path | None,
        typer.Option(help="Training documents, for bags of words; not those above."),
    ] = None,
    mentions: Annotated[
        int | None, typer.Option(min=1, help="The most mentions; whole documents.")
    ] = None,
    redirects: Annotated[
        Path | None, typer.Option(help="TSV of alias and title, to find golds by.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        cli.settings_option(cli.linker_settings),
    ] = None,
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
