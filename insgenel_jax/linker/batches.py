"""Settings and a generator in; how chunks are decoded out."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from insgenel_jax import models
from insgenel_jax.decoding import beam, step, tree
from insgenel_jax.decoding import speculative as verify
from insgenel_jax.decoding import table as decisions
from insgenel_jax.decoding.forward import Model, bucket
from insgenel_jax.decoding.title_trie import TitleTrie
from insgenel_jax.generator import Generator
from insgenel_jax.linker.chunks import Chunk
from insgenel_jax.linker.directory import Settings
from insgenel_jax.models.config import ModelConfig

Shape = Callable[[Chunk], tuple[int, ...]]
Decode = Callable[[Sequence[Chunk], int], list[decisions.Path]]

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
    options: dict[str, Any] = {}
    if name == "tree":
        options["selection"] = settings.selection
        options["unlinked"] = settings.consider_unlinked
        options["vocabulary"] = settings.vocabulary_scores
    if name == "step" and settings.titles == "all":
        options["titles"] = titles
    if name == "beam":
        options |= {"beams": settings.beams, "openings": settings.openings}
    decoder = {"tree": tree, "verify": verify, "step": step, "beam": beam}[name]

    def shape(chunk: Chunk) -> tuple[int, ...]:
        if name == "beam":
            found = beam.shape(
                chunk.prompt, chunk.table, chunk.source, settings.openings
            )
            return found.prompt + settings.beams * found.longest, *found
        found = decoder.shape(chunk.prompt, chunk.table)
        return found if name != "step" else (found.prompt + found.longest, *found)

    def decode(chunks: Sequence[Chunk], batch: int) -> list[decisions.Path]:
        mesh, within = generator.mesh, contextlib.nullcontext()
        if mesh is not None:
            rows = mesh.shape["data"] * mesh.shape["fsdp"]
            batch, within = rows * bucket(-(-batch // rows), 1), jax.set_mesh(mesh)
        sources = [chunk.source for chunk in chunks]
        with within:
            return decoder.decode(
                decoder_model(generator.config, generator.mesh),
                generator.params,
                [chunk.prompt for chunk in chunks],
                [chunk.table for chunk in chunks],
                *([sources] if name == "beam" else []),
                batch=batch,
                **options,
            )

    return shape, decode


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
