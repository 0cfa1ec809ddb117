"""LLaMA: tokens, positions, mask, cache -> hidden states of the last layer, cache.

By fields of the config it is Mistral (sliding window), Qwen2 (bias on query, key and
value) or Qwen3 (query and key normed) as well.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from insgenel_jax.models import attention, layers
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.sharding import pin_batch

# Parameter path -> logical axes (sharding.py places them on the mesh).
AXES = {
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


class Attention(nn.Module):
    """Causal self-attention with rotary positions and grouped key heads."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], cache, number, angles, mask):
        c, bias = self.config, self.config.qkv_bias
        query = layers.project(c, (c.heads, c.head_dim), "query", bias=bias)(x)
        key = layers.project(c, (c.kv_heads, c.head_dim), "key", bias=bias)(x)
        value = layers.project(c, (c.kv_heads, c.head_dim), "value", bias=bias)(x)
        if c.qk_norm:  # over each head
            query = layers.RMSNorm(c, name="query_norm")(query)
            key = layers.RMSNorm(c, name="key_norm")(key)
        query, key = layers.rotate(query, angles), layers.rotate(key, angles)
        if cache is not None:
            cache, key, value = attention.extend_cache(cache, number, key, value)
        x = attention.attend(query, key, value, mask, c.attention)
        return layers.project(c, c.dim, "output", axis=(-2, -1))(x), cache


class MLP(nn.Module):
    """SwiGLU."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        gate = layers.project(self.config, self.config.ffn, "gate")(x)
        up = layers.project(self.config, self.config.ffn, "up")(x)
        return layers.project(self.config, self.config.dim, "down")(nn.silu(gate) * up)


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    config: ModelConfig
    deterministic: bool

    @nn.compact
    def __call__(self, carry, number, shared):
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
    """The decoder up to its last norm; `models.unembed` makes logits of that."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B T"],
        positions: Int[Array, "B T"],
        mask: attention.Mask | Bool[Array, "B T S"],
        cache: dict | None = None,
        *,
        deterministic: bool = True,
    ) -> tuple[Float[Array, "B T D"], dict | None]:
        """S = T without a cache, else the cache's slots.

        Without a cache the positions of tokens that see each other are consecutive.
        """
        c = self.config
        with jax.named_scope("embed"):
            x = layers.Embed(c, c.vocabulary, c.dim, "vocabulary", name="embed")(tokens)
            x = nn.Dropout(c.dropout, deterministic=deterministic)(x)
        near, seen = None, positions
        # a window that holds all T keys hides none of them
        if c.sliding_window is not None and (
            cache is not None or tokens.shape[1] > c.sliding_window
        ):
            if cache is not None:
                cache, seen = _place(cache, positions)
            near = positions[:, :, None] - seen[:, None, :] < c.sliding_window
        shared = layers.rotary_angles(c, positions), mask, near
        (x, cache), _ = layers.stack(Layer, c, deterministic)(
            (x, cache), jnp.arange(c.layers), shared
        )
        if not c.tie_embeddings:
            init, shape = nn.initializers.normal(c.init_std), (c.vocabulary, c.dim)
            self.param("unembed", init, shape, c.param_dtype)
        with jax.named_scope("norm"):
            return layers.RMSNorm(c, name="norm")(x), cache


def _place(cache: dict, positions: Int[Array, "B T"]) -> tuple[dict, Int[Array, "B S"]]:
    """Put the new tokens' positions where their keys go. -> cache, all slots' positions.

    A slot's number is not its position: a tree's nodes stand in slots after each other,
    at positions that are their depths.
    """
    rows = jnp.arange(positions.shape[0])[:, None]
    slots = cache["length"][:, None] + jnp.arange(positions.shape[1])
    held = cache["positions"].at[rows, slots].set(positions, mode="drop")
    return cache | {"positions": held}, held
