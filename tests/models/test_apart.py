"""Layers kept apart against stacked ones, and the program that runs one of them."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax import models
from insgenel_jax.models import apart
from tests.helpers.marks import slow
from tests.helpers.tiny import LLAMA, OPT, WINDOWED


@pytest.mark.parametrize("config", [LLAMA, WINDOWED, slow(OPT)], ids=lambda c: c.family)
def test_apart_is_stacked(config):
    """Hidden states and caches, of two calls in which a row has pages in any order."""
    params = models.init_params(config, jax.random.key(0))
    own = apart.split_layers(dict(params))
    assert apart.are_apart(own) and not apart.are_apart(params)
    tokens = jax.random.randint(jax.random.key(1), (1, 8), 0, config.vocabulary)
    stacked = models.init_cache(config, 1, 8)
    single = apart.init_cache(config, 1, 8)
    del stacked["length"], single["length"]
    for call in range(2):
        slots = np.array([[4, 5, 6, 7], [0, 1, 2, 3]])[call][None]
        positions = np.arange(4)[None] + 4 * call
        seen = (np.arange(8) <= np.arange(4)[:, None] + 4 * call)[None, None]
        mask = models.Tiles(
            pages=np.array([[[1, 0]]]),
            tokens=np.arange(4)[None, None],
            seen=seen,
            place=np.arange(4)[None],
            page=4,
        )
        part = tokens[:, 4 * call : 4 * call + 4]
        expected, stacked = apart.apply(
            config, params, part, positions, mask, stacked | {"slots": slots}
        )
        found, single = apart.forward(
            config, own, part, positions, mask, single | {"slots": slots}
        )
        np.testing.assert_allclose(found, expected, atol=1e-5)
        del stacked["slots"], single["slots"]
    whole = build_causal(config, params, tokens)
    np.testing.assert_allclose(found, whole[:, 4:], atol=1e-5)


def build_causal(config, params, tokens):
    positions = jnp.arange(tokens.shape[1])[None]
    mask = models.attention.Mask(causal=True)
    return models.build(config).apply({"params": params}, tokens, positions, mask)[0]


def test_one_program_runs_parameters_apart():
    """For `step` and `beam`, whose cache is stacked."""
    params = models.init_params(LLAMA, jax.random.key(0))
    own = apart.split_layers(dict(params))
    tokens = jnp.ones((2, 3), jnp.int32)
    arguments = (tokens, tokens, jnp.ones((2, 3, 5), bool))
    found = [
        jax.jit(apart.apply, static_argnums=0)(
            LLAMA, some, *arguments, models.init_cache(LLAMA, 2, 5)
        )
        for some in (params, own)
    ]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found[0], found[1]
    )


def slices(compiled: str, sizes: set[str]) -> set[str]:
    """The sizes among these that a compiled program slices or copies out of others.

    XLA names a fusion by what it does: %dynamic-slice_bitcast_fusion.
    """
    made = re.findall(r"%(\S*(?:slice|copy)\S*) = f32\[([\d,]+)\]", compiled)
    return sizes & {size for name, size in made if "update" not in name}


def test_no_call_copies_a_layers_slice():
    """Neither of the parameters nor of the cache; the stacked loop copies both."""
    config = dataclasses.replace(LLAMA, dim=48, ffn=80)
    params = models.init_params(config, jax.random.key(0))
    own = apart.split_layers(dict(params))
    slots = jnp.zeros((1, 4), jnp.int32)
    tiles = models.Tiles(
        jnp.zeros((1, 1, 2), jnp.int32),
        slots[:, None],
        jnp.ones((1, 1, 4, 8), bool),
        slots,
        4,
    )
    begin, layer, _ = apart.programs(config)
    cache = apart.init_cache(config, 1, 1024)
    hidden, _, shared = begin(
        {k: v for k, v in own.items() if k != "layers"}, slots, slots, tiles, {}
    )

    def run(params, hidden, cache):
        number = jnp.int32(0)
        return layer.__wrapped__(params, hidden, cache, slots, number, shared)

    lowered = jax.jit(run, donate_argnums=(1, 2)).lower(
        own["layers"][0], hidden, cache["layers"][0]
    )
    text = lowered.compile().as_text()
    K, H = config.kv_heads, config.head_dim
    sizes = {"48,80", "1,48,80", "80,48", "1,80,48"}
    sizes |= {f"1,1024,{K},{H}", f"1,1,1024,{K},{H}"}
    assert not slices(text, sizes)
    stacked = models.init_cache(config, 1, 1024) | {"slots": slots}

    def scan(params, cache):
        return apart.apply(config, params, slots, slots, tiles, cache)

    lowered = jax.jit(scan, donate_argnums=1).lower(params, stacked)
    assert slices(lowered.compile().as_text(), sizes)


def test_int8_is_off_by_half_a_step():
    """Of each output channel's own; and a model in 8 bits says nearly the same."""
    params = models.init_params(LLAMA, jax.random.key(2))
    own = apart.split_layers(dict(params))
    small = models.int8.quantise(own)
    for layer, floats in zip(small["layers"], own["layers"], strict=True):
        for part, name, axes in (
            ("attention", "query", (0,)),
            ("attention", "output", (0, 1)),
            ("mlp", "down", (0,)),
        ):
            steps, scale = layer[part][name]["kernel"]
            kernel = np.asarray(floats[part][name]["kernel"])
            assert steps.dtype == "int8"
            largest = np.abs(kernel).max(axis=axes, keepdims=True)
            np.testing.assert_allclose(scale, largest / 127, rtol=1e-6)
            assert (np.abs(steps * scale - kernel) <= scale * 0.5001).all()
        assert layer["mlp_norm"] is floats["mlp_norm"] or (
            layer["mlp_norm"]["scale"] is floats["mlp_norm"]["scale"]
        )
    tokens = jnp.arange(6)[None]
    mask = jnp.tril(jnp.ones((1, 6, 6), bool))
    a, b = (
        apart.apply(LLAMA, some, tokens, tokens, mask, None)[0] for some in (own, small)
    )
    assert 0 < np.abs(a - b).max() < 0.05 * np.abs(a).max()
