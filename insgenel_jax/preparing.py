"""What the subcommands of `prepare` share: options, the folder OUT, its tokenizers.

`writing` opens OUT, `train_tokenizers` and `print_report` end the work on it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import rich
import rich.table
import typer
from rich.text import Text

from insgenel_jax import cli, lock, paths
from insgenel_jax.kb import knowledge_base
from insgenel_jax.kb.build import training_documents
from insgenel_jax.kb.build.name_rules import FORM_RULES, FormRule
from insgenel_jax.text.formats.rejects import InputError, Rejects
from insgenel_jax.tokenizer import train_bpe, train_wordpiece

PARTS = {  # artifacts in OUT, by kind
    "kb": knowledge_base.KIND,
    "train": training_documents.KIND,
    "tokenizers/generator": "tokenizer",
    "tokenizers/retriever": "tokenizer",
}
HELD_BACK = ("dev.jsonl", "heldout.jsonl")  # documents in OUT
CORES = os.cpu_count() or 1
ENOUGH = 200_000  # texts, and titles, that a tokenizer is trained on

Out = Annotated[Path, typer.Option(help="Directory to write to.")]
FormRules = Annotated[
    list[str] | None,
    typer.Option(
        "--form-rules",
        help=f"Rule that makes more surface forms of names: {', '.join(FORM_RULES)}; "
        "or all; repeatable.",
    ),
]
Workers = Annotated[
    int, typer.Option(min=1, help="Processes.", show_default="all cores")
]
Vocabulary = Annotated[int, typer.Option(min=300, help="Tokens of each tokenizer.")]


def form_rules_named(names: Sequence[str]) -> list[FormRule]:
    """The rules that --form-rules names. Raises InputError for another name."""
    unknown = sorted(set(names) - {*FORM_RULES, "all"})
    if unknown:
        raise InputError(
            f"--form-rules {unknown[0]}: expected all or one of {FORM_RULES}, found "
            "another name; correct it"
        )
    return [rule for rule in FORM_RULES if rule in names or "all" in names]


@contextlib.contextmanager
def writing(
    out: Path,
    inputs: Sequence[Path | None],
    files: Sequence[str],
    parts: Sequence[str] = tuple(PARTS),
) -> Iterator[Rejects]:
    """Open the rejects file of a command that writes to OUT.

    Before any work, refuse an OUT that cannot take every one of `files` and the
    artifacts `parts`, or that lies over an input, or that another process writes to.
    """
    outputs = [out / name for name in (*files, "rejects.jsonl")]
    for path in outputs:
        paths.check_output(path)
    for name in parts:
        paths.check_target(out / name, PARTS[name])
        outputs.append(out / name)
    paths.check_apart(outputs, [path for path in inputs if path is not None])
    with (
        lock.hold(out),
        cli.rejecting(out / "rejects.jsonl", rich.get_console()) as rejects,
    ):
        yield rejects


def train_tokenizers(out: Path, vocabulary: int, kb: Path | None = None) -> None:
    """Train OUT/tokenizers on the texts of OUT/train and the titles of OUT/kb.

    kb: another knowledge base, in place of OUT/kb.
    """
    kb = kb or out / "kb"
    for name, train in (("generator", train_bpe), ("retriever", train_wordpiece)):
        texts = training_documents.tokenizer_texts(out / "train", kb, ENOUGH)
        train(texts, vocabulary, out / "tokenizers" / name)


def print_report(
    out: Path, counts: Mapping[str, int | float], rejects: Rejects, begin: float
) -> None:
    """Print what was made."""
    table = rich.table.Table("what", rich.table.Column("how many", justify="right"))
    for name, count in counts.items():
        table.add_row(
            name, f"{count:,.1f}" if isinstance(count, float) else f"{count:,}"
        )
    for reason, count in sorted(rejects.by_reason.items()):
        table.add_row(Text(f"rejected: {reason}"), f"{count:,}")
    for reason, count in sorted(rejects.notes.items()):
        table.add_row(Text(f"noted: {reason}"), f"{count:,}")
    for part in sorted(path for path in out.iterdir() if not path.name.startswith(".")):
        files = part.rglob("*") if part.is_dir() else [part]
        size = sum(file.stat().st_size for file in files if file.is_file())
        table.add_row(Text(f"{part.name}, MB"), f"{size / 1e6:,.1f}")
    table.add_row("seconds", f"{time.perf_counter() - begin:,.1f}")
    rich.print(table)
