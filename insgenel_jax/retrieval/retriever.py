"""A retriever directory in; a bi-encoder that embeds windows and entities out.

    retriever.json  tokenizer files  mention/  entity/      (a model directory each)

Where both encoders are one, `shared/` stands in place of the last two. This file alone
reads and writes retriever.json:

    {"window_length": 32, "stride": 16, "window_tokens": 64, "entity_tokens": 64,
     "shared": false, "pooling": "cls", "normalise": false, "temperature": 1.0}

The last four may be missing, as in directories of older versions. Names beyond these,
which older versions wrote, are ignored.
"""

from __future__ import annotations

import dataclasses
import json
import os
import typing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
import tensorstore as ts
from jax.sharding import Mesh
from jaxtyping import Float, Int

from insgenel_jax import artifact, models
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.models import hf
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.models.fields import expected_type
from insgenel_jax.retrieval import encoder, store
from insgenel_jax.tokenizer import WordPiece, copy_tokenizer, load_wordpiece

KIND = "retriever"
VERSION = 1
SETTINGS = "retriever.json"
ROLES = ("mention", "entity")
SHARED = "shared"  # the one encoder of both roles
_SIZES = ("window_length", "stride", "window_tokens", "entity_tokens")
_VECTORS = ("pooling", "normalise", "temperature")  # fields of both ModelConfigs


@dataclasses.dataclass(frozen=True)
class Retriever:
    """A bi-encoder and its tokenizer.

    configs, params: of the encoders "mention" (windows) and "entity", which share
    nothing (*paper*), or of the one encoder "shared", see `of_role`. window_length,
    stride: of the windows it was trained on, in words. window_tokens, entity_tokens:
    where its inputs are cut, in tokens. mesh: batches are split over its devices.
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
        model that this cannot run.
        """
        path = Path(path)
        artifact.check(path, KIND, VERSION, verify=verify)
        sizes, vectors, shared = read_retriever_settings(path)
        configs = {
            name: dataclasses.replace(hf.load_config(path / name), **vectors)
            for name in encoder_names(shared)
        }
        params, tokenizer = {}, load_wordpiece(path)
        for name, config in configs.items():
            hf.check_tokenizer(path / name, config, tokenizer.size)
            place = None if mesh is None else models.param_shardings(config, mesh)
            params[name] = hf.load_params(path / name, config, place)
        return cls(
            configs=configs, params=params, tokenizer=tokenizer, mesh=mesh, **sizes
        )

    @property
    def dim(self) -> int:
        """Dimensions of an embedding."""
        return of_role(self.configs, "entity").dim

    def embed_windows(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
        """Embed windows of text, in float32.

        A window has the same embedding (to rounding) whatever is embedded with it.
        """
        ids = encoder.tokenize_windows(self.tokenizer, texts, self.window_tokens)
        return self.embed_tokens("mention", ids)

    def embed_entities(
        self,
        kb: KnowledgeBase,
        path: str | os.PathLike | None = None,
        texts: KnowledgeBase | None = None,
        first: int = 0,
    ) -> ts.TensorStore:
        """Embed all entities from row `first` on: a bfloat16 zarr3 array [E, D].

        It is written to the directory `path` as it comes, or kept in memory. What an
        earlier call with the same arguments has written there is not computed again.
        texts: see `encoder.tokenize_entities`.
        """
        count = len(kb) - first
        embeddings = store.create_store(count, self.dim, path)
        starts = [
            start
            for number, start in enumerate(range(0, count, store.ROWS))
            if path is None or not store.has_chunk(path, number)
        ]
        written = None
        for start, ids in zip(
            starts, self._tokenize(kb, texts, first, starts), strict=True
        ):
            rows = self.embed_tokens("entity", ids).astype(ml_dtypes.bfloat16)
            if written is not None:  # while the next is computed
                written.result()
            written = embeddings[start : start + len(rows)].write(rows)
        if written is not None:
            written.result()
        return embeddings

    def embed_tokens(
        self, role: str, ids: Int[np.ndarray, "N T"]
    ) -> Float[np.ndarray, "N D"]:
        """Embed padded token ids with the encoder `role`, in float32."""
        parts = 1
        if self.mesh is not None:
            parts = self.mesh.shape["data"] * self.mesh.shape["fsdp"]
        pad = self.tokenizer.pad
        batches = encoder.bucketed_batches(ids, pad, parts)
        config, params = of_role(self.configs, role), of_role(self.params, role)
        return encoder.embed(config, params, ids, pad, batches, self.mesh)

    def _tokenize(
        self,
        kb: KnowledgeBase,
        texts: KnowledgeBase | None,
        first: int,
        starts: Sequence[int],
    ) -> Iterator[Int[np.ndarray, "N T"]]:
        """Token ids of store.ROWS entities from each start on, counted from `first`;
        one step ahead of the model."""

        def tokenize(start: int) -> np.ndarray:
            rows = range(first + start, min(first + start + store.ROWS, len(kb)))
            return encoder.tokenize_entities(
                self.tokenizer, kb, rows, self.entity_tokens, texts
            )

        with ThreadPoolExecutor(1) as pool:
            ahead = [pool.submit(tokenize, start) for start in starts[:1]]
            for start in [*starts[1:], None]:
                if not ahead:
                    return
                ids = ahead.pop().result()
                if start is not None:
                    ahead.append(pool.submit(tokenize, start))
                yield ids


def save_retriever(
    retriever: Retriever,
    path: str | os.PathLike,
    *,
    tokenizer: str | os.PathLike,
    made_from: Mapping[str, str] = MappingProxyType({}),
    card: str = "",
) -> None:
    """Write a retriever directory, each encoder as `transformers` opens it.

    tokenizer: the directory that `retriever.tokenizer` was loaded from; its files are
    copied. made_from: identities of what the models were trained from, by role.
    card: what else is to be known of it, in Markdown.
    Raises ArtifactError where something else than a retriever is at `path`, ValueError
    where the parameters are not those of the configs.
    """
    special = {"pad_token_id": retriever.tokenizer.pad}
    with artifact.create(path, KIND, VERSION) as draft:
        for name, config in retriever.configs.items():
            params = retriever.params[name]
            hf.save_model(draft.path / name, config, params, special=special)
        copy_tokenizer(tokenizer, draft.path)
        write_retriever_settings(retriever, draft.path)
        if card:
            (draft.path / artifact.CARD).write_text(card, encoding="utf-8")
        draft.made_from.update(made_from)


def encoder_names(shared: bool) -> tuple[str, ...]:
    """What the encoders of a bi-encoder are called, in memory and on disk."""
    return (SHARED,) if shared else ROLES


def of_role(parts: dict[str, Any], role: str) -> Any:
    """What belongs to the encoder that has a role; `parts` has one for each encoder."""
    return parts[SHARED if SHARED in parts else role]


def write_retriever_settings(retriever: Retriever, path: Path) -> None:
    """Write retriever.json to the folder `path`."""
    settings = {name: getattr(retriever, name) for name in _SIZES}
    settings["shared"] = SHARED in retriever.params
    config = of_role(retriever.configs, "mention")  # the entity encoder's are the same
    settings |= {name: getattr(config, name) for name in _VECTORS}
    (path / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n")


def read_retriever_settings(path: Path) -> tuple[dict[str, int], dict[str, Any], bool]:
    """What the retriever.json in the folder `path` says: sizes, how states become
    vectors, and whether there is one encoder."""
    file = path / SETTINGS
    settings = artifact.read_json(file)
    for name in _SIZES:
        if type(settings.get(name)) is not int or settings[name] < 1:
            raise ValueError(
                f"{file}: {name}: expected an integer of at least 1, found "
                f"{settings.get(name)!r}"
            )
    hints = typing.get_type_hints(ModelConfig)
    vectors = {name: settings[name] for name in _VECTORS if name in settings}
    for name, value in vectors.items():
        if expected := expected_type(value, hints[name]):
            raise ValueError(f"{file}: {name}: expected {expected}, found {value!r}")
    shared = settings.get("shared", False)
    if type(shared) is not bool:
        raise ValueError(f"{file}: shared: expected true or false, found {shared!r}")
    return {name: settings[name] for name in _SIZES}, vectors, shared
