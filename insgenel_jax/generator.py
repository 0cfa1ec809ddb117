"""A generator's directory: a Hugging Face model, its tokenizer, and insgenel.json."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from insgenel_jax import models
from insgenel_jax.models import hf
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.tokenizer import Tokenizer, load_tokenizer


@dataclasses.dataclass(frozen=True)
class Generator:
    """The instruction-tuned language model and its tokenizer.

    chunk_tokens: source tokens of a chunk like those trained on. mesh: where the
    parameters live, if on several devices.
    """

    config: ModelConfig
    params: Any
    tokenizer: Tokenizer
    instruction: str
    chunk_tokens: int
    mesh: Mesh | None = None

    @property
    def max_positions(self) -> int:
        """Positions of the model: tokens of a prompt and its target together."""
        return self.config.max_positions


def load_generator(
    path: str | os.PathLike, mesh: Mesh | None = None, dtype: str = "float32"
) -> Generator:
    """Open a generator's model directory; sharded over a mesh if one is given.

    dtype: what is computed in, and what weights and cache are kept in.

    Raises ValueError or FileNotFoundError that name the file and what is wrong with it.
    """
    path = Path(path)
    config = dataclasses.replace(hf.load_config(path), dtype=dtype, param_dtype=dtype)
    file = path / "insgenel.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no such file; expected a generator, as training writes it"
        )
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        instruction = str(settings["instruction"])
        chunk_tokens = settings["chunk_tokens"]
        if type(chunk_tokens) is not int or chunk_tokens < 1:
            raise ValueError(f"chunk_tokens is {chunk_tokens!r}")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{file}: expected a JSON object with an instruction and chunk_tokens, an "
            f"integer of at least 1, found something else ({error!r}); train it again"
        ) from error
    tokenizer = load_tokenizer(path)
    hf.check_tokenizer(path, config, tokenizer.size)
    places = None if mesh is None else models.param_shardings(config, mesh)
    params = hf.load_params(path, config, places)
    return Generator(
        config=config,
        params=params,
        tokenizer=tokenizer,
        instruction=instruction,
        chunk_tokens=chunk_tokens,
        mesh=mesh,
    )
