"""Examples of the generator in; batches of packed rows out."""

from __future__ import annotations

import collections
import functools
from collections.abc import Sequence

import grain
import jax
import numpy as np
from jaxtyping import Float

from insgenel_jax.training.config import GeneratorData
from insgenel_jax.training.data.decisions import FORCED, NONE, SKIP


def pack(
    dataset: grain.IterDataset,
    settings: GeneratorData,
    seed: int,
    counts: collections.Counter,
) -> grain.IterDataset:
    """Pack examples first-fit into rows of max_length; stack `batch` rows.

    A batch has tokens, targets, rivals, kinds, segments, positions int32 [B T] and
    weights float32 [B T]. Positions restart in each segment, and segment 0 is padding.
    ids: the examples in each row, a list of names. Positions with weight at which no
    logits are formed (beyond `scored`) are counted.
    """
    rows = settings.batch // jax.process_count()
    packed = grain.experimental.FirstFitPackIterDataset(
        dataset,
        length_struct={"columns": settings.max_length},
        meta_features=["id"],
        num_packing_bins=2 * rows,
        seed=seed,
    )
    stack = functools.partial(_stack_counted, settings=settings, counts=counts)
    batches = packed.batch(rows, batch_fn=stack)
    return grain.experimental.ThreadPrefetchIterDataset(batches, prefetch_buffer_size=4)


def pack_all(examples: Sequence[dict], settings: GeneratorData) -> list[dict]:
    """All of these examples, packed; the last batch is filled up with empty rows."""
    dataset = grain.MapDataset.source(list(examples)).to_iter_dataset()
    batches = list(pack(dataset, settings, 0, collections.Counter()))
    rows = settings.batch // jax.process_count()
    for batch in batches[-1:]:
        for name in batch.keys() - {"ids"}:
            missing = rows - len(batch[name])
            batch[name] = np.pad(batch[name], ((0, missing), (0, 0)))
    return batches


def kind_weights(settings: GeneratorData) -> Float[np.ndarray, " 6"]:
    """The weight of the loss at each kind of position; float32."""
    weights = np.ones(6, np.float32)
    weights[NONE] = 0.0
    weights[FORCED] = settings.copy_loss_weight
    weights[SKIP] = 0.0 if settings.mask_unlabelled_matches else 1.0
    return weights


def _stack_counted(
    rows: Sequence[dict], *, settings: GeneratorData, counts: collections.Counter
) -> dict:
    batch = _stack(rows, kind_weights(settings))
    scored = settings.scored or settings.max_length
    over = np.count_nonzero(batch["weights"], axis=1) - scored
    counts["scored positions left out"] += int(np.maximum(over, 0).sum())
    return batch


def _stack(rows: Sequence[dict], weights: Float[np.ndarray, " 6"]) -> dict:
    columns = np.stack([row["columns"] for row in rows])
    tokens, targets, rivals, kinds = np.ascontiguousarray(np.moveaxis(columns, -1, 0))
    return {
        "tokens": tokens,
        "targets": targets,
        "rivals": rivals,
        "kinds": kinds,
        "weights": weights[kinds],
        "segments": np.stack([row["columns_segment_ids"] for row in rows]),
        "positions": np.stack([row["columns_positions"] for row in rows]),
        "ids": [list(row["id"]) for row in rows],
    }
