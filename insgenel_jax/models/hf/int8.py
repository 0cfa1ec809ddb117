"""Matrices as int8 with a scale for each row; such tensors on disk read as floats.

A matrix NAME of Hugging Face, [out, in] or [vocabulary, D], is kept as two tensors:
NAME, int8, and NAME.scale, float32 [rows]. A row is int8 · scale. So each output
channel and each embedding has a scale of its own.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int8

from insgenel_jax.models.hf.tensors import FLOATS, Tensor

SCALE = ".scale"
_INT8 = "I8"  # as safetensors names it


def quantise(
    matrix: Float32[np.ndarray, "R C"],
) -> tuple[Int8[np.ndarray, "R C"], Float32[np.ndarray, " R"]]:
    """A matrix to the nearest multiples of each row's scale, from -127 to 127.

    The scale is the row's largest magnitude / 127, so no value is off by more than half
    of it; 0 for a row of zeros.
    """
    scale = np.abs(matrix).max(axis=1) / np.float32(127)
    steps = np.rint(matrix / np.where(scale > 0, scale, 1)[:, None])
    steps = np.clip(steps, -127, 127)  # a tiny scale is rounded, too
    return steps.astype(np.int8), scale


def join_scales(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with each int8 one and its scale made one, which reads as floats.

    An int8 tensor without a scale stays as it is. Raises ValueError that names every
    scale that does not have a number for each row.
    """
    joined, problems = dict(tensors), []
    for name, whole in tensors.items():
        scale = tensors.get(name + SCALE)
        if whole.dtype != _INT8 or scale is None:
            continue
        if (
            len(whole.shape) != 2
            or scale.shape != whole.shape[:1]
            or scale.dtype not in FLOATS
        ):
            problems.append(
                f"{name}{SCALE}: expected a float for each row of {whole.shape}, found "
                f"{scale.dtype} {scale.shape}"
            )
        read = functools.partial(_read, whole, scale)
        joined[name] = Tensor(whole.shape, scale.dtype, read)
        del joined[name + SCALE]
    if problems:
        raise ValueError(f"{path}: {'; '.join(problems)}; write the model again")
    return joined


def _read(whole: Tensor, scale: Tensor, index: tuple[slice, ...]) -> np.ndarray:
    """The part `index` of an int8 tensor, dequantised."""
    return whole.read(index) * scale.read(index[:1])[:, None]
