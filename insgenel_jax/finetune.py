"""Entry point: fine-tune a linker on labelled documents of one's own.

python -m insgenel_jax.finetune --linker DIR --documents FILE --out DIR
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from insgenel_jax import artifact, cli, lock
from insgenel_jax.kb.build.own_documents import write_own_documents
from insgenel_jax.linker.bundled import locate
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import FormatName, read_documents
from insgenel_jax.text.formats.rejects import InputError, Rejects

if TYPE_CHECKING:
    from insgenel_jax.evaluation.scoring import PrecisionRecall
    from insgenel_jax.linker import Linker

Documents = Annotated[Path, typer.Option(help="labelled documents, in any format")]
Out = Annotated[Path, typer.Option(help="linker directory to write")]
Workdir = Annotated[
    Path | None,
    typer.Option(
        help="checkpoints; the same command goes on", show_default="OUT.training"
    ),
]
HeldBack = Annotated[
    float, typer.Option(help="share of the documents that is scored, not trained on")
]
How = Annotated[
    Literal["lora", "full"], typer.Option(help="train additions, or all parameters")
]
Format = Annotated[
    FormatName | None, typer.Option(help="of the documents", show_default="by ending")
]


@cli.user_errors(ValueError)
def main(
    linker: Annotated[Path, typer.Option(help="linker directory to begin with")],
    documents: Documents,
    out: Out,
    workdir: Workdir = None,
    held_back: HeldBack = 0.2,
    how: How = "lora",
    epochs: Annotated[float, typer.Option(help="passes over the documents")] = 3.0,
    learning_rate: Annotated[
        float | None, typer.Option(help="peak", show_default="1e-3; full: 2e-5")
    ] = None,
    format: Format = None,
    seed: Annotated[int, typer.Option(help="of shuffling and of LoRA")] = 0,
) -> None:
    """Train a linker's generator further, score it before and after, write a linker.

    The new linker has the knowledge base, retriever, index and settings of the old one,
    but no calibrator: `insgenel tune` fits one. Exit status: 0; 2 for what you have to
    fix; 3 when bad input was left out, see WORKDIR/rejects.jsonl.
    """
    if not 0 < held_back < 1:
        raise typer.BadParameter(f"--held-back {held_back}: expected a share below 1")
    if epochs <= 0:
        raise typer.BadParameter(f"--epochs {epochs:g}: expected more than 0")
    linker, workdir = locate(linker), workdir or Path(f"{out}.training")
    artifact.read(linker)
    cli.check_input(documents)
    cli.check_target(out, "linker")
    cli.check_apart([out, workdir], [linker, documents])
    console = Console()
    with lock.hold(workdir), cli.rejecting(workdir / "rejects.jsonl", console) as bad:
        labelled = list(read_documents(documents, bad, format=format))
        parts = split_documents(labelled, held_back)
        rate = learning_rate or (1e-3 if how == "lora" else 2e-5)
        training = Training(how, epochs, rate, seed)
        finetune(linker, parts, out, workdir, training, bad, console)


def split_documents(
    documents: Sequence[Document], held_back: float
) -> tuple[list[Document], list[Document]]:
    """Documents to train on, and those held back: the first by a hash of their ids.

    A document without a label is in neither. Raises InputError where one side is empty.
    """

    def place(document: Document) -> bytes:
        return hashlib.blake2b(document.id.encode(), digest_size=8).digest()

    labelled = [d for d in documents if any(m.entity for m in d.mentions)]
    labelled.sort(key=place)
    count = max(round(held_back * len(labelled)), 1)
    if count >= len(labelled):
        raise InputError(
            f"expected documents to train on and some to hold back, found "
            f"{len(labelled)} with labels and --held-back {held_back:g}; give more"
        )
    return labelled[count:], labelled[:count]


class Training(NamedTuple):
    """How the generator is trained."""

    how: str
    epochs: float
    learning_rate: float
    seed: int


def finetune(
    path: Path,
    parts: tuple[list[Document], list[Document]],
    out: Path,
    workdir: Path,
    training: Training,
    rejects: Rejects,
    console: Console,
) -> None:
    """Train on the first part, score on the second, and write the new linker."""
    from insgenel_jax.generator import load_generator
    from insgenel_jax.linker import Linker, assemble

    train, held = parts
    with cli.opening(path, "linker"):
        before = Linker.from_pretrained(path)
    counts = write_own_documents(workdir / "documents", train, before.kb)
    for name, count in counts.items():
        console.print(f"{name}: {count:,}", highlight=False)
    scores = {"before": score_held_back(before, held)}
    show_scores(console, len(held), scores)
    model = train_further(before, path, workdir, training, rejects)
    # what a calibrator was fitted to is gone, and a threshold of its scores with it
    settings = dataclasses.replace(before.settings, threshold=0.0)
    generator = load_generator(model, dtype=settings.dtype)
    after = Linker(generator, before.kb, before.retriever, before.index, settings)
    scores["after"] = score_held_back(after, held)
    show_scores(console, len(held), scores)
    others = {
        name: path / name for name in ("retriever", "index") if (path / name).is_dir()
    }
    assemble(
        out,
        generator=model,
        kb=path / "kb",
        settings=dataclasses.asdict(settings),
        card=make_card(len(train), len(held), training, scores),
        **others,
    )
    console.print(Text(f"linker: {out}"))


def train_further(
    linker: Linker, path: Path, workdir: Path, training: Training, rejects: Rejects
) -> Path:
    """Train a linker's generator on WORKDIR/documents; the new one's directory."""
    from insgenel_jax.training import adapt, run

    settings = linker.settings
    config = adapt.adapting_config(
        linker.generator,
        path / "generator",
        workdir / "documents",
        path / "kb",
        lora=training.how == "lora",
        epochs=training.epochs,
        learning_rate=training.learning_rate,
        prior_weight=settings.prior_weight,
        max_candidates=settings.max_candidates or 0,
        seed=training.seed,
    )
    made_from = run.begin(config, workdir / "run")
    run.train(config, workdir / "run", made_from, rejects)
    return workdir / "run" / "model"


def make_card(
    trained: int, held: int, training: Training, scores: dict[str, PrecisionRecall]
) -> str:
    """The README of the new linker."""
    rows = [
        f"| {name} | {' | '.join(f'{100 * value:.1f}' for value in values)} |"
        for name, values in scores.items()
    ]
    return "\n".join(
        [
            f"# A linker fine-tuned on {trained} documents",
            "",
            (
                f"Its generator was trained further ({training.how}, "
                f"{training.epochs:g} epochs, learning rate "
                f"{training.learning_rate:g}); generator/README.md has all settings. "
                "Scores are not calibrated."
            ),
            "",
            f"On {held} documents that were held back, by GERBIL's strong match:",
            "",
            "| linker | precision, % | recall, % | F1, % |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def score_held_back(linker: Linker, documents: Sequence[Document]) -> PrecisionRecall:
    """Precision, recall and F1 of a linker on labelled documents."""
    from insgenel_jax.evaluation.scoring import make_resolve, same_entity, score

    linked = linker([Document(d.id, d.text, d.title) for d in documents])
    same = same_entity(make_resolve({}, linker.kb))
    return score(documents, linked, same=same).micro


def show_scores(
    console: Console, count: int, scores: dict[str, PrecisionRecall]
) -> None:
    """Print scores on the documents held back."""
    table = Table(title=f"on {count} documents held back")
    for name in ("linker", "precision, %", "recall, %", "F1, %"):
        table.add_column(name)
    for name, values in scores.items():
        table.add_row(name, *(f"{100 * value:.1f}" for value in values))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
