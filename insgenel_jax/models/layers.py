"""The parts that the families share: projections, norms, rotary positions, the stack."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from insgenel_jax.models.config import ModelConfig
from insgenel_jax.models.lora import Adapted
from insgenel_jax.sharding import RULES, pin, pin_batch

_POLICIES = {
    "dots": jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def stack(layer: type[nn.Module], config: ModelConfig, deterministic: bool):
    """`config.layers` layers as one scan: parameters stacked on a leading axis.

    Called as stack(...)((hidden, cache), layer numbers [L], *the same for all layers).
    """
    if config.remat != "none":
        # inside a scan common subexpressions cannot undo the recomputation
        layer = nn.remat(layer, policy=_POLICIES[config.remat], prevent_cse=False)
    scanned = nn.scan(
        layer,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=(0, nn.broadcast),
        length=config.layers,
    )
    return scanned(config, deterministic, name="layers")


def project(config: ModelConfig, features, name: str, *, axis=-1, bias=False):
    """A linear map of the last axis (or of `axis`) to `features` axes."""
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

    axis: the logical axis of the rows, as the family's table has it.
    """

    config: ModelConfig
    rows: int
    dim: int
    axis: str | None = None

    @nn.compact
    def __call__(self, numbers: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        c = self.config
        init, shape = nn.initializers.normal(c.init_std), (self.rows, self.dim)
        table = self.param("embedding", init, shape, c.param_dtype)
        # gathered over D first, else XLA replicates what was looked up
        table = pin(table.astype(c.dtype), RULES.get(self.axis), None)
        return pin_batch(jnp.take(table, numbers, axis=0))


def layer_norm(config: ModelConfig, name: str) -> nn.LayerNorm:
    """Layer normalisation over D, its statistics in float32."""
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
    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        scale = self.param(
            "scale", nn.initializers.ones, (x.shape[-1],), self.config.param_dtype
        )
        x = x.astype(jnp.float32)
        x = x * jax.lax.rsqrt(
            jnp.mean(x * x, axis=-1, keepdims=True) + self.config.norm_eps
        )
        dtype = self.config.dtype
        return x.astype(dtype) * scale.astype(dtype)


def rotary_rates(config: ModelConfig) -> Float[np.ndarray, " H/2"]:
    """Radians a position, of each pair, slowed down as `rope_scaling` says.

    In float64 and rounded once: a rate's error is multiplied by the position. PyTorch's
    are formed in float32, about one unit in the last place off, so that at positions of
    thousands hidden states of transformers differ from ours by more than 1e-4 (by 3e-4
    at 7000 with theta 5e5).
    """
    pair = np.arange(0, config.head_dim, 2) / config.head_dim
    rates = config.rope_theta**-pair
    if (rope := config.rope_scaling) is not None:
        slow = 1.0  # how far a rate goes towards rate / factor
        if rope.kind == "llama3":
            low, high = rope.low_frequency, rope.high_frequency
            turns = rates * rope.original_positions / (2 * np.pi)
            slow = np.clip((high - turns) / (high - low), 0.0, 1.0)
        rates = rates * (1 - slow) + rates / rope.factor * slow
    return rates.astype(np.float32)


def rotary_angles(
    config: ModelConfig, positions: Int[Array, "B T"]
) -> tuple[Float[Array, "B T H"], Float[Array, "B T H"]]:
    """Cosines and sines of the rotary embedding, float32, halves alike."""
    angles = positions[..., None].astype(jnp.float32) * rotary_rates(config)
    angles = jnp.concatenate([angles, angles], axis=-1)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(
    x: Float[Array, "B T N H"],
    angles: tuple[Float[Array, "B T H"], Float[Array, "B T H"]],
) -> Float[Array, "B T N H"]:
    """Turn the pairs (x[i], x[i + H/2]) by their angles (Hugging Face's layout)."""
    cos, sin = (a[:, :, None].astype(x.dtype) for a in angles)
    first, second = jnp.split(x, 2, axis=-1)
    return x * cos + jnp.concatenate([-second, first], axis=-1) * sin
