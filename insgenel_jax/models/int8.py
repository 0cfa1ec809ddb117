"""Weights kept in 8 bits: linear maps of layers apart, made floats as a layer runs.

Only the memory of the weights changes, and how often they are read: what is computed is
computed in the compute dtype. Embeddings, norms and biases stay as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8

from insgenel_jax.sharding import AnyArray

# Linear maps whose input is more than the first axis of their kernel.
_INPUT_AXES = {"output": (0, 1)}


class Kernel(NamedTuple):
    """A linear map as steps * scale, with a scale for each output channel."""

    steps: Int8[AnyArray, "*shape"]
    scale: Float[AnyArray, "*channels"]


def quantise(params: dict) -> dict:
    """Parameters with layers apart (models.apart), their linear maps in 8 bits.

    No value is off by more than half a step: 1/254 of its channel's largest magnitude.
    The layers given are used up, one by one.
    """
    layers, quantised = list(params["layers"]), []
    while layers:
        quantised.append(_quantise_layer(layers.pop(0)))
    return params | {"layers": tuple(quantised)}


def _quantise_layer(tree: dict, name: str = "") -> dict:
    made = {}
    for key, value in tree.items():
        if key == "kernel":
            made[key] = quantise_kernel(value, _INPUT_AXES.get(name, (0,)))
        else:
            made[key] = (
                _quantise_layer(value, key) if isinstance(value, dict) else value
            )
    return made


def quantise_kernel(kernel: Float[AnyArray, "*shape"], axes: tuple[int, ...]) -> Kernel:
    """A kernel to the nearest steps. axes: those of its input."""
    kernel = jnp.asarray(kernel, jnp.float32)
    scale = jnp.abs(kernel).max(axis=axes, keepdims=True) / 127
    steps = jnp.rint(kernel / jnp.where(scale > 0, scale, 1))
    return Kernel(jnp.clip(steps, -127, 127).astype(jnp.int8), scale)


def dequantise(params: dict, dtype: str) -> dict:
    """The parameters of a layer as floats; those that are floats stay as they are."""

    def as_floats(x: Kernel | AnyArray) -> Array:
        if not isinstance(x, Kernel):
            return x
        return x.steps.astype(dtype) * x.scale.astype(dtype)

    return jax.tree.map(as_floats, params, is_leaf=lambda x: isinstance(x, Kernel))
