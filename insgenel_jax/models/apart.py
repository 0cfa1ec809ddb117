"""Layers kept apart: each with parameters and a KV cache of its own, run one by one.

A scan over stacked layers copies each layer's slice of the parameters and of the cache
in every call. Here no call does: the parameters' "layers" are a tuple, one item a
layer, and one small program, called once a layer, runs them all. Since that program is
the same for all layers, it also compiles in a fraction of the time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from insgenel_jax.models import cache as caches
from insgenel_jax.models import llama, opt
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.models.int8 import dequantise
from insgenel_jax.models.model import build
from insgenel_jax.sharding import AnyArray

_LAYERS = {"opt": opt.Layer, "llama": llama.Layer}


def split_layers(params: dict) -> dict:
    """Parameters with their layers apart; those given are used up, array by array.

    So at no time is there more than one array twice.
    """
    rest = {name: tree for name, tree in params.items() if name != "layers"}
    stacked, form = jax.tree.flatten(params.pop("layers"))
    layers: list[list] = [[] for _ in range(len(stacked[0]))]
    for i in range(len(stacked)):
        for number, own in enumerate(layers):
            own.append(stacked[i][number])
        stacked[i] = None
    return rest | {"layers": tuple(form.unflatten(own) for own in layers)}


def join_layers(params: dict) -> dict:
    """Parameters with their layers stacked, as training and files have them.

    Layers that are apart are copied to the host; 8 bits become floats of the same
    values.
    """
    if not are_apart(params):
        return params

    layers = [
        jax.tree.map(np.asarray, dequantise(layer, "float32"))
        for layer in params["layers"]
    ]
    return params | {"layers": jax.tree.map(lambda *own: np.stack(own), *layers)}


def are_apart(params: dict) -> bool:
    """Whether the layers of some parameters are apart."""
    return isinstance(params["layers"], tuple)


def init_cache(config: ModelConfig, batch: int, slots: int) -> dict:
    """An empty cache: "layers", with k and v [1 B S K H] of each, and the rest."""
    stacked = jax.eval_shape(lambda: caches.init_cache(config, batch, slots))

    def empty(name: str, leading: tuple[int, ...] = ()) -> Array:
        shape = (*leading, *stacked[name].shape[len(leading) :])
        return jnp.zeros(shape, stacked[name].dtype)

    rest = {name: empty(name) for name in stacked if name not in "kv"}
    layers = [{name: empty(name, (1,)) for name in "kv"} for _ in range(config.layers)]
    return rest | {"layers": tuple(layers)}


def move_slots(
    cache: dict, source: Int[AnyArray, "B P"], target: Int[AnyArray, "B P"]
) -> dict:
    """As `cache.move_slots`, in the caches of all layers."""
    rest = {name: x for name, x in cache.items() if name != "layers"}
    layers = tuple(caches.move_slots(x, source, target) for x in cache["layers"])
    return caches.move_slots(rest, source, target) | {"layers": layers}


@functools.cache  # the same programs again for the same config
def programs(config: ModelConfig) -> tuple[Callable, Callable, Callable]:
    """What runs a model layer by layer, as three jitted functions.

    begin(rest, tokens, positions, mask, cache) -> hidden, cache, shared: what the
    layers share. layer(params, hidden, cache, slots, number, shared) -> hidden, cache,
    of one layer, in whose place the new ones are. end(rest, hidden) -> hidden, for
    `unembed`. rest: the parameters without the layers.
    """
    module, one = build(config), _LAYERS[config.family](config, True)

    def begin(rest, tokens, positions, mask, cache):
        found = []

        def stop(*reached):
            found.append(reached)
            return reached[:2]

        module.apply({"params": rest}, tokens, positions, mask, cache, run_layers=stop)
        return found[0]

    def layer(params, hidden, cache, slots, number, shared):
        params = dequantise(params, config.dtype)
        carry = (hidden, cache | {"slots": slots})
        (hidden, cache), _ = one.apply({"params": params}, carry, number, shared)
        return hidden, {name: cache[name] for name in "kv"}

    def end(rest, hidden):
        tokens = jnp.zeros(hidden.shape[:2], jnp.int32)  # what they give is not used
        mask = jnp.ones((1, *tokens.shape[1:], tokens.shape[1]), bool)
        return module.apply(
            {"params": rest},
            tokens,
            tokens,
            mask,
            run_layers=lambda *_: (hidden, None),
        )[0]

    return jax.jit(begin), jax.jit(layer, donate_argnums=(1, 2)), jax.jit(end)


def forward(
    config: ModelConfig,
    params: dict,
    tokens: Int[AnyArray, "B T"],
    positions: Int[AnyArray, "B T"],
    mask,
    cache: dict,
) -> tuple[Float[Array, "B T D"], dict]:
    """Hidden states and the cache. The cache's arrays are used up.

    cache: as `init_cache` makes one, with "slots" [B T] in place of "length".
    """
    begin, layer, end = programs(config)
    rest = {name: tree for name, tree in params.items() if name != "layers"}
    own = cache["layers"]
    hidden, cache, shared = begin(
        rest,
        tokens,
        positions,
        mask,
        {name: x for name, x in cache.items() if name != "layers"},
    )
    layers = []
    for number, of_layer in enumerate(params["layers"]):
        hidden, kept = layer(
            of_layer, hidden, own[number], cache["slots"], _number(number), shared
        )
        layers.append(kept)
    return end(rest, hidden), cache | {"layers": tuple(layers)}


@functools.cache
def _number(layer: int) -> Int[Array, ""]:
    """A layer's number on the device."""
    return jnp.int32(layer)


def apply(
    config: ModelConfig, params: dict, *args
) -> tuple[Float[Array, "B T D"], dict | None]:
    """The whole model in one program, for parameters with layers apart or stacked.

    args: tokens, positions, mask and cache, whose keys and values are stacked.
    """
    if not are_apart(params):
        return build(config).apply({"params": params}, *args)
    one = _LAYERS[config.family](config, True)

    def run_layers(hidden, cache, shared):
        for number, own in enumerate(params["layers"]):
            own = dequantise(own, config.dtype)
            (hidden, cache), _ = one.apply(
                {"params": own}, (hidden, cache), jnp.int32(number), shared
            )
        return hidden, cache

    rest = {name: tree for name, tree in params.items() if name != "layers"}
    return build(config).apply({"params": rest}, *args, run_layers=run_layers)
