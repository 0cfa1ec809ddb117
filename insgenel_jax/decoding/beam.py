"""Beam search over legal outputs, in one jitted loop: the paper's, and Hugging Face's.

What `generate(num_beams=..., prefix_allowed_tokens_fn=...)` of transformers finds, token
for token: hypotheses are scored by the whole vocabulary's log-probabilities, every token
up to EOS counts, forced or not, and the best finished one by its mean wins.

The beams of a chunk share one row of the cache. Each has its own slots behind the
prompt, and knows which it sees; so nothing is copied when beams are chosen, and the
prompt is run and kept once.

    slots:      p p p p  0 1  0 1  0 1      two beams, three tokens each: both went
    beam 0:     1 1 1 1  1 .  . 1  1 .      on from beam 0, then they changed places
    beam 1:     1 1 1 1  1 .  1 .  . 1
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

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
from insgenel_jax.decoding.table import Path
from insgenel_jax.decoding.whole_target import extend

HONOURS = frozenset({"beams", "openings"})
TOKENS_PER_CALL = 8  # of each beam: one decided, the others forced


def shape(chunk: Chunk, options: Options) -> PaddedSizes:
    """The sizes that a chunk is padded to, cache slots first."""
    longer, _ = extend(chunk.table, chunk.source, options.openings)
    return padded_sizes(len(chunk.prompt), longer, options.beams)


def decode(
    model: Model,
    params,
    chunks: Sequence[Chunk],
    *,
    batch: int,
    options: Options,
) -> list[Path]:
    """Decode at most `batch` chunks by beam search. (*paper*, 3.3: two beams.)

    What stands behind the last decision span is no edge of a table, but is scored as
    well: a chunk's source has to be there, EOS included, or a ValueError says so.

    A path's `score` is the mean of ln p (with bias) to EOS, -inf if all beams ended in
    dead ends: then it has no edges; nan if a logit was. Its `vocabulary` has ln p of
    every edge. Its `gap` is the closest that a hypothesis came to being kept, or the
    second to winning, in ln p (of the mean).
    """
    longer, known = zip(
        *(extend(c.table, c.source, options.openings) for c in chunks), strict=True
    )
    sizes = common_sizes(
        [
            padded_sizes(len(chunk.prompt), table, options.beams)
            for chunk, table in zip(chunks, longer, strict=True)
        ],
        options.beams,
    )
    outcome = _decode(
        model,
        params,
        pad_rows([chunk.prompt for chunk in chunks], batch, sizes.prompt),
        pad_rows([[len(chunk.prompt)] for chunk in chunks], batch, 1)[:, 0],
        pad_rows([[len(table.indptr) - 2] for table in longer], batch, 1)[:, 0],
        len(chunks),
        pack_tables(longer, batch, sizes),
        beams=options.beams,
        width=sizes.width,
        longest=sizes.longest,
        block=TOKENS_PER_CALL,
    )
    finished, calls, ran = jax.device_get(outcome)
    found = []
    for row, numbers in enumerate(known):
        taken = [x[row, : finished.total[row]] for x in finished.best]
        numbers = numbers[taken[0]]
        own = numbers >= 0
        path = Path.begin(vocabulary=True)
        path.extend(numbers[own], *(x[own] for x in taken[1:]))
        path.gap = float(finished.gap[row])
        path.calls, path.tokens = int(calls[row]), int(ran[row])
        path.score = float(finished.scores[row, 0])
        if finished.broken[row]:
            path.score = float("nan")
        found.append(path)
    return found


class _Taken(NamedTuple):
    """Edges of hypotheses, [*B L] each, and ln p of them.

    Among the allowed edges (with bias), and of the whole vocabulary (without).
    """

    edges: jax.Array
    allowed: jax.Array
    full: jax.Array


class _Beams(NamedTuple):
    """The W running hypotheses of each chunk, best first; empty ones score -inf.

    state [B W]. score [B W]: the sum of ln p, but for forced tokens that are not run.
    sees [B W S]: slots. taken [B W L]: `total` [B] edges of each. tokens [B C W]: those
    of the last edges, which are not run yet: `count` [B] of each.
    """

    state: jax.Array
    score: jax.Array
    sees: jax.Array
    taken: _Taken
    total: jax.Array
    tokens: jax.Array
    count: jax.Array


class _Finished(NamedTuple):
    """The best finished hypothesis, `total` [B] edges [B L]; the best W scores [B W].

    live [B]: may a running one still get among them? gap [B]: see `decode`. broken [B]:
    was any logit nan?
    """

    best: _Taken
    total: jax.Array
    scores: jax.Array
    live: jax.Array
    gap: jax.Array
    broken: jax.Array


@functools.partial(
    jax.jit, static_argnames=("model", "beams", "width", "longest", "block")
)
def _decode(
    model: Model,
    params,
    prompts: Int[Array, "B T"],
    lengths: Int[Array, " B"],
    ends: Int[Array, " B"],
    rows: int,
    tables: Tables,
    *,
    beams: int,
    width: int,
    longest: int,
    block: int,
):
    """-> what finished; calls and tokens run, [B] each."""
    B, T = prompts.shape
    W, slots = beams, T + beams * longest
    row = jnp.arange(B)[:, None]  # [B 1]

    def degree(state):
        return tables.indptr[row, state + 1] - tables.indptr[row, state]

    def look_up(column, edges: Int[Array, "B ..."]):
        rows = jnp.arange(B).reshape(-1, *[1] * (edges.ndim - 1))
        return column.at[rows, edges].get(mode="clip")

    def log_probs(hidden: Float[Array, "B W D"], token_ids: Int[Array, "B W E"]):
        """ln p of these tokens in the whole vocabulary."""
        logits = model.unembed(params, hidden, None)
        found = jnp.take_along_axis(logits, token_ids, axis=-1)
        return found - jax.nn.logsumexp(logits, axis=-1, keepdims=True)

    def run(b: _Beams, cache):
        """Feed what is pending. -> hidden [B C W D], slots seen then, cache."""
        new = jnp.arange(slots) - cache["length"][:, None]
        order, beam = new // W, new % W  # [B S]: which new token a slot holds
        own = (new[:, None] >= 0) & (beam[:, None] == jnp.arange(W)[:, None])  # [B W S]
        each = jnp.arange(block)
        before = order[:, None, None] <= each[:, None, None]  # [B C 1 S]
        mask = b.sees[:, None] | (own[:, None] & before)  # [B C W S]
        first = (lengths + b.total - b.count)[:, None]
        positions = first + clip_order(each, b.count)
        hidden, cache = model.forward(
            params,
            b.tokens.reshape(B, -1),
            jnp.repeat(positions, W, axis=1),
            mask.reshape(B, -1, slots),
            cache,
        )
        cache = {**cache, "length": cache["length"] + W * b.count}
        sees = b.sees | (own & (order < b.count[:, None])[:, None])
        return hidden.reshape(B, block, W, -1), sees, cache

    def score_forced(b: _Beams, f: _Finished, hidden):
        """Score the pending tokens behind the first; the search may end at any."""
        later = jnp.arange(1, block)
        pending = later < b.count[:, None]  # [B C-1]
        at = (b.total - b.count)[:, None] + later
        edges = jnp.take_along_axis(b.taken.edges, at[:, None], axis=2, mode="clip")

        def one(i, full):
            found = log_probs(hidden[:, i - 1], b.tokens[:, i, :, None])
            return full.at[:, :, i].set(found[..., 0])

        # one after the other: the vocabularies of all at once are large
        full = jnp.zeros((B, W, block))
        full = jax.lax.fori_loop(1, b.count.max(), one, full)[..., 1:]
        gain = jnp.where(pending[:, None], full + look_up(tables.bias, edges), 0)
        best = (b.score[..., None] + jnp.cumsum(gain, axis=2)).max(axis=1)
        hopeful = best / (at + 1) > f.scores[:, -1:]
        at = jnp.where(pending, at, longest)[:, None]  # past the end: dropped
        beam = jnp.arange(W)[:, None]
        full = b.taken.full.at[row[:, None], beam, at].set(full, mode="drop")
        taken, score = b.taken._replace(full=full), b.score + gain.sum(axis=2)
        live = f.live & (hopeful | ~pending).all(axis=1)
        return b._replace(taken=taken, score=score), f._replace(live=live)

    def choose(b: _Beams, f: _Finished, hidden: Float[Array, "B W D"]):
        """The best 2 W of what may follow: some finish, and W of the others go on."""
        edges = tables.indptr[row, b.state][..., None] + jnp.arange(width)  # [B W E]
        exists = jnp.arange(width) < degree(b.state)[..., None]
        full = log_probs(hidden, look_up(tables.token, edges))
        biased = full + look_up(tables.bias, edges)
        allowed = jax.nn.log_softmax(jnp.where(exists, biased, -1e30))
        score = b.score[..., None] + biased
        broken = f.broken | (jnp.isnan(score) & exists).any(axis=(1, 2))
        score = jnp.where(exists & f.live[:, None, None], score, -jnp.inf)
        score, index = jax.lax.top_k(score.reshape(B, -1), 2 * W)  # [B 2W]
        parent, total = index // width, b.total + f.live
        at = jnp.where(f.live, b.total, longest)[:, None]

        def grow(past, new):
            new = jnp.take_along_axis(new.reshape(B, -1), index, axis=1)
            past = past[row, parent]
            return past.at[row, jnp.arange(2 * W), at].set(new, mode="drop")

        last = jnp.take_along_axis(edges.reshape(B, -1), index, axis=1)
        taken = jax.tree.map(grow, b.taken, _Taken(edges, allowed, full))
        state = look_up(tables.next, last)
        ended = (state == ends[:, None]) & (score > -jnp.inf)
        # what ends and is not among the best W is lost
        won = jnp.where(ended & (jnp.arange(2 * W) < W), score, -jnp.inf)
        won = won / jnp.maximum(total, 1)[:, None]
        winner, better = won.argmax(axis=1), won.max(axis=1) > f.scores[:, 0]
        best = jax.tree.map(
            lambda old, new: jnp.where(better[:, None], new[row[:, 0], winner], old),
            f.best,
            taken,
        )
        scores, _ = jax.lax.top_k(jnp.concatenate([f.scores, won], axis=1), W)
        running, kept = jax.lax.top_k(jnp.where(ended, -jnp.inf, score), W + 1)
        gap = jnp.minimum(_lead(score, W), _lead(running, W))
        running, kept = running[:, :W], kept[:, :W]
        hopeful = running[:, 0] / jnp.maximum(total, 1) > scores[:, -1]
        f = _Finished(
            best,
            jnp.where(better, total, f.total),
            scores,
            f.live & hopeful & ~broken,
            jnp.minimum(f.gap, gap),
            broken,
        )
        b = _Beams(
            state[row, kept],
            running,
            b.sees[row, parent[row, kept]],
            jax.tree.map(lambda x: x[row, kept], taken),
            total,
            b.tokens.at[:, 0].set(look_up(tables.token, last[row, kept])),
            f.live.astype(jnp.int32),
        )
        return follow(b, f.live), f

    def follow(b: _Beams, live) -> _Beams:
        """Take forced edges, as long as every beam has one, and none ends by it."""
        empty = b.score == -jnp.inf

        def one(i, carry):
            b, going = carry
            edge = tables.indptr[row, b.state]  # [B W]
            following = look_up(tables.next, edge)
            forced = (degree(b.state) == 1) & (following != ends[:, None])
            going = going & (forced | empty).all(axis=1)
            at = jnp.where(going, b.total, longest)[:, None]
            edges = b.taken.edges.at[row, jnp.arange(W), at].set(edge, mode="drop")
            b = b._replace(
                state=jnp.where(going[:, None] & ~empty, following, b.state),
                taken=b.taken._replace(edges=edges),
                total=b.total + going,
                tokens=b.tokens.at[:, i].set(look_up(tables.token, edge)),
                count=b.count + going,
            )
            return b, going

        return jax.lax.fori_loop(1, block, one, (b, live))[0]

    def body(carry):
        b, f, cache, calls, ran = carry
        calls = calls + f.live
        b = b._replace(count=jnp.where(f.live, b.count, 0))
        ran = ran + b.count * (b.score > -jnp.inf).sum(axis=1)
        hidden, sees, cache = run(b, cache)
        b, f = score_forced(b._replace(sees=sees), f, hidden)
        b, f = choose(b, f, hidden[jnp.arange(B), jnp.maximum(b.count - 1, 0)])
        return b, f, cache, calls, ran

    real = jnp.arange(B) < rows
    none = jnp.zeros(B, jnp.int32)
    with jax.named_scope("prefill"):
        cache = model.init_cache(B, slots)
        order = jnp.arange(T)
        mask = jnp.broadcast_to(jnp.arange(slots) <= order[:, None], (B, T, slots))
        positions = clip_order(order, lengths)
        hidden, cache = model.forward(params, prompts, positions, mask, cache)
        cache = {**cache, "length": lengths}
        hidden = hidden[row, jnp.maximum(lengths - 1, 0)[:, None]]  # [B 1 D]
        hidden = jnp.broadcast_to(hidden, (B, W, hidden.shape[-1]))
        taken = _Taken(
            jnp.zeros((B, W, longest), jnp.int32), *jnp.zeros((2, B, W, longest))
        )
        b = _Beams(
            state=jnp.zeros((B, W), jnp.int32),
            # one hypothesis, of no tokens
            score=jnp.broadcast_to(jnp.where(jnp.arange(W) == 0, 0, -jnp.inf), (B, W)),
            sees=jnp.broadcast_to(
                (jnp.arange(slots) < lengths[:, None])[:, None], (B, W, slots)
            ),
            taken=taken,
            total=none,
            tokens=jnp.zeros((B, block, W), jnp.int32),
            count=none,
        )
        f = _Finished(
            best=jax.tree.map(lambda x: x[:, 0], taken),
            total=none,
            scores=jnp.full((B, W), -jnp.inf),
            live=real,
            gap=jnp.full(B, jnp.inf),
            broken=jnp.zeros(B, bool),
        )
        b, f = choose(b, f, hidden)
    with jax.named_scope("decide"):
        carry = b, f, cache, real.astype(jnp.int32), lengths
        carry = jax.lax.while_loop(lambda carry: carry[1].live.any(), body, carry)
    _, f, _, calls, ran = carry
    gap = jnp.minimum(f.gap, _lead(f.scores, 1)) if W > 1 else f.gap
    return f._replace(gap=gap), calls, ran


def _lead(scores: Float[Array, "B N"], kept: int) -> Float[Array, " B"]:
    """How far the last of the kept is before the next; inf where there is none."""
    last, following = scores[:, kept - 1], scores[:, kept]
    exists = following > -jnp.inf
    return jnp.where(exists, last - jnp.where(exists, following, 0), jnp.inf)
