"""Prompts in; what a model writes after each of them out, with no constraint.

Greedy decoding with the KV cache. The prompts are run in pieces of a static length, and
the new tokens by a jitted loop that returns to the host every STEPS tokens, where the
stop condition is checked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from insgenel_jax.decoding.forward import Model
from insgenel_jax.decoding.padded import clip_order, pad_rows
from insgenel_jax.tokenizer.padding import next_power

PIECE = 256  # tokens of each prompt that one call runs
SLOTS = 256  # the smallest number of cache slots, for each row
STEPS = 32  # new tokens between two looks at the stop condition


class Written(NamedTuple):
    """What a model wrote after a prompt.

    tokens: without EOS. cut_off: it had not come to an end after `new_tokens` tokens.
    """

    tokens: list[int]
    cut_off: bool


def write(
    model: Model,
    params,
    prompts: Sequence[Sequence[int]],
    *,
    batch: int,
    new_tokens: int,
    eos: int,
    stop: Callable[[list[int]], bool] | None = None,
) -> list[Written]:
    """Write at most `new_tokens` tokens after each prompt, up to `batch` at a time.

    A row ends at EOS, or with the first token for which `stop`, called with all new
    tokens so far, is true. The model needs positions for a prompt and its new tokens.
    Raises ValueError for a prompt without tokens.
    """
    if empty := [i for i, prompt in enumerate(prompts) if not len(prompt)]:
        raise ValueError(f"prompt {empty[0]}: expected at least one token, found none")
    # prompts of about the same length run together
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    written: dict[int, Written] = {}
    for first in range(0, len(order), batch):
        group = order[first : first + batch]
        rows = _write_batch(
            model, params, [prompts[i] for i in group], batch, new_tokens, eos, stop
        )
        written |= zip(group, rows, strict=True)
    return [written[i] for i in range(len(prompts))]


def _write_batch(
    model: Model,
    params,
    prompts: list[Sequence[int]],
    batch: int,
    new_tokens: int,
    eos: int,
    stop: Callable[[list[int]], bool] | None,
) -> list[Written]:
    """`write` for at most `batch` prompts, padded to `batch` rows."""
    slots = next_power(max(map(len, prompts)) + new_tokens, SLOTS)
    cache, last = _read_prompts(model, params, prompts, batch, slots)
    rows: list[list[int]] = [[] for _ in prompts]
    live = np.arange(batch) < len(prompts)
    new, written = last[:, None], 0
    while True:
        for row, tokens in enumerate(rows):
            live[row] = live[row] and _append(tokens, new[row].tolist(), eos, stop)
        written += new.shape[1]
        steps = min(STEPS, new_tokens - written)
        if steps <= 0 or not live.any():
            return [Written(row, bool(live[i])) for i, row in enumerate(rows)]
        cache, tokens = _extend(
            model, params, cache, new[:, -1], live, steps, eos, slots=slots
        )
        new = np.asarray(tokens)[:, :steps]


def _append(
    tokens: list[int],
    new: list[int],
    eos: int,
    stop: Callable[[list[int]], bool] | None,
) -> bool:
    """Append a row's new tokens up to its end; false where the end was reached."""
    for token in new:
        if token == eos:
            return False
        tokens.append(token)
        if stop is not None and stop(tokens):
            return False
    return True


def _read_prompts(
    model: Model, params, prompts: list[Sequence[int]], batch: int, slots: int
) -> tuple[dict, Int[np.ndarray, " B"]]:
    """The cache of the prompts, and the token that follows each of them."""
    cache = _empty(model, batch, slots)
    last = np.zeros(batch, np.int32)
    for first in range(0, max(map(len, prompts)), PIECE):
        pieces = [prompt[first : first + PIECE] for prompt in prompts]
        counts = pad_rows([[len(piece)] for piece in pieces], batch, 1)[:, 0]
        tokens = pad_rows(pieces, batch, PIECE)
        cache, best = _read(model, params, cache, tokens, counts, slots=slots)
        last = np.where(counts > 0, np.asarray(best), last)
    return cache, last


@functools.partial(jax.jit, static_argnames=("model", "batch", "slots"))
def _empty(model: Model, batch: int, slots: int) -> dict:
    return model.init_cache(batch, slots)


@functools.partial(
    jax.jit, static_argnames=("model", "slots"), donate_argnames=("cache",)
)
def _read(
    model: Model,
    params,
    cache: dict,
    tokens: Int[Array, "B T"],
    counts: Int[Array, " B"],
    *,
    slots: int,
) -> tuple[dict, Int[Array, " B"]]:
    """Run a piece of each prompt: the cache, and the best token after each piece."""
    hidden, cache = _run(model, params, cache, tokens, counts, slots)
    return cache, _best(model, params, hidden)


class _State(NamedTuple):
    """The loop of `_extend`: `last` is the newest token of each row, not run yet."""

    step: Int[Array, ""]
    cache: dict
    last: Int[Array, " B"]
    live: Bool[Array, " B"]
    tokens: Int[Array, "B N"]


@functools.partial(
    jax.jit, static_argnames=("model", "slots"), donate_argnames=("cache",)
)
def _extend(
    model: Model,
    params,
    cache: dict,
    last: Int[Array, " B"],
    live: Bool[Array, " B"],
    steps: int | Int[Array, ""],
    eos: int | Int[Array, ""],
    *,
    slots: int,
) -> tuple[dict, Int[Array, "B N"]]:
    """The cache, and the next `steps` tokens of each live row; EOS after its end."""

    def go_on(state: _State) -> Bool[Array, ""]:
        return (state.step < steps) & state.live.any()

    def take(state: _State) -> _State:
        counts = state.live.astype(jnp.int32)
        hidden, cache = _run(
            model, params, state.cache, state.last[:, None], counts, slots
        )
        best = jnp.where(state.live, _best(model, params, hidden), eos)
        tokens = state.tokens.at[:, state.step].set(best)
        return _State(state.step + 1, cache, best, state.live & (best != eos), tokens)

    tokens = jnp.full((len(last), STEPS), eos, jnp.int32)
    state = _State(jnp.zeros((), jnp.int32), cache, last, live, tokens)
    state = jax.lax.while_loop(go_on, take, state)
    return state.cache, state.tokens


def _run(
    model: Model,
    params,
    cache: dict,
    tokens: Int[Array, "B T"],
    counts: Int[Array, " B"],
    slots: int,
) -> tuple[Float[Array, "B D"], dict]:
    """Run the first `counts` tokens of each row: the hidden state of the last one."""
    first, order = cache["length"][:, None], jnp.arange(tokens.shape[1])
    mask = jnp.arange(slots) <= (first + order)[:, :, None]  # [B T S]
    positions = first + clip_order(order, counts)
    hidden, cache = model.forward(params, tokens, positions, mask, cache)
    at = jnp.maximum(counts - 1, 0)[:, None, None]
    cache = {**cache, "length": cache["length"] + counts}
    return jnp.take_along_axis(hidden, at, axis=1)[:, 0], cache


def _best(model: Model, params, hidden: Float[Array, "B D"]) -> Int[Array, " B"]:
    """The most probable next token of each row."""
    return jnp.argmax(model.unembed(params, hidden, None), axis=-1).astype(jnp.int32)
