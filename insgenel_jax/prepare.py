"""Entry point: make a knowledge base, training documents and tokenizers.

python -m insgenel_jax.prepare wikipedia|entities|world ... --out DIR
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import rich
import rich.table
import typer
from rich.text import Text

from insgenel_jax import artifact, cli, mini_world
from insgenel_jax.kb import KnowledgeBase, knowledge_base
from insgenel_jax.kb.build import training_documents
from insgenel_jax.kb.build.entity_list import build_from_entities, read_entities
from insgenel_jax.kb.build.wikipedia import build_from_wikipedia
from insgenel_jax.kb.knowledge_base import Case
from insgenel_jax.text.document import Document, dumps
from insgenel_jax.text.formats.documents import read_documents, write_documents
from insgenel_jax.text.formats.rejects import Rejects
from insgenel_jax.tokenizer import train_bpe, train_wordpiece

PARTS = {  # artifacts in OUT, by kind
    "kb": knowledge_base.KIND,
    "train": training_documents.KIND,
    "tokenizers/generator": "tokenizer",
    "tokenizers/retriever": "tokenizer",
}
ENOUGH = 200_000  # texts, and titles, that a tokenizer is trained on

app = typer.Typer(add_completion=False, help=__doc__, no_args_is_help=True)

Out = Annotated[Path, typer.Option(help="Directory to write to.")]
CaseOption = Annotated[
    Case, typer.Option(help="Occurrences that link probabilities are counted over.")
]
Vocabulary = Annotated[int, typer.Option(min=300, help="Tokens of each tokenizer.")]


@app.command()
@cli.user_errors()
def wikipedia(
    input: Annotated[
        Path, typer.Option(help="WikiExtractor --links output, a file or folder.")
    ],
    out: Out,
    leads: Annotated[Path | None, typer.Option(help="JSONL of title and lead.")] = None,
    vocabulary: Vocabulary = 8192,
    case: CaseOption = "any",
    dev_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of pages held back.")
    ] = 0.01,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes.", show_default="all cores")
    ] = os.cpu_count() or 1,
) -> None:
    """Pages of Wikipedia with their links."""
    begin = time.perf_counter()
    cli.check_input(input, folder=True)
    if leads is not None:
        cli.check_input(leads)
    with _writing(out, [input, leads], ("dev.jsonl",)) as rejects:
        counts = build_from_wikipedia(
            input,
            out,
            rejects,
            leads=leads,
            case=case,
            dev_share=dev_share,
            workers=workers,
        )
        _train_tokenizers(out, vocabulary)
        _report(out, counts, rejects, begin)


@app.command()
@cli.user_errors()
def entities(
    input: Annotated[Path, typer.Option(help="Entity list, .jsonl or .csv.")],
    out: Out,
    documents: Annotated[
        Path | None,
        typer.Option(help="Labelled documents whose links are counted."),
    ] = None,
    case: CaseOption = "any",
) -> None:
    """An entity list of one's own: id, title, description, aliases."""
    begin = time.perf_counter()
    cli.check_input(input)
    if documents is not None:
        cli.check_input(documents)
    with _writing(out, [input, documents], (), ("kb",)) as rejects:
        labelled = [] if documents is None else list(read_documents(documents, rejects))
        listed = list(read_entities(input, rejects))
        counts = build_from_entities(
            out / "kb",
            [(entity, aliases) for entity, aliases, _ in listed],
            rejects,
            documents=labelled,
            case=case,
            source=str(input),
            lines=[line for _, _, line in listed],
        )
        _report(out, counts, rejects, begin)


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
    with _writing(out, [], ("dev.jsonl", "heldout.jsonl")) as rejects:
        train = mini_world.paragraphs("train", paragraphs)
        names = mini_world.aliases()
        counts = build_from_entities(
            out / "kb",
            [(entity, names.get(entity.title, ())) for entity in mini_world.entities()],
            rejects,
            documents=train,
        )
        counts["training documents"] = _write_training_documents(out, train)
        for split, count in (("dev", 200), ("heldout", 400)):
            counts[f"{split} documents"] = write_documents(
                out / f"{split}.jsonl", mini_world.paragraphs(split, count)
            )
        _train_tokenizers(out, vocabulary)
        _report(out, counts, rejects, begin)


@contextlib.contextmanager
def _writing(
    out: Path,
    inputs: Sequence[Path | None],
    files: Sequence[str],
    parts: Sequence[str] = tuple(PARTS),
) -> Iterator[Rejects]:
    """Refuse, before any work, an OUT that cannot take all of its files and artifacts.

    Yields the rejects file.
    """
    files = [out / name for name in (*files, "rejects.jsonl")]
    for path in files:
        cli.check_output(path)
    for name in parts:
        cli.check_target(out / name, PARTS[name])
    targets = [*files, *(out / name for name in parts)]
    cli.check_apart(targets, [path for path in inputs if path is not None])
    with cli.rejecting(out / "rejects.jsonl", rich.get_console()) as rejects:
        yield rejects


def _write_training_documents(out: Path, documents: Iterable[Document]) -> int:
    kind, version = training_documents.KIND, training_documents.VERSION
    with artifact.create(out / "train", kind, version) as draft:
        records = (dumps(document).encode() for document in documents)
        written = training_documents.write_shards(draft.path, records)
        draft.counts = {"documents": written}
        draft.made_from = {"knowledge-base": artifact.identity(out / "kb")}
    return written


def _train_tokenizers(out: Path, vocabulary: int) -> None:
    for name, train in (("generator", train_bpe), ("retriever", train_wordpiece)):
        train(_texts(out), vocabulary, out / "tokenizers" / name)


def _texts(out: Path) -> Iterator[str]:
    """Texts of training documents, then titles; enough of them, not all."""
    kb = KnowledgeBase.open(out / "kb")
    documents = training_documents.read_training_documents(out / "train")
    texts = (document.text for document in documents)
    yield from itertools.islice(texts, ENOUGH)
    yield from map(kb.title, range(min(len(kb), ENOUGH)))


def _report(out: Path, counts: dict[str, int], rejects: Rejects, begin: float) -> None:
    """Print what was made."""
    table = rich.table.Table("what", rich.table.Column("how many", justify="right"))
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    for reason, count in sorted(rejects.by_reason.items()):
        table.add_row(Text(f"rejected: {reason}"), f"{count:,}")
    for part in sorted(path for path in out.iterdir() if not path.name.startswith(".")):
        files = part.rglob("*") if part.is_dir() else [part]
        size = sum(file.stat().st_size for file in files if file.is_file())
        table.add_row(Text(f"{part.name}, MB"), f"{size / 1e6:,.1f}")
    table.add_row("seconds", f"{time.perf_counter() - begin:,.1f}")
    rich.print(table)


if __name__ == "__main__":
    app()
