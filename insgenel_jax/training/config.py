"""A config file and its overrides in; frozen, checked settings out.

A config is a python file with `get_config(arg)` that returns a ConfigDict. Every key is
a field of the dataclasses below; a key that is none of them is an error.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib.machinery
import traceback
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ml_collections

from insgenel_jax.models.config import ModelConfig
from insgenel_jax.models.fields import expected_type, meanings
from insgenel_jax.models.lora import Lora
from insgenel_jax.text.linked_text import INSTRUCTION

TASKS = ("generator", "retriever")
FEWEST_TOKENS = 5  # [CLS] title [SEP] description [SEP], a token each


class ConfigError(ValueError):
    """A config file, or an override, that says something it may not say."""


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """The model (for a retriever: each of its encoders), from scratch or pretrained.

    family, dim, layers, heads, ffn: the shape of a model from scratch, which needs all
    of these. kv_heads, tie_embeddings, init_std: of a model from scratch too, optional.
    tokenizer: the directory of its tokenizer, whose size is the size of the vocabulary.

    pretrained: a model directory as Hugging Face writes it; both encoders of a
    retriever begin with it. It gives the shape, and the tokenizer if none is named.

    shared: one encoder for windows and entities (*paper*: two that share nothing).
    pooling, normalise, temperature: how a retriever's hidden states become vectors and
    its vectors scores (*paper*: "cls", False, 1); retrieval/encoder.py has their rules.

    lora: additions that are trained in place of a pretrained model's own parameters;
    those stay as they are, kept in `param_dtype`. The other settings are those of
    models.config.ModelConfig.
    """

    pretrained: str = ""
    family: str | None = None
    dim: int | None = None
    layers: int | None = None
    heads: int | None = None
    ffn: int | None = None
    kv_heads: int | None = None
    tie_embeddings: bool | None = None
    init_std: float | None = None
    tokenizer: str = ""
    shared: bool = False
    pooling: str = "cls"
    normalise: bool = False
    temperature: float = 1.0
    dropout: float = 0.0
    lora: Lora | None = None
    attention: str = "auto"
    dtype: str = "float32"
    param_dtype: str = "float32"
    remat: str = "none"

    @property
    def shape(self) -> dict[str, Any]:
        """The settings of a model from scratch that are given: name -> value."""
        shape = {name: getattr(self, name) for name in (*_SHAPE, *_MORE_SHAPE)}
        return {name: value for name, value in shape.items() if value is not None}


# settings of a model from scratch: those it needs, and those that are optional
_SHAPE = ("family", "dim", "layers", "heads", "ffn")
_MORE_SHAPE = ("kv_heads", "tie_embeddings", "init_std")


@dataclasses.dataclass(frozen=True)
class GeneratorData:
    """What the generator reads.

    documents: a training-documents artifact. kb: the knowledge base. dev: Document JSON
    lines to evaluate on; "" evaluates nothing, and the last parameters are kept.
    dev_documents: how many of them, at most. batch: rows of a batch. max_length: tokens
    of a row. packed: whether a row is packed with examples; otherwise it has one
    (*paper*). share: how much of the training pages is read; a hash of the page's id
    decides, so that a larger share holds a smaller one.

    instruction: the words that a prompt begins with. more_instructions: one of these
    and of `instruction` begins each prompt, by chance; linking takes `instruction`.
    prompt_text: whether the text stands in the prompt too (*paper*: yes).

    copy_loss_weight, open_loss_weight, span_loss_weight, title_loss_weight: weights of
    the loss at forced tokens, where a mention may begin, where it may end, and where
    titles part (*paper*: 1). max_candidates: of a surface form, those linked most; 0
    for all. allowed_edges: the loss is that of a softmax over the tokens that decoding
    allows, not over the whole vocabulary (*paper*: off); forced tokens have none.
    prior_weight: p(entity | surface form) to this power, counted without the link at
    hand, weighs the titles in that softmax, as it does in linking; the model then
    learns what to add to the prior.
    mask_unlabelled_matches: no loss where the dictionary knows a mention that is not
    labelled (*paper*: off). word_noise: the share of words outside of mentions that are
    replaced (*paper*: 0). All of these need `kb`. scored: how many positions of a row
    logits are formed at, those of highest weight; 0 for all. Further positions with
    weight add no loss; their number is reported.
    """

    documents: str
    batch: int
    max_length: int
    kb: str = ""
    dev: str = ""
    dev_documents: int = 200
    packed: bool = True
    share: float = 1.0
    instruction: str = INSTRUCTION
    more_instructions: tuple[str, ...] = ()
    prompt_text: bool = True
    copy_loss_weight: float = 1.0
    open_loss_weight: float = 1.0
    span_loss_weight: float = 1.0
    title_loss_weight: float = 1.0
    max_candidates: int = 0
    allowed_edges: bool = False
    prior_weight: float = 0.0
    mask_unlabelled_matches: bool = False
    word_noise: float = 0.0
    scored: int = 0


@dataclasses.dataclass(frozen=True)
class RetrieverData:
    """What the retriever reads; documents, kb, dev and share as for the generator.

    batch: windows, which share one table of golds + negatives entities. golds: the most
    entities that mentions of a batch may name; further golds are left out and counted.
    negatives: of a batch. Some are hard negatives of its windows, mined with the
    current parameters before the first step and every refresh_steps; the rest is drawn
    evenly from the knowledge base (*paper*: 10 % are mined). mined_per_window: there
    must be room for the hard negatives of a whole batch; 0 mines nothing.
    refresh_steps: steps after which they are mined anew. mining_pool: mine among the
    golds of the coming windows and other entities by chance, so many together, instead
    of all; 0 for all. confusable_per_window (*paper*: 0): so many negatives of each
    window are other entities of its mentions' surface forms, those linked most; there
    must be room for them too. in_batch_negatives (*paper*: off): the golds of other
    windows are negatives too.

    window_length, stride: of windows, in words. window_tokens, entity_tokens: where the
    encoders' inputs are cut.
    """

    documents: str
    batch: int
    golds: int
    negatives: int
    kb: str
    dev: str = ""
    dev_documents: int = 200
    share: float = 1.0
    window_length: int = 32
    stride: int = 16
    window_tokens: int = 64
    entity_tokens: int = 64
    mined_per_window: int = 4
    mining_pool: int = 0
    confusable_per_window: int = 0
    refresh_steps: int = 200
    in_batch_negatives: bool = False


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """AdamW: linear warm-up to learning_rate, then linear decay to 0.

    learning_rate: the highest, after warming up. warmup_steps: of the linear warm-up.
    warmup_share: in its place, the share of all steps that warm up. clip: the largest
    global norm of a gradient; 0 clips nothing. weight_decay, b1, b2, eps: those of
    AdamW.
    """

    learning_rate: float
    warmup_steps: int = 0
    warmup_share: float = 0.0
    clip: float = 1.0
    weight_decay: float = 0.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """How long, how often, and on how many devices: data x fsdp x tensor.

    steps: of the optimizer. epochs: in their place, how often the training documents
    are read, turned into steps when training begins, by the length of the first
    documents. microbatches: parts of a batch that are run one after the
    other (gradient accumulation). log_steps, evaluate_steps, checkpoint_steps: after
    how many steps each is done again. data, fsdp, tensor: devices along each axis of
    the mesh.
    """

    steps: int = 0
    epochs: float = 0.0
    microbatches: int = 1
    log_steps: int = 10
    evaluate_steps: int = 500
    checkpoint_steps: int = 500
    data: int = 1
    fsdp: int = 1
    tensor: int = 1


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment."""

    task: str
    model: ModelSettings
    data: GeneratorData | RetrieverData
    optimizer: OptimizerSettings
    loop: LoopSettings
    seed: int = 0


def explain_settings() -> tuple[dict[str, Any], dict[str, str]]:
    """The defaults and the meanings of all settings, by their keys in a config.

    "needed" stands for the default of a setting that has none.
    """
    sections = {
        "model": (ModelSettings,),
        "model.lora": (Lora,),
        "data": (GeneratorData, RetrieverData),
        "optimizer": (OptimizerSettings,),
        "loop": (LoopSettings,),
    }
    beside = {"model": meanings(ModelConfig), "data": meanings(GeneratorData)}
    defaults: dict[str, Any] = {"task": "needed", "seed": 0}
    told = {"task": f"one of {TASKS}", "seed": "of fresh weights, data and dropout"}
    for section, classes in sections.items():
        for cls in classes:
            known = beside.get(section, {}) | meanings(cls)
            for field in dataclasses.fields(cls):
                key, needed = f"{section}.{field.name}", dataclasses.MISSING
                default = "needed" if field.default is needed else field.default
                defaults.setdefault(key, default)
                told.setdefault(key, known.get(field.name, ""))
    return defaults, told


def load(config: str, overrides: Iterable[str] = ()) -> Config:
    """Read `path.py` or `path.py:arg`, apply `key=value` overrides, check it all."""
    path, _, arg = config.partition(":")
    tree = _run_config_file(path, arg)
    for override in overrides:
        _override(tree, override)
    return parse(tree.to_dict())


def _run_config_file(path: str, arg: str) -> ml_collections.ConfigDict:
    """The result of get_config(arg) of a python file, whose errors are ConfigErrors."""
    if not Path(path).is_file():
        raise ConfigError(f"{path}: no such config file")
    loader = importlib.machinery.SourceFileLoader("insgenel_jax_config", path)
    module = types.ModuleType(loader.name)
    try:
        loader.exec_module(module)
        tree = module.get_config(arg) if arg else module.get_config()
    except (Exception, SystemExit) as error:  # whatever a user's file may raise
        inside = traceback.extract_tb(error.__traceback__)
        at = next((f":{f.lineno}" for f in reversed(inside) if f.filename == path), "")
        raise ConfigError(
            f"{path}{at}: cannot be run for a config: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(tree, ml_collections.ConfigDict):
        raise ConfigError(
            f"{path}: expected a ConfigDict of get_config, found {type(tree).__name__}"
        )
    return tree


def parse(record: dict[str, Any]) -> Config:
    """The settings in a nested dict. Raises ConfigError that names what is wrong."""
    task = record.get("task")
    if task not in TASKS:
        raise ConfigError(f"task: expected one of {TASKS}, found {task!r}")
    data = GeneratorData if task == "generator" else RetrieverData
    config = _build(Config, record, "", data)
    model = config.model
    if model.pretrained and not model.tokenizer:
        model = dataclasses.replace(model, tokenizer=model.pretrained)
        config = dataclasses.replace(config, model=model)
    if problems := [*_too_small(config), *_contradictions(config)]:
        raise ConfigError("; ".join(problems))
    return config


def _too_small(config: Config) -> Iterable[str]:
    """Counts and sizes below 1, or below 0 where 0 means none."""
    may_be_none = {"warmup_steps", "scored", "mining_pool", "max_candidates"}
    may_be_none |= {"mined_per_window", "confusable_per_window"}
    if config.loop.epochs > 0:
        may_be_none.add("steps")
    for section in ("model", "data", "optimizer", "loop"):
        for name, value in dataclasses.asdict(getattr(config, section)).items():
            least = 0 if name in may_be_none else 1
            if type(value) is int and value < least:
                yield f"{section}.{name} must be at least {least}, found {value}"


def _contradictions(config: Config) -> Iterable[str]:
    """Settings that contradict each other."""
    data, loop, model = config.data, config.loop, config.model
    if model.pretrained and model.shape:
        yield (
            f"{', '.join(f'model.{name}' for name in model.shape)}: the shape is that "
            "of model.pretrained; leave them out"
        )
    elif model.shape:
        if missing := [f"model.{name}" for name in _SHAPE if name not in model.shape]:
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


def _override(tree: ml_collections.ConfigDict, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override}: expected key=value")
    *sections, name = key.split(".")
    at = tree
    for depth, section in enumerate(sections):
        if not isinstance(at.get(section), ml_collections.ConfigDict):
            raise _unknown(".".join(sections[: depth + 1]), key, _leaves(tree))
        at = at[section]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = text
    with at.unlocked(), at.ignore_type():
        at[name] = value


def _build(cls: type, record: dict[str, Any], where: str, data: type) -> Any:
    """The dataclass `cls` of a record. `where`: the keys above it, for errors."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in record:
        if key not in fields:
            raise _unknown(where + key, where + key, [where + name for name in fields])
    hints, values = typing.get_type_hints(cls), {}
    for name, field in fields.items():
        hint = data if (cls, name) == (Config, "data") else hints[name]
        if name in record:
            values[name] = _read(record[name], hint, where + name, data)
        elif field.default is dataclasses.MISSING:
            raise ConfigError(f"{where}{name}: missing")
    try:
        return cls(**values)
    except ValueError as error:  # of a section that checks itself
        raise ConfigError(f"{where.rstrip('.')}: {error}") from error


def _read(value: Any, hint: Any, where: str, data: type) -> Any:
    """A value of a config as the type hint of its field wants it."""
    choices = _choices(hint)
    if value is None and types.NoneType in choices:
        return None
    if section := next(filter(dataclasses.is_dataclass, choices), None):
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected a section of keys")
        return _build(section, value, f"{where}.", data)
    if hint == tuple[str, ...] and isinstance(value, list | tuple):
        return tuple(_read(item, str, where, data) for item in value)
    if str in choices and isinstance(value, int | float) and type(value) not in choices:
        return str(value)  # a path that reads like a number
    if expected := expected_type(value, hint):
        raise ConfigError(f"{where}: expected {expected}, found {value!r}")
    return float(value) if float in choices and type(value) is int else value


def _choices(hint: Any) -> tuple:
    """The types that a hint is a union of, or the one that it is."""
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _unknown(part: str, key: str, known: Iterable[str]) -> ConfigError:
    near = difflib.get_close_matches(key, list(known), n=3, cutoff=0.5)
    hint = f"; near: {', '.join(near)}" if near else f"; known: {', '.join(known)}"
    return ConfigError(f"unknown config key {part!r}{hint}")


def _leaves(tree: ml_collections.ConfigDict, prefix: str = "") -> list[str]:
    names = []
    for name, value in tree.items():
        if isinstance(value, ml_collections.ConfigDict):
            names += _leaves(value, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names
