"""A generator and a few documents in; settings to train it further on them out."""

from __future__ import annotations

import math
from pathlib import Path

from insgenel_jax.generator import Generator
from insgenel_jax.models.lora import Lora
from insgenel_jax.text.linked_text import encode_prompt
from insgenel_jax.training.settings import (
    Config,
    GeneratorData,
    LoopSettings,
    ModelSettings,
    OptimizerSettings,
)

ROWS = 8  # of a batch: few documents give few rows
TARGET = 1.6  # tokens of a target for each token of its source, its links included
STEP = 64  # lengths of rows are multiples of it


def adapting_config(
    generator: Generator,
    path: Path,
    documents: Path,
    kb: Path,
    *,
    lora: bool,
    epochs: float,
    learning_rate: float,
    prior_weight: float = 0.0,
    max_candidates: int = 0,
    seed: int = 0,
) -> Config:
    """Train the generator at `path` on training documents of a knowledge base.

    The loss is that of the choices that decoding has, weighted by the prior as linking
    does (prior_weight, max_candidates), so that nothing is spent on forced tokens.
    """
    model = ModelSettings(
        pretrained=str(path),
        tokenizer=str(path),
        lora=Lora() if lora else None,
        dtype=generator.config.dtype,
    )
    data = GeneratorData(
        documents=str(documents),
        kb=str(kb),
        batch=ROWS,
        max_length=row_length(generator),
        instruction=generator.instruction,
        prompt_text=generator.prompt_text,
        copy_loss_weight=0.0,
        allowed_edges=True,
        prior_weight=prior_weight,
        max_candidates=max_candidates,
    )
    optimizer = OptimizerSettings(learning_rate, warmup_share=0.1)
    loop = LoopSettings(epochs=epochs, checkpoint_steps=100)
    return Config("generator", model, data, optimizer, loop, seed)


def row_length(generator: Generator) -> int:
    """Tokens of a row that a chunk of the generator's length fits into."""
    chunk, instruction = generator.chunk_tokens, generator.instruction
    prompt = len(encode_prompt(generator.tokenizer, instruction, ""))
    whole = prompt + chunk * (TARGET + generator.prompt_text) + 2
    return min(STEP * math.ceil(whole / STEP), generator.max_positions)
