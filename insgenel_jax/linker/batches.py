"""Chunks in; their decoded paths out. Chunks of like shape are decoded together."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import math
from collections.abc import Sequence
from types import ModuleType

import jax
from jax.sharding import Mesh

from insgenel_jax import models
from insgenel_jax.decoding.chunk import Chunk
from insgenel_jax.decoding.forward import Model
from insgenel_jax.decoding.options import Options
from insgenel_jax.decoding.path import DecodedPath
from insgenel_jax.generator import Generator
from insgenel_jax.linker.chunks import DocumentChunk
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.tokenizer.padding import next_power

MOST_KNOWN = 20_000  # paths that `decode_new_chunks` keeps, some 10 KB each


def decode_chunks(
    generator: Generator,
    chunks: Sequence[DocumentChunk],
    decoder: ModuleType,
    options: Options,
    *,
    batch: int,
    batch_tokens: int,
) -> list[DecodedPath]:
    """The path decided for each chunk, in order.

    decoder: one of decoding.{tree, speculative, step, beam}. A chunk without candidate
    mentions is not decoded. batch: the most chunks that are decoded together;
    batch_tokens: the most slots of the KV cache that they take.
    Raises FloatingPointError where the generator's logits are not finite.
    """
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
    chunks: Sequence[DocumentChunk],
    decoder: ModuleType,
    options: Options,
    *,
    batch: int,
    batch_tokens: int,
    known: dict[bytes, DecodedPath],
) -> list[DecodedPath]:
    """As `decode_chunks`, but what `known` has is not decoded again.

    known: paths by the key of their chunk and options; those decoded now are added, and
    the oldest dropped where there are more than MOST_KNOWN.
    """
    keys = [chunk_key(chunk.chunk, decoder, options) for chunk in chunks]
    new = {k: chunk for k, chunk in zip(keys, chunks, strict=True) if k not in known}
    paths = decode_chunks(
        generator,
        list(new.values()),
        decoder,
        options,
        batch=batch,
        batch_tokens=batch_tokens,
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
    chunks: Sequence[Chunk],
    options: Options,
    rows: int,
) -> list[DecodedPath]:
    """Decode one batch of chunks, padded to `rows` rows, or to what the mesh wants."""
    mesh, within = generator.mesh, contextlib.nullcontext()
    if mesh is not None:
        parts = mesh.shape["data"] * mesh.shape["fsdp"]
        rows = parts * next_power(-(-rows // parts), 1)
        within = jax.set_mesh(mesh)
    model = decoder_model(generator.config, mesh)
    with within:
        return decoder.decode(
            model, generator.params, chunks, batch=rows, options=options
        )


@functools.cache  # the same functions again, so that nothing is compiled twice
def decoder_model(config: ModelConfig, mesh: Mesh | None = None) -> Model:
    """The functions that a decoder needs of a model."""
    module = models.build(config)

    def init_cache(batch: int, slots: int) -> dict:
        cache = models.init_cache(config, batch, slots)
        if mesh is None:
            return cache
        places = models.cache_shardings(cache, mesh)
        return jax.lax.with_sharding_constraint(cache, places)

    return Model(
        forward=lambda params, *args: module.apply({"params": params}, *args),
        unembed=functools.partial(models.unembed, config),
        init_cache=init_cache,
        move_slots=models.move_slots,
    )


def check_finite(chunk: DocumentChunk, path: DecodedPath) -> None:
    """Raise FloatingPointError for a path with a NaN or an infinite log-probability."""
    if math.isnan(path.score or 0.0) or not math.isfinite(sum(path.log_probs)):
        raise FloatingPointError(
            f"the generator's logits are not finite for characters [{chunk.start}, "
            f"{chunk.end}) of document {chunk.document} of the group: its weights are "
            "damaged, or too large for the setting dtype"
        )
