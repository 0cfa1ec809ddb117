"""LLaMA: tokens, positions, mask and KV cache to hidden states and the cache.

Fields of the config make it Mistral (sliding window), Qwen2 (bias on query, key and
value) or Qwen3 (query and key normed).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
from jaxtyping import Array, Bool, Float, Int

from insgenel_jax.models import attention, layers
from insgenel_jax.models.attention import Mask
from insgenel_jax.models.cache import extend_cache, extend_positions
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.models.tiles import Tiles
from insgenel_jax.sharding import AnyArray, Axes, pin_batch

# Parameter path -> logical axes (sharding.py places them on the mesh).
AXES: Axes = {
    "embed/embedding": ("vocabulary", "model"),
    "layers/attention_norm/scale": ("layers", None),
    "layers/attention/query/kernel": ("layers", "model", "heads", None),
    "layers/attention/query/bias": ("layers", "heads", None),
    "layers/attention/query_norm/scale": ("layers", None),
    "layers/attention/key/kernel": ("layers", "model", "kv_heads", None),
    "layers/attention/key/bias": ("layers", "kv_heads", None),
    "layers/attention/key_norm/scale": ("layers", None),
    "layers/attention/value/kernel": ("layers", "model", "kv_heads", None),
    "layers/attention/value/bias": ("layers", "kv_heads", None),
    "layers/attention/output/kernel": ("layers", "heads", None, "model"),
    "layers/mlp_norm/scale": ("layers", None),
    "layers/mlp/gate/kernel": ("layers", "model", "ffn"),
    "layers/mlp/up/kernel": ("layers", "model", "ffn"),
    "layers/mlp/down/kernel": ("layers", "ffn", "model"),
    "norm/scale": (None,),
    "unembed": ("vocabulary", "model"),
}


class Shared(NamedTuple):
    """What all layers get.

    near: which keys are within the sliding window; None if no layer has one, or if it
    holds every key.
    """

    angles: layers.Angles
    mask: Mask | Tiles | Bool[AnyArray, "#B T S"]
    near: Bool[AnyArray, "B T S"] | Bool[AnyArray, "B G Q W"] | None


class Attention(nn.Module):
    """Self-attention with a KV cache, rotary positions and grouped queries (GQA)."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        x: Float[AnyArray, "B T D"],
        cache: dict | None,
        number: Int[AnyArray, ""] | int,
        angles: layers.Angles,
        mask: Mask | Tiles | Bool[AnyArray, "#B T S"],
    ) -> tuple[Float[Array, "B T D"], dict | None]:
        c, bias = self.config, self.config.qkv_bias
        query = layers.project(c, (c.heads, c.head_dim), "query", bias=bias)(x)
        key = layers.project(c, (c.kv_heads, c.head_dim), "key", bias=bias)(x)
        value = layers.project(c, (c.kv_heads, c.head_dim), "value", bias=bias)(x)
        if c.qk_norm:  # over each head
            query = layers.RMSNorm(c, name="query_norm")(query)
            key = layers.RMSNorm(c, name="key_norm")(key)
        query, key = layers.rotate(query, angles), layers.rotate(key, angles)
        if cache is not None:
            cache, key, value = extend_cache(cache, number, key, value)
        x = attention.attend(query, key, value, mask, c.attention)
        return layers.project(c, c.dim, "output", axis=(-2, -1))(x), cache


class MLP(nn.Module):
    """down(silu(gate(x)) * up(x)), called SwiGLU."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[AnyArray, "B T D"]) -> Float[Array, "B T D"]:
        gate = layers.project(self.config, self.config.ffn, "gate")(x)
        up = layers.project(self.config, self.config.ffn, "up")(x)
        return layers.project(self.config, self.config.dim, "down")(nn.silu(gate) * up)


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    config: ModelConfig
    deterministic: bool

    @nn.compact
    def __call__(
        self,
        carry: tuple[Float[AnyArray, "B T D"], dict | None],
        number: Int[AnyArray, ""] | int,
        shared: Shared,
    ) -> tuple[tuple[Float[Array, "B T D"], dict | None], None]:
        """carry: hidden states and the cache of all layers; number: the layer's."""
        (x, cache), (angles, mask, near) = carry, shared
        if near is not None:
            mask &= near | (number < self.config.window_from)
        drop = nn.Dropout(self.config.dropout, deterministic=self.deterministic)
        with jax.named_scope("attention"):
            y = layers.RMSNorm(self.config, name="attention_norm")(x)
            y, cache = Attention(self.config, name="attention")(
                y, cache, number, angles, mask
            )
            x = x + drop(y)
        with jax.named_scope("mlp"):
            y = layers.RMSNorm(self.config, name="mlp_norm")(x)
            x = x + drop(MLP(self.config, name="mlp")(y))
        return (pin_batch(x), cache), None


class Llama(nn.Module):
    """The decoder up to its last norm; `models.unembed` turns that into logits."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        tokens: Int[AnyArray, "B T"],
        positions: Int[AnyArray, "B T"],
        mask: Mask | Tiles | Bool[AnyArray, "#B T S"],
        cache: dict | None = None,
        *,
        deterministic: bool = True,
        run_layers: Callable[..., tuple] | None = None,
    ) -> tuple[Float[Array, "B T D"], dict | None]:
        """S is T without a cache, else the number of slots.

        Without a cache, tokens that see each other must have consecutive positions.
        run_layers: runs the layers in place of `layers.stack_cached`, see models.apart.
        """
        c = self.config
        with jax.named_scope("embed"):
            x = layers.Embed(c, c.vocabulary, c.dim, "vocabulary", name="embed")(tokens)
            x = nn.Dropout(c.dropout, deterministic=deterministic)(x)
        near, cache = _sliding_window(c, positions, mask, cache)
        shared = Shared(layers.rotary_angles(c, positions), mask, near)
        run = run_layers or layers.stack_cached(Layer, c, deterministic)
        x, cache = run(x, cache, shared)
        if not c.tie_embeddings:
            init, shape = nn.initializers.normal(c.init_std), (c.vocabulary, c.dim)
            self.param("unembed", init, shape, c.param_dtype)
        with jax.named_scope("norm"):
            return layers.RMSNorm(c, name="norm")(x), cache


def _sliding_window(
    config: ModelConfig,
    positions: Int[AnyArray, "B T"],
    mask: Mask | Tiles | Bool[AnyArray, "#B T S"],
    cache: dict | None,
) -> tuple[Bool[AnyArray, "B T S"] | Bool[AnyArray, "B G Q W"] | None, dict | None]:
    """Which keys the sliding window holds, and the cache with the new positions.

    None for the keys if the window hides none, so that a flash kernel may be chosen.
    """
    window, of_keys = config.sliding_window, positions
    if window is None or (cache is None and positions.shape[1] <= window):
        return None, cache
    if cache is not None:
        cache, of_keys = extend_positions(cache, positions)
    if isinstance(mask, Tiles):
        here, there = mask.queries(positions), mask.keys(of_keys)
        return here[..., None] - there[:, :, None] < window, cache
    return positions[:, :, None] - of_keys[:, None, :] < window, cache
