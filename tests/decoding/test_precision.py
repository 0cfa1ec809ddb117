"""Log-probabilities against a forward in float64: no decoder loses precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax.decoding import speculative, step, tree
from insgenel_jax.decoding.options import Options
from insgenel_jax.models import layers
from tests.helpers.random_chunks import random_chunk
from tests.helpers.small_models import LENGTH, small_config, small_model


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "scores"), [(2, 1.5), (4, 25), (8, 325)])
def test_decoders_are_as_near_to_float64_as_a_plain_run(tokenizer, scale, scores):
    """Their errors are a few times the spacing of float32 numbers at attention scores.

    Those of `step` are as large, and change with its batch; so do those of a plain run.
    """
    rng = np.random.default_rng(3)
    config = small_config(tokenizer.size, "llama")
    ways = {"step": (step, 64), "step alone": (step, 1)}
    ways |= {"tree": (tree, 64), "speculative": (speculative, 64)}
    # the largest errors of log-probabilities, and of margins
    worst = {name: np.zeros(2) for name in (*ways, "plain")}
    largest = 0.0
    for seed in range(4):
        model, params = small_model(tokenizer.size, float(scale), "llama", seed)
        chunks = [random_chunk(tokenizer, rng) for _ in range(16)]
        found = {
            name: [
                path
                for first in range(0, len(chunks), batch)
                for path in decoder.decode(
                    model,
                    params,
                    chunks[first : first + batch],
                    batch=batch,
                    options=Options(),
                )
            ]
            for name, (decoder, batch) in ways.items()
        }
        for chunk, *paths in zip(chunks, *found.values(), strict=True):
            edges = paths[0].edges
            if not edges or min(path.margin for path in paths) < 1e-4:
                continue
            ids = [*chunk.prompt, *chunk.table.token[edges].tolist()]
            first = len(chunk.prompt) - 1
            logits, score = run_in_float64(config, params, ids)
            largest = max(largest, score)
            truth = score_path(chunk.table, edges, logits[first:])
            scored = {
                name: (path.log_probs, path.margin)
                for name, path in zip(ways, paths, strict=True)
            }
            in_float32 = run(model, params, ids)[first:]
            scored["plain"] = score_path(chunk.table, edges, in_float32)
            for name, found in scored.items():
                errors = [
                    np.abs(np.subtract(*x)).max()
                    for x in zip(found, truth, strict=True)
                ]
                worst[name] = np.maximum(worst[name], errors)
    assert scores / 2 < largest <= scores
    bound = np.array([6, 12]) * np.spacing(np.float32(scores))
    others = np.maximum.reduce([worst[n] for n in ("plain", "step", "step alone")])
    for name in ("tree", "speculative"):
        assert (worst[name] <= bound).all()
        assert (worst[name] <= 2 * others).all()


@functools.partial(jax.jit, static_argnums=0)
def run_padded(model, params, ids):
    mask = jnp.tril(jnp.ones((1, LENGTH, LENGTH), bool))
    hidden, _ = model.forward(params, ids, jnp.arange(LENGTH)[None], mask, None)
    return model.unembed(params, hidden[0], None)


def run(model, params, ids):
    """The logits [T V] of a sequence, in one call without a cache."""
    padded = np.pad(ids, (0, LENGTH - len(ids)))[None]
    return np.asarray(run_padded(model, params, padded))[: len(ids)]


def score_path(table, edges, logits):
    """ln p of each edge of a path among those allowed, and the path's margin.

    logits [edges V]: of what follows the tokens before each edge.
    """
    found, state, margin = [], 0, np.inf
    for edge, row in zip(edges, np.asarray(logits, np.float64), strict=False):
        allowed = np.arange(table.indptr[state], table.indptr[state + 1])
        scores = row[table.token[allowed]] + table.bias[allowed]
        best = scores.max()
        found.append(scores[edge - allowed[0]] - best)
        found[-1] -= np.log(np.exp(scores - best).sum())
        if len(scores) > 1:
            margin = min(margin, best - np.sort(scores)[-2])
        state = table.next[edge]
    return np.array(found), margin


def run_in_float64(config, params, ids):
    """The logits [T V] of a LLaMA, and its largest attention score; numpy alone.

    The rotary angles are the model's own, which are rounded to float32.
    """
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    T, repeats = len(ids), config.heads // config.kv_heads
    angles = layers.rotary_angles(config, np.arange(T)[None])
    cos, sin = (np.asarray(x, np.float64)[0][:, None] for x in angles)
    future, largest = np.triu(np.ones((T, T), bool), 1), 0.0

    def norm(x, own):
        mean = (x * x).mean(axis=-1, keepdims=True)
        return x / np.sqrt(mean + config.norm_eps) * own["scale"]

    def rotate(x):
        a, b = np.split(x, 2, axis=-1)
        return x * cos + np.concatenate([-b, a], axis=-1) * sin

    x = params["embed"]["embedding"][ids]
    for number in range(config.layers):
        own = jax.tree.map(lambda p, n=number: p[n], params["layers"])
        y = norm(x, own["attention_norm"])
        query, key, value = (
            np.einsum("td,dnh->tnh", y, own["attention"][name]["kernel"])
            for name in ("query", "key", "value")
        )
        query, key = rotate(query), rotate(key)
        key, value = (np.repeat(each, repeats, axis=1) for each in (key, value))
        scores = np.einsum("tnh,snh->nts", query, key) / np.sqrt(config.head_dim)
        largest = max(largest, np.abs(scores[:, ~future]).max())
        weights = np.where(future, 0, np.exp(scores - scores.max(axis=-1)[..., None]))
        weights = weights / weights.sum(axis=-1, keepdims=True)
        mixed = np.einsum("nts,snh->tnh", weights, value)
        x = x + np.einsum("tnh,nhd->td", mixed, own["attention"]["output"]["kernel"])
        y = norm(x, own["mlp_norm"])
        gate, up = (y @ own["mlp"][name]["kernel"] for name in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ own["mlp"]["down"]["kernel"]
    unembed = params.get("unembed", params["embed"]["embedding"])
    return norm(x, params["norm"]) @ unembed.T, largest
