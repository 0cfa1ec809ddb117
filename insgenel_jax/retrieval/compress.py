"""Embeddings in; vectors of few bytes out, and the projection that queries take.

An uncentred PCA keeps, of all projections to some dimensions, most of the embeddings'
squared length. The mean is not subtracted because dot products should be kept, not
variances. Numbers of four bits allow twice the dimensions that bytes do, which is worth
more than their precision unless most dimensions are kept anyway.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int8

from insgenel_jax import artifact
from insgenel_jax.text.formats.rejects import InputError

ROWS = 16_384  # embeddings that are held in float64 at a time
# The largest number of four bits stands for so many times a dimension's root mean
# square: least squared error, where numbers are normally distributed.
REACH = 2.5


class Compressed(NamedTuple):
    """Whole numbers of `bits` bits for E embeddings, and the projection of queries.

    The product of a projected query and a vector is nearly that of the query and the
    embedding. Each dimension of the vectors has a scale of its own, which the
    projection includes. error: the summed squared distance from the embeddings, less
    their summed squared lengths.
    """

    vectors: Int8[np.ndarray, "E N"]
    projection: Float32[np.ndarray, "D N"]
    bits: int
    error: float


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


def compress(embeddings: Float[np.ndarray, "E D"], size: int) -> Compressed:
    """The nearest vectors of at most `size` bytes, of four or eight bits a number."""
    dim = embeddings.shape[1]
    moment = sum(part.T @ part for part in _parts(embeddings))
    axes = np.linalg.eigh(moment).eigenvectors[:, ::-1]  # largest first
    # an eigenvector may point either way: let its largest number be above 0
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(dim)])
    choices = [_round(embeddings, axes[:, :size], 8)]
    if pairs := min(size, dim // 2):
        # a rotation spreads what few large dimensions hold evenly over all
        noise = np.random.default_rng(0).normal(size=(2 * pairs, 2 * pairs))
        rotated = axes[:, : 2 * pairs] @ np.linalg.qr(noise).Q
        choices.append(_round(embeddings, rotated, 4))
    return min(choices, key=lambda choice: choice.error)


def _round(
    embeddings: Float[np.ndarray, "E D"], axes: Float[np.ndarray, "D N"], bits: int
) -> Compressed:
    """Embeddings along orthonormal axes, rounded to numbers of 4 or 8 bits."""
    projected = np.zeros((len(embeddings), axes.shape[1]), np.float32)
    np.concatenate([part @ axes for part in _parts(embeddings)], out=projected)
    largest = 2 ** (bits - 1) - 1
    reach = np.abs(projected).max(0)
    if bits == 4:
        reach = np.minimum(reach, REACH * np.sqrt((projected**2).mean(0)))
    scales = np.where(reach > 0, reach / largest, 1).astype(np.float32)
    vectors = np.rint(projected / scales).clip(-largest, largest).astype(np.int8)
    lost = np.square(projected - vectors * scales).sum(dtype=np.float64)
    error = float(lost - np.square(projected).sum(dtype=np.float64))
    return Compressed(vectors, (axes * scales).astype(np.float32), bits, error)


def pack(vectors: Int8[np.ndarray, "E N"], bits: int) -> Int8[np.ndarray, "E B"]:
    """Numbers of 4 bits, two in a byte: the first half of a vector in the low bits."""
    if bits == 8:
        return vectors
    low, high = np.split(vectors.view(np.uint8) & 15, 2, axis=1)
    return (low | high << 4).view(np.int8)


def unpack(packed: Int8[np.ndarray, "E B"], bits: int) -> Int8[np.ndarray, "E N"]:
    """What `pack` was given."""
    if bits == 8:
        return packed
    # shifting right repeats the sign bit
    return np.concatenate([packed << 4 >> 4, packed >> 4], axis=1)


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
