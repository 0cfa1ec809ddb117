"""Settings in; what is wrong with them out: too small, contradictory, paths missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from insgenel_jax.training.settings import SHAPE, Config, ConfigError, GeneratorData

FEWEST_TOKENS = 5  # [CLS] title [SEP] description [SEP], a token each


def find_too_small(config: Config) -> Iterable[str]:
    """Counts and sizes below 1, or below 0 where 0 means none."""
    may_be_none = {"warmup_steps", "scored", "mining_pool", "max_candidates", "streams"}
    may_be_none |= {"mined_per_window", "confusable_per_window"}
    if config.loop.epochs > 0:
        may_be_none.add("steps")
    for section in ("model", "data", "optimizer", "loop"):
        for name, value in dataclasses.asdict(getattr(config, section)).items():
            least = 0 if name in may_be_none else 1
            if type(value) is int and value < least:
                yield f"{section}.{name} must be at least {least}, found {value}"


def find_contradictions(config: Config) -> Iterable[str]:
    """Settings that contradict each other."""
    data, loop, model = config.data, config.loop, config.model
    if model.pretrained and model.shape:
        yield (
            f"{', '.join(f'model.{name}' for name in model.shape)}: the shape is that "
            "of model.pretrained; leave them out"
        )
    elif model.shape:
        if missing := [f"model.{name}" for name in SHAPE if name not in model.shape]:
            yield f"missing for a model from scratch: {', '.join(missing)}"
        if model.lora:
            yield "model.lora needs the model.pretrained that it adds to"
    if model.family and (model.family == "bert") != (config.task == "retriever"):
        yield f"model.family = {model.family!r} cannot be a {config.task}"
    if loop.epochs < 0 or (loop.epochs and loop.steps):
        yield (
            f"loop.epochs = {loop.epochs:g} with loop.steps = {loop.steps}: expected "
            "one of them, above 0; set the other to 0"
        )
    optimizer = config.optimizer
    if not 0 <= optimizer.warmup_share < 1:
        yield (
            "optimizer.warmup_share must be at least 0 and below 1, found "
            f"{optimizer.warmup_share:g}"
        )
    if optimizer.warmup_share and optimizer.warmup_steps:
        yield "optimizer.warmup_share needs optimizer.warmup_steps = 0"
    if not 0 < data.share <= 1:
        yield f"data.share must be above 0 and at most 1, found {data.share:g}"
    if data.streams > 0 and data.batch % data.streams:
        yield f"data.batch = {data.batch} must be a multiple of data.streams"
    parts = loop.microbatches * loop.data * loop.fsdp
    if parts > 0 and data.batch % parts:
        yield (
            f"data.batch = {data.batch} must be a multiple of loop.microbatches x data "
            f"x fsdp = {parts}"
        )
    if isinstance(data, GeneratorData):
        if data.scored > data.max_length:
            yield f"data.scored must be at most data.max_length = {data.max_length}"
        if data.allowed_edges and data.copy_loss_weight:
            yield (
                "data.copy_loss_weight must be 0 with data.allowed_edges: a forced "
                "token is the only one that is allowed"
            )
        if data.prior_weight and not data.allowed_edges:
            yield "data.prior_weight needs data.allowed_edges"
        return
    if data.stride > data.window_length:
        yield f"data.stride must be at most data.window_length = {data.window_length}"
    for name in ("window_tokens", "entity_tokens"):
        if getattr(data, name) < FEWEST_TOKENS:
            yield f"data.{name} must be at least {FEWEST_TOKENS}"


def check_paths(config: Config) -> None:
    """Raise ConfigError that names every path that is needed and not set."""
    data, model = config.data, config.model
    if model.shape:
        needed = {"model.tokenizer": model.tokenizer}
    else:
        needed = {"model.pretrained": model.pretrained}
    needed["data.documents"] = data.documents
    paper = isinstance(data, GeneratorData) and (
        data.copy_loss_weight == data.open_loss_weight == 1
        and data.span_loss_weight == data.title_loss_weight == 1
        and not (data.mask_unlabelled_matches or data.word_noise or data.allowed_edges)
    )
    if not paper:  # only the knowledge base knows where there is something to decide
        needed["data.kb"] = data.kb
    if missing := [name for name, path in needed.items() if not path]:
        flags = " ".join(f"--set {name}=PATH" for name in missing)
        raise ConfigError(f"paths not set: add {flags}")
