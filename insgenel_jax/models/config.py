"""ModelConfig: the shape of a model, and which shapes contradict themselves."""

from __future__ import annotations

import dataclasses

from insgenel_jax.models.attention import BACKENDS
from insgenel_jax.models.lora import Lora

FAMILIES = ("opt", "llama", "bert")
REMAT = ("none", "dots", "full")
DTYPES = ("float32", "bfloat16", "float16")
ROPE_SCALINGS = ("linear", "llama3")

# As Hugging Face's classes start, and as PyTorch's LayerNorm always is (OPT).
_NORM_EPS = {"opt": 1e-5, "llama": 1e-6, "bert": 1e-12}
# Fields that one family alone computes.
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
}


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Rotary rates made lower, for longer contexts than a model was trained on first.

    linear: all divided by `factor`. llama3 (LLaMA 3.1): those that turn less than
    `low_frequency` times in `original_positions` are, those that turn more than
    `high_frequency` times stay, and between the two it goes over smoothly.
    """

    kind: str
    factor: float
    low_frequency: float = 1.0
    high_frequency: float = 4.0
    original_positions: int = 8192


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One model. `kv_heads` and `head_dim` follow from `heads` when left out.

    `norm_eps` left out is the family's own. Fields of one family:
    OPT: `pre_norm` puts the norms before attention and MLP and one at the end (all but
    the 350M, which has them behind); `embed_dim`: of the embeddings, where that is not
    `dim` (350M).
    LLaMA: `qkv_bias` (Qwen2); `qk_norm`, over each head (Qwen3); `sliding_window`: a
    token sees so many, itself among them, in the layers from `window_from` on (Mistral,
    Qwen).
    `init_std` is that of fresh maps and embeddings, which a model as narrow as 64 may
    want larger than 0.02. `dropout` is of what attention and MLP add (and of BERT's and
    LLaMA's embeddings), never of attention weights.
    `dtype` is what is computed in, `param_dtype` what the parameters are kept in;
    `remat` says what the backward pass recomputes: nothing, all but the matrix
    products with weights ("dots"), or everything inside a layer ("full").
    `attention` names a backend of attention.py; "auto" goes by the platform.
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
    init_std: float = 0.02
    dropout: float = 0.0
    lora: Lora | None = None
    attention: str = "auto"
    dtype: str = "float32"
    param_dtype: str = "float32"
    remat: str = "none"

    def __post_init__(self):
        problems = self._problems()
        if problems:
            raise ValueError(f"contradictory model config: {'; '.join(problems)}")

    def _problems(self) -> list[str]:
        """Fill in what follows from other fields; what is wrong, one line each."""
        problems = []
        if self.family not in FAMILIES:
            problems.append(f"family is {self.family!r}, known are {FAMILIES}")
        for name in ("vocabulary", "dim", "layers", "heads", "ffn", "max_positions"):
            if getattr(self, name) < 1:
                problems.append(f"{name} is {getattr(self, name)}, must be at least 1")
        if not 0.0 <= self.dropout < 1.0:
            problems.append(f"dropout is {self.dropout}, must be in [0, 1)")
        for name, known in (
            ("remat", REMAT),
            ("attention", ("auto", *BACKENDS)),
            ("dtype", DTYPES),
            ("param_dtype", DTYPES),
        ):
            if getattr(self, name) not in known:
                problems.append(f"{name} is {getattr(self, name)!r}, known are {known}")
        if problems:
            return problems
        for field in dataclasses.fields(self):
            owner = _OWN.get(field.name, self.family)
            if owner != self.family and getattr(self, field.name) != field.default:
                problems.append(
                    f"{field.name} is {getattr(self, field.name)}, but is computed in "
                    f"family {owner!r} alone, not in {self.family!r}"
                )
        if self.head_dim is None and self.dim % self.heads:
            problems.append(f"heads = {self.heads} does not divide dim = {self.dim}")
        if problems:
            return problems
        for name, value in (
            ("kv_heads", self.heads),
            ("head_dim", self.dim // self.heads),
            ("norm_eps", _NORM_EPS[self.family]),
        ):
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.kv_heads < 1 or self.heads % self.kv_heads:
            problems.append(
                f"kv_heads = {self.kv_heads} does not divide heads = {self.heads}"
            )
        if self.head_dim < 1:
            problems.append(f"head_dim is {self.head_dim}, must be at least 1")
        if self.family == "opt":
            problems += _even_heads(self)
            if self.norm_eps != _NORM_EPS["opt"]:
                problems.append(f"norm_eps is {self.norm_eps}, in OPT it is 1e-5")
            if self.embed_dim is not None and self.embed_dim < 1:
                problems.append(f"embed_dim is {self.embed_dim}, must be at least 1")
        elif self.family == "llama":
            problems += _llama_problems(self)
        else:
            problems += _even_heads(self)
        return problems


def _even_heads(config: ModelConfig) -> list[str]:
    """OPT's and BERT's heads are all alike and share the width."""
    c = config
    if (c.kv_heads, c.heads * c.head_dim) == (c.heads, c.dim):
        return []
    found = f"{c.kv_heads}, {c.heads}, {c.head_dim}, {c.dim}"
    name = c.family.upper()
    return [f"{name} needs kv_heads = heads and head_dim * heads = dim, found {found}"]


def _llama_problems(config: ModelConfig) -> list[str]:
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
