"""Choosing the next token of a title among all titles of a knowledge base, on a device.

The functions take the prefix tree on the device and one state for each row of a batch:
a node of the tree, or -1 for a row that is not in it. They can be jitted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from insgenel_jax.decoding.title_trie import TitleTrie

WIDTH = 256  # edges that `choose` looks at together
NARROW = 64  # edges of a state up to which `choose_from` asks for their logits alone


class Choice(NamedTuple):
    """The best allowed token of each row.

    state: the one after it. log_prob: ln of its softmax over all allowed tokens,
    however many. margin: its logit minus the second best one's, inf where there is no
    second.
    """

    state: Int[Array, " B"]
    log_prob: Float[Array, " B"]
    margin: Float[Array, " B"]


def edges_of(
    trie: TitleTrie, state: Int[Array, "*B"]
) -> tuple[Int[Array, "*B"], Int[Array, "*B"]]:
    """The edges [low, high) of each state; none for state -1."""
    return trie.indptr[jnp.maximum(state, 0)], trie.indptr[state + 1]


def allowed(
    trie: TitleTrie, state: Int[Array, "*B"], width: int, skip: int | Array = 0
) -> tuple[Int[Array, "*B W"], Int[Array, "*B W"], Bool[Array, "*B W"]]:
    """`width` edges of each state, after its first `skip` ones.

    Returns their tokens, in ascending order, the states after them, and which of them
    exist. A node may have more edges: call again with a larger `skip`.
    """
    low, high = edges_of(trie, state)
    edges = (low + skip)[..., None] + jnp.arange(width)
    return trie.token[edges].astype(jnp.int32), 1 + edges, edges < high[..., None]


def choose(
    trie: TitleTrie, state: Int[Array, " B"], logits: Float[Array, "B V"]
) -> Choice:
    """Choose the best allowed token of each row; a tie goes to the smallest.

    Where no token is allowed, the state stays, with ln p = 0.
    """
    at_root = state == 0
    # The model's vocabulary may be padded beyond the tokens that the tokenizer has.
    logits = logits[:, : len(trie.root)]

    def take_root(best: _Best) -> _Best:
        values = jnp.where((trie.root >= 0) & at_root[:, None], logits, -jnp.inf)
        return _take(best, values, lambda column: 1 + trie.root[column])

    def take_next(carry: tuple[Array, _Best]) -> tuple[Array, _Best]:
        skip, best = carry
        token_ids, states, exists = allowed(trie, state, WIDTH, skip)
        values = jnp.take_along_axis(logits, token_ids, axis=1, mode="clip")
        values = jnp.where(exists & ~at_root[:, None], values, -jnp.inf)
        return skip + WIDTH, _take(best, values, _pick(states))

    low, high = edges_of(trie, state)
    widest = jnp.where(at_root, 0, high - low).max()
    best = jax.lax.cond(at_root.any(), take_root, lambda best: best, _none(state))
    _, best = jax.lax.while_loop(lambda carry: carry[0] < widest, take_next, (0, best))
    return _finish(best)


def choose_from(
    trie: TitleTrie,
    state: Int[Array, " B"],
    unembed: Callable[[Array | None], Array],
    width: int = NARROW,
) -> Choice:
    """Choose as `choose` does, and form only the logits that are needed.

    unembed: token_ids [B W] -> their logits [B W]; None -> the logits of the vocabulary
    [B V]. The latter runs only if a row's state has more than `width` edges.
    """

    def take_few() -> Choice:
        token_ids, states, exists = allowed(trie, state, width)
        values = jnp.where(exists, unembed(token_ids), -jnp.inf)
        return _finish(_take(_none(state), values, _pick(states)))

    low, high = edges_of(trie, state)
    few = (high - low <= width).all()
    return jax.lax.cond(few, take_few, lambda: choose(trie, state, unembed(None)))


class _Best(NamedTuple):
    """What is known of the edges seen so far, [B] each.

    The best one's state, its logit, the second best logit, and the sum of
    exp(logit - best logit).
    """

    state: Array
    top: Array
    second: Array
    total: Array


def _none(state: Int[Array, " B"]) -> _Best:
    """No edges were seen; the state stays."""
    nothing = jnp.full(len(state), -jnp.inf)
    return _Best(state, nothing, nothing, jnp.zeros(len(state)))


def _take(best: _Best, values: Float[Array, "B W"], behind: Callable) -> _Best:
    """Take further edges into account.

    values: their logits, -inf where there is no edge. behind: column [B] -> the state
    after the edge in that column.
    """
    column = jnp.argmax(values, -1)
    value = values[jnp.arange(len(column)), column]
    is_best = jnp.arange(values.shape[1]) == column[:, None]
    others = jnp.where(is_best, -jnp.inf, values)
    top = jnp.maximum(best.top, value)
    second = jnp.maximum(best.second, others.max(-1))
    # finite where no edge was seen so far, so that the sum stays 0 and is not NaN
    base = jnp.where(jnp.isfinite(top), top, 0.0)
    total = jnp.exp(values - base[:, None]).sum(-1)
    return _Best(
        jnp.where(value > best.top, behind(column), best.state),
        top,
        jnp.maximum(second, jnp.minimum(best.top, value)),
        best.total * jnp.exp(best.top - base) + total,
    )


def _pick(states: Int[Array, "B W"]) -> Callable:
    return lambda column: states[jnp.arange(len(column)), column]


def _finish(best: _Best) -> Choice:
    log_prob = jnp.where(best.total > 0, -jnp.log(best.total), 0.0)
    alone = jnp.isneginf(best.second)
    margin = jnp.where(alone, jnp.inf, best.top - best.second)
    return Choice(best.state, log_prob, margin)
