"""Constrained beam search, in one jitted loop: the paper's, and Hugging Face's.

It finds what `generate(num_beams=..., prefix_allowed_tokens_fn=...)` of transformers
finds, token for token. Hypotheses are scored by log-probabilities over the whole
vocabulary; every token up to EOS counts, forced or not; and the finished hypothesis
with the best mean wins.

The beams of a chunk share one row of the KV cache. Each beam has slots of its own
after the prompt, and knows which slots it sees; so nothing is copied when beams are
chosen, and the prompt is run and kept once.

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
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from insgenel_jax.decoding.chunk import Chunk
from insgenel_jax.decoding.forward import Model
from insgenel_jax.decoding.hypotheses import (
    Beams,
    Finished,
    Search,
    begin,
    choose,
    log_probs,
    margin_behind,
)
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
from insgenel_jax.decoding.path import DecodedPath
from insgenel_jax.decoding.whole_target import extend

HONOURS = frozenset({"beams", "openings", "early_stopping"})
TOKENS_PER_CALL = 8  # of each beam: one decided, the others forced


def shape(chunk: Chunk, options: Options) -> PaddedSizes:
    """The sizes that a chunk is padded to, cache slots first."""
    longer, _ = extend(chunk.table, chunk.source, options.openings)
    return padded_sizes(len(chunk.prompt), longer, options.beams)


def decode(
    model: Model, params, chunks: Sequence[Chunk], *, batch: int, options: Options
) -> list[DecodedPath]:
    """Decode at most `batch` chunks by beam search. (*paper*, 3.3: two beams.)

    A path's `score` is the mean of ln p (with bias) of all tokens up to EOS. It is -inf
    if all beams ended in dead ends; then the path has no edges. It is NaN if any logit
    was NaN. A path's `vocabulary` holds ln p of every edge. Its `margin` is the
    smallest difference in ln p between a hypothesis that was kept and one that was not,
    or in the means of the best and the second finished one.

    Raises ValueError for a chunk whose source ends before its last decision span, and
    for a mention that may take any title.
    """
    longer, known = zip(
        *(extend(c.table, c.source, options.openings) for c in chunks), strict=True
    )
    lengths = [len(chunk.prompt) for chunk in chunks]
    sizes = common_sizes(
        [
            padded_sizes(length, table, options.beams)
            for length, table in zip(lengths, longer, strict=True)
        ],
        options.beams,
    )
    outcome = _decode(
        model,
        params,
        pad_rows([chunk.prompt for chunk in chunks], batch, sizes.prompt),
        pad_rows([[length] for length in lengths], batch, 1)[:, 0],
        pad_rows([[len(table.indptr) - 2] for table in longer], batch, 1)[:, 0],
        pad_rows([[table.longest] for table in longer], batch, 1)[:, 0],
        len(chunks),
        pack_tables(longer, batch, sizes),
        beams=options.beams,
        sizes=sizes,
        tokens_per_call=TOKENS_PER_CALL,
        early_stopping=options.early_stopping,
    )
    finished, calls, tokens = jax.device_get(outcome)
    paths = [_path(finished, row, numbers) for row, numbers in enumerate(known)]
    for row, path in enumerate(paths):
        path.calls, path.tokens = int(calls[row]), int(tokens[row])
    return paths


def _path(finished: Finished, row: int, known: Int[np.ndarray, " E"]) -> DecodedPath:
    """The best finished hypothesis of a row, as a path through the chunk's own table.

    known: the numbers that the edges of the extended table have in it, or -1.
    """
    edges, allowed, full = (x[row, : finished.total[row]] for x in finished.best)
    own = known[edges] >= 0
    path = DecodedPath.begin(vocabulary=True)
    path.extend(known[edges][own], allowed[own], full[own])
    path.margin = float(finished.margin[row])
    path.score = float(finished.scores[row, 0])
    if finished.broken[row]:
        path.score = float("nan")
    return path


class _State(NamedTuple):
    """What changes from call to call. calls, tokens [B]: how many were run."""

    beams: Beams
    finished: Finished
    cache: dict
    calls: Int[Array, " B"]
    tokens: Int[Array, " B"]


@functools.partial(
    jax.jit,
    static_argnames=("model", "beams", "sizes", "tokens_per_call", "early_stopping"),
)
def _decode(
    model: Model,
    params,
    prompts: Int[Array, "B T"],
    lengths: Int[Array, " B"],
    ends: Int[Array, " B"],
    longest: Int[Array, " B"],
    rows: Int[Array, ""],
    tables: Tables,
    *,
    beams: int,
    sizes: PaddedSizes,
    tokens_per_call: int,
    early_stopping: str,
) -> tuple[Finished, Int[Array, " B"], Int[Array, " B"]]:
    """What finished, and the calls and tokens run. The first `rows` rows are real."""
    sizes_of = (beams, sizes, tokens_per_call, early_stopping)
    search = Search(model, params, lengths, ends, longest, tables, *sizes_of)
    real = jnp.arange(len(prompts)) < rows
    with jax.named_scope("prefill"):
        hidden, cache = _run_prompts(search, prompts)
        hypotheses, finished = choose(search, *begin(search, real), hidden)
    with jax.named_scope("decide"):
        state = _State(hypotheses, finished, cache, real.astype(jnp.int32), lengths)
        state = jax.lax.while_loop(
            lambda state: state.finished.live.any(),
            functools.partial(_decide, search),
            state,
        )
    finished = state.finished
    if beams > 1:
        margin = jnp.minimum(finished.margin, margin_behind(finished.scores, 1))
        finished = finished._replace(margin=margin)
    return finished, state.calls, state.tokens


def _run_prompts(
    search: Search, prompts: Int[Array, "B T"]
) -> tuple[Float[Array, "B W D"], dict]:
    """The hidden state after each prompt, once for each beam, and the cache."""
    B, T = prompts.shape
    lengths, slots = search.lengths, search.sizes.slots
    cache = search.model.init_cache(B, slots)
    order = jnp.arange(T)
    mask = jnp.broadcast_to(jnp.arange(slots) <= order[:, None], (B, T, slots))
    positions = clip_order(order, lengths)
    hidden, cache = search.model.forward(search.params, prompts, positions, mask, cache)
    cache = {**cache, "length": lengths}
    hidden = hidden[search.row, jnp.maximum(lengths - 1, 0)[:, None]]  # [B 1 D]
    return jnp.broadcast_to(hidden, (B, search.beams, hidden.shape[-1])), cache


def _decide(search: Search, state: _State) -> _State:
    """Run what is pending, score it, and choose what follows."""
    live = state.finished.live
    beams = state.beams._replace(count=jnp.where(live, state.beams.count, 0))
    hypotheses = (beams.score > -jnp.inf).sum(axis=1)
    tokens = state.tokens + beams.count * hypotheses
    hidden, sees, cache = _run(search, beams, state.cache)
    beams, finished = _score_forced(
        search, beams._replace(sees=sees), state.finished, hidden
    )
    last = hidden[search.row[:, 0], jnp.maximum(beams.count - 1, 0)]  # [B W D]
    beams, finished = choose(search, beams, finished, last)
    return _State(beams, finished, cache, state.calls + live, tokens)


def _run(
    search: Search, beams: Beams, cache: dict
) -> tuple[Float[Array, "B C W D"], Bool[Array, "B W S"], dict]:
    """Run the pending tokens: hidden states, the slots seen afterwards, the cache."""
    W, slots = search.beams, search.sizes.slots
    B, C, _ = beams.tokens.shape
    new = jnp.arange(slots) - cache["length"][:, None]
    order, beam = new // W, new % W  # [B S] the pending token and the beam of a slot
    own = (new[:, None] >= 0) & (beam[:, None] == jnp.arange(W)[:, None])  # [B W S]
    each = jnp.arange(C)
    before = order[:, None, None] <= each[:, None, None]  # [B C 1 S]
    mask = beams.sees[:, None] | (own[:, None] & before)  # [B C W S]
    first = (search.lengths + beams.total - beams.count)[:, None]
    positions = first + clip_order(each, beams.count)
    hidden, cache = search.model.forward(
        search.params,
        beams.tokens.reshape(B, -1),
        jnp.repeat(positions, W, axis=1),
        mask.reshape(B, -1, slots),
        cache,
    )
    cache = {**cache, "length": cache["length"] + W * beams.count}
    sees = beams.sees | (own & (order < beams.count[:, None])[:, None])
    return hidden.reshape(B, C, W, -1), sees, cache


def _score_forced(
    search: Search,
    beams: Beams,
    finished: Finished,
    hidden: Float[Array, "B C W D"],
) -> tuple[Beams, Finished]:
    """Add ln p of the forced tokens, which are all pending tokens but the first.

    The search of a chunk ends here if, after at least one of these tokens, no running
    hypothesis could still get among the W best finished ones.
    """
    B, C, W = beams.tokens.shape
    later = jnp.arange(1, C)
    pending = later < beams.count[:, None]  # [B C-1]
    at = (beams.total - beams.count)[:, None] + later
    edges = jnp.take_along_axis(beams.taken.edges, at[:, None], axis=2, mode="clip")

    def score_one(i, full):
        ln_p = log_probs(search, hidden[:, i - 1], beams.tokens[:, i, :, None])
        return full.at[:, :, i].set(ln_p[..., 0])

    # one after the other: the logits of all of them at once are large
    full = jnp.zeros((B, W, C))
    full = jax.lax.fori_loop(1, beams.count.max(), score_one, full)[..., 1:]
    bias = search.look_up(search.tables.bias, edges)
    gain = jnp.where(pending[:, None], full + bias, 0)
    best = (beams.score[..., None] + jnp.cumsum(gain, axis=2)).max(axis=1)
    hopeful = best / (at + 1) > finished.scores[:, -1:]
    # a write after the last column is dropped
    column = jnp.where(pending, at, search.sizes.longest)[:, None]
    beam = jnp.arange(W)[:, None]
    full = beams.taken.full.at[search.row[:, None], beam, column].set(full, mode="drop")
    beams = beams._replace(
        taken=beams.taken._replace(full=full), score=beams.score + gain.sum(axis=2)
    )
    live = finished.live & (hopeful | ~pending).all(axis=1)
    return beams, finished._replace(live=live)
