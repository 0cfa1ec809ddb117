"""The bi-encoder: text of windows and of entities in; their vectors out.

    window   -> [CLS] window text [SEP]               -> mention BERT -> vector
    entity   -> [CLS] title [SEP] entity text [SEP]   -> entity BERT  -> vector

The score of an entity for a window is the dot product of their vectors (*paper*, 3.2).
Training and serving both come here, so that they see the same tokens and vectors.

Three settings of the ModelConfig say how hidden states become a vector; the defaults
are the paper's. `pooling`: the state of [CLS], or the mean over all tokens, [CLS] and
[SEP] included. `normalise`: the vector gets length 1. `temperature` divides scores:
each of the two vectors is divided by its square root, so that every dot product, in
training, mining, an index or a linker, is the score over the temperature already.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, Int, PRNGKeyArray

from insgenel_jax import models, sharding
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.models.attention import Mask
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.text.document import normalise
from insgenel_jax.tokenizer import WordPiece
from insgenel_jax.tokenizer.padding import padded_lengths

FIXED = 256  # texts of a batch of `fixed_batches`
SMALLEST = 8  # rows of the smallest batch of `bucketed_batches`
TOKENS = {"cpu": 4_096}  # tokens of its largest batch, by platform
MANY_TOKENS = 131_072  # the same where the platform is an accelerator


def tokenize_windows(
    wordpiece: WordPiece, texts: Sequence[str], length: int
) -> Int[np.ndarray, "N {length}"]:
    """Token ids of windows, normalised, cut and padded to `length`; int32."""
    return wordpiece.encode([normalise(text) for text in texts], length)


def tokenize_entities(
    wordpiece: WordPiece,
    kb: KnowledgeBase,
    rows: Sequence[int],
    length: int,
    texts: KnowledgeBase | None = None,
) -> Int[np.ndarray, "N {length}"]:
    """Token ids of the entities `rows`, normalised, cut and padded to `length`; int32.

    The text of an entity is `KnowledgeBase.entity_text`; with `texts`, that of the
    entity of its title there, if there is one. Where it and the title do not fit,
    tokens are cut from the longer one.
    """
    return wordpiece.encode(
        [normalise(kb.title(i)) for i in rows],
        length,
        pairs=[normalise(_entity_text(kb, i, texts)) for i in rows],
    )


def _entity_text(kb: KnowledgeBase, row: int, texts: KnowledgeBase | None) -> str:
    known = None if texts is None else texts.find(kb.title(row))
    return kb.entity_text(row) if known is None else texts.entity_text(known)


def encode(
    config: ModelConfig,
    params: dict,
    tokens: Int[Array, "N T"],
    pad: int | Int[Array, ""],
    key: PRNGKeyArray | None = None,
) -> Float[Array, "N D"]:
    """The vectors of token ids that are padded at their ends; float32.

    key: for dropout, in training; without it nothing is dropped.
    """
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    lengths = jnp.sum(tokens != pad, axis=1)
    hidden, _ = models.build(config).apply(
        {"params": params},
        tokens,
        positions,
        # lengths and not segments, for which cuDNN has no attention
        Mask(lengths=lengths),
        deterministic=key is None or not config.dropout,
        rngs={} if key is None else {"dropout": key},
    )
    return _pool(config, hidden.astype(jnp.float32), lengths)


def _pool(
    config: ModelConfig, hidden: Float[Array, "N T D"], lengths: Int[Array, " N"]
) -> Float[Array, "N D"]:
    """One vector for each row of hidden states, as the config's settings say."""
    vectors = hidden[:, 0]
    if config.pooling == "mean":
        seen = jnp.arange(hidden.shape[1]) < lengths[:, None]  # [N T]
        total = jnp.sum(jnp.where(seen[..., None], hidden, 0.0), axis=1)
        vectors = total / jnp.maximum(lengths, 1)[:, None]
    if config.normalise:
        # not below 1e-24, so that a vector of zeros stays one and has a gradient
        squares = jnp.sum(vectors**2, axis=1, keepdims=True)
        vectors = vectors * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))
    return vectors / math.sqrt(config.temperature)


class Batch(NamedTuple):
    """Texts that are encoded together: those of `rows`, as token ids [size, width]."""

    rows: Int[np.ndarray, " B"]
    size: int
    width: int


def fixed_batches(count: int, width: int) -> Iterator[Batch]:
    """Batches of FIXED texts at full width: one shape, so one compiled program."""
    for first in range(0, count, FIXED):
        yield Batch(np.arange(first, min(first + FIXED, count)), FIXED, width)


def bucketed_batches(
    tokens: Int[np.ndarray, "N T"], pad: int, parts: int = 1
) -> Iterator[Batch]:
    """Batches of texts of about the same length, in few static shapes.

    The width a text is padded to depends on that text alone, so that its vector is the
    same (to rounding) whatever is embedded with it. Sizes are multiples of `parts`.
    """
    lengths = np.count_nonzero(tokens != pad, axis=1)
    edges = np.array(padded_lengths(tokens.shape[1]))
    widths = edges[np.searchsorted(edges, lengths)]
    for width in np.unique(widths).tolist():
        for rows, size in cut_rows(np.flatnonzero(widths == width), width, parts):
            yield Batch(rows, size, width)


def cut_rows(
    rows: Int[np.ndarray, " N"], width: int, parts: int = 1
) -> Iterator[tuple[Int[np.ndarray, " B"], int]]:
    """Cut rows into batches, each with the size it is to be padded to.

    Sizes are 8, 64, 512, ... rows and the most that fits the platform: few shapes to
    compile. A batch is at least half full unless it has the smallest size. All sizes
    are rounded up to multiples of `parts`.
    """
    tokens = TOKENS.get(jax.default_backend(), MANY_TOKENS)
    largest = max(tokens // width, SMALLEST)
    sizes = [SMALLEST * 8**n for n in range(6) if SMALLEST * 8**n < largest] + [largest]
    sizes = [-(-size // parts) * parts for size in sizes]
    while len(rows):
        fitting = [size for size in sizes if size <= 2 * len(rows)]
        size = max(fitting, default=sizes[0])
        yield rows[:size], size
        rows = rows[size:]


def embed(
    config: ModelConfig,
    params: dict,
    tokens: Int[np.ndarray, "N T"],
    pad: int,
    batches: Iterable[Batch],
    mesh: Mesh | None = None,
) -> Float[np.ndarray, "N D"]:
    """The vectors of any number of texts, batch by batch, as float32 on the host.

    batches: from `fixed_batches` or `bucketed_batches`; together they hold each row
    once. mesh: batches are split over its devices.
    """
    embedded = np.empty((len(tokens), config.dim), np.float32)
    pending = None
    for batch in batches:
        # rows are repeated to fill the batch: each row is computed by itself
        ids = np.resize(tokens[batch.rows, : batch.width], (batch.size, batch.width))
        vectors = _encode_batch(config, params, ids.astype(np.int32), pad, mesh)
        if pending is not None:  # read while the device works on the batch after it
            _store(embedded, *pending)
        pending = batch.rows, vectors
    if pending is not None:
        _store(embedded, *pending)
    return embedded


def _store(embedded: np.ndarray, rows: np.ndarray, vectors: Array) -> None:
    embedded[rows] = np.asarray(vectors)[: len(rows)]


def _encode_batch(
    config: ModelConfig, params: dict, ids: np.ndarray, pad: int, mesh: Mesh | None
) -> Float[Array, "B D"]:
    if mesh is None:
        return _encode_jitted(config, None, params, ids, pad)
    ids = jax.device_put(ids, sharding.batch_sharding(mesh))
    with jax.set_mesh(mesh):
        return _encode_jitted(config, sharding.replicated(mesh), params, ids, pad)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _encode_jitted(
    config: ModelConfig, place: NamedSharding | None, params, ids, pad
) -> Float[Array, "B D"]:
    """`encode`, with the vectors whole on every device where `place` says so."""
    vectors = encode(config, params, ids, pad)
    if place is not None:  # so that every host can read all of them
        vectors = jax.lax.with_sharding_constraint(vectors, place)
    return vectors
