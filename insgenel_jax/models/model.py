"""A model of any family: its module, parameters and their shardings, and its logits."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray

from insgenel_jax import sharding
from insgenel_jax.models import bert, llama, lora, opt
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.sharding import AnyArray, Axes

_MODULES = {"opt": opt.Opt, "llama": llama.Llama, "bert": bert.Bert}
# Family -> its table of parameter paths and their logical axes.
AXES: dict[str, Axes] = {"opt": opt.AXES, "llama": llama.AXES, "bert": bert.AXES}


def build(config: ModelConfig) -> nn.Module:
    """The Flax module.

    apply({"params": p}, tokens, positions, mask, cache) -> hidden, cache.
    tokens, positions [B T]; mask: an attention.Mask or booleans [B T S]; cache: None or
    what `init_cache` makes; hidden [B T D], from the last layer, for `unembed`.
    """
    return _MODULES[config.family](config)


def init_params(
    config: ModelConfig, key: PRNGKeyArray, shardings: dict | None = None
) -> dict:
    """Fresh parameters, created in `shardings` if those are given."""
    return jax.jit(_init, static_argnums=0, out_shardings=shardings)(config, key)


def init_lora(
    config: ModelConfig, key: PRNGKeyArray, shardings: dict | None = None
) -> dict:
    """Fresh LoRA parameters alone, for `lora.join` with the parameters of a base model.

    Raises ValueError when `config.lora` names a projection that the family lacks.
    """
    abstract = lora.split(abstract_params(config))[0]
    adapted = {path[-2].key for path, _ in jax.tree.leaves_with_path(abstract)}
    if unknown := sorted(set(config.lora.targets) - adapted):
        raise ValueError(f"LoRA targets {unknown}: {config.family!r} has no such maps")
    return jax.jit(_init_lora, static_argnums=0, out_shardings=shardings)(config, key)


def abstract_params(config: ModelConfig) -> dict:
    """The parameters' shapes and dtypes; nothing is computed."""
    return jax.eval_shape(lambda key: _init(config, key), jax.random.key(0))


def count(params: dict) -> int:
    """The number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def param_shardings(config: ModelConfig, mesh: Mesh) -> dict:
    """A NamedSharding for every parameter, by its family's table of logical axes.

    Raises ValueError when the mesh does not divide a dimension.
    """
    abstract = abstract_params(config)
    axes = lora.add_rows(AXES[config.family], abstract)
    return sharding.shardings(abstract, axes, mesh)


def unembed(
    config: ModelConfig,
    params: dict,
    hidden: Float[AnyArray, "*B D"],
    token_ids: Int[AnyArray, "*B C"] | None = None,
) -> Float[Array, "*B C"]:
    """Logits in float32: of `token_ids`, or of the whole vocabulary (C = V) without.

    hidden [B T D] goes with ids [B T C], hidden [B D] with ids [B C].
    """
    rows = params["embed"]["embedding"] if config.tie_embeddings else params["unembed"]
    with jax.named_scope("unembed"):
        if token_ids is None:
            rows, form = rows.astype(config.dtype), "...d,vd->...v"
        else:
            rows, form = rows[token_ids].astype(config.dtype), "...d,...cd->...c"
        hidden = hidden.astype(config.dtype)
        return jnp.einsum(form, hidden, rows, preferred_element_type=jnp.float32)


def _init(config: ModelConfig, key: PRNGKeyArray) -> dict:
    one = jnp.zeros((1, 1), jnp.int32)
    # "auto", because the backend of the config may refuse this platform or one token;
    # parameters do not depend on it
    config = dataclasses.replace(config, attention="auto")
    return build(config).init(key, one, one, jnp.ones((1, 1, 1), bool))["params"]


def _init_lora(config: ModelConfig, key: PRNGKeyArray) -> dict:
    # the compiler drops what only the base needs
    return lora.split(_init(config, key))[0]
