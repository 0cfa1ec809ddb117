"""Training documents in; the retriever's windows with their golds out.

A gold of a window is an entity that a mention inside the window names.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Sequence
from pathlib import Path

import grain
import jax
import numpy as np
from jaxtyping import Int

from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.retrieval.encoder import tokenize_entities, tokenize_windows
from insgenel_jax.text.chunking import windows
from insgenel_jax.text.document import Document
from insgenel_jax.tokenizer import WordPiece
from insgenel_jax.training.config import RetrieverData
from insgenel_jax.training.data.documents import Expand

ROWS = 4096  # entities tokenised together


def retriever_expand(
    wordpiece: WordPiece, kb: KnowledgeBase, settings: RetrieverData
) -> Expand:
    """Document -> {"window": int32 [W], "golds": entities in it, "id"} per window.

    A window without a mention of a known entity teaches nothing and is left out.
    """
    return functools.partial(expand_document, wordpiece, kb, settings)


def expand_document(
    wordpiece: WordPiece,
    kb: KnowledgeBase,
    settings: RetrieverData,
    document: Document,
    counts: collections.Counter,
) -> list[dict]:
    """The windows of a document; `counts` learns what was left out, and why."""
    named = []
    for mention in document.mentions:
        if mention.entity is None:
            continue
        counts["mentions"] += 1
        entity = kb.find(mention.entity)
        if entity is None:
            counts["mentions of no known entity"] += 1
        else:
            named.append((mention.start, mention.end, entity))
    kept = []
    for start, end in windows(document.text, settings.window_length, settings.stride):
        golds = {e for s, t, e in named if start <= s and t <= end}
        if golds:
            kept.append((start, end, np.array(sorted(golds), np.int32)))
        counts["windows without a mention"] += not golds
    texts = [document.text[start:end] for start, end, _ in kept]
    ids = tokenize_windows(wordpiece, texts, settings.window_tokens)
    return [
        {"window": window, "golds": golds, "id": f"{document.id}#{start}"}
        for window, (start, _, golds) in zip(ids, kept, strict=True)
    ]


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


def entity_tokens(
    wordpiece: WordPiece, kb: KnowledgeBase, length: int, cache: Path
) -> Int[np.ndarray, "E {length}"]:
    """The token ids of every entity's title and description; int32.

    They are written to the file `cache` once and memory-mapped after that.
    """
    if not cache.is_file():
        cache.parent.mkdir(parents=True, exist_ok=True)
        aside = cache.with_suffix(".part.npy")
        table = np.lib.format.open_memmap(
            aside, mode="w+", dtype=np.int32, shape=(len(kb), length)
        )
        for start in range(0, len(kb), ROWS):
            rows = range(start, min(start + ROWS, len(kb)))
            table[start : rows.stop] = tokenize_entities(wordpiece, kb, rows, length)
        table.flush()
        del table
        aside.rename(cache)
    return np.load(cache, mmap_mode="r")
