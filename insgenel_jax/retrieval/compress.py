"""Embeddings in; vectors of few bytes out, and the projection that queries take.

An uncentred PCA keeps, of all projections to N dimensions, most of the embeddings'
squared length. It leaves out the mean's subtraction because dot products should be
kept, not variances.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int8

from insgenel_jax import artifact
from insgenel_jax.text.formats.rejects import InputError

ROWS = 16_384  # embeddings that are held in float64 at a time
LARGEST = 127  # of an int8, either way


def check_vector_bytes(vector_bytes: int | None, dim: int, exact: bool | None) -> None:
    """Raise InputError where embeddings of `dim` numbers cannot have so few bytes.

    exact: False where ScaNN was asked for, whose files hold more than that.
    """
    if vector_bytes is None:
        return
    if not 1 <= vector_bytes <= dim:
        raise InputError(
            f"vector bytes: expected 1 to {dim}, the dimensions of an embedding, found "
            f"{vector_bytes}"
        )
    if exact is False:
        raise InputError(
            "vector bytes: vectors of few bytes are searched exactly, found a wish for "
            "ScaNN, whose files are larger; leave one of the two out"
        )


def compress(
    embeddings: Float[np.ndarray, "E D"], size: int
) -> tuple[Int8[np.ndarray, "E N"], Float32[np.ndarray, "D N"]]:
    """Vectors of `size` bytes, and the projection of queries.

    The product of a projected query and a vector is nearly that of the query and the
    embedding. Each dimension of the vectors has a scale of its own, which the
    projection includes.
    """
    moment = sum(part.T @ part for part in _parts(embeddings))
    axes = np.linalg.eigh(moment).eigenvectors[:, : -size - 1 : -1]  # largest first
    # an eigenvector may point either way: let its largest number be above 0
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(size)])
    projected = np.zeros((len(embeddings), size), np.float32)
    np.concatenate([part @ axes for part in _parts(embeddings)], out=projected)
    largest = np.abs(projected).max(0)
    scales = np.where(largest > 0, largest / LARGEST, 1)
    vectors = np.rint(projected / scales).astype(np.int8)
    return vectors, (axes * scales).astype(np.float32)


def project(
    queries: Float32[np.ndarray, "W D"], projection: Float32[np.ndarray, "D N"]
) -> Float32[np.ndarray, "W N"]:
    """Queries for vectors of few bytes. A query's result does not depend on the others.

    Rows are multiplied one by one because the last bits of a row of a matrix product
    change with its place.
    """
    projected = np.empty((len(queries), projection.shape[1]), np.float32)
    for query, row in zip(queries, projected, strict=True):
        np.matmul(query, projection, out=row)
    return projected


def read_projection(
    file: str | os.PathLike, dim: int, size: int
) -> Float32[np.ndarray, "D N"]:
    """The projection [dim, size] in a file. Raises ArtifactError if it is damaged."""
    expected = f"finite float32 numbers [{dim}, {size}]"
    try:
        projection = np.load(Path(file), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise artifact.ArtifactError(
            f"{file}: expected {expected}, found something else ({error}); index again"
        ) from error
    found = f"{projection.dtype} {list(projection.shape)}"
    if found == f"float32 [{dim}, {size}]" and np.isfinite(projection).all():
        return projection
    raise artifact.ArtifactError(
        f"{file}: expected {expected}, found {found}, or numbers that are not finite; "
        "index again"
    )


def _parts(embeddings: Float[np.ndarray, "E D"]) -> Iterator[np.ndarray]:
    for first in range(0, len(embeddings), ROWS):
        yield embeddings[first : first + ROWS].astype(np.float64)
