"""Training documents in; the retriever's windows with their golds out.

A gold of a window is an entity that a mention inside the window names. What may be
confused with it are the other entities that the mention's surface form may name.
"""

from __future__ import annotations

import collections
import functools
import itertools
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import grain
import numpy as np
from jaxtyping import Int

from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.retrieval.encoder import tokenize_entities, tokenize_windows
from insgenel_jax.text.chunking import windows
from insgenel_jax.text.document import Document
from insgenel_jax.tokenizer import WordPiece
from insgenel_jax.training.data.documents import Expand
from insgenel_jax.training.settings import RetrieverData

ROWS = 4096  # entities tokenised together


def retriever_expand(
    wordpiece: WordPiece, kb: KnowledgeBase, settings: RetrieverData
) -> Expand:
    """Document -> {"window": int32 [W], "golds", "confusable", "id"} per window.

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
            form = kb.form(document.text[mention.start : mention.end])
            named.append((mention.start, mention.end, entity, form))
    kept = []
    for start, end in windows(document.text, settings.window_length, settings.stride):
        inside = [(e, form) for s, t, e, form in named if start <= s and t <= end]
        if inside:
            kept.append((start, end, inside))
        counts["windows without a mention"] += not inside
    texts = [document.text[start:end] for start, end, _ in kept]
    ids = tokenize_windows(wordpiece, texts, settings.window_tokens)
    examples = []
    for window, (start, _, inside) in zip(ids, kept, strict=True):
        golds = sorted({entity for entity, _ in inside})
        confusable = find_confusable(
            kb, golds, {form for _, form in inside}, settings.confusable_per_window
        )
        examples.append(
            {
                "window": window,
                "golds": np.array(golds, np.int32),
                "confusable": np.array(confusable, np.int32),
                "id": f"{document.id}#{start}",
            }
        )
    return examples


def find_confusable(
    kb: KnowledgeBase, golds: Collection[int], forms: Iterable[int | None], most: int
) -> list[int]:
    """At most `most` entities of surface forms that are no golds.

    The entity that each form names most often comes first, then the second of each.
    """
    if not most:
        return []
    known = sorted(form for form in forms if form is not None)
    rows = [kb.candidates(form)[0][: most + len(golds)].tolist() for form in known]
    ranked = itertools.chain.from_iterable(itertools.zip_longest(*rows))
    wrong = dict.fromkeys(e for e in ranked if e is not None and e not in golds)
    return list(wrong)[:most]


def window_batches(
    dataset: grain.IterDataset, settings: RetrieverData, streams: int = 1
) -> grain.IterDataset:
    """Stack windows: windows int32 [B W]; golds, confusable, ids: a list per row.

    streams: how many streams the rows of a batch are shared by.
    """
    rows = settings.batch // streams
    batches = dataset.batch(rows, batch_fn=stack_windows)
    return grain.experimental.ThreadPrefetchIterDataset(batches, prefetch_buffer_size=4)


def stack_windows(rows: Sequence[dict]) -> dict:
    """Examples -> windows [B W]; golds, confusable and ids of each row."""
    return {
        "windows": np.stack([row["window"] for row in rows]),
        "golds": [row["golds"].tolist() for row in rows],
        "confusable": [row["confusable"].tolist() for row in rows],
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
