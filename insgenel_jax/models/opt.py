"""OPT: tokens, positions, mask and KV cache to hidden states and the cache."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
from jaxtyping import Array, Bool, Float, Int

from insgenel_jax.models import attention, layers
from insgenel_jax.models.attention import Mask
from insgenel_jax.models.cache import extend_cache
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.models.tiles import Tiles
from insgenel_jax.sharding import AnyArray, Axes, pin_batch

OFFSET = 2  # position 0 has row 2 of the table; no position has the first two rows

# Parameter path -> logical axes (sharding.py places them on the mesh).
AXES: Axes = {
    "embed/embedding": ("vocabulary", "model"),
    "embed_position/embedding": (None, "model"),
    "project_in/kernel": (None, "model"),
    "layers/attention_norm/scale": ("layers", None),
    "layers/attention_norm/bias": ("layers", None),
    "layers/attention/query/kernel": ("layers", "model", "heads", None),
    "layers/attention/query/bias": ("layers", "heads", None),
    "layers/attention/key/kernel": ("layers", "model", "heads", None),
    "layers/attention/key/bias": ("layers", "heads", None),
    "layers/attention/value/kernel": ("layers", "model", "heads", None),
    "layers/attention/value/bias": ("layers", "heads", None),
    "layers/attention/output/kernel": ("layers", "heads", None, "model"),
    "layers/attention/output/bias": ("layers", None),
    "layers/mlp_norm/scale": ("layers", None),
    "layers/mlp_norm/bias": ("layers", None),
    "layers/mlp/up/kernel": ("layers", "model", "ffn"),
    "layers/mlp/up/bias": ("layers", "ffn"),
    "layers/mlp/down/kernel": ("layers", "ffn", "model"),
    "layers/mlp/down/bias": ("layers", None),
    "norm/scale": (None,),
    "norm/bias": (None,),
    "project_out/kernel": ("model", None),
    "unembed": ("vocabulary", "model"),
}


class Attention(nn.Module):
    """Self-attention with a KV cache; positions are in the embeddings alone."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        x: Float[AnyArray, "B T D"],
        cache: dict | None,
        number: Int[AnyArray, ""] | int,
        mask: Mask | Tiles | Bool[AnyArray, "#B T S"],
    ) -> tuple[Float[Array, "B T D"], dict | None]:
        c = self.config
        heads = (c.heads, c.head_dim)
        query = layers.project(c, heads, "query", bias=True)(x)
        key = layers.project(c, heads, "key", bias=True)(x)
        value = layers.project(c, heads, "value", bias=True)(x)
        if cache is not None:
            cache, key, value = extend_cache(cache, number, key, value)
        x = attention.attend(query, key, value, mask, c.attention)
        return layers.project(c, c.dim, "output", axis=(-2, -1), bias=True)(x), cache


class MLP(nn.Module):
    """Two linear maps with a ReLU between them."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[AnyArray, "B T D"]) -> Float[Array, "B T D"]:
        x = layers.project(self.config, self.config.ffn, "up", bias=True)(x)
        return layers.project(self.config, self.config.dim, "down", bias=True)(
            nn.relu(x)
        )


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    The 350M has the norms after: norm(x + attention(x)), then norm(x + mlp(x)).
    """

    config: ModelConfig
    deterministic: bool

    @nn.compact
    def __call__(
        self,
        carry: tuple[Float[AnyArray, "B T D"], dict | None],
        number: Int[AnyArray, ""] | int,
        mask: Mask | Tiles | Bool[AnyArray, "#B T S"],
    ) -> tuple[tuple[Float[Array, "B T D"], dict | None], None]:
        """carry: hidden states and the cache of all layers; number: the layer's."""
        (x, cache), c = carry, self.config
        drop = nn.Dropout(c.dropout, deterministic=self.deterministic)
        with jax.named_scope("attention"):
            norm = layers.layer_norm(c, "attention_norm")
            y, cache = Attention(c, name="attention")(
                norm(x) if c.pre_norm else x, cache, number, mask
            )
            x = x + drop(y)
            x = x if c.pre_norm else norm(x)
        with jax.named_scope("mlp"):
            norm = layers.layer_norm(c, "mlp_norm")
            y = MLP(c, name="mlp")(norm(x) if c.pre_norm else x)
            x = x + drop(y)
            x = x if c.pre_norm else norm(x)
        return (pin_batch(x), cache), None


class Opt(nn.Module):
    """The decoder up to its last norm. The 350M has none, and maps to `embed_dim`."""

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
        """S is T without a cache, else the number of slots. D is `embed_dim` if given.

        A position beyond `max_positions` makes the hidden state NaN. run_layers: runs
        the layers in place of `layers.stack_cached`, see models.apart.
        """
        c = self.config
        width = c.embed_dim or c.dim
        with jax.named_scope("embed"):
            x = layers.Embed(c, c.vocabulary, width, "vocabulary", name="embed")(tokens)
            if width != c.dim:
                x = layers.project(c, c.dim, "project_in")(x)
            x += layers.Embed(
                c, c.max_positions + OFFSET, c.dim, name="embed_position"
            )(positions + OFFSET)
        run = run_layers or layers.stack_cached(Layer, c, deterministic)
        x, cache = run(x, cache, mask)
        if not c.tie_embeddings:
            init, shape = nn.initializers.normal(c.init_std), (c.vocabulary, width)
            self.param("unembed", init, shape, c.param_dtype)
        with jax.named_scope("norm"):
            if c.pre_norm:
                x = layers.layer_norm(c, "norm")(x)
            if width != c.dim:
                x = layers.project(c, width, "project_out")(x)
        return x, cache
