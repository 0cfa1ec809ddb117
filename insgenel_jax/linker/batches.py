"""Settings and a generator in; how chunks are decoded out."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence

import jax
from jax.sharding import Mesh

from insgenel_jax import models
from insgenel_jax.decoding import beam, speculative, step, tree
from insgenel_jax.decoding import chunk as decoding_chunk
from insgenel_jax.decoding.forward import Model
from insgenel_jax.decoding.options import Options
from insgenel_jax.decoding.path import Path
from insgenel_jax.decoding.title_trie import TitleTrie
from insgenel_jax.generator import Generator
from insgenel_jax.linker.chunks import Chunk
from insgenel_jax.linker.directory import Settings
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.tokenizer.padding import next_power

Shape = Callable[[Chunk], tuple[int, ...]]
Decode = Callable[[Sequence[Chunk], int], list[Path]]

# What "auto" stands for: of those that give the same answer the fastest, or near it, on
# CPU and GPU, at any batch, from some 10 M parameters up (benchmarks/decoding.py,
# systems.py, large.py). Below, on a CPU, `step` decodes in two thirds of the time, but
# compiles so much more that thousands of documents have to pay for it.
FASTEST = "tree"


def choose_decoder(
    settings: Settings, generator: Generator, titles: TitleTrie | None = None
) -> tuple[Shape, Decode]:
    """shape(chunk), of cache slots first, and decode(chunks of one shape, batch).

    Chunks are batched by shape, which depends on nothing but the chunk. A batch has as
    many rows as are asked for, or as the mesh wants. titles: the tree of all titles, on
    the devices, for chunks with a mention that may take any.
    """
    name = settings.decoder
    if name == "auto":
        name = "step" if settings.titles == "all" else FASTEST
    decoder = {"tree": tree, "verify": speculative, "step": step, "beam": beam}[name]
    options = Options(
        selection=settings.selection,
        unlinked=settings.consider_unlinked,
        vocabulary=settings.vocabulary_scores,
        beams=settings.beams,
        openings=settings.openings,
        titles=titles if settings.titles == "all" else None,
    )

    def shape(chunk: Chunk) -> tuple[int, ...]:
        return decoder.shape(_without_place(chunk), options)

    def decode(chunks: Sequence[Chunk], batch: int) -> list[Path]:
        mesh, within = generator.mesh, contextlib.nullcontext()
        if mesh is not None:
            rows = mesh.shape["data"] * mesh.shape["fsdp"]
            batch, within = rows * next_power(-(-batch // rows), 1), jax.set_mesh(mesh)
        with within:
            return decoder.decode(
                decoder_model(generator.config, generator.mesh),
                generator.params,
                [_without_place(chunk) for chunk in chunks],
                batch=batch,
                options=options,
            )

    return shape, decode


def _without_place(chunk: Chunk) -> decoding_chunk.Chunk:
    """What a decoder needs of a chunk, without its place in the documents."""
    return decoding_chunk.Chunk(chunk.prompt, chunk.source, chunk.table)


@functools.cache  # the same functions again, so that nothing is compiled twice
def decoder_model(config: ModelConfig, mesh: Mesh | None = None) -> Model:
    """The functions that a decoder needs of a model, its cache sharded over a mesh."""
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
