"""A generator's directory: a Hugging Face model, its tokenizer, and insgenel.json.

This file alone reads and writes insgenel.json:

    {"instruction": "...", "chunk_tokens": 175, "prompt_text": true}

Older versions did not write the last one, and wrote other names, which are ignored.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jax.sharding import Mesh

from insgenel_jax import artifact, models
from insgenel_jax.models import hf
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.tokenizer import Tokenizer, copy_tokenizer, load_tokenizer

KIND = "generator"
VERSION = 1
SETTINGS = "insgenel.json"


@dataclasses.dataclass(frozen=True)
class Generator:
    """The instruction-tuned language model and its tokenizer.

    instruction: the words that every prompt begins with. chunk_tokens: the
    number of source tokens in a chunk as long as the chunks that the model was trained
    on. prompt_text: whether the text stands in the prompt, behind the instruction.
    mesh: the mesh that the parameters are sharded over, if they are.
    """

    config: ModelConfig
    params: Any
    tokenizer: Tokenizer
    instruction: str
    chunk_tokens: int
    prompt_text: bool = True
    mesh: Mesh | None = None

    @property
    def max_positions(self) -> int:
        """How many tokens a prompt and its target may have together."""
        return self.config.max_positions


def save_generator(
    generator: Generator,
    path: str | os.PathLike,
    *,
    tokenizer: str | os.PathLike,
    made_from: Mapping[str, str] = MappingProxyType({}),
    card: str = "",
) -> None:
    """Write a generator's model directory, which `transformers` opens too.

    tokenizer: the directory that `generator.tokenizer` was loaded from; its files are
    copied. made_from: identities of what the model was trained from, by role.
    card: what else is to be known of it, in Markdown.
    Raises ArtifactError where something else than a generator is at `path`, ValueError
    where the parameters are not those of the model's config.
    """
    special = {
        f"{role}_token_id": getattr(generator.tokenizer, role)
        for role in ("bos", "eos", "pad")
    }
    with artifact.create(path, KIND, VERSION) as draft:
        params = models.apart.join_layers(generator.params)
        hf.save_model(draft.path, generator.config, params, special=special)
        copy_tokenizer(tokenizer, draft.path)
        write_generator_settings(generator, draft.path)
        if card:
            (draft.path / artifact.CARD).write_text(card, encoding="utf-8")
        draft.made_from.update(made_from)


def load_generator(
    path: str | os.PathLike,
    mesh: Mesh | None = None,
    dtype: str = "float32",
    *,
    verify: bool = False,
) -> Generator:
    """Open a generator's model directory; sharded over a mesh if one is given.

    dtype: what is computed in, and what weights and cache are kept in. A directory
    without a manifest, as another program may have written it, is opened unchecked;
    otherwise kind, version and sizes are checked, and with `verify` hashes, which need
    a manifest.

    Raises ValueError (ArtifactError for what the manifest tells) or FileNotFoundError
    that name the file and what is wrong with it.
    """
    path = Path(path)
    if verify or (path / artifact.MANIFEST).is_file():
        artifact.check(path, KIND, VERSION, verify=verify)
    return _load(path, mesh, dtype, *read_generator_settings(path))


def load_language_model(path: str | os.PathLike, dtype: str = "float32") -> Generator:
    """Open a model that need not be trained to link, for free decoding.

    path: a model directory of Hugging Face's kind, as `insgenel base` makes one, or a
    generator's. The instruction is empty. dtype, errors: as in `load_generator`.
    """
    return _load(Path(path), None, dtype, instruction="", chunk_tokens=1)


def _load(
    path: Path,
    mesh: Mesh | None,
    dtype: str,
    instruction: str,
    chunk_tokens: int,
    prompt_text: bool = True,
) -> Generator:
    """The model and the tokenizer of a directory."""
    config = dataclasses.replace(hf.load_config(path), dtype=dtype, param_dtype=dtype)
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
        prompt_text=prompt_text,
    )


def write_generator_settings(generator: Generator, path: Path) -> None:
    """Write insgenel.json to the folder `path`."""
    settings = {
        "instruction": generator.instruction,
        "chunk_tokens": generator.chunk_tokens,
        "prompt_text": generator.prompt_text,
    }
    (path / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n")


def read_generator_settings(path: Path) -> tuple[str, int, bool]:
    """Instruction, chunk_tokens and prompt_text of insgenel.json in a folder."""
    file = path / SETTINGS
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
        prompt_text = settings.get("prompt_text", True)
        if type(prompt_text) is not bool:
            raise ValueError(f"prompt_text is {prompt_text!r}")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{file}: expected a JSON object with an instruction and chunk_tokens, an "
            f"integer of at least 1, found something else ({error!r}); train it again"
        ) from error
    return instruction, chunk_tokens, prompt_text
