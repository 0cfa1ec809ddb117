"""A retriever directory in; embeddings of windows and of all entities of a KB out.

    window             -> [CLS] window [SEP]                     -> mention BERT -> [CLS]
    title, description -> [CLS] title [SEP] description [SEP]    -> entity BERT  -> [CLS]

The score of an entity for a window is the dot product of the two.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import tensorstore as ts
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from insgenel_jax import artifact, models, sharding
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.models import hf
from insgenel_jax.models.attention import Mask
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.text.document import normalise
from insgenel_jax.tokenizer import WordPiece, load_wordpiece

KIND = "retriever"
VERSION = 1
ROWS = 16_384  # entities tokenised, sorted and written together; rows of a zarr chunk
SMALLEST = 8  # rows of the smallest batch
TOKENS = {"cpu": 4_096}  # tokens of the largest batch, by platform
MANY_TOKENS = 131_072  # where the platform is an accelerator


@dataclasses.dataclass(frozen=True)
class Retriever:
    """Two BERTs that share nothing, "mention" and "entity", with their tokenizer.

    window_length, stride: of the windows it was trained on, in words. window_tokens,
    entity_tokens: where its inputs are cut. mesh: batches are split over it.
    """

    configs: dict[str, ModelConfig]
    params: dict[str, Any]
    tokenizer: WordPiece
    window_length: int
    stride: int
    window_tokens: int
    entity_tokens: int
    mesh: Mesh | None = None

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        *,
        mesh: Mesh | None = None,
        verify: bool = False,
    ) -> Retriever:
        """Open a retriever directory; `verify` compares hashes.

        Raises artifact.ArtifactError where it is damaged, ValueError for settings of a
        model that this release does not compute.
        """
        path = Path(path)
        artifact.check(path, KIND, VERSION, verify=verify)
        settings = artifact.read_json(path / "retriever.json")
        if settings.pop("pooling", "cls") != "cls":
            raise ValueError(f'{path}/retriever.json: only pooling "cls" is computed')
        wanted = ("window_length", "stride", "window_tokens", "entity_tokens")
        for name in wanted:
            if type(settings.get(name)) is not int or settings[name] < 1:
                raise ValueError(
                    f"{path}/retriever.json: {name}: expected an integer of at least "
                    f"1, found {settings.get(name)!r}"
                )
        configs = {role: hf.load_config(path / role) for role in ("mention", "entity")}
        params, tokenizer = {}, load_wordpiece(path)
        for role, config in configs.items():
            hf.check_tokenizer(path / role, config, tokenizer.size)
            place = None if mesh is None else models.param_shardings(config, mesh)
            params[role] = hf.load_params(path / role, config, place)
        return cls(
            configs=configs,
            params=params,
            tokenizer=tokenizer,
            mesh=mesh,
            **{name: settings[name] for name in wanted},
        )

    @property
    def dim(self) -> int:
        """Dimensions of an embedding."""
        return self.configs["entity"].dim

    def embed_windows(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
        """Embed windows of text, in float32.

        The length a window is padded to depends on itself alone, so that its embedding
        is the same (to rounding) whatever is embedded with it.
        """
        texts = [normalise(text) for text in texts]
        return self._embed("mention", self.tokenizer.encode(texts, self.window_tokens))

    def embed_entities(
        self, kb: KnowledgeBase, path: str | os.PathLike | None = None
    ) -> ts.TensorStore:
        """Embed all entities, in their order: a bfloat16 zarr3 array [E, D].

        Written as it comes to a new directory `path`; kept in memory without one.
        """
        store = create_store(len(kb), self.dim, path)
        written = []
        first = 0
        for ids in self._tokenise(kb):
            rows = self._embed("entity", ids).astype(ml_dtypes.bfloat16)
            written.append(store[first : first + len(rows)].write(rows))
            first += len(rows)
        for future in written:
            future.result()
        return store

    def _tokenise(self, kb: KnowledgeBase) -> Iterator[Int[np.ndarray, "N T"]]:
        """Token ids of ROWS entities at a time, one step ahead of the model."""

        def encode(first: int) -> np.ndarray:
            rows = range(first, min(first + ROWS, len(kb)))
            return self.tokenizer.encode(
                [normalise(kb.title(i)) for i in rows],
                self.entity_tokens,
                pairs=[normalise(kb.description(i)) for i in rows],
            )

        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(encode, 0)
            for first in range(ROWS, len(kb) + ROWS, ROWS):
                ids = ahead.result()
                if first < len(kb):
                    ahead = pool.submit(encode, first)
                yield ids

    def _embed(
        self, role: str, ids: Int[np.ndarray, "N T"]
    ) -> Float[np.ndarray, "N D"]:
        """Embed padded token ids in static buckets of length and batch."""
        lengths = np.count_nonzero(ids != self.tokenizer.pad, axis=1)
        edges = np.array(buckets(ids.shape[1]))
        widths = edges[np.searchsorted(edges, lengths)]
        parts = 1
        if self.mesh is not None:
            parts = self.mesh.shape["data"] * self.mesh.shape["fsdp"]
        pending = []
        for width in np.unique(widths).tolist():
            rows = np.flatnonzero(widths == width)
            for batch, size in batches(rows, width, parts):
                padded = np.resize(ids[batch, :width], (size, width))
                pending.append((batch, self._encode(role, padded)))
        embedded = np.empty((len(ids), self.configs[role].dim), np.float32)
        for batch, hidden in pending:
            embedded[batch] = np.asarray(hidden)[: len(batch)]
        return embedded

    def _encode(self, role: str, ids: np.ndarray) -> Float[Array, "B D"]:
        context = contextlib.nullcontext()
        if self.mesh is not None:
            ids = jax.device_put(ids, sharding.batch_sharding(self.mesh))
            context = jax.set_mesh(self.mesh)
        with context:
            return encode(
                self.configs[role],
                None if self.mesh is None else sharding.replicated(self.mesh),
                self.params[role],
                ids,
                self.tokenizer.pad,
            )


@functools.partial(jax.jit, static_argnums=(0, 1))
def encode(
    config: ModelConfig, place, params, ids: Int[Array, "B T"], pad
) -> Float[Array, "B D"]:
    """The hidden state of the first token, in float32; padding (at the end) is unseen."""
    mask = Mask(lengths=jnp.sum(ids != pad, axis=1))
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    hidden, _ = models.build(config).apply({"params": params}, ids, positions, mask)
    first = hidden[:, 0].astype(jnp.float32)
    if place is not None:  # whole on every device, so that every host can read it
        first = jax.lax.with_sharding_constraint(first, place)
    return first


def buckets(longest: int) -> list[int]:
    """Lengths that inputs are padded to: 16, 24, 32, 48, 64, 96, ... up to `longest`."""
    edges = [edge for n in range(4, 16) for edge in (2**n, 3 * 2 ** (n - 1))]
    return [edge for edge in edges if edge < longest] + [longest]


def batches(
    rows: np.ndarray, width: int, parts: int = 1
) -> Iterator[tuple[np.ndarray, int]]:
    """Cut rows into batches, each with the size it is to be padded to.

    Sizes are 8, 64, 512, ... rows and the most that fits the platform: few shapes to
    compile, and no batch, but one of the smallest size, less than half full. All are
    multiples of `parts`.
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


def create_store(
    rows: int, dim: int, path: str | os.PathLike | None = None
) -> ts.TensorStore:
    """A new bfloat16 zarr3 array [rows, dim], in a directory or in memory."""
    kvstore = {"driver": "memory"}
    if path is not None:
        kvstore = {"driver": "file", "path": f"{Path(path).resolve()}/"}
    spec = {
        "driver": "zarr3",
        "kvstore": kvstore,
        "metadata": {
            "shape": [rows, dim],
            "data_type": "bfloat16",
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [ROWS, dim]},
            },
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        },
    }
    return ts.open(spec, create=True).result()


def open_store(path: str | os.PathLike) -> ts.TensorStore:
    """Open a zarr3 array that `create_store` made, for reading."""
    kvstore = {"driver": "file", "path": f"{Path(path).resolve()}/"}
    return ts.open({"driver": "zarr3", "kvstore": kvstore}, read=True).result()
