"""The mini world on disk: a knowledge base, training, development and held-out text."""

from __future__ import annotations

import os
from pathlib import Path

from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.kb.build.training_documents import write_training_documents
from insgenel_jax.mini_world.entity import entities
from insgenel_jax.mini_world.paragraph import Split, paragraphs
from insgenel_jax.text.formats.documents import write_documents
from insgenel_jax.text.formats.rejects import Rejects

# The splits that are files of documents, and how many documents each has.
FILES: dict[Split, int] = {"dev": 200, "heldout": 400}


def write_world(
    out: str | os.PathLike, rejects: Rejects, *, training_paragraphs: int = 20_000
) -> dict[str, int]:
    """Write OUT/kb, OUT/train, OUT/dev.jsonl and OUT/heldout.jsonl; return counts."""
    out = Path(out)
    train = paragraphs("train", training_paragraphs)
    counts = build_from_entities(out / "kb", entities(), rejects, documents=train)
    counts["training documents"] = write_training_documents(
        out / "train", train, out / "kb"
    )
    for split, count in FILES.items():
        counts[f"{split} documents"] = write_documents(
            out / f"{split}.jsonl", paragraphs(split, count)
        )
    return counts
