"""The settings of an experiment: frozen dataclasses, and what each field means."""

from __future__ import annotations

import dataclasses
from typing import Any

from insgenel_jax.models.config import ModelConfig
from insgenel_jax.models.fields import meanings
from insgenel_jax.models.lora import Lora
from insgenel_jax.text.linked_text import INSTRUCTION

TASKS = ("generator", "retriever")


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
        shape = {name: getattr(self, name) for name in (*SHAPE, *_MORE_SHAPE)}
        return {name: value for name, value in shape.items() if value is not None}


# settings of a model from scratch: those it needs, and those that are optional
SHAPE = ("family", "dim", "layers", "heads", "ffn")
_MORE_SHAPE = ("kv_heads", "tie_embeddings", "init_std")


@dataclasses.dataclass(frozen=True)
class GeneratorData:
    """What the generator reads.

    documents: a training-documents artifact. kb: the knowledge base. dev: Document JSON
    lines to evaluate on; "" evaluates nothing, and the last parameters are kept.
    dev_documents: how many of them, at most. batch: rows of a batch. max_length: tokens
    of a row. packed: whether a row is packed with examples; otherwise it has one
    (*paper*). share: how much of the training pages is read; a hash of the page's id
    decides, so that a larger share holds a smaller one. streams: into how many parts
    the documents are split, each read and packed by itself; a multiple of the number of
    processes, and that number for 0. What is learned depends on the streams alone.

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
    streams: int = 0
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
    """What the retriever reads; what is not named here is as for the generator.

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
    streams: int = 0
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
