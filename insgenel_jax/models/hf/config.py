"""Hugging Face's config.json, as parsed JSON, to ModelConfig and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_type_hints

from insgenel_jax.models.config import ModelConfig, RopeScaling
from insgenel_jax.models.fields import expected_type

# Our field -> (Hugging Face's key, the default of a config without it), by model type.
# The default None means that the key is required. The Ellipsis `...` means that the
# field keeps ModelConfig's own default where the key is missing. A null in config.json
# means ModelConfig's own default too, but for a required key it counts as missing.
_SHARED: dict[str, tuple[str, Any]] = {
    "vocabulary": ("vocab_size", None),
    "dim": ("hidden_size", None),
    "layers": ("num_hidden_layers", None),
    "heads": ("num_attention_heads", None),
}
_LLAMA: dict[str, tuple[str, Any]] = {
    **_SHARED,
    "ffn": ("intermediate_size", None),
    "kv_heads": ("num_key_value_heads", ...),
    "head_dim": ("head_dim", ...),
    "max_positions": ("max_position_embeddings", 2048),
    "norm_eps": ("rms_norm_eps", 1e-6),
    "tie_embeddings": ("tie_word_embeddings", False),
}
_QWEN: dict[str, tuple[str, Any]] = _LLAMA | {
    "kv_heads": ("num_key_value_heads", 32),
    "max_positions": ("max_position_embeddings", 32768),
}
_FIELDS: dict[str, dict[str, tuple[str, Any]]] = {
    "opt": {
        **_SHARED,
        "ffn": ("ffn_dim", None),
        "max_positions": ("max_position_embeddings", 2048),
        "embed_dim": ("word_embed_proj_dim", ...),
        "pre_norm": ("do_layer_norm_before", True),
        "tie_embeddings": ("tie_word_embeddings", True),
        "dropout": ("dropout", 0.1),
    },
    "llama": _LLAMA,
    "mistral": _LLAMA
    | {
        "kv_heads": ("num_key_value_heads", 8),
        "max_positions": ("max_position_embeddings", 131072),
    },
    "qwen2": _QWEN,
    "qwen3": _QWEN | {"head_dim": ("head_dim", 128)},
    "bert": {
        **_SHARED,
        "ffn": ("intermediate_size", None),
        "max_positions": ("max_position_embeddings", 512),
        "norm_eps": ("layer_norm_eps", 1e-12),
        "token_types": ("type_vocab_size", 2),
        "dropout": ("hidden_dropout_prob", 0.1),
    },
}
_TYPES = get_type_hints(ModelConfig) | get_type_hints(RopeScaling)
# Model type -> our family, and the fields that are the same in all its configs.
_FAMILY: dict[str, dict[str, Any]] = {
    "opt": {"family": "opt"},
    "llama": {"family": "llama"},
    "mistral": {"family": "llama"},
    "qwen2": {"family": "llama", "qkv_bias": True},
    "qwen3": {"family": "llama", "qk_norm": True},
    "bert": {"family": "bert"},
}
# Settings of which only some values are computed here: key -> the values accepted, the
# default first.
_ASSUMED: dict[str, dict[str, tuple]] = {
    "opt": {
        "activation_function": ("relu",),
        "enable_bias": (True,),
        "layer_norm_elementwise_affine": (True,),
        "_remove_final_layer_norm": (False,),
    },
    "llama": {
        "hidden_act": ("silu",),
        "attention_bias": (False,),
        "mlp_bias": (False,),
    },
    "mistral": {"hidden_act": ("silu",)},
    "qwen2": {"hidden_act": ("silu",)},
    "qwen3": {"hidden_act": ("silu",), "attention_bias": (False,)},
    "bert": {
        "hidden_act": ("gelu",),
        "position_embedding_type": ("absolute", None),
        "is_decoder": (False,),
    },
}
# What config.json says of weights that hf/int8.py wrote. transformers refuses it, as it
# names no method of its own; a method that it does not know it would only warn of.
INT8 = {"quantization_config": {"insgenel_bits": 8}}
# The same for every model type; never written but for INT8.
_NOT_COMPUTED: dict[str, tuple] = {
    "quantization_config": (None, INT8["quantization_config"])
}
_ARCHITECTURES = {
    "opt": "OPTForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "bert": "BertModel",
}
# RopeScaling's fields -> Hugging Face's, for each kind.
_ROPE = {
    "linear": {"factor": "factor"},
    "llama3": {
        "factor": "factor",
        "low_frequency": "low_freq_factor",
        "high_frequency": "high_freq_factor",
        "original_positions": "original_max_position_embeddings",
    },
}


def from_hf(record: Mapping[str, Any]) -> ModelConfig:
    """The ModelConfig of a Hugging Face `config.json`, parsed.

    Raises ValueError that names every key that is missing, of another type, or asks for
    what the family here does not compute.
    """
    kind = record.get("model_type")
    if kind not in _FIELDS:
        raise ValueError(f"model_type is {kind!r}; this version knows {(*_FIELDS,)}")
    problems: list[str] = []
    for key, accepted in (_ASSUMED[kind] | _NOT_COMPUTED).items():
        if record.get(key, accepted[0]) not in accepted:
            problems.append(
                f"{key} = {record[key]!r} (only {accepted[0]!r} is computed)"
            )
    fields = dict(_FAMILY[kind])
    for name, (key, default) in _FIELDS[kind].items():
        value = record.get(key, default)
        if value is None and default is None:
            problems.append(f"{key} is missing")
        elif value is not None and value is not ...:
            _check(key, value, _TYPES[name], problems)
            fields[name] = value
    if fields["family"] == "llama":
        fields |= _read_rope(record, problems)
    if kind in ("mistral", "qwen2", "qwen3") and not problems:
        fields |= _read_window(kind, record, problems)
    if problems:
        raise ValueError(f"model_type {kind!r}: {'; '.join(problems)}")
    return ModelConfig(**fields)


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The `config.json` with which transformers opens the same model."""
    kind = config.family
    if config.qk_norm:
        kind = "qwen3"
    elif config.qkv_bias:
        kind = "qwen2"
    elif config.sliding_window:
        kind = "mistral"
    record: dict[str, Any] = {
        "architectures": [_ARCHITECTURES[kind]],
        "model_type": kind,
        "dtype": config.param_dtype,
        **{key: accepted[0] for key, accepted in _ASSUMED[kind].items()},
    }
    for name, (key, _) in _FIELDS[kind].items():
        record[key] = getattr(config, name)
    if config.family == "llama":
        record |= _write_rope(config)
    if kind in ("mistral", "qwen2", "qwen3"):
        record["sliding_window"] = config.sliding_window
    if kind in ("qwen2", "qwen3"):
        record["use_sliding_window"] = config.sliding_window is not None
        record["max_window_layers"] = config.window_from
    return record


def _check(key: str, value: Any, hint: Any, problems: list[str]) -> None:
    """Add to `problems` if the value is not of the type `hint`."""
    if expected := expected_type(value, hint):
        problems.append(f"{key} = {value!r} (expected {expected})")


def _write_rope(config: ModelConfig) -> dict[str, Any]:
    """The rotary settings, both as transformers 5 and as transformers 4 reads them."""
    rope, scaling = {"rope_type": "default"}, config.rope_scaling
    if scaling is not None:
        keys = _ROPE[scaling.kind].items()
        rope = {"rope_type": scaling.kind}
        rope |= {key: getattr(scaling, name) for name, key in keys}
    return {
        "rope_parameters": rope | {"rope_theta": config.rope_theta},
        "rope_theta": config.rope_theta,
        "rope_scaling": None if scaling is None else rope,
    }


def _read_rope(record: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """The rotary fields, from the settings of transformers 5 or of transformers 4."""
    rope = {"rope_theta": record.get("rope_theta")}
    for key in ("rope_scaling", "rope_parameters"):
        if isinstance(given := record.get(key) or {}, Mapping):
            rope |= given
        else:
            problems.append(f"{key} = {given!r} (expected an object)")
    rope = {key: value for key, value in rope.items() if value is not None}
    fields = {"rope_theta": rope.get("rope_theta", 10000.0)}
    _check("rope_theta", fields["rope_theta"], float, problems)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        problems.append(f"partial_rotary_factor in {rope} (only 1.0 is computed)")
    if kind == "default":
        return fields
    if kind not in _ROPE:
        problems.append(
            f"rope_type {kind!r} in {rope} (only {('default', *_ROPE)} are computed)"
        )
        return fields
    missing = [key for key in _ROPE[kind].values() if key not in rope]
    if missing:
        problems.append(f"{', '.join(missing)} missing in the rotary settings {rope}")
        return fields
    scaling = {name: rope[key] for name, key in _ROPE[kind].items()}
    wrong: list[str] = []
    for name, key in _ROPE[kind].items():
        _check(key, rope[key], _TYPES[name], wrong)
    problems += wrong
    if wrong:
        return fields
    return fields | {"rope_scaling": RopeScaling(kind, **scaling)}


def _read_window(
    kind: str, record: Mapping[str, Any], problems: list[str]
) -> dict[str, Any]:
    """The sliding window: Mistral has it in all layers, Qwen from one layer on."""
    window = record.get("sliding_window", 4096)
    if window is not None:
        _check("sliding_window", window, int, problems)
    if kind == "mistral":
        return {"sliding_window": window}
    used = record.get("use_sliding_window", False)
    _check("use_sliding_window", used, bool, problems)
    if not used:
        window = None
    layers = record.get("num_hidden_layers") or 0
    types = record.get("layer_types")
    if types is None:
        first = record.get("max_window_layers", 28)
        _check("max_window_layers", first, int, problems)
    elif type(types) is not list:
        _check("layer_types", types, list, problems)
    else:  # where it is given, transformers goes by it alone
        first = types.count("full_attention")
        narrow = "sliding_attention"
        if types != ["full_attention"] * first + [narrow] * (layers - first):
            problems.append(
                f"layer_types = {types} (only full_attention and then "
                f"sliding_attention, in all {layers} layers, is computed)"
            )
        elif first < layers and window is None:
            problems.append(f"layer_types = {types}, but no sliding_window is in use")
    if problems or window is None or first >= layers:
        return {}
    return {"sliding_window": window, "window_from": first}
