"""The reference decoder: one decision a call, in one jitted loop over a batch.

Forced tokens are not decided. They ride along in the next call, up to TOKENS_PER_CALL
tokens in all, and what follows the last decision is not run. This is the only decoder
for mentions that may take any title of the knowledge base.
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
from insgenel_jax.decoding.path import DecodedPath, follow
from insgenel_jax.decoding.title_choice import choose_from, edges_of
from insgenel_jax.decoding.title_trie import TitleTrie

HONOURS = frozenset({"titles"})
TOKENS_PER_CALL = 8  # of a call after the first: one decided, the others forced


def shape(chunk: Chunk, options: Options) -> PaddedSizes:
    """The sizes that a chunk is padded to, cache slots first."""
    _, forced = follow(chunk.table, 0)
    return padded_sizes(len(chunk.prompt) + len(forced), chunk.table)


def decode(
    model: Model, params, chunks: Sequence[Chunk], *, batch: int, options: Options
) -> list[DecodedPath]:
    """Decode at most `batch` chunks greedily, each by its table. (*paper*, 3.3.)

    Raises ValueError where a table leads into the prefix tree of all titles and the
    options have none.
    """
    if options.titles is None and any(c.table.titles is not None for c in chunks):
        raise ValueError(
            "a mention may take any title of the knowledge base: give decode the tree "
            "of all titles that the tables were built with, on the device"
        )
    paths = [DecodedPath.begin() for _ in chunks]
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
        sizes=sizes,
        tokens_per_call=TOKENS_PER_CALL,
    )
    taken, margins, calls, tokens = jax.device_get(outcome)
    for row, i in enumerate(rows):
        path, count = paths[i], taken.total[row]
        path.extend(taken.edges[row, :count], taken.log_probs[row, :count])
        path.margin = float(margins[row])
        path.calls, path.tokens = int(calls[row]), int(tokens[row])
    return paths


class _Batch(NamedTuple):
    """What stays the same while a batch is decoded.

    titles: the prefix tree of all titles, or None. E edges of a row's table are
    followed by those of the tree: E + e is edge e of the tree.
    """

    model: Model
    params: dict
    tables: Tables
    titles: TitleTrie | None
    sizes: PaddedSizes
    tokens_per_call: int

    @property
    def each(self) -> Int[Array, " B"]:
        """The number of each row."""
        return jnp.arange(len(self.tables.indptr))

    @property
    def own(self) -> Int[Array, " B"]:
        """How many edges each row's table has."""
        return self.tables.indptr[:, -1]


class _Place(NamedTuple):
    """Where the rows of a batch stand.

    node: a node in the tree of all titles, and then `state` is where END leads; -1 for
    a row that is in its table, at `state`.
    """

    state: Int[Array, " B"]
    node: Int[Array, " B"]


class _Choice(NamedTuple):
    """The best edge of each row, its ln p among the allowed ones, and its margin.

    margin: its logit minus the second best's; inf where it is forced.
    """

    edge: Int[Array, " B"]
    log_prob: Float[Array, " B"]
    margin: Float[Array, " B"]


class _Taken(NamedTuple):
    """The edges that each row has taken so far, `total` of them, and ln p of each."""

    edges: Int[Array, "B L"]
    log_probs: Float[Array, "B L"]
    total: Int[Array, " B"]


class _Pending(NamedTuple):
    """Tokens that are taken but not run: the first `count` of each row."""

    tokens: Int[Array, "B C"]
    count: Int[Array, " B"]


class _State(NamedTuple):
    """What changes from call to call. margin: of each row's closest decision so far.

    calls: that each row took part in; tokens: that were run of it in them.
    """

    place: _Place
    pending: _Pending
    taken: _Taken
    cache: dict
    margin: Float[Array, " B"]
    calls: Int[Array, " B"]
    tokens: Int[Array, " B"]


@functools.partial(jax.jit, static_argnames=("model", "sizes", "tokens_per_call"))
def _decode(
    model: Model,
    params,
    prompts: Int[Array, "B T"],
    lengths: Int[Array, " B"],
    states: Int[Array, " B"],
    rows: Int[Array, ""],
    tables: Tables,
    titles: TitleTrie | None,
    *,
    sizes: PaddedSizes,
    tokens_per_call: int,
) -> tuple[_Taken, Float[Array, " B"], Int[Array, " B"], Int[Array, " B"]]:
    """Edges, closest margins, calls and tokens run. The first `rows` rows are real.

    prompts: each prompt, followed by the tokens that are forced right after it.
    lengths: how many tokens that is together. states: the state that each table is then
    in.
    """
    batch = _Batch(model, params, tables, titles, sizes, tokens_per_call)
    B = len(prompts)
    with jax.named_scope("prefill"):
        cache = model.init_cache(B, sizes.slots)
        hidden, cache = _run(batch, _Pending(prompts, lengths), cache)
        place = _behind(states)
        choice = _choose(batch, place, hidden)
        nothing = _Taken(
            jnp.zeros((B, sizes.longest), jnp.int32),
            jnp.zeros((B, sizes.longest)),
            jnp.zeros(B, jnp.int32),
        )
        place, pending, taken = _advance(batch, place, choice, nothing)
    with jax.named_scope("decide"):
        calls = (jnp.arange(B) < rows).astype(jnp.int32)
        state = _State(place, pending, taken, cache, choice.margin, calls, lengths)
        state = jax.lax.while_loop(
            lambda state: _is_live(batch, state.place).any(),
            functools.partial(_decide, batch),
            state,
        )
    return state.taken, state.margin, state.calls, state.tokens


def _decide(batch: _Batch, state: _State) -> _State:
    """Run what is pending, decide, and take what is forced after the decision."""
    live = _is_live(batch, state.place)
    pending = state.pending._replace(count=jnp.where(live, state.pending.count, 0))
    hidden, cache = _run(batch, pending, state.cache)
    choice = _choose(batch, state.place, hidden)
    place, behind, taken = _advance(batch, state.place, choice, state.taken)
    return _State(
        place,
        behind,
        taken,
        cache,
        jnp.minimum(state.margin, choice.margin),
        state.calls + live,
        state.tokens + pending.count,
    )


def _run(
    batch: _Batch, pending: _Pending, cache: dict
) -> tuple[Float[Array, "B D"], dict]:
    """Run the pending tokens: the hidden state of the last one of each row."""
    tokens, count = pending
    first, order = cache["length"][:, None], jnp.arange(tokens.shape[1])
    mask = jnp.arange(batch.sizes.slots) <= (first + order)[:, :, None]  # [B T S]
    positions = first + clip_order(order, count)
    hidden, cache = batch.model.forward(batch.params, tokens, positions, mask, cache)
    cache = {**cache, "length": cache["length"] + count}
    return hidden[batch.each, jnp.maximum(count - 1, 0)], cache


def _choose(batch: _Batch, place: _Place, hidden: Float[Array, "B D"]) -> _Choice:
    """The best allowed edge of each row."""
    tables, width = batch.tables, batch.sizes.width
    first, degree = _leaving(batch, place)
    edges = first[:, None] + jnp.arange(width)
    allowed = jnp.arange(width) < degree[:, None]
    token_ids = jnp.take_along_axis(tables.token, edges, axis=1, mode="clip")
    bias = jnp.take_along_axis(tables.bias, edges, axis=1, mode="clip")
    logits = batch.model.unembed(batch.params, hidden, token_ids) + bias
    logits = jnp.where(allowed, logits, -1e30)
    best = jnp.argmax(logits, axis=-1)
    top, _ = jax.lax.top_k(logits, 2)
    margin = jnp.where(degree > 1, top[:, 0] - top[:, 1], jnp.inf)
    log_prob = jax.nn.log_softmax(logits)[batch.each, best]
    choice = _Choice(first + best, log_prob, margin)
    if batch.titles is None:
        return choice
    unembed = functools.partial(batch.model.unembed, batch.params, hidden)
    node, log_prob, margin = choose_from(batch.titles, place.node, unembed)
    in_tree = _Choice(batch.own + node - 1, log_prob, margin)
    return _where(place.node < 0, choice, in_tree)


def _advance(
    batch: _Batch, place: _Place, choice: _Choice, taken: _Taken
) -> tuple[_Place, _Pending, _Taken]:
    """Take the chosen edge where a row is not at its end, then the forced ones.

    At most tokens_per_call edges in all; their tokens are pending.
    """
    B = len(batch.each)
    pending = _Pending(
        jnp.zeros((B, batch.tokens_per_call), jnp.int32), jnp.zeros(B, jnp.int32)
    )
    advance = _Advance(
        place, pending, taken, _is_live(batch, place), choice.edge, choice.log_prob
    )
    advance = jax.lax.while_loop(
        lambda advance: advance.live.any(), functools.partial(_take, batch), advance
    )
    return advance.place, advance.pending, advance.taken


class _Advance(NamedTuple):
    """The state of `_advance`. live: rows that take an edge next, with its ln p."""

    place: _Place
    pending: _Pending
    taken: _Taken
    live: Bool[Array, " B"]
    edge: Int[Array, " B"]
    log_prob: Float[Array, " B"]


def _take(batch: _Batch, advance: _Advance) -> _Advance:
    """Take one edge of each live row, and look whether the next one is forced."""
    place, pending, taken, live, edge, log_prob = advance
    most, longest, each = batch.tokens_per_call, batch.sizes.longest, batch.each
    token, behind = _go(batch, place, edge)
    # a write to a column out of range is dropped: a row that is not live has none
    column = jnp.where(live, taken.total, longest)
    taken = _Taken(
        taken.edges.at[each, column].set(edge, mode="drop"),
        taken.log_probs.at[each, column].set(log_prob, mode="drop"),
        taken.total + live,
    )
    column = jnp.where(live, pending.count, most)
    pending = _Pending(
        pending.tokens.at[each, column].set(token, mode="drop"), pending.count + live
    )
    place = _where(live, behind, place)
    forced, degree = _leaving(batch, place)
    live = live & (degree == 1) & (pending.count < most)
    return _Advance(place, pending, taken, live, forced, jnp.zeros(len(each)))


def _behind(state: Int[Array, " B"]) -> _Place:
    """Where an edge of a table leads. A negative state enters the tree of titles."""
    inside = state < 0
    return _Place(jnp.where(inside, ~state, state), jnp.where(inside, 0, -1))


def _leaving(batch: _Batch, place: _Place) -> tuple[Int[Array, " B"], Int[Array, " B"]]:
    """The first of the edges that leave each row's place, and how many do."""
    each, own = batch.each, batch.own
    first, last = (batch.tables.indptr[each, place.state + i] for i in (0, 1))
    if batch.titles is not None:
        low, high = edges_of(batch.titles, place.node)
        first = jnp.where(place.node < 0, first, own + low)
        last = jnp.where(place.node < 0, last, own + high)
    return first, last - first


def _is_live(batch: _Batch, place: _Place) -> Bool[Array, " B"]:
    """Which rows are not at their end."""
    return _leaving(batch, place)[1] > 0


def _go(
    batch: _Batch, place: _Place, edge: Int[Array, " B"]
) -> tuple[Int[Array, " B"], _Place]:
    """Take an edge of each row: its token, and the place after it."""
    tables, titles, each = batch.tables, batch.titles, batch.each
    token, behind = tables.token[each, edge], _behind(tables.next[each, edge])
    if titles is not None:
        inside, node = place.node >= 0, 1 + edge - batch.own
        token = jnp.where(inside, titles.token[edge - batch.own], token)
        low, high = edges_of(titles, node)
        below = _Place(place.state, jnp.where(low < high, node, -1))
        behind = _where(inside, below, behind)
    return token, behind


def _where(condition: Bool[Array, " B"], yes, no):
    """`jnp.where` on every leaf of two trees."""
    return jax.tree.map(functools.partial(jnp.where, condition), yes, no)
