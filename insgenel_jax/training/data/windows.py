"""Training documents in; the retriever's windows, their golds and all entities out."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path

import grain
import jax
import numpy as np

from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.chunking import windows
from insgenel_jax.text.document import Document, normalise
from insgenel_jax.tokenizer import WordPiece
from insgenel_jax.training.config import RetrieverData
from insgenel_jax.training.data.examples import Expand


def window_batches(
    dataset: grain.IterDataset, settings: RetrieverData
) -> grain.IterDataset:
    """Stack windows: windows int32 [B W], golds and ids: a list per row."""
    rows = settings.batch // jax.process_count()
    batches = dataset.batch(rows, batch_fn=stack_windows)
    return grain.experimental.ThreadPrefetchIterDataset(batches, prefetch_buffer_size=4)


def stack_windows(rows: Sequence[dict]) -> dict:
    """Examples -> windows [B W], golds and ids of each row."""
    return {
        "windows": np.stack([row["window"] for row in rows]),
        "golds": [row["golds"].tolist() for row in rows],
        "ids": [[row["id"]] for row in rows],
    }


def retriever_expand(
    wordpiece: WordPiece, kb: KnowledgeBase, settings: RetrieverData
) -> Expand:
    """Document -> {"window": int32 [W], "golds": entity ids in it, "id"} per window.

    A window without a mention of a known entity teaches nothing and is left out.
    """

    def expand(document: Document, counts: collections.Counter) -> list[dict]:
        golds = []
        for mention in document.mentions:
            if mention.entity is None:
                continue
            counts["mentions"] += 1
            entity = kb.find(mention.entity)
            if entity is None:
                counts["mentions of no known entity"] += 1
            else:
                golds.append((mention.start, mention.end, entity))
        found = []
        for start, end in windows(
            document.text, settings.window_length, settings.stride
        ):
            inside = {e for s, t, e in golds if start <= s and t <= end}
            if inside:
                found.append((start, end, np.array(sorted(inside), np.int32)))
            counts["windows without a mention"] += not inside
        texts = [normalise(document.text[start:end]) for start, end, _ in found]
        ids = wordpiece.encode(texts, settings.window_tokens) if texts else []
        return [
            {"window": ids[k], "golds": golds, "id": f"{document.id}#{start}"}
            for k, (start, _, golds) in enumerate(found)
        ]

    return expand


def entity_tokens(
    wordpiece: WordPiece, kb: KnowledgeBase, length: int, cache: Path
) -> np.ndarray:
    """The tokens of every entity's title and description, int32 [E length].

    Written to `cache` once and memory-mapped after that.
    """
    if not cache.is_file():
        cache.parent.mkdir(parents=True, exist_ok=True)
        aside = cache.with_suffix(".part.npy")
        table = np.lib.format.open_memmap(
            aside, mode="w+", dtype=np.int32, shape=(len(kb), length)
        )
        for start in range(0, len(kb), 4096):
            block = range(start, min(start + 4096, len(kb)))
            table[start : block.stop] = wordpiece.encode(
                [normalise(kb.title(i)) for i in block],
                length,
                [normalise(kb.description(i)) for i in block],
            )
        table.flush()
        del table
        aside.rename(cache)
    return np.load(cache, mmap_mode="r")
