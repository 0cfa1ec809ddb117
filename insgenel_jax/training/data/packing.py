"""Examples of the generator in; batches of packed rows out."""

from __future__ import annotations

import collections
import functools
from collections.abc import Sequence

import grain
import jax
import numpy as np
from jaxtyping import Float

from insgenel_jax.training.data.chunks import NO_EDGE
from insgenel_jax.training.data.decisions import FORCED, NONE, OPEN, SKIP, SPAN, TITLE
from insgenel_jax.training.settings import GeneratorData


def pack(
    dataset: grain.IterDataset,
    settings: GeneratorData,
    seed: int,
    counts: collections.Counter,
    streams: int = 1,
) -> grain.IterDataset:
    """Pack examples first-fit into rows of max_length; stack `batch` rows.

    streams: how many streams these rows are shared by. Without `settings.packed`, each
    row has one example.

    A batch has tokens, targets, kinds, segments, positions int32 [B T], others int32
    [B T O], weights float32 [B T] and biases float32 [B T 1+O], see chunks.py for the
    other edges and their biases. Positions restart in each segment, and segment 0 is
    padding. ids: the examples in each row, a list of names. Positions with weight at
    which no logits are formed (beyond `scored`) are counted.
    """
    rows = settings.batch // streams
    if settings.packed:
        packed = grain.experimental.FirstFitPackIterDataset(
            dataset,
            length_struct=dict.fromkeys(("columns", "biases"), settings.max_length),
            meta_features=["id"],
            num_packing_bins=2 * rows,
            seed=seed,
        )
    else:
        packed = dataset.map(functools.partial(_pad, length=settings.max_length))
    stack = functools.partial(_stack_counted, settings=settings, counts=counts)
    batches = packed.batch(rows, batch_fn=stack)
    return grain.experimental.ThreadPrefetchIterDataset(batches, prefetch_buffer_size=4)


def _pad(example: dict, length: int) -> dict:
    """A row with one example, as packing makes rows of several."""
    used = len(example["columns"])
    more = ((0, length - used), (0, 0))
    order = np.arange(length, dtype=np.int32)
    real = order < used
    return {
        "columns": np.pad(example["columns"], more),
        "biases": np.pad(example["biases"], more),
        "columns_segment_ids": real.astype(np.int32),
        "columns_positions": np.where(real, order, 0),
        "id": [example["id"]],
    }


def pack_all(examples: Sequence[dict], settings: GeneratorData) -> list[dict]:
    """All of these examples, packed; the last batch is filled up with empty rows."""
    dataset = grain.MapDataset.source(list(examples)).to_iter_dataset()
    processes = jax.process_count()  # each of which packs them all
    batches = list(pack(dataset, settings, 0, collections.Counter(), processes))
    rows = settings.batch // processes
    for batch in batches[-1:]:
        for name in batch.keys() - {"ids"}:
            missing = rows - len(batch[name])
            rest = ((0, 0),) * (batch[name].ndim - 1)
            empty = NO_EDGE if name == "others" else 0
            batch[name] = np.pad(
                batch[name], ((0, missing), *rest), constant_values=empty
            )
    return batches


def kind_weights(settings: GeneratorData) -> Float[np.ndarray, " 6"]:
    """The weight of the loss at each kind of position; float32."""
    weights = np.ones(6, np.float32)
    weights[NONE] = 0.0
    weights[FORCED] = settings.copy_loss_weight
    weights[OPEN] = weights[SKIP] = settings.open_loss_weight
    weights[SPAN] = settings.span_loss_weight
    weights[TITLE] = settings.title_loss_weight
    if settings.mask_unlabelled_matches:
        weights[SKIP] = 0.0
    return weights


def _stack_counted(
    rows: Sequence[dict], *, settings: GeneratorData, counts: collections.Counter
) -> dict:
    batch = _stack(rows, kind_weights(settings), settings.allowed_edges)
    scored = settings.scored or settings.max_length
    over = np.count_nonzero(batch["weights"], axis=1) - scored
    counts["scored positions left out"] += int(np.maximum(over, 0).sum())
    return batch


def _stack(
    rows: Sequence[dict], kind_weights: Float[np.ndarray, " 6"], allowed_edges: bool
) -> dict:
    columns = np.stack([row["columns"] for row in rows])
    tokens, targets, kinds = np.ascontiguousarray(np.moveaxis(columns[..., :3], -1, 0))
    others = np.ascontiguousarray(columns[..., 3:])
    # padding is all zeros, which would be tokens
    others[kinds == NONE] = NO_EDGE
    weights = kind_weights[kinds]
    if allowed_edges:  # one edge alone is certain, and teaches nothing
        weights = np.where(others[..., 0] == NO_EDGE, np.float32(0), weights)
    return {
        "tokens": tokens,
        "targets": targets,
        "kinds": kinds,
        "others": others,
        "weights": weights,
        "biases": np.stack([row["biases"] for row in rows]),
        "segments": np.stack([row["columns_segment_ids"] for row in rows]),
        "positions": np.stack([row["columns_positions"] for row in rows]),
        "ids": [list(row["id"]) for row in rows],
    }
