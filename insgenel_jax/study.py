"""Entry point: studies of what a choice brings and costs.

python -m insgenel_jax.study coverage --linker DIR --documents FILE --out DIR
python -m insgenel_jax.study runtime --linker DIR --documents FILE --out DIR
python -m insgenel_jax.study decoding --linker DIR --documents FILE --out DIR
python -m insgenel_jax.study data --config FILE --linker DIR --documents FILE --out DIR
python -m insgenel_jax.study size --config FILE --linker DIR --documents FILE --out DIR
python -m insgenel_jax.study instruction --config FILE --linker DIR ... --out DIR
python -m insgenel_jax.study merging --out DIR
python -m insgenel_jax.study icl --linker DIR --model NAME --documents FILE --out DIR
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
from insgenel_jax.linker import bundled
from insgenel_jax.studies import surface_form_report
from insgenel_jax.studies.command import (
    Documents,
    OneConfig,
    OneLinker,
    Out,
    Redirects,
    Repeats,
    Settings,
    TrainSettings,
    begin,
    load_config,
    open_source,
    read_sets,
)
from insgenel_jax.studies.rows import check_plotting
from insgenel_jax.studies.surface_forms import Retrieve, study_surface_forms
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.rejects import InputError

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
    check_plotting()
    outputs = [out / name for name in ("surface_forms.json", "surface_forms.png")]
    outputs.append(out / "rejects.jsonl")
    cli.check_paths([*documents, redirects], [kb, linker], outputs)
    console = rich.get_console()
    with cli.rejecting(outputs[-1], console) as rejects, console.status("") as status:
        with cli.opening(kb, "knowledge base"):
            opened = KnowledgeBase.open(kb)
        table = {} if redirects is None else read_redirects(redirects, rejects)
        rows = study_surface_forms(
            opened,
            read_sets(documents, rejects),
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
    linker = bundled.locate(linker)
    cli.check_paths([documents, redirects], [linker, train], outputs)
    if train is not None:
        artifact.check(train, training_documents.KIND, training_documents.VERSION)
    settings = cli.parse_settings(set_ or [])
    cli.check_effect(settings, linker)

    from insgenel_jax.linker import Linker  # only now: they load JAX
    from insgenel_jax.studies import given_mention_report
    from insgenel_jax.studies.given_mentions import study_given_mentions

    console = rich.get_console()
    with cli.rejecting(outputs[-1], console) as rejects, console.status("") as status:
        (labelled,) = read_sets([documents], rejects).values()
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
    with begin("coverage", documents, [linker], out, redirects) as study:
        from insgenel_jax.studies.coverage import KS, study_coverage

        opened = study.open(linker, set_, calibrated=False)
        rows = study_coverage(
            opened, study.sets, study.resolve(opened.kb), k or KS, study.progress
        )
        lines = ("recall@k by window, %", "recall@k by chunk, %", "F1, %")
        study.write(rows, "k", lines, "documents")


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
    with begin("runtime", documents, linker, out) as study:
        from insgenel_jax.studies.runtime import study_runtime

        opened = ((str(path), study.open(path, set_)) for path in linker)
        rows = study_runtime(opened, study.sets, repeats, study.progress)
        lines = ("calls a document", "ms a document")
        study.write(rows, "parameters", lines, "documents")


@app.command()
@cli.user_errors()
def decoding(
    linker: OneLinker,
    documents: Documents,
    out: Out,
    way: Annotated[
        list[str] | None, typer.Option(help="A way to decode; repeatable. Else all.")
    ] = None,
    repeats: Repeats = 3,
    redirects: Redirects = None,
    set_: Settings = None,
) -> None:
    """Greedy, marginal, 2 and 6 beams, the tree of all titles: F1, calls, seconds."""
    with begin("decoding", documents, [linker], out, redirects) as study:
        from insgenel_jax.studies.decoding import WAYS, WHOLE, study_decoding

        opened = study.open(linker, set_, calibrated=False)
        resolve = study.resolve(opened.kb)
        rows = study_decoding(
            *(opened, study.sets, resolve),
            *(way or (*WAYS, WHOLE), repeats, study.progress),
        )
        study.write(rows, "decoding", ("F1, %", "calls", "seconds"), "documents")


@app.command()
@cli.user_errors()
def data(
    config: OneConfig,
    linker: OneLinker,
    documents: Documents,
    out: Out,
    share: Annotated[
        list[float] | None, typer.Option(help="Of the training pages; repeatable.")
    ] = None,
    redirects: Redirects = None,
    train_set: TrainSettings = None,
    set_: Settings = None,
) -> None:
    """Figure 2: generators trained on shares of the pages. OUT/train keeps them."""
    with begin("data", documents, [linker], out, redirects) as study:
        from insgenel_jax.studies.trained import SHARES, of_shares

        variants = of_shares(load_config(config, train_set), share or SHARES)
        rows = study.train(variants, linker, set_)
        study.write(rows, "data, %", ("F1, %", "steps"), "documents")


@app.command()
@cli.user_errors()
def size(
    config: Annotated[
        list[str], typer.Option(help="Config of a generator; repeatable, a size each.")
    ],
    linker: OneLinker,
    documents: Documents,
    out: Out,
    redirects: Redirects = None,
    train_set: TrainSettings = None,
    set_: Settings = None,
) -> None:
    """Figure 3: generators of several sizes, on the same data. OUT/train keeps them."""
    with begin("size", documents, [linker], out, redirects) as study:
        from insgenel_jax.studies.trained import of_sizes

        configs = {Path(name).name: load_config(name, train_set) for name in config}
        rows = study.train(of_sizes(configs), linker, set_)
        study.write(rows, "parameters", ("F1, %", "TFLOPs"), "documents")


@app.command()
@cli.user_errors()
def instruction(
    config: OneConfig,
    linker: OneLinker,
    documents: Documents,
    out: Out,
    also: Annotated[
        list[str] | None,
        typer.Option(
            help="One of several instructions; repeatable. Else the release's."
        ),
    ] = None,
    redirects: Redirects = None,
    train_set: TrainSettings = None,
    set_: Settings = None,
) -> None:
    """No instruction, one or several; the text in the prompt or not."""
    with begin("instruction", documents, [linker], out, redirects) as study:
        from insgenel_jax.studies.trained import RELEASE_INSTRUCTIONS, of_instructions

        variants = of_instructions(
            load_config(config, train_set), also or RELEASE_INSTRUCTIONS
        )
        rows = study.train(variants, linker, set_)
        study.write(rows, "instruction", ("F1, %",), "text in the prompt")


@app.command()
@cli.user_errors()
def merging(
    out: Out,
    texts: Annotated[int, typer.Option(min=1, help="Invented texts.")] = 200,
    noise: Annotated[
        list[float] | None, typer.Option(min=0, help="Of the oracle; repeatable.")
    ] = None,
) -> None:
    """Overlapping candidate mentions, decided together or one by one."""
    with begin("merging", [], [], out) as study:
        from insgenel_jax.studies.merging import study_merging

        noises = noise or (0.0, 0.25, 0.5)
        rows = study_merging(texts, noises=noises, progress=study.progress)
        study.write(rows, "noise", ("F1, %", "calls"), "way")


@app.command()
@cli.user_errors()
def icl(
    linker: OneLinker,
    documents: Documents,
    out: Out,
    model: Annotated[
        str, typer.Option(help="Model at the endpoint; else a model directory.")
    ],
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="OpenAI-compatible URL, with its key in the variable OPENAI_API_KEY."
        ),
    ] = None,
    redirects: Redirects = None,
    set_: Settings = None,
) -> None:
    """Table 2: INSGENEL-ICL, by what its prompt has. OUT keeps the answers."""
    with begin("icl", documents, [linker], out, redirects) as study:
        from insgenel_jax.icl import IclLinker
        from insgenel_jax.linker.search import open_search
        from insgenel_jax.studies.in_context import study_in_context

        source = open_source(endpoint, model)
        with cli.opening(linker, "linker"):
            kb, search = open_search(bundled.locate(linker))
        out.mkdir(parents=True, exist_ok=True)
        try:
            rows = study_in_context(
                lambda settings: IclLinker(
                    kb, source, search, settings, out / "answers.jsonl"
                ),
                study.sets,
                study.resolve(kb),
                cli.parse_settings(set_ or []),
                study.progress,
            )
        except (TypeError, ValueError) as error:
            raise InputError(f"{error}; fix --set or --model") from error
        study.write(rows, "prompt", ("F1, %", "failures"), "documents")


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
