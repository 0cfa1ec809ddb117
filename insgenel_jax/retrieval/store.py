"""Embeddings on disk or in memory: one bfloat16 zarr3 array [entities, dimensions]."""

from __future__ import annotations

import os
from pathlib import Path

import tensorstore as ts

ROWS = 16_384  # rows of a chunk of the array, written together


def create_store(
    rows: int, dim: int, path: str | os.PathLike | None = None
) -> ts.TensorStore:
    """A new bfloat16 zarr3 array [rows, dim]: in the directory `path`, or in memory."""
    kvstore = {"driver": "memory"}
    if path is not None:
        kvstore = {"driver": "file", "path": f"{Path(path).resolve()}/"}
    spec = {
        "driver": "zarr3",
        "kvstore": kvstore,
        "metadata": {
            "shape": [rows, dim],
            "data_type": "bfloat16",
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [ROWS, dim]},
            },
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        },
    }
    return ts.open(spec, create=True).result()


def open_store(path: str | os.PathLike) -> ts.TensorStore:
    """Open an array that `create_store` made in a directory, for reading."""
    kvstore = {"driver": "file", "path": f"{Path(path).resolve()}/"}
    return ts.open({"driver": "zarr3", "kvstore": kvstore}, read=True).result()
