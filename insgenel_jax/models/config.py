"""ModelConfig: what a model is, and which configs contradict themselves."""

from __future__ import annotations

import dataclasses
import math

from insgenel_jax.models.attention import BACKENDS
from insgenel_jax.models.lora import Lora

FAMILIES = ("opt", "llama", "bert")
REMAT = ("none", "dots", "full")
DTYPES = ("float32", "bfloat16", "float16")
POOLINGS = ("cls", "mean")
ROPE_SCALINGS = ("linear", "llama3")

# The defaults of Hugging Face's classes; in OPT it is PyTorch's, and fixed.
_NORM_EPS = {"opt": 1e-5, "llama": 1e-6, "bert": 1e-12}
# Field -> the only family that computes it.
_OWN = {
    "embed_dim": "opt",
    "pre_norm": "opt",
    "qkv_bias": "llama",
    "qk_norm": "llama",
    "sliding_window": "llama",
    "window_from": "llama",
    "rope_theta": "llama",
    "rope_scaling": "llama",
    "token_types": "bert",
    "pooling": "bert",
    "normalise": "bert",
    "temperature": "bert",
}


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """RoPE scaling: lower rotary rates, for longer contexts than in pretraining.

    linear: every rate is divided by `factor`.
    llama3 (LLaMA 3.1): a rate that turns less than `low_frequency` times within
    `original_positions` is divided by `factor`; one that turns more than
    `high_frequency` times stays; between the two the division sets in smoothly.
    """

    kind: str
    factor: float
    low_frequency: float = 1.0
    high_frequency: float = 4.0
    original_positions: int = 8192


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The architecture, sizes and dtypes of one model.

    vocabulary, dim, layers, heads, ffn, max_positions: V, D, L, N, F and the number of
    positions.
    kv_heads, head_dim: K, fewer than N in grouped-query attention (GQA), and H; left
    out, they are `heads` and `dim / heads`.
    norm_eps: left out, it is the family's default.
    init_std: the spread of fresh weights and embeddings; a model as narrow as 64 may
    need more than 0.02.
    dropout: applied to what attention and MLP add and to the embeddings of BERT and
    LLaMA, never to attention weights.
    dtype, param_dtype: what is computed in, and what the parameters are kept in.
    remat: what the backward pass recomputes: nothing ("none"), all but the matrix
    products with weights ("dots"), or everything inside a layer ("full").
    attention: a backend of attention.py, or "auto": the platform's own.

    OPT only. pre_norm: the norms stand before attention and MLP, and one at the end;
    the 350M alone has them after. embed_dim: the width of the embeddings where it
    differs from `dim` (350M).
    LLaMA only. rope_theta, rope_scaling: of the rotary embedding. qkv_bias: a bias on
    query, key and value (Qwen2). qk_norm: every head's query and key is normed (Qwen3).
    sliding_window: in the layers from `window_from` on, a token sees this many tokens,
    itself included (Mistral, Qwen).
    BERT only. token_types: the number of token types. pooling, normalise, temperature:
    how an encoder's hidden states become one vector; retrieval/encoder.py says how.

    Raises ValueError that names every contradiction.
    """

    family: str
    vocabulary: int
    dim: int
    layers: int
    heads: int
    ffn: int
    max_positions: int
    kv_heads: int | None = None
    head_dim: int | None = None
    norm_eps: float | None = None
    rope_theta: float = 10000.0
    tie_embeddings: bool = False
    rope_scaling: RopeScaling | None = None
    qkv_bias: bool = False
    qk_norm: bool = False
    sliding_window: int | None = None
    window_from: int = 0
    embed_dim: int | None = None
    pre_norm: bool = True
    token_types: int = 2
    pooling: str = "cls"
    normalise: bool = False
    temperature: float = 1.0
    init_std: float = 0.02
    dropout: float = 0.0
    lora: Lora | None = None
    attention: str = "auto"
    dtype: str = "float32"
    param_dtype: str = "float32"
    remat: str = "none"

    def __post_init__(self):
        # each check takes for granted what the checks before it make sure of
        problems = _check_values(self) or _check_owners(self)
        if not problems:
            _fill_in(self)
            problems = _check_heads(self) + _FAMILY_CHECKS[self.family](self)
        if problems:
            raise ValueError(f"contradictory model config: {'; '.join(problems)}")


def _check_values(config: ModelConfig) -> list[str]:
    """Fields that are wrong on their own."""
    problems = []
    if config.family not in FAMILIES:
        problems.append(f"family is {config.family!r}, known are {FAMILIES}")
    for name in ("vocabulary", "dim", "layers", "heads", "ffn", "max_positions"):
        if getattr(config, name) < 1:
            problems.append(f"{name} is {getattr(config, name)}, must be at least 1")
    if not 0.0 <= config.dropout < 1.0:
        problems.append(f"dropout is {config.dropout}, must be in [0, 1)")
    if not 0.0 < config.temperature < math.inf:
        problems.append(f"temperature is {config.temperature}, must be above 0")
    for name, known in (
        ("remat", REMAT),
        ("attention", ("auto", *BACKENDS)),
        ("dtype", DTYPES),
        ("param_dtype", DTYPES),
        ("pooling", POOLINGS),
    ):
        if getattr(config, name) not in known:
            problems.append(f"{name} is {getattr(config, name)!r}, known are {known}")
    return problems


def _check_owners(config: ModelConfig) -> list[str]:
    """Fields that this family does not compute, and heads that do not divide."""
    problems = []
    for field in dataclasses.fields(config):
        owner = _OWN.get(field.name, config.family)
        if owner != config.family and getattr(config, field.name) != field.default:
            problems.append(
                f"{field.name} is {getattr(config, field.name)}, but is computed in "
                f"family {owner!r} alone, not in {config.family!r}"
            )
    if config.head_dim is None and config.dim % config.heads:
        problems.append(f"heads = {config.heads} does not divide dim = {config.dim}")
    return problems


def _fill_in(config: ModelConfig) -> None:
    """Set the fields that were left out and follow from others."""
    for name, value in (
        ("kv_heads", config.heads),
        ("head_dim", config.dim // config.heads),
        ("norm_eps", _NORM_EPS[config.family]),
    ):
        if getattr(config, name) is None:
            object.__setattr__(config, name, value)


def _check_heads(config: ModelConfig) -> list[str]:
    problems = []
    if config.kv_heads < 1 or config.heads % config.kv_heads:
        problems.append(
            f"kv_heads = {config.kv_heads} does not divide heads = {config.heads}"
        )
    if config.head_dim < 1:
        problems.append(f"head_dim is {config.head_dim}, must be at least 1")
    return problems


def _check_even_heads(config: ModelConfig) -> list[str]:
    """In OPT and BERT every head has its own key and an equal share of the width."""
    c = config
    if (c.kv_heads, c.heads * c.head_dim) == (c.heads, c.dim):
        return []
    sizes = f"{c.kv_heads}, {c.heads}, {c.head_dim}, {c.dim}"
    name = c.family.upper()
    return [f"{name} needs kv_heads = heads and head_dim * heads = dim, found {sizes}"]


def _check_opt(config: ModelConfig) -> list[str]:
    problems = _check_even_heads(config)
    if config.norm_eps != _NORM_EPS["opt"]:
        problems.append(f"norm_eps is {config.norm_eps}, in OPT it is 1e-5")
    if config.embed_dim is not None and config.embed_dim < 1:
        problems.append(f"embed_dim is {config.embed_dim}, must be at least 1")
    return problems


def _check_llama(config: ModelConfig) -> list[str]:
    c, problems = config, []
    if c.head_dim % 2:
        problems.append(f"head_dim = {c.head_dim} is odd, rotary halves it")
    if c.qkv_bias and c.qk_norm:
        problems.append("qkv_bias and qk_norm: transformers has no such model type")
    if c.sliding_window is None and c.window_from:
        problems.append(f"window_from is {c.window_from} without a sliding_window")
    if c.sliding_window is not None and c.sliding_window < 1:
        problems.append(f"sliding_window is {c.sliding_window}, must be at least 1")
    if not 0 <= c.window_from < c.layers:
        problems.append(f"window_from is {c.window_from}, must be below layers")
    if c.window_from and not (c.qkv_bias or c.qk_norm):
        problems.append("window_from: only Qwen (qkv_bias or qk_norm) has such windows")
    if (rope := c.rope_scaling) is not None:
        if rope.kind not in ROPE_SCALINGS:
            problems.append(f"rope_scaling is {rope}, known kinds are {ROPE_SCALINGS}")
        if rope.factor < 1 or rope.low_frequency >= rope.high_frequency:
            problems.append(
                f"rope_scaling is {rope}: factor must be at least 1, low_frequency "
                "below high_frequency"
            )
    return problems


_FAMILY_CHECKS = {"opt": _check_opt, "llama": _check_llama, "bert": _check_even_heads}
