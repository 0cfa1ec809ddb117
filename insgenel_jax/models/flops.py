"""FLOPs of a model, counted from its config: XLA counts the body of a scan once.

A product of [m, k] and [k, n] is 2 m k n FLOPs. Nothing but products counts: norms,
activations and the softmax are small beside them. Attention is counted whole, T x S
pairs, whatever the mask; what remat computes again is not counted. These are the FLOPs
that the model asks for, which MFU is measured in.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from insgenel_jax.models.config import ModelConfig


class Flops(NamedTuple):
    """FLOPs of the pass forward, and of the pass backward."""

    forward: float = 0.0
    backward: float = 0.0

    @property
    def step(self) -> float:
        """Both passes."""
        return self.forward + self.backward

    def __add__(self, other: tuple) -> Flops:
        forward, backward = other
        return Flops(self.forward + forward, self.backward + backward)


def count_flops(config: ModelConfig, tokens: int, keys: int, logits: int = 0) -> Flops:
    """FLOPs of `tokens` tokens, each of which attends to `keys` keys.

    tokens: of all rows, padding included. logits: how many of them are turned into
    logits of the whole vocabulary. The pass backward has the gradient of each product's
    input and, where it is trained, that of the weight; with LoRA the weights of the
    base have none.
    """
    layer = _add(_map(config, name, tokens) for name in _PROJECTIONS[config.family])
    # scores and the mixing of values: both operands have a gradient
    pairs = 2 * 2 * tokens * keys * config.heads * config.head_dim
    layer += Flops(pairs, 2 * pairs)
    total = Flops(config.layers * layer.forward, config.layers * layer.backward)
    width = config.embed_dim or config.dim
    if width != config.dim:  # OPT-350M: before the first layer, and after the last
        product = 2 * tokens * width * config.dim
        # a frozen embedding needs no gradient
        total += Flops(product, 0 if config.lora else 2 * product)
        total += Flops(product, product * _backward(config))
    product = 2 * logits * config.vocabulary * width
    return total + Flops(product, product * _backward(config))


# Family -> the projections of a layer.
_ATTENTION = ("query", "key", "value", "output")
_PROJECTIONS = {
    "llama": (*_ATTENTION, "gate", "up", "down"),
    "opt": (*_ATTENTION, "up", "down"),
    "bert": (*_ATTENTION, "up", "down"),
}


def _map(config: ModelConfig, name: str, tokens: int) -> Flops:
    """One projection, with its LoRA."""
    c = config
    heads, kv_heads = c.heads * c.head_dim, c.kv_heads * c.head_dim
    inputs, outputs = {
        "query": (c.dim, heads),
        "key": (c.dim, kv_heads),
        "value": (c.dim, kv_heads),
        "output": (heads, c.dim),
        "gate": (c.dim, c.ffn),
        "up": (c.dim, c.ffn),
        "down": (c.ffn, c.dim),
    }[name]
    product = 2 * tokens * inputs * outputs
    total = Flops(product, product * _backward(c))
    if c.lora is not None and name in c.lora.targets:
        low = 2 * tokens * c.lora.rank * (inputs + outputs)
        total += Flops(low, 2 * low)
    return total


def _backward(config: ModelConfig) -> int:
    """How many products a weight of the base has in the pass backward."""
    return 2 if config.lora is None else 1


def _add(parts) -> Flops:
    parts = list(parts)
    return Flops(math.fsum(p.forward for p in parts), math.fsum(p[1] for p in parts))
