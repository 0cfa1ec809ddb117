"""ModelConfig: the shape of a model, read from and written to Hugging Face's config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from insgenel_jax.models.attention import BACKENDS
from insgenel_jax.models.lora import Lora

FAMILIES = ("llama", "bert")
REMAT = ("none", "dots", "full")
DTYPES = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One model. `kv_heads` and `head_dim` follow from `heads` when left out.

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
    norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    tie_embeddings: bool = False
    token_types: int = 2
    dropout: float = 0.0
    lora: Lora | None = None
    attention: str = "auto"
    dtype: str = "float32"
    param_dtype: str = "float32"
    remat: str = "none"

    def __post_init__(self):
        problems = []
        if self.family not in FAMILIES:
            problems.append(f"family is {self.family!r}, known are {FAMILIES}")
        for name in ("vocabulary", "dim", "layers", "heads", "ffn", "max_positions"):
            if getattr(self, name) < 1:
                problems.append(f"{name} is {getattr(self, name)}, must be at least 1")
        if not problems and self.kv_heads is None:
            object.__setattr__(self, "kv_heads", self.heads)
        if not problems and self.head_dim is None:
            if self.dim % self.heads:
                problems.append(
                    f"heads = {self.heads} does not divide dim = {self.dim}"
                )
            object.__setattr__(self, "head_dim", self.dim // self.heads)
        if not problems and (self.kv_heads < 1 or self.heads % self.kv_heads):
            problems.append(
                f"kv_heads = {self.kv_heads} does not divide heads = {self.heads}"
            )
        if self.family == "llama" and not problems and self.head_dim % 2:
            problems.append(f"head_dim = {self.head_dim} is odd, rotary halves it")
        if (
            self.family == "bert"
            and not problems
            and (self.kv_heads, self.heads * self.head_dim) != (self.heads, self.dim)
        ):
            problems.append(
                "BERT needs kv_heads = heads and head_dim * heads = dim, found "
                f"{self.kv_heads}, {self.heads}, {self.head_dim}, {self.dim}"
            )
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
            raise ValueError(f"contradictory model config: {'; '.join(problems)}")


# Our field -> Hugging Face's, for what both write down. `None` as a default: required.
_SHARED = {
    "vocabulary": ("vocab_size", None),
    "dim": ("hidden_size", None),
    "layers": ("num_hidden_layers", None),
    "heads": ("num_attention_heads", None),
    "ffn": ("intermediate_size", None),
}
_FIELDS: dict[str, dict[str, tuple[str, Any]]] = {
    "llama": {
        **_SHARED,
        "kv_heads": ("num_key_value_heads", ...),
        "head_dim": ("head_dim", ...),
        "max_positions": ("max_position_embeddings", 2048),
        "norm_eps": ("rms_norm_eps", 1e-6),
        "rope_theta": ("rope_theta", 10000.0),
        "tie_embeddings": ("tie_word_embeddings", False),
    },
    "bert": {
        **_SHARED,
        "max_positions": ("max_position_embeddings", 512),
        "norm_eps": ("layer_norm_eps", 1e-12),
        "token_types": ("type_vocab_size", 2),
        "dropout": ("hidden_dropout_prob", 0.1),
    },
}
# What Hugging Face can say and these models do not compute: key -> values that are fine.
_ASSUMED: dict[str, dict[str, tuple]] = {
    "llama": {
        "hidden_act": ("silu",),
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "rope_scaling": (None,),
    },
    "bert": {
        "hidden_act": ("gelu",),
        "position_embedding_type": ("absolute", None),
        "is_decoder": (False,),
    },
}


def from_hf(record: Mapping[str, Any]) -> ModelConfig:
    """The ModelConfig of a Hugging Face `config.json`, parsed.

    Raises ValueError that names every key that is missing or asks for what the family
    here does not compute.
    """
    family = record.get("model_type")
    if family not in FAMILIES:
        raise ValueError(f"model_type is {family!r}; this release knows {FAMILIES}")
    record, problems = dict(record), []
    # transformers 5 keeps the rotary settings in a dictionary of their own
    rope = record.pop("rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        problems.append(
            f"rope_parameters {rope} (only rope_type 'default' is computed)"
        )
    if "rope_theta" in rope:
        record["rope_theta"] = rope["rope_theta"]
    for key, fine in _ASSUMED[family].items():
        if record.get(key, fine[0]) not in fine:
            problems.append(f"{key} = {record[key]!r} (only {fine[0]!r} is computed)")
    fields = {}
    for name, (key, default) in _FIELDS[family].items():
        value = record.get(key, default)
        if value is None and default is None:
            problems.append(f"{key} is missing")
        elif value is not None and value is not ...:
            fields[name] = value
    if problems:
        raise ValueError(f"model_type {family!r}: {'; '.join(problems)}")
    return ModelConfig(family=family, **fields)


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """What `config.json` has to say so that transformers opens the same model."""
    record = {
        "architectures": [
            {"llama": "LlamaForCausalLM", "bert": "BertModel"}[config.family]
        ],
        "model_type": config.family,
        "dtype": config.param_dtype,
        **{key: fine[0] for key, fine in _ASSUMED[config.family].items()},
    }
    for name, (key, _) in _FIELDS[config.family].items():
        record[key] = getattr(config, name)
    if config.family == "llama":
        record["rope_parameters"] = {
            "rope_type": "default",
            "rope_theta": config.rope_theta,
        }
    return record
