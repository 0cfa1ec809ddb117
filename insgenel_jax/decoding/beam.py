"""Beam search over legal outputs, in one jitted loop: the paper's, and Hugging Face's.

What `generate(num_beams=..., prefix_allowed_tokens_fn=...)` of transformers finds, token
for token: hypotheses are scored by the whole vocabulary's log-probabilities, every token
up to EOS counts, forced or not, and the best finished one by its mean wins.

The beams of a chunk share one row of the cache. Each has its own slots behind the
prompt, and knows which it sees; so nothing is copied when beams are chosen, and the
prompt is run and kept once.

    slots:      p p p p  0 1  0 1  0 1        two beams, three tokens each
    beam 0:     1 1 1 1  1 .  . .  1 .        came from beam 0, then from beam 1, whose
    beam 1:     1 1 1 1  1 .  1 .  . 1        first token was shared
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from insgenel_jax.decoding.call import Model, bucket
from insgenel_jax.decoding.decisions import COPY, OPEN, Path, Table
from insgenel_jax.decoding.step import Shape, Tables, pack_tables

OPENINGS = ("candidates", "first_token")


def shape(
    prompt: Sequence[int],
    table: Table,
    source: Sequence[int],
    openings: str = "candidates",
) -> Shape:
    """The static shape that a chunk is decoded with, which depends on nothing else."""
    return _shape(prompt, extend(table, source, openings)[0])


def decode(
    model: Model,
    params,
    prompts: Sequence[Sequence[int]],
    tables: Sequence[Table],
    sources: Sequence[Sequence[int]],
    *,
    batch: int,
    beams: int = 2,
    openings: str = "candidates",
    block: int = 8,
) -> list[Path]:
    """Decode at most `batch` chunks by beam search. (*paper*, 3.3: two beams.)

    sources: the source tokens of each chunk's target, all of them, and EOS: what stands
    behind the last decision span is no edge of a table, but is scored as well.
    openings: "candidates", or "first_token": the paper's looser rule, see `extend`.
    block: tokens that a call runs of each beam: one decided, the others forced.

    A path's `vocabulary` has ln p of every edge. Its `gap` is the closest that a
    hypothesis came to being kept, or the second to winning, in ln p (of the mean). If
    all beams ended in dead ends a path has no edges.
    """
    found = search(
        model,
        params,
        prompts,
        tables,
        sources,
        batch=batch,
        beams=beams,
        openings=openings,
        block=block,
    )
    return [path for path, _ in found]


def search(
    model: Model,
    params,
    prompts: Sequence[Sequence[int]],
    tables: Sequence[Table],
    sources: Sequence[Sequence[int]],
    *,
    batch: int,
    beams: int = 2,
    openings: str = "candidates",
    block: int = 8,
) -> list[tuple[Path, float]]:
    """As `decode`; each path with its score, the mean of ln p (with bias) to EOS."""
    longer, known = zip(
        *(extend(*pair, openings) for pair in zip(tables, sources, strict=True)),
        strict=True,
    )
    shapes = [_shape(*pair) for pair in zip(prompts, longer, strict=True)]
    static = Shape(*map(max, zip(*shapes, strict=True)))
    tokens = np.zeros((batch, static.prompt), np.int32)
    lengths, ends = np.zeros((2, batch), np.int32)
    for row, (prompt, table) in enumerate(zip(prompts, longer, strict=True)):
        tokens[row, : len(prompt)] = prompt
        lengths[row], ends[row] = len(prompt), len(table.indptr) - 2
    outcome = _decode(
        model,
        params,
        tokens,
        lengths,
        ends,
        len(prompts),
        pack_tables(longer, batch, static),
        beams=beams,
        width=static.width,
        longest=static.longest,
        block=block,
    )
    best, scores, gaps, calls, ran = jax.device_get(outcome)
    found = []
    for row, numbers in enumerate(known):
        edges = numbers[best.edges[row, : best.total[row]]]
        own = np.flatnonzero(edges >= 0)
        path = Path.begin(vocabulary=True)
        path.extend(edges[own], best.allowed[row, own], best.full[row, own])
        path.gap = float(gaps[row])
        path.calls, path.tokens = int(calls[row]), int(ran[row])
        found.append((path, float(scores[row])))
    return found


def extend(
    table: Table, source: Sequence[int], openings: str
) -> tuple[Table, np.ndarray]:
    """A table that goes on to EOS. -> it, and its edges' numbers in `table` (new: -1).

    Its end is its last state; any other state without edges is a dead end. With
    "first_token" OPEN is allowed wherever in a decision span the first token of one of
    the span's mentions stands, and behind it the source, as long as it agrees with one
    of them: where none of them is a candidate mention, there is no CLOSE.
    """
    if openings not in OPENINGS:
        raise ValueError(f"openings = {openings!r}: expected one of {OPENINGS}")
    states, last = len(table.indptr) - 1, len(table.span_end) - 1
    state = np.repeat(np.arange(states), np.diff(table.indptr))
    new: list[tuple[int, int, int, int]] = []  # state, token, next, kind
    if openings == "first_token" and table.mentions:
        new = _dead_ends(table, state, [int(token) for token in source])
        states += len(new)  # each leads to a new one
    at = last
    for token in source[last:]:
        new.append((at, int(token), states, COPY))
        at, states = states, states + 1
    added = np.array(new, np.int32).reshape(-1, 4).T
    known = np.concatenate([np.arange(len(state)), np.full(len(new), -1)])
    token = np.concatenate([table.token, added[1]])
    state = np.concatenate([state, added[0]])
    order = np.lexsort((token, state))
    degree = np.bincount(state, minlength=states)

    def join(old, values):
        return np.concatenate([old, values]).astype(old.dtype)[order]

    return (
        dataclasses.replace(
            table,
            indptr=np.concatenate([[0], np.cumsum(degree)]).astype(np.int32),
            token=token.astype(np.int32)[order],
            next=join(table.next, added[2]),
            bias=join(table.bias, np.zeros(len(new))),
            kind=join(table.kind, added[3]),
            value=join(table.value, np.full(len(new), -1)),
            longest=table.longest + len(source) - last,
        ),
        known[order],
    )


def _dead_ends(table: Table, state: np.ndarray, source: list[int]) -> list[tuple]:
    """The edges that "first_token" adds: each leads to a state of its own, in order."""
    following = dict(
        zip(
            zip(state.tolist(), table.token.tolist(), strict=True),
            table.next.tolist(),
            strict=True,
        )
    )
    opening = int(table.token[table.kind == OPEN][0])
    prefixes: dict[int, set[tuple[int, ...]]] = {}  # by the decision span's end
    for start, end, _ in table.mentions:
        known = prefixes.setdefault(int(table.span_end[start]), set())
        known |= {tuple(source[start:q]) for q in range(start + 1, end + 1)}
    states, new = len(table.indptr) - 1, []
    for p, stop in enumerate(table.span_end.tolist()):
        at, q = p, p
        while tuple(source[p : q + 1]) in prefixes.get(stop, ()):
            steps = [(opening, OPEN)] if q == p else []
            for token, kind in [*steps, (source[q], COPY)]:
                if (at, token) not in following:
                    following[at, token] = states + len(new)
                    new.append((at, token, states + len(new), kind))
                at = following[at, token]
            q += 1
    return new


def _shape(prompt: Sequence[int], table: Table) -> Shape:
    return Shape(
        bucket(len(prompt), 64),
        bucket(table.longest, 64),
        bucket(int(np.diff(table.indptr).max()), 8, 4),
        bucket(len(table.indptr), 256, 4),
        bucket(len(table.token), 256, 4),
    )


class _Taken(NamedTuple):
    """Edges of hypotheses [*B L]; ln p among the allowed, of the vocabulary; how many.

    `total` is the same for all hypotheses of a chunk: [B].
    """

    edges: jax.Array
    allowed: jax.Array
    full: jax.Array
    total: jax.Array


class _Beams(NamedTuple):
    """The W running hypotheses of each chunk, best first; empty ones score -inf.

    state [B W]. score [B W]: the sum of ln p, but for forced tokens that are not run.
    sees [B W S]: slots. tokens [B C W]: taken, but not run; `count` [B] are real.
    """

    state: jax.Array
    score: jax.Array
    sees: jax.Array
    tokens: jax.Array
    count: jax.Array
    taken: _Taken


class _Finished(NamedTuple):
    """The best finished hypothesis [B L], and the scores of the best W, [B W].

    live [B]: may a running one still get among them? gap: see `decode`.
    """

    best: _Taken
    scores: jax.Array
    live: jax.Array
    gap: jax.Array


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
    """-> the best hypotheses, their scores, gaps, calls and tokens run, [B] each."""
    B, T = prompts.shape
    W, slots = beams, T + beams * longest
    row = jnp.arange(B)[:, None]  # [B, 1]

    def degree(state):
        return tables.indptr[row, state + 1] - tables.indptr[row, state]

    def normalise(hidden: Float[Array, "B *T D"]):
        return jax.nn.logsumexp(model.unembed(params, hidden, None), axis=-1)

    def run(b: _Beams, cache):
        """Feed what is pending. -> hidden [B C W D], slots seen then, cache."""
        new = jnp.arange(slots) - cache["length"][:, None]
        order, beam = new // W, new % W  # [B S]: which new token is in a slot
        own = (new[:, None] >= 0) & (beam[:, None] == jnp.arange(W)[:, None])  # [B W S]
        each = jnp.arange(block)
        before = order[:, None, None] <= each[:, None, None]  # [B C 1 S]
        mask: Bool[Array, "B C W S"] = b.sees[:, None] | (own[:, None] & before)
        first = lengths + b.taken.total - b.count
        hidden, cache = model.forward(
            params,
            b.tokens.reshape(B, -1),
            jnp.repeat(first[:, None] + each, W, axis=1),
            mask.reshape(B, -1, slots),
            cache,
        )
        cache = {**cache, "length": cache["length"] + W * b.count}
        sees = b.sees | (own & (order < b.count[:, None])[:, None])
        return hidden.reshape(B, block, W, -1), sees, cache

    def score_forced(b: _Beams, f: _Finished, hidden, normaliser):
        """Score the pending tokens behind the first; the search may end at any."""
        later = jnp.arange(1, block)
        pending = later < b.count[:, None]  # [B C-1]
        at = (b.taken.total - b.count)[:, None] + later
        index = row[:, None], jnp.arange(W)[:, None], at[:, None]  # [B W C-1]
        edges = b.taken.edges.at[index].get(mode="clip")
        bias = tables.bias[row[:, None], edges]
        logits = model.unembed(params, hidden[:, :-1], b.tokens[:, 1:, :, None])
        full = jnp.moveaxis(logits[..., 0] - normaliser[:, :-1], 1, 2)  # [B W C-1]
        gain = jnp.where(pending[:, None], full + bias, 0)
        scores = b.score[..., None] + jnp.cumsum(gain, axis=2)
        hopeful = scores.max(axis=1) / (at + 1) > f.scores[:, -1:]
        live = f.live & (hopeful | ~pending).all(axis=1)
        index = *index[:2], jnp.where(pending, at, longest)[:, None]
        full = b.taken.full.at[index].set(full, mode="drop")
        b = b._replace(
            score=b.score + gain.sum(axis=2), taken=b.taken._replace(full=full)
        )
        return b, f._replace(live=live)

    def choose(b: _Beams, f: _Finished, hidden: Float[Array, "B W D"], normaliser):
        """Take one edge: the best 2 W of all beams; of these finish some, keep W."""
        edges = tables.indptr[row, b.state][..., None] + jnp.arange(width)  # [B W E]
        exists = jnp.arange(width) < degree(b.state)[..., None]
        token_ids = tables.token.at[row[:, None], edges].get(mode="clip")
        bias = tables.bias.at[row[:, None], edges].get(mode="clip")
        logits = model.unembed(params, hidden, token_ids)
        allowed = jax.nn.log_softmax(jnp.where(exists, logits + bias, -1e30))
        full = logits - normaliser[..., None]
        scores = b.score[..., None] + full + bias
        scores = jnp.where(exists & f.live[:, None, None], scores, -jnp.inf)
        score, index = jax.lax.top_k(scores.reshape(B, -1), 2 * W)  # [B 2W]
        edge, allowed, full = (
            jnp.take_along_axis(x.reshape(B, -1), index, axis=1)
            for x in (edges, allowed, full)
        )
        parent = index // width
        # all 2 W of them with the new edge
        at = jnp.where(f.live, b.taken.total, longest)[:, None]
        taken = _Taken(
            *(
                past[row, parent].at[row, jnp.arange(2 * W), at].set(x, mode="drop")
                for past, x in zip(b.taken[:3], (edge, allowed, full), strict=True)
            ),
            b.taken.total + f.live,
        )
        state = tables.next.at[row, edge].get(mode="clip")
        ended = (state == ends[:, None]) & (score > -jnp.inf)
        # one that ends and is not among the best W is lost
        won = jnp.where(ended & (jnp.arange(2 * W) < W), score, -jnp.inf)
        won /= jnp.maximum(taken.total, 1)[:, None]
        first = jnp.argmax(won, axis=1)[:, None]
        better = won.max(axis=1) > f.scores[:, 0]
        best = jax.tree.map(
            lambda old, new: jnp.where(
                better.reshape(-1, *[1] * (old.ndim - 1)), new, old
            ),
            f.best,
            _Taken(*(x[row, first][:, 0] for x in taken[:3]), taken.total),
        )
        finished, _ = jax.lax.top_k(jnp.concatenate([f.scores, won], axis=1), W)
        # and those that have not ended go on
        running = jnp.where(ended, -jnp.inf, score)
        running, kept = jax.lax.top_k(running, W + 1)
        gap = jnp.minimum(f.gap, jnp.minimum(_lead(score, W), _lead(running, W)))
        running, kept = running[:, :W], kept[:, :W]
        hopeful = running[:, 0] / jnp.maximum(taken.total, 1) > finished[:, -1]
        b = _Beams(
            state=state[row, kept],
            score=running,
            sees=b.sees[row, parent[row, kept]],
            tokens=b.tokens.at[:, 0].set(tables.token[row, edge[row, kept]]),
            count=f.live.astype(jnp.int32),
            taken=_Taken(*(x[row, kept] for x in taken[:3]), taken.total),
        )
        f = _Finished(best, finished, f.live & hopeful, gap)
        return _follow(b, f)

    def _follow(b: _Beams, f: _Finished):
        """Take forced edges, where every beam has one that does not end it."""
        empty = b.score == -jnp.inf

        def follow(i, carry):
            state, tokens, edges, going, total = carry
            edge = tables.indptr[row, state]  # [B W]
            following = tables.next.at[row, edge].get(mode="clip")
            forced = (degree(state) == 1) & (following != ends[:, None])
            going = going & (forced | empty).all(axis=1)
            token = tables.token.at[row, edge].get(mode="clip")
            at = jnp.where(going, total, longest)[:, None]
            return (
                jnp.where(going[:, None] & ~empty, following, state),
                tokens.at[:, i].set(token),
                edges.at[row, jnp.arange(W), at].set(edge, mode="drop"),
                going,
                total + going,
            )

        carry = b.state, b.tokens, b.taken.edges, f.live, b.taken.total
        state, tokens, edges, _, total = jax.lax.fori_loop(1, block, follow, carry)
        return (
            b._replace(
                state=state,
                tokens=tokens,
                count=b.count + total - b.taken.total,
                taken=b.taken._replace(edges=edges, total=total),
            ),
            f,
        )

    def body(carry):
        b, f, cache, calls, ran = carry
        calls = calls + f.live
        count = jnp.where(f.live, b.count, 0)
        ran = ran + count * (b.score > -jnp.inf).sum(axis=1)
        b = b._replace(count=count)
        hidden, sees, cache = run(b, cache)
        # a token of each beam at a time: the whole vocabulary for all is much
        normaliser = jax.lax.map(normalise, jnp.moveaxis(hidden, 1, 0))
        normaliser = jnp.moveaxis(normaliser, 0, 1)  # [B C W]
        b, f = score_forced(b._replace(sees=sees), f, hidden, normaliser)
        last = jnp.maximum(count - 1, 0)
        b, f = choose(b, f, hidden[row[:, 0], last], normaliser[row[:, 0], last])
        return b, f, cache, calls, ran

    real = jnp.arange(B) < rows
    with jax.named_scope("prefill"):
        cache = model.init_cache(B, slots)
        positions = jnp.broadcast_to(jnp.arange(T), (B, T))
        mask = jnp.broadcast_to(
            jnp.arange(slots) <= jnp.arange(T)[:, None], (B, T, slots)
        )
        hidden, cache = model.forward(params, prompts, positions, mask, cache)
        cache = {**cache, "length": lengths}
        hidden = hidden[row, jnp.maximum(lengths - 1, 0)[:, None]]  # [B 1 D]
        past = _Taken(
            jnp.zeros((B, W, longest), jnp.int32),
            jnp.zeros((B, W, longest)),
            jnp.zeros((B, W, longest)),
            jnp.zeros(B, jnp.int32),
        )
        b = _Beams(
            state=jnp.zeros((B, W), jnp.int32),
            # one hypothesis, that of no tokens
            score=jnp.where(jnp.arange(W) == 0, jnp.zeros((B, W)), -jnp.inf),
            sees=jnp.broadcast_to(
                jnp.arange(slots) < lengths[:, None, None], (B, W, slots)
            ),
            tokens=jnp.zeros((B, block, W), jnp.int32),
            count=jnp.zeros(B, jnp.int32),
            taken=past,
        )
        f = _Finished(
            _Taken(*(x[:, 0] for x in past[:3]), past.total),
            jnp.full((B, W), -jnp.inf),
            real,
            jnp.full(B, jnp.inf),
        )
        normaliser = normalise(hidden)
        hidden = jnp.broadcast_to(hidden, (B, W, hidden.shape[-1]))
        b, f = choose(b, f, hidden, jnp.broadcast_to(normaliser, (B, W)))
    with jax.named_scope("decide"):
        carry = b, f, cache, real.astype(jnp.int32), lengths
        carry = jax.lax.while_loop(lambda carry: carry[1].live.any(), body, carry)
    _, f, _, calls, ran = carry
    gap = jnp.minimum(f.gap, _lead(f.scores, 1)) if W > 1 else f.gap
    return f.best, f.scores[:, 0], gap, calls, ran


def _lead(scores: Float[Array, "B N"], kept: int) -> Float[Array, " B"]:
    """How far the last of the kept is before the next; inf where there is none."""
    last, following = scores[:, kept - 1], scores[:, kept]
    exists = following > -jnp.inf
    return jnp.where(exists, last - jnp.where(exists, following, 0), jnp.inf)
