"""BERT: tokens, positions and mask to the hidden states of the last layer."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from insgenel_jax.models import attention, layers
from insgenel_jax.models.attention import Mask
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.sharding import AnyArray, Axes, pin_batch

# Parameter path -> logical axes (sharding.py places them on the mesh).
AXES: Axes = {
    "embed/embedding": ("vocabulary", "model"),
    "embed_position/embedding": (None, "model"),
    "embed_type/embedding": (None, "model"),
    "embed_norm/scale": (None,),
    "embed_norm/bias": (None,),
    "layers/attention/query/kernel": ("layers", "model", "heads", None),
    "layers/attention/query/bias": ("layers", "heads", None),
    "layers/attention/key/kernel": ("layers", "model", "heads", None),
    "layers/attention/key/bias": ("layers", "heads", None),
    "layers/attention/value/kernel": ("layers", "model", "heads", None),
    "layers/attention/value/bias": ("layers", "heads", None),
    "layers/attention/output/kernel": ("layers", "heads", None, "model"),
    "layers/attention/output/bias": ("layers", None),
    "layers/attention_norm/scale": ("layers", None),
    "layers/attention_norm/bias": ("layers", None),
    "layers/mlp/up/kernel": ("layers", "model", "ffn"),
    "layers/mlp/up/bias": ("layers", "ffn"),
    "layers/mlp/down/kernel": ("layers", "ffn", "model"),
    "layers/mlp/down/bias": ("layers", None),
    "layers/mlp_norm/scale": ("layers", None),
    "layers/mlp_norm/bias": ("layers", None),
}


class Attention(nn.Module):
    """Self-attention; positions are in the embeddings alone."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, x: Float[AnyArray, "B T D"], mask: Mask | Bool[AnyArray, "#B T T"]
    ) -> Float[Array, "B T D"]:
        c = self.config
        heads = (c.heads, c.head_dim)
        query = layers.project(c, heads, "query", bias=True)(x)
        key = layers.project(c, heads, "key", bias=True)(x)
        value = layers.project(c, heads, "value", bias=True)(x)
        x = attention.attend(query, key, value, mask, c.attention)
        return layers.project(c, c.dim, "output", axis=(-2, -1), bias=True)(x)


class MLP(nn.Module):
    """Two linear maps with the exact GELU between them."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[AnyArray, "B T D"]) -> Float[Array, "B T D"]:
        x = layers.project(self.config, self.config.ffn, "up", bias=True)(x)
        x = nn.gelu(x, approximate=False)
        return layers.project(self.config, self.config.dim, "down", bias=True)(x)


class Layer(nn.Module):
    """norm(x + attention(x)), then norm(x + mlp(x))."""

    config: ModelConfig
    deterministic: bool

    @nn.compact
    def __call__(
        self,
        x: Float[AnyArray, "B T D"],
        number: Int[AnyArray, ""] | int,
        mask: Mask | Bool[AnyArray, "#B T T"],
    ) -> tuple[Float[Array, "B T D"], None]:
        """number: the layer's, which only the decoders need."""
        c = self.config
        drop = nn.Dropout(c.dropout, deterministic=self.deterministic)
        with jax.named_scope("attention"):
            y = drop(Attention(c, name="attention")(x, mask))
            x = layers.layer_norm(c, "attention_norm")(x + y)
        with jax.named_scope("mlp"):
            y = drop(MLP(c, name="mlp")(x))
            x = layers.layer_norm(c, "mlp_norm")(x + y)
        return pin_batch(x), None


class Bert(nn.Module):
    """The encoder without its pooler; the hidden state of [CLS] is the first."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        tokens: Int[AnyArray, "B T"],
        positions: Int[AnyArray, "B T"],
        mask: Mask | Bool[AnyArray, "#B T T"],
        cache: dict | None = None,
        *,
        deterministic: bool = True,
    ) -> tuple[Float[Array, "B T D"], None]:
        """All tokens are of type 0. Raises ValueError when a cache is given."""
        c = self.config
        if cache is not None:
            raise ValueError("BERT sees both sides of a token and so has no cache")
        with jax.named_scope("embed"):
            x = layers.Embed(c, c.vocabulary, c.dim, "vocabulary", name="embed")(tokens)
            x += layers.Embed(c, c.max_positions, c.dim, name="embed_position")(
                positions
            )
            x += layers.Embed(c, c.token_types, c.dim, name="embed_type")(
                jnp.zeros_like(tokens)
            )
            x = layers.layer_norm(c, "embed_norm")(x)
            x = nn.Dropout(c.dropout, deterministic=deterministic)(x)
        x, _ = layers.stack(Layer, c, deterministic)(x, jnp.arange(c.layers), mask)
        return x, None
