"""The reference decoder: one decision a call, in one jitted loop over a batch.

Prompts and transition tables in; for every row the edges taken and their
log-probabilities out. Forced tokens are not decided: they ride along in the next call,
up to `block` of them, and what follows the last decision is not run at all.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from insgenel_jax.decoding.chunk import Chunk
from insgenel_jax.decoding.forward import Model
from insgenel_jax.decoding.options import Options
from insgenel_jax.decoding.padded import (
    PaddedSizes,
    Tables,
    clip_order,
    common_sizes,
    pack_tables,
    pad_rows,
    padded_sizes,
)
from insgenel_jax.decoding.table import Path, follow
from insgenel_jax.decoding.title_trie import TitleTrie, choose_from, edges_of


class Place(NamedTuple):
    """Where the rows of a batch stand, [B] each.

    node: in the tree of all titles; then `state` is where END leads. -1: in the table.
    """

    state: Array
    node: Array

    @classmethod
    def of(cls, state: Int[Array, " B"]) -> Place:
        """Where an edge of a table leads: states below 0 to the root of the tree."""
        return cls(jnp.where(state < 0, ~state, state), jnp.where(state < 0, 0, -1))


HONOURS = frozenset({"titles"})
TOKENS_PER_CALL = 8  # of a call after the first: one decided, the others forced


def shape(chunk: Chunk, options: Options) -> PaddedSizes:
    """The sizes that a chunk is padded to, cache slots first."""
    _, forced = follow(chunk.table, 0)
    return padded_sizes(len(chunk.prompt) + len(forced), chunk.table)


def decode(
    model: Model,
    params,
    chunks: Sequence[Chunk],
    *,
    batch: int,
    options: Options,
) -> list[Path]:
    """Decode at most `batch` chunks greedily, each by its table. (*paper*, 3.3.)

    Raises ValueError where a table leads into the prefix tree of all titles and the
    options have none.
    """
    if options.titles is None and any(c.table.titles is not None for c in chunks):
        raise ValueError(
            "a mention may take any title of the knowledge base: give decode the tree "
            "of all titles that the tables were built with, on the device"
        )
    paths = [Path.begin() for _ in chunks]
    starts = [follow(chunk.table, 0) for chunk in chunks]
    for path, (_, forced) in zip(paths, starts, strict=True):
        path.extend(forced)
    rows = [i for i, (state, _) in enumerate(starts) if chunks[i].table.degree(state)]
    if not rows:
        return paths
    tables = [chunks[i].table for i in rows]
    pending = [
        [*chunks[i].prompt, *chunks[i].table.token[starts[i][1]].tolist()] for i in rows
    ]
    sizes = common_sizes([shape(chunks[i], options) for i in rows])
    outcome = _decode(
        model,
        params,
        pad_rows(pending, batch, sizes.prompt),
        pad_rows([[len(tokens)] for tokens in pending], batch, 1)[:, 0],
        pad_rows([[starts[i][0]] for i in rows], batch, 1)[:, 0],
        len(rows),
        pack_tables(tables, batch, sizes),
        options.titles,
        width=sizes.width,
        slots=sizes.slots,
        longest=sizes.longest,
        block=TOKENS_PER_CALL,
    )
    edges, log_probs, counts, gaps, calls, ran = jax.device_get(outcome)
    for row, i in enumerate(rows):
        path, count = paths[i], counts[row]
        path.extend(edges[row, :count], log_probs[row, :count])
        path.gap = float(gaps[row])
        path.calls, path.tokens = int(calls[row]), int(ran[row])
    return paths


@functools.partial(
    jax.jit, static_argnames=("model", "width", "slots", "longest", "block")
)
def _decode(
    model: Model,
    params,
    prompts: Int[Array, "B T"],
    lengths: Int[Array, " B"],
    states: Int[Array, " B"],
    rows: int,
    tables: Tables,
    titles: TitleTrie | None,
    *,
    width: int,
    slots: int,
    longest: int,
    block: int,
):
    B = prompts.shape[0]
    each = jnp.arange(B)
    own = tables.indptr[:, -1]  # edges; own + e stands for edge e of `titles`

    def leaving(place):
        """The first of the edges that leave a place, and how many do."""
        first, last = (tables.indptr[each, place.state + i] for i in (0, 1))
        if titles is not None:
            low, high = edges_of(titles, place.node)
            first = jnp.where(place.node < 0, first, own + low)
            last = jnp.where(place.node < 0, last, own + high)
        return first, last - first

    def go(place, edge):
        """Take an edge: its token, and the place behind it."""
        token, behind = tables.token[each, edge], Place.of(tables.next[each, edge])
        if titles is not None:
            inside, node = place.node >= 0, 1 + edge - own
            token = jnp.where(inside, titles.token[edge - own], token)
            low, high = edges_of(titles, node)
            below = Place(place.state, jnp.where(low < high, node, -1))
            behind = _where(inside, below, behind)
        return token, behind

    def run(tokens, count, cache):
        """Feed `count` [B] of the tokens [B T]; the hidden state of the last one."""
        first, order = cache["length"][:, None], jnp.arange(tokens.shape[1])
        mask = jnp.arange(slots) <= (first + order)[:, :, None]  # [B, T, S]
        positions = first + clip_order(order, count)
        hidden, cache = model.forward(params, tokens, positions, mask, cache)
        cache = {**cache, "length": cache["length"] + count}
        return hidden[each, jnp.maximum(count - 1, 0)], cache

    def choose(place, hidden: Float[Array, "B D"]):
        """The best allowed edge, its ln p over the allowed, its lead; [B] each."""
        first, degree = leaving(place)
        edges = first[:, None] + jnp.arange(width)
        allowed = jnp.arange(width) < degree[:, None]
        token_ids = jnp.take_along_axis(tables.token, edges, axis=1, mode="clip")
        bias = jnp.take_along_axis(tables.bias, edges, axis=1, mode="clip")
        logits = model.unembed(params, hidden, token_ids) + bias
        logits = jnp.where(allowed, logits, -1e30)
        best = jnp.argmax(logits, axis=-1)
        top, _ = jax.lax.top_k(logits, 2)
        lead = jnp.where(degree > 1, top[:, 0] - top[:, 1], jnp.inf)
        chosen = first + best, jax.nn.log_softmax(logits)[each, best], lead
        if titles is not None:
            unembed = functools.partial(model.unembed, params, hidden)
            node, *scores = choose_from(titles, place.node, unembed)
            chosen = _where(place.node < 0, chosen, (own + node - 1, *scores))
        return chosen

    def advance(place, edge, log_prob, out):
        """Take `edge` where a row is not at its end, then up to block - 1 forced ones.

        Returns the new place, the tokens taken [B block], how many, and `out`.
        """

        def take(carry):
            place, tokens, count, live, edge, log_prob, (edges, log_probs, total) = (
                carry
            )
            token, behind = go(place, edge)
            # a column out of range drops the write of a row that is not live
            at = jnp.where(live, total, longest)
            edges = edges.at[each, at].set(edge, mode="drop")
            log_probs = log_probs.at[each, at].set(log_prob, mode="drop")
            at = jnp.where(live, count, block)
            tokens = tokens.at[each, at].set(token, mode="drop")
            place = _where(live, behind, place)
            out = edges, log_probs, total + live
            count = count + live
            forced, degree = leaving(place)
            live = live & (degree == 1) & (count < block)
            return place, tokens, count, live, forced, jnp.zeros(B), out

        tokens, count = jnp.zeros((B, block), jnp.int32), jnp.zeros(B, jnp.int32)
        carry = place, tokens, count, leaving(place)[1] > 0, edge, log_prob, out
        carry = jax.lax.while_loop(lambda carry: carry[3].any(), take, carry)
        place, tokens, count, _, _, _, out = carry
        return place, tokens, count, out

    def body(carry):
        place, tokens, count, cache, out, gap, calls, ran = carry
        live = leaving(place)[1] > 0
        count = jnp.where(live, count, 0)
        hidden, cache = run(tokens, count, cache)
        edge, log_prob, lead = choose(place, hidden)
        gap = jnp.minimum(gap, lead)
        calls, ran = calls + live, ran + count
        place, tokens, count, out = advance(place, edge, log_prob, out)
        return place, tokens, count, cache, out, gap, calls, ran

    real = jnp.arange(B) < rows
    with jax.named_scope("prefill"):
        cache = model.init_cache(B, slots)
        hidden, cache = run(prompts, lengths, cache)
        out = (
            jnp.zeros((B, longest), jnp.int32),
            jnp.zeros((B, longest)),
            jnp.zeros(B, jnp.int32),
        )
        place = Place.of(states)
        edge, log_prob, gap = choose(place, hidden)
        place, tokens, count, out = advance(place, edge, log_prob, out)
    with jax.named_scope("decide"):
        calls = real.astype(jnp.int32)
        carry = (place, tokens, count, cache, out, gap, calls, lengths)
        carry = jax.lax.while_loop(
            lambda carry: (leaving(carry[0])[1] > 0).any(), body, carry
        )
    _, _, _, _, (edges, log_probs, total), gap, calls, ran = carry
    return edges, log_probs, total, gap, calls, ran


def _where(condition: Bool[Array, " B"], yes, no):
    """`jnp.where` on every leaf of two trees."""
    return jax.tree.map(functools.partial(jnp.where, condition), yes, no)
