"""Beam search over a transition table: which hypotheses go on, and which finish.

Scores of the next tokens come in from the model; the hypotheses of each chunk, with one
token more, go out. `beam` runs them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from insgenel_jax.decoding.forward import Model
from insgenel_jax.decoding.padded import PaddedSizes, Tables


class Search(NamedTuple):
    """What stays the same while a batch is searched, in W = `beams` beams.

    lengths [B]: of the prompts. ends [B]: the state of each table after EOS. longest
    [B]: edges on the longest path of each table.
    early_stopping: see options.Options.
    """

    model: Model
    params: dict
    lengths: Int[Array, " B"]
    ends: Int[Array, " B"]
    longest: Int[Array, " B"]
    tables: Tables
    beams: int
    sizes: PaddedSizes
    tokens_per_call: int
    early_stopping: str

    @property
    def row(self) -> Int[Array, "B 1"]:
        """The number of each row."""
        return jnp.arange(len(self.lengths))[:, None]

    def look_up(self, column: Array, edges: Int[Array, B * E]) -> Array:
        """What a column of the tables has for edges."""
        rows = jnp.arange(len(edges)).reshape(-1, *[1] * (edges.ndim - 1))
        return column.at[rows, edges].get(mode="clip")

    def first_edges(self, state: Int[Array, "B W"]) -> Int[Array, "B W"]:
        """The first edge of each state."""
        return self.tables.indptr[self.row, state]

    def degrees(self, state: Int[Array, "B W"]) -> Int[Array, "B W"]:
        """How many edges leave each state."""
        return self.tables.indptr[self.row, state + 1] - self.first_edges(state)


class Taken(NamedTuple):
    """The edges of hypotheses, [*B L] each, and ln p of them.

    allowed: ln p of each edge, normalised over the edges allowed beside it, with bias.
    full: ln p of each edge, normalised over the whole vocabulary, without bias.
    """

    edges: Int[Array, "*B L"]
    allowed: Float[Array, "*B L"]
    full: Float[Array, "*B L"]


class Beams(NamedTuple):
    """The W running hypotheses of each chunk, best first; empty ones score -inf.

    score: the sum of ln p with bias; forced tokens are added when they are run. sees:
    the cache slots that a hypothesis sees. taken: the edges of each hypothesis; the
    first `total` of them are valid. tokens: the tokens of its last `count` edges, which
    the model has not run yet.
    """

    state: Int[Array, "B W"]
    score: Float[Array, "B W"]
    sees: Bool[Array, "B W S"]
    taken: Taken
    total: Int[Array, " B"]
    tokens: Int[Array, "B C W"]
    count: Int[Array, " B"]


class Finished(NamedTuple):
    """The best finished hypothesis of each chunk, and the scores of the best W.

    best: its edges; the first `total` are valid. live: whether a running hypothesis can
    still get among the best W. margin: see `beam.decode`. broken: whether any logit was
    NaN.
    """

    best: Taken
    total: Int[Array, " B"]
    scores: Float[Array, "B W"]
    live: Bool[Array, " B"]
    margin: Float[Array, " B"]
    broken: Bool[Array, " B"]


def begin(search: Search, real: Bool[Array, " B"]) -> tuple[Beams, Finished]:
    """One hypothesis of no tokens for each chunk, and none that finished."""
    B, W, (slots, _, longest, *_) = len(real), search.beams, search.sizes
    none = jnp.zeros(B, jnp.int32)
    seen = jnp.arange(slots) < search.lengths[:, None]
    taken = Taken(jnp.zeros((B, W, longest), jnp.int32), *jnp.zeros((2, B, W, longest)))
    beams = Beams(
        state=jnp.zeros((B, W), jnp.int32),
        score=jnp.broadcast_to(jnp.where(jnp.arange(W) == 0, 0, -jnp.inf), (B, W)),
        sees=jnp.broadcast_to(seen[:, None], (B, W, slots)),
        taken=taken,
        total=none,
        tokens=jnp.zeros((B, search.tokens_per_call, W), jnp.int32),
        count=none,
    )
    finished = Finished(
        best=jax.tree.map(lambda x: x[:, 0], taken),
        total=none,
        scores=jnp.full((B, W), -jnp.inf),
        live=real,
        margin=jnp.full(B, jnp.inf),
        broken=jnp.zeros(B, bool),
    )
    return beams, finished


def log_probs(
    search: Search, hidden: Float[Array, "B W D"], token_ids: Int[Array, "B W E"]
) -> Float[Array, "B W E"]:
    """ln p of these tokens over the whole vocabulary."""
    logits = search.model.unembed(search.params, hidden, None)
    of_tokens = jnp.take_along_axis(logits, token_ids, axis=-1)
    return of_tokens - jax.nn.logsumexp(logits, axis=-1, keepdims=True)


class Continuations(NamedTuple):
    """The best V = 2 W continuations of each chunk's hypotheses, best first.

    edge: the last one of each. parent: the hypothesis that it continues. ended: whether
    it is complete, with EOS.
    """

    score: Float[Array, "B V"]
    edge: Int[Array, "B V"]
    parent: Int[Array, "B V"]
    state: Int[Array, "B V"]
    taken: Taken
    ended: Bool[Array, "B V"]


def choose(
    search: Search, beams: Beams, finished: Finished, hidden: Float[Array, "B W D"]
) -> tuple[Beams, Finished]:
    """Continue the hypotheses: some finish, and the best W of the others go on."""
    row, W, was_live = search.row, search.beams, finished.live
    new, broken = _continue(search, beams, was_live, hidden)
    total = beams.total + was_live
    finished = _finish(search, finished, new, total)
    running, kept = jax.lax.top_k(jnp.where(new.ended, -jnp.inf, new.score), W + 1)
    margin = jnp.minimum(margin_behind(new.score, W), margin_behind(running, W))
    running, kept = running[:, :W], kept[:, :W]
    bar = finished.scores[:, -1]  # -inf until W have finished
    # a mean over more tokens is higher: the best that the best running one can get
    never = search.early_stopping == "never"
    hopeful = running[:, 0] / jnp.maximum(search.longest if never else total, 1) > bar
    if search.early_stopping == "always":
        hopeful &= bar == -jnp.inf
    broken = finished.broken | broken
    finished = finished._replace(
        live=was_live & hopeful & ~broken,
        margin=jnp.minimum(finished.margin, margin),
        broken=broken,
    )
    token = search.look_up(search.tables.token, new.edge[row, kept])
    beams = Beams(
        state=new.state[row, kept],
        score=running,
        sees=beams.sees[row, new.parent[row, kept]],
        taken=jax.tree.map(lambda x: x[row, kept], new.taken),
        total=total,
        tokens=beams.tokens.at[:, 0].set(token),
        count=was_live.astype(jnp.int32),
    )
    return _follow(search, beams, finished.live), finished


def _continue(
    search: Search,
    beams: Beams,
    live: Bool[Array, " B"],
    hidden: Float[Array, "B W D"],
) -> tuple[Continuations, Bool[Array, " B"]]:
    """The best continuations by all allowed edges, and which rows have a NaN score."""
    row, W, (*_, longest, width, _, _) = search.row, search.beams, search.sizes
    edges = search.first_edges(beams.state)[..., None] + jnp.arange(width)  # [B W E]
    exists = jnp.arange(width) < search.degrees(beams.state)[..., None]
    full = log_probs(search, hidden, search.look_up(search.tables.token, edges))
    biased = full + search.look_up(search.tables.bias, edges)
    allowed = jax.nn.log_softmax(jnp.where(exists, biased, -1e30))
    score = beams.score[..., None] + biased
    broken = (jnp.isnan(score) & exists).any(axis=(1, 2))
    score = jnp.where(exists & live[:, None, None], score, -jnp.inf)
    score, index = jax.lax.top_k(score.reshape(len(live), -1), 2 * W)
    parent = index // width
    column = jnp.where(live, beams.total, longest)[:, None]

    def append(past, new):
        new = jnp.take_along_axis(new.reshape(len(live), -1), index, axis=1)
        past = past[row, parent]
        return past.at[row, jnp.arange(2 * W), column].set(new, mode="drop")

    last = jnp.take_along_axis(edges.reshape(len(live), -1), index, axis=1)
    state = search.look_up(search.tables.next, last)
    return Continuations(
        score=score,
        edge=last,
        parent=parent,
        state=state,
        taken=jax.tree.map(append, beams.taken, Taken(edges, allowed, full)),
        ended=(state == search.ends[:, None]) & (score > -jnp.inf),
    ), broken


def _finish(
    search: Search, finished: Finished, new: Continuations, total: Int[Array, " B"]
) -> Finished:
    """Take in the continuations that ended. Those not among the best W are lost."""
    W = search.beams
    score = jnp.where(new.ended & (jnp.arange(2 * W) < W), new.score, -jnp.inf)
    mean = score / jnp.maximum(total, 1)[:, None]
    winner, better = mean.argmax(axis=1), mean.max(axis=1) > finished.scores[:, 0]
    best = jax.tree.map(
        lambda old, x: jnp.where(better[:, None], x[search.row[:, 0], winner], old),
        finished.best,
        new.taken,
    )
    scores, _ = jax.lax.top_k(jnp.concatenate([finished.scores, mean], axis=1), W)
    return finished._replace(
        best=best, total=jnp.where(better, total, finished.total), scores=scores
    )


def _follow(search: Search, beams: Beams, live: Bool[Array, " B"]) -> Beams:
    """Take forced edges, as long as every beam of a row has one and none ends by it."""
    row, (W, longest) = search.row, (search.beams, search.sizes.longest)
    empty = beams.score == -jnp.inf

    def take_one(i, carry):
        beams, going = carry
        edge = search.first_edges(beams.state)
        following = search.look_up(search.tables.next, edge)
        forced = search.degrees(beams.state) == 1
        forced = forced & (following != search.ends[:, None])
        going = going & (forced | empty).all(axis=1)
        column = jnp.where(going, beams.total, longest)[:, None]
        edges = beams.taken.edges.at[row, jnp.arange(W), column].set(edge, mode="drop")
        token = search.look_up(search.tables.token, edge)
        beams = beams._replace(
            state=jnp.where(going[:, None] & ~empty, following, beams.state),
            taken=beams.taken._replace(edges=edges),
            total=beams.total + going,
            tokens=beams.tokens.at[:, i].set(token),
            count=beams.count + going,
        )
        return beams, going

    return jax.lax.fori_loop(1, search.tokens_per_call, take_one, (beams, live))[0]


def margin_behind(scores: Float[Array, "B N"], kept: int) -> Float[Array, " B"]:
    """The score of the last one kept minus the next one's; inf where there is none."""
    last, following = scores[:, kept - 1], scores[:, kept]
    exists = following > -jnp.inf
    return jnp.where(exists, last - jnp.where(exists, following, 0), jnp.inf)
