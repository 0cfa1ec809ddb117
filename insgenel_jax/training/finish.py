"""Trained parameters in; the model directory WORKDIR/model, and WORKDIR/lora, out.

The first process alone writes them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax

from insgenel_jax import artifact, processes, sharding
from insgenel_jax.generator import (
    Generator,
    save_generator,
    write_generator_settings,
)
from insgenel_jax.models import lora
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.retrieval.retriever import (
    Retriever,
    save_retriever,
    write_retriever_settings,
)
from insgenel_jax.tokenizer import Tokenizer, WordPiece
from insgenel_jax.training.card import make_card
from insgenel_jax.training.settings import Config, GeneratorData, RetrieverData


def save_trained_generator(
    config: Config,
    workdir: Path,
    model: ModelConfig,
    params: dict,
    tokenizer: Tokenizer,
    chunk_tokens: int,
    made_from: dict[str, str],
) -> None:
    """Write what was trained, LoRA merged into its base."""
    data, files = config.data, config.model.tokenizer
    assert isinstance(data, GeneratorData)
    plain, merged = merge_lora(model, params)
    settings = data.instruction, chunk_tokens, data.prompt_text
    generator = Generator(plain, sharding.gather(merged), tokenizer, *settings)
    params = sharding.gather(params)
    if jax.process_index() == 0:
        write_lora(workdir, model, {"": params}, made_from, generator)
        path = workdir / "model"
        card = make_card(config, made_from, workdir)
        save_generator(generator, path, tokenizer=files, made_from=made_from, card=card)
    processes.wait_for_all("saved")


def save_trained_retriever(
    config: Config,
    workdir: Path,
    model: ModelConfig,
    params: dict,
    tokenizer: WordPiece,
    made_from: dict[str, str],
) -> None:
    """Write what was trained, LoRA merged into its base."""
    data, files = config.data, config.model.tokenizer
    assert isinstance(data, RetrieverData)
    params = sharding.gather(params)
    merged = {name: merge_lora(model, part) for name, part in params.items()}
    retriever = Retriever(
        configs={name: config for name, (config, _) in merged.items()},
        params={name: part for name, (_, part) in merged.items()},
        tokenizer=tokenizer,
        window_length=data.window_length,
        stride=data.stride,
        window_tokens=data.window_tokens,
        entity_tokens=data.entity_tokens,
    )
    if jax.process_index() == 0:
        write_lora(workdir, model, params, made_from, retriever)
        path = workdir / "model"
        card = make_card(config, made_from, workdir)
        save_retriever(retriever, path, tokenizer=files, made_from=made_from, card=card)
    processes.wait_for_all("saved")


def merge_lora(model: ModelConfig, params: dict) -> tuple[ModelConfig, dict]:
    """The model as one without LoRA, which any other program opens."""
    if model.lora is None:
        return model, params
    return dataclasses.replace(model, lora=None), lora.merge(model.lora, params)


def write_lora(
    workdir: Path,
    model: ModelConfig,
    parts: dict[str, dict],
    made_from: dict[str, str],
    trained: Generator | Retriever,
) -> None:
    """WORKDIR/lora: if LoRA was trained, its leaves of each part, without the base.

    parts: folder in it -> parameters. trained: whose settings are kept with them, so
    that WORKDIR/lora and the base make WORKDIR/model (see merging.py).
    """
    if model.lora is None:
        return
    with artifact.create(workdir / "lora", lora.KIND, lora.VERSION) as draft:
        for part, params in parts.items():
            lora.save(draft.path / part, model.lora, params)
        if isinstance(trained, Generator):
            write_generator_settings(trained, draft.path)
        else:
            write_retriever_settings(trained, draft.path)
        draft.made_from = made_from
