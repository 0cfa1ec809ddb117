"""Chunks of a batch in; arrays of a common static shape out, for jitted decoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from insgenel_jax.decoding.table import Table
from insgenel_jax.tokenizer.padding import next_power


class PaddedSizes(NamedTuple):
    """The static sizes that a chunk, or a batch of chunks, is padded to."""

    slots: int  # of the KV cache
    prompt: int  # tokens that are run before the first decision
    longest: int  # edges of a path
    width: int  # edges of a state
    states: int
    edges: int


class Tables(NamedTuple):
    """The transition tables of a batch, padded; see `table.Table` for the columns."""

    indptr: np.ndarray | Array  # int32 [B, states]
    token: np.ndarray | Array  # int32 [B, edges]
    next: np.ndarray | Array  # int32 [B, edges]
    bias: np.ndarray | Array  # float32 [B, edges]


def padded_sizes(prompt: int, table: Table, beams: int = 1) -> PaddedSizes:
    """The sizes for a table and `prompt` tokens that are run before its decisions.

    beams: paths that share a row of the cache, each with slots of its own.
    """
    return _with_slots(
        PaddedSizes(
            slots=0,
            prompt=next_power(prompt, 64),
            longest=next_power(table.longest, 64),
            width=next_power(int(np.diff(table.indptr).max()), 8, 4),
            states=next_power(len(table.indptr), 256, 4),
            edges=next_power(len(table.token), 256, 4),
        ),
        beams,
    )


def common_sizes(sizes: Sequence[PaddedSizes], beams: int = 1) -> PaddedSizes:
    """The smallest sizes that hold every chunk of a batch."""
    return _with_slots(PaddedSizes(*map(max, zip(*sizes, strict=True))), beams)


def _with_slots(sizes: PaddedSizes, beams: int) -> PaddedSizes:
    return sizes._replace(slots=sizes.prompt + beams * sizes.longest)


def pack_tables(tables: Sequence[Table], batch: int, sizes: PaddedSizes) -> Tables:
    """Pad the tables of a batch to common sizes.

    The states and rows that padding adds have no edges: decoding ends there.
    """
    indptr = [
        np.pad(table.indptr, (0, sizes.states - len(table.indptr)), mode="edge")
        for table in tables
    ]
    return Tables(
        pad_rows(indptr, batch, sizes.states),
        pad_rows([table.token for table in tables], batch, sizes.edges),
        pad_rows([table.next for table in tables], batch, sizes.edges),
        pad_rows([table.bias for table in tables], batch, sizes.edges, np.float32),
    )


def pad_rows(
    rows: Sequence[Sequence[int] | np.ndarray], batch: int, width: int, dtype=np.int32
) -> np.ndarray:
    """Rows of different lengths as one array [batch, width], padded with zeros."""
    padded = np.zeros((batch, width), dtype)
    for row, values in enumerate(rows):
        padded[row, : len(values)] = values
    return padded


def clip_order(order: Int[Array, " T"], count: Int[Array, " B"]) -> Int[Array, "B T"]:
    """The place of each token in its row, that of padding clamped to the last real one.

    order: 0, 1, 2 ... count: real tokens of each row. An out-of-range position
    embedding is NaN, and 0 * NaN leaks through the attention mask.
    """
    return jnp.minimum(order, jnp.maximum(count - 1, 0)[:, None])
