"""Chunks in; their decoded paths out.

`tree` and `speculative` take chunks as they come (decoding.continuous); for the other
decoders, chunks of like shape are decoded together.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

import jax
from jax.sharding import Mesh

from insgenel_jax import models
from insgenel_jax.decoding import forward, speculative, tree
from insgenel_jax.decoding.chunk import Chunk
from insgenel_jax.decoding.continuous import Usage
from insgenel_jax.decoding.forward import Model
from insgenel_jax.decoding.options import Options
from insgenel_jax.decoding.packing import PAGE, Request, Seat, pack
from insgenel_jax.decoding.path import DecodedPath
from insgenel_jax.generator import Generator
from insgenel_jax.linker.chunks import DocumentChunk
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.tokenizer.padding import next_power

CONTINUOUS = (tree, speculative)
MOST_KNOWN = 20_000  # paths that `decode_new_chunks` keeps, some 10 KB each


def decode_chunks(
    generator: Generator,
    chunks: Iterable[DocumentChunk],
    decoder: ModuleType,
    options: Options,
    *,
    batch: int,
    batch_tokens: int,
    usage: Usage | None = None,
) -> list[DecodedPath]:
    """The path decided for each chunk, in order.

    chunks: `tree` and `speculative` take them as they decode. decoder: one of
    decoding.{tree, speculative, step, beam}. A chunk without candidate mentions is not
    decoded. batch: the most chunks that are decoded together; batch_tokens: the most
    slots of the KV cache that they take. usage: what `tree` and `speculative` make of
    the device is added to it.
    Raises FloatingPointError where the generator's logits are not finite.
    """
    if decoder not in CONTINUOUS:
        return decode_alike(
            generator,
            list(chunks),
            decoder,
            options,
            batch=batch,
            batch_tokens=batch_tokens,
        )
    came: list[DocumentChunk] = []

    def decodable() -> Iterator[Chunk]:
        for chunk in chunks:
            came.append(chunk)
            if chunk.chunk.table.mentions:
                yield chunk.chunk

    decoded = decode_batch(
        generator,
        decoder,
        decodable(),
        options,
        batch,
        slots=batch_tokens,
        usage=usage,
    )
    paths = iter(decoded)
    found = [
        next(paths) if chunk.chunk.table.mentions else DecodedPath.begin()
        for chunk in came
    ]
    for chunk, path in zip(came, found, strict=True):
        check_finite(chunk, path)
    return found


def decode_alike(
    generator: Generator,
    chunks: Sequence[DocumentChunk],
    decoder: ModuleType,
    options: Options,
    *,
    batch: int,
    batch_tokens: int,
) -> list[DecodedPath]:
    """As `decode_chunks`, for a decoder whose batches are of chunks of like shape."""
    paths = [DecodedPath.begin() for _ in chunks]
    shapes = {
        i: decoder.shape(chunk.chunk, options)
        for i, chunk in enumerate(chunks)
        if chunk.chunk.table.mentions
    }
    # A batch is decoded until its last row ends: chunks with about as many decision
    # spans go together.
    order = sorted(shapes, key=lambda i: (shapes[i], chunks[i].chunk.table.spans, i))
    for (slots, *_), alike in itertools.groupby(order, key=shapes.__getitem__):
        most = min(batch, max(batch_tokens // slots, 1))
        while group := list(itertools.islice(alike, most)):
            rows = min(most, next_power(len(group), 1))
            decodable = [chunks[i].chunk for i in group]
            decoded = decode_batch(generator, decoder, decodable, options, rows)
            for i, path in zip(group, decoded, strict=True):
                check_finite(chunks[i], path)
                paths[i] = path
    return paths


def decode_new_chunks(
    generator: Generator,
    chunks: Iterable[DocumentChunk],
    decoder: ModuleType,
    options: Options,
    *,
    batch: int,
    batch_tokens: int,
    known: dict[bytes, DecodedPath],
    usage: Usage | None = None,
) -> list[DecodedPath]:
    """As `decode_chunks`, but what `known` has is not decoded again.

    known: paths by the key of their chunk and options; those decoded now are added, and
    the oldest dropped where there are more than MOST_KNOWN.
    """
    chunks = list(chunks)
    keys = [chunk_key(chunk.chunk, decoder, options) for chunk in chunks]
    new = {k: chunk for k, chunk in zip(keys, chunks, strict=True) if k not in known}
    paths = decode_chunks(
        generator,
        list(new.values()),
        decoder,
        options,
        batch=batch,
        batch_tokens=batch_tokens,
        usage=usage,
    )
    known.update(zip(new, paths, strict=True))
    decoded = [known[key] for key in keys]
    for key in list(known)[: max(len(known) - MOST_KNOWN, 0)]:
        del known[key]
    return decoded


def chunk_key(chunk: Chunk, decoder: ModuleType, options: Options) -> bytes:
    """A hash of all that a chunk's path depends on, besides the generator."""
    table = chunk.table
    digest = hashlib.sha256(repr((decoder.__name__, options)).encode())
    digest.update(repr((chunk.prompt, chunk.source, table.mention_bias)).encode())
    for column in ("indptr", "token", "next", "bias", "kind", "value"):
        values = getattr(table, column)
        digest.update(f"{column} {len(values)} ".encode() + values.tobytes())
    return digest.digest()


def decode_batch(
    generator: Generator,
    decoder: ModuleType,
    chunks: Iterable[Chunk],
    options: Options,
    rows: int,
    **seats: Any,
) -> list[DecodedPath]:
    """Decode chunks, `rows` at once, or as many as the mesh wants. seats: see
    `continuous.decode_rows`."""
    mesh, parts, apart = generator.mesh, 1, False
    if mesh is not None:
        parts = mesh.shape["data"] * mesh.shape["fsdp"]
        rows = parts * next_power(-(-rows // parts), 1)
    if decoder in CONTINUOUS:
        seats["packs"] = parts
        apart = models.apart.are_apart(generator.params)
    model = decoder_model(generator.config, mesh, apart)
    # `tree` and `speculative` make chunks between their calls, outside of the mesh
    with contextlib.nullcontext() if decoder in CONTINUOUS else model.within():
        return decoder.decode(
            model, generator.params, chunks, batch=rows, options=options, **seats
        )


@functools.cache  # the same functions again, so that nothing is compiled twice
def decoder_model(
    config: ModelConfig, mesh: Mesh | None = None, apart: bool = False
) -> Model:
    """The functions that a decoder needs of a model.

    apart: for parameters with layers apart, keep those of the cache apart, too
    (models.apart). The decoders that are one program, `step` and `beam`, want it False.
    """

    def init_cache(batch: int, slots: int) -> dict:
        cache = models.init_cache(config, batch, slots)
        if mesh is None:
            return cache
        places = models.cache_shardings(cache, mesh)
        return jax.lax.with_sharding_constraint(cache, places)

    unembed = functools.partial(models.unembed, config)
    if apart:
        return Model(
            forward=functools.partial(models.apart.forward, config),
            unembed=unembed,
            init_cache=functools.partial(models.apart.init_cache, config),
            move_slots=models.apart.move_slots,
            tiles=models.Tiles,
            apart=True,
        )
    return Model(
        forward=functools.partial(models.apart.apply, config),
        unembed=unembed,
        init_cache=init_cache,
        move_slots=models.move_slots,
        tiles=models.Tiles,
        within=functools.partial(jax.set_mesh, mesh)
        if mesh
        else contextlib.nullcontext,
    )


def lower_call(
    config: ModelConfig,
    mesh: Mesh,
    params: Any,
    cache: dict,
    *,
    rows: int,
    tokens: int,
    slots: int,
    edges: int,
) -> jax.stages.Lowered:
    """A call of `tree` over a mesh, lowered from shapes, in a single pack.

    params, cache: shapes with shardings; the cache has rows * slots slots in one row.
    Each row has so many new tokens at the end of so many slots, and scores edges.
    """
    each = slots // PAGE
    asked = [
        (
            Seat(0, list(range(row * each, (row + 1) * each))),
            Request(
                length=slots - tokens,
                tokens=[0] * tokens,
                depths=range(tokens),
                ends=[tokens] * tokens,
                at=[0] * edges,
                token_ids=[0] * edges,
            ),
        )
        for row in range(rows)
    ]
    inputs = pack(asked, 1, rows * slots).inputs
    model = decoder_model(config, mesh)
    return forward.run_whole.lower(model, params, cache, inputs, vocabulary=False)


def check_finite(chunk: DocumentChunk, path: DecodedPath) -> None:
    """Raise FloatingPointError for a path with a NaN or an infinite log-probability."""
    if math.isnan(path.score or 0.0) or not math.isfinite(sum(path.log_probs)):
        raise FloatingPointError(
            f"the generator's logits are not finite for characters [{chunk.start}, "
            f"{chunk.end}) of document {chunk.document} of the group: its weights are "
            "damaged, or too large for the setting dtype"
        )
