"""Entry point: make a knowledge base, training documents and tokenizers.

python -m insgenel_jax.prepare wikipedia|entities|world ... --out DIR
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import rich
import rich.table
import typer

from insgenel_jax import artifact
from insgenel_jax.document import Document, dumps
from insgenel_jax.formats import Rejects, read_documents, write_documents
from insgenel_jax.kb import KnowledgeBase, training_documents, world
from insgenel_jax.kb.entity_list import build_from_entities, read_entities
from insgenel_jax.kb.knowledge_base import Case
from insgenel_jax.kb.wikipedia_build import build_from_wikipedia
from insgenel_jax.tokenizer import train_bpe, train_wordpiece

ENOUGH = 200_000  # texts, and titles, that a tokenizer is trained on

app = typer.Typer(add_completion=False, help=__doc__, no_args_is_help=True)

Out = Annotated[Path, typer.Option(help="Directory to write to.")]
CaseOption = Annotated[
    Case, typer.Option(help="Occurrences that link probabilities are counted over.")
]
Vocabulary = Annotated[int, typer.Option(min=300, help="Tokens of each tokenizer.")]


@app.command()
def wikipedia(
    input: Annotated[
        Path, typer.Option(exists=True, help="WikiExtractor --links output.")
    ],
    out: Out,
    leads: Annotated[
        Path | None, typer.Option(exists=True, help="JSONL of title and lead.")
    ] = None,
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
    with Rejects(out / "rejects.jsonl") as rejects:
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
def entities(
    input: Annotated[
        Path, typer.Option(exists=True, help="Entity list, .jsonl or .csv.")
    ],
    out: Out,
    documents: Annotated[
        Path | None,
        typer.Option(exists=True, help="Labelled documents whose links are counted."),
    ] = None,
    case: CaseOption = "any",
) -> None:
    """An entity list of one's own: id, title, description, aliases."""
    begin = time.perf_counter()
    with Rejects(out / "rejects.jsonl") as rejects:
        labelled = [] if documents is None else list(read_documents(documents, rejects))
        counts = build_from_entities(
            out / "kb",
            read_entities(input, rejects),
            rejects,
            documents=labelled,
            case=case,
        )
    _report(out, counts, rejects, begin)


@app.command(name="world")
def mini_world(
    out: Out,
    vocabulary: Vocabulary = 4096,
    paragraphs: Annotated[
        int, typer.Option(min=1, help="Training paragraphs to write.")
    ] = 20_000,
) -> None:
    """The mini world: a small knowledge base and labelled paragraphs."""
    begin = time.perf_counter()
    with Rejects(out / "rejects.jsonl") as rejects:
        train = world.paragraphs("train", paragraphs)
        names = world.aliases()
        counts = build_from_entities(
            out / "kb",
            [(entity, names.get(entity.title, ())) for entity in world.entities()],
            rejects,
            documents=train,
        )
        counts["training documents"] = _write_training_documents(out, train)
    for split, count in (("dev", 200), ("heldout", 400)):
        counts[f"{split} documents"] = write_documents(
            out / f"{split}.jsonl", world.paragraphs(split, count)
        )
    _train_tokenizers(out, vocabulary)
    _report(out, counts, rejects, begin)


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
    """Print what was made. Rejects show in the exit status: 3 where there are some."""
    table = rich.table.Table("what", rich.table.Column("how many", justify="right"))
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    for reason, count in sorted(rejects.by_reason.items()):
        table.add_row(f"rejected: {reason}", f"{count:,}")
    for part in sorted(path for path in out.iterdir() if not path.name.startswith(".")):
        files = part.rglob("*") if part.is_dir() else [part]
        size = sum(file.stat().st_size for file in files if file.is_file())
        table.add_row(f"{part.name}, MB", f"{size / 1e6:,.1f}")
    table.add_row("seconds", f"{time.perf_counter() - begin:,.1f}")
    rich.print(table)
    if rejects.count:
        rich.print(f"{rejects.count:,} rejected, see {rejects.path}")
        raise typer.Exit(3)


if __name__ == "__main__":
    app()
