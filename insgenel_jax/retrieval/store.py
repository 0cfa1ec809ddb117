"""Embeddings on disk or in memory: one zarr3 array [entities, dimensions].

It is of bfloat16, or of int8 where an index has few bytes for a vector.
"""

from __future__ import annotations

import os
from pathlib import Path

import tensorstore as ts

ROWS = 16_384  # rows of a chunk of the array, written together

_BYTES = {  # how numbers are written; there is no byte order for one byte
    "bfloat16": {"name": "bytes", "configuration": {"endian": "little"}},
    "int8": {"name": "bytes"},
}


def create_store(
    rows: int,
    dim: int,
    path: str | os.PathLike | None = None,
    dtype: str = "bfloat16",
) -> ts.TensorStore:
    """A zarr3 array [rows, dim]: in the directory `path`, or new in memory.

    An array of the same sizes that is in the directory already is gone on with.
    """
    kvstore = {"driver": "memory"}
    if path is not None:
        kvstore = {"driver": "file", "path": f"{Path(path).resolve()}/"}
    spec = {
        "driver": "zarr3",
        "kvstore": kvstore,
        "metadata": {
            "shape": [rows, dim],
            "data_type": dtype,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [ROWS, dim]},
            },
            "codecs": [_BYTES[dtype]],
        },
    }
    return ts.open(spec, create=True, open=True).result()


def has_chunk(path: str | os.PathLike, number: int) -> bool:
    """Whether chunk `number` of an array on disk was written; it is written whole."""
    return (Path(path) / "c" / str(number) / "0").is_file()


def open_store(path: str | os.PathLike) -> ts.TensorStore:
    """Open an array that `create_store` made in a directory, for reading."""
    kvstore = {"driver": "file", "path": f"{Path(path).resolve()}/"}
    return ts.open({"driver": "zarr3", "kvstore": kvstore}, read=True).result()
