"""What the families share: projections, norms, rotary positions, stacked layers."""

from __future__ import annotations

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from insgenel_jax.models.config import ModelConfig
from insgenel_jax.models.lora import Adapted
from insgenel_jax.sharding import RULES, AnyArray, pin, pin_batch

_POLICIES = {
    "dots": jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims,
    "full": jax.checkpoint_policies.nothing_saveable,
}
# The cosines and sines that `rotary_angles` makes.
Angles = tuple[Float[Array, "B T H"], Float[Array, "B T H"]]


def stack(
    layer: type[nn.Module], config: ModelConfig, deterministic: bool
) -> Callable[..., tuple]:
    """`config.layers` layers as one nn.scan, their parameters on a leading axis.

    Called as stack(...)(carry, layer numbers [L], shared), where `shared` is the same
    for all layers; each layer maps (carry, number, shared) to (carry, None). nn.remat
    is applied as `config.remat` says.
    """
    if config.remat != "none":
        # prevent_cse is not needed inside a scan
        layer = nn.remat(layer, policy=_POLICIES[config.remat], prevent_cse=False)
    scanned = nn.scan(
        layer,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=(0, nn.broadcast),
        length=config.layers,
    )
    return scanned(config, deterministic, name="layers")


def stack_cached(
    layer: type[nn.Module], config: ModelConfig, deterministic: bool
) -> Callable[..., tuple]:
    """`stack` for layers with a cache: (hidden, cache, shared) to (hidden, cache)."""
    stacked = stack(layer, config, deterministic)

    def run(x, cache, shared):
        return stacked((x, cache), jnp.arange(config.layers), shared)[0]

    return run


def project(
    config: ModelConfig,
    features: int | tuple[int, ...],
    name: str | None,
    *,
    axis: int | tuple[int, ...] = -1,
    bias: bool = False,
) -> nn.Module:
    """A linear map of the axes `axis` to `features`, with LoRA if so configured."""
    lora = config.lora
    adapted = lora is not None and name in lora.targets
    linear = functools.partial(Adapted, lora=lora) if adapted else nn.DenseGeneral
    return linear(
        features,
        axis=axis,
        use_bias=bias,
        dtype=config.dtype,
        param_dtype=config.param_dtype,
        kernel_init=nn.initializers.normal(config.init_std),
        name=name,
    )


class Embed(nn.Module):
    """A table of `rows` vectors. A number outside of it gives NaN, so that it shows.

    axis: the logical axis of the rows in the family's table of axes.
    """

    config: ModelConfig
    rows: int
    dim: int
    axis: str | None = None

    @nn.compact
    def __call__(self, numbers: Int[AnyArray, "B T"]) -> Float[Array, "B T D"]:
        c = self.config
        init, shape = nn.initializers.normal(c.init_std), (self.rows, self.dim)
        table = self.param("embedding", init, shape, c.param_dtype)
        # D is gathered before the lookup, else XLA replicates the result
        split = None if self.axis is None else RULES[self.axis]
        table = pin(jnp.asarray(table, c.dtype), split, None)
        return pin_batch(jnp.take(table, numbers, axis=0))


def layer_norm(config: ModelConfig, name: str | None) -> nn.LayerNorm:
    """Layer normalisation over D, with statistics in float32."""
    return nn.LayerNorm(
        config.norm_eps,
        dtype=config.dtype,
        param_dtype=config.param_dtype,
        use_fast_variance=False,  # E[x²] - E[x]² cancels
        name=name,
    )


class RMSNorm(nn.Module):
    """x / rms(x) in float32, rounded to the compute dtype, then scaled."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*B D"]) -> Float[Array, "*B D"]:
        scale = self.param(
            "scale", nn.initializers.ones, (x.shape[-1],), self.config.param_dtype
        )
        x = x.astype(jnp.float32)
        x = x * jax.lax.rsqrt(
            jnp.mean(x * x, axis=-1, keepdims=True) + self.config.norm_eps
        )
        dtype = self.config.dtype
        return x.astype(dtype) * scale.astype(dtype)


def rotary_rates(config: ModelConfig) -> Float[np.ndarray, " pairs"]:
    """Radians a position for each pair of a head's numbers, after RoPE scaling.

    Computed in float64 and rounded once, because a rate's error is multiplied by the
    position. PyTorch computes rates in float32, about one unit in the last place off.
    At positions in the thousands the hidden states of transformers therefore differ
    from ours by more than 1e-4 (by 3e-4 at 7000 with theta 5e5).
    """
    pair = np.arange(0, config.head_dim, 2) / config.head_dim
    rates = config.rope_theta**-pair
    if (rope := config.rope_scaling) is not None:
        slow = np.ones_like(rates)  # 0 keeps a rate, 1 divides it by factor
        if rope.kind == "llama3":
            low, high = rope.low_frequency, rope.high_frequency
            turns = rates * rope.original_positions / (2 * np.pi)
            slow = np.clip((high - turns) / (high - low), 0.0, 1.0)
        rates = rates * (1 - slow) + rates / rope.factor * slow
    return rates.astype(np.float32)


def rotary_angles(config: ModelConfig, positions: Int[AnyArray, "B T"]) -> Angles:
    """Cosines and sines of the rotary embedding, float32, the halves of H equal."""
    angles = positions[..., None].astype(jnp.float32) * rotary_rates(config)
    angles = jnp.concatenate([angles, angles], axis=-1)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: Float[Array, "B T N H"], angles: Angles) -> Float[Array, "B T N H"]:
    """Turn the pairs (x[i], x[i + H/2]) by their angles (Hugging Face's layout)."""
    cos, sin = (a[:, :, None].astype(x.dtype) for a in angles)
    first, second = jnp.split(x, 2, axis=-1)
    return x * cos + jnp.concatenate([-second, first], axis=-1) * sin
