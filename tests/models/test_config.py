"""ModelConfig: what it derives, what it refuses, and Hugging Face's spelling of it."""

import dataclasses

import pytest

from insgenel_jax.models.config import ModelConfig, RopeScaling
from insgenel_jax.models.hf_config import from_hf, to_hf

LLAMA = ModelConfig(
    "llama",
    vocabulary=97,
    dim=24,
    layers=3,
    heads=4,
    kv_heads=2,
    ffn=40,
    max_positions=64,
    norm_eps=1e-5,
    rope_theta=5e5,
    tie_embeddings=True,
)
BERT = ModelConfig(
    "bert",
    vocabulary=97,
    dim=24,
    layers=3,
    heads=4,
    ffn=40,
    max_positions=64,
    norm_eps=1e-12,
    token_types=3,
    dropout=0.2,
)


def test_heads_follow():
    """Left out, key heads are as many as heads and share the width among them."""
    assert (BERT.kv_heads, BERT.head_dim) == (4, 6)
    assert (LLAMA.kv_heads, LLAMA.head_dim) == (2, 6)


@pytest.mark.parametrize("config", [LLAMA, BERT], ids=lambda c: c.family)
def test_round_trip(config):
    """What is written for Hugging Face reads as the same config."""
    assert from_hf(to_hf(config)) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "gpt"}, "'gpt', known are"),
        ({"heads": 5, "kv_heads": None, "head_dim": None}, "5 does not divide dim"),
        ({"kv_heads": 3}, "kv_heads = 3 does not divide heads = 4"),
        ({"kv_heads": 0}, "kv_heads = 0"),
        ({"head_dim": 5}, "head_dim = 5 is odd"),
        ({"layers": 0}, "layers is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"remat": "some"}, "remat is 'some'"),
        ({"dtype": "float8"}, "dtype is 'float8'"),
    ],
)
def test_contradictions_are_refused(change, message):
    """Each is named."""
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(LLAMA, **change)


def test_bert_has_no_grouped_heads():
    """Its heads share the width evenly, as its checkpoints do."""
    with pytest.raises(ValueError, match="BERT needs kv_heads = heads"):
        dataclasses.replace(BERT, kv_heads=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "t5"}, "model_type is 't5'; this release knows"),
        ({"hidden_act": "relu"}, "hidden_act = 'relu'"),
        ({"attention_bias": True}, "attention_bias = True"),
        ({"rope_scaling": {"type": "yarn"}, "rope_parameters": None}, "'yarn' in"),
        ({"rope_parameters": {"rope_type": "linear"}}, "factor missing in the rotary"),
        ({"hidden_size": None, "vocab_size": None}, "vocab_size is missing; hidden_"),
    ],
)
def test_what_is_not_computed_is_refused(change, message):
    """A setting that would be ignored is an error, not a slightly other model."""
    with pytest.raises(ValueError, match=message):
        from_hf(to_hf(LLAMA) | change)


def test_older_spelling():
    """Files of transformers 4: `rope_theta` at the top, no `num_key_value_heads`."""
    record = to_hf(LLAMA)
    del record["rope_parameters"], record["num_key_value_heads"], record["head_dim"]
    assert from_hf(record) == dataclasses.replace(LLAMA, kv_heads=4)


OPT = ModelConfig(
    "opt",
    vocabulary=97,
    dim=24,
    layers=3,
    heads=4,
    ffn=40,
    max_positions=64,
    tie_embeddings=True,
    dropout=0.1,
)
SCALED = RopeScaling("llama3", 8.0, 1.0, 4.0, 32)
VARIANTS = {
    "opt": (OPT, "opt"),
    "opt-350m": (
        dataclasses.replace(OPT, pre_norm=False, embed_dim=12),
        "opt",
    ),
    "llama-3.1": (dataclasses.replace(LLAMA, rope_scaling=SCALED), "llama"),
    "linear": (
        dataclasses.replace(LLAMA, rope_scaling=RopeScaling("linear", 4.0)),
        "llama",
    ),
    "mistral": (dataclasses.replace(LLAMA, sliding_window=5), "mistral"),
    "qwen2": (dataclasses.replace(LLAMA, qkv_bias=True), "qwen2"),
    "qwen2-window": (
        dataclasses.replace(LLAMA, qkv_bias=True, sliding_window=5, window_from=2),
        "qwen2",
    ),
    "qwen3": (dataclasses.replace(LLAMA, qk_norm=True), "qwen3"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_round_trip_of_variants(name):
    """Each is written as the model type that computes it, and reads as the same."""
    config, kind = VARIANTS[name]
    record = to_hf(config)
    assert record["model_type"] == kind
    assert without_embed_dim(from_hf(record)) == without_embed_dim(config)


def without_embed_dim(config):
    """Left out or as wide as the model is the same."""
    same = config.embed_dim == config.dim
    return dataclasses.replace(config, embed_dim=None) if same else config


def test_rotary_settings_of_transformers_4():
    """`rope_scaling` beside `rope_theta`, its kind spelled `type` or `rope_type`."""
    record = to_hf(dataclasses.replace(LLAMA, rope_scaling=SCALED))
    del record["rope_parameters"]
    assert from_hf(record).rope_scaling == SCALED
    assert from_hf(record).rope_theta == 5e5
    record["rope_scaling"] = {"type": "linear", "factor": 4.0}
    assert from_hf(record).rope_scaling == RopeScaling("linear", 4.0)


FULL, NARROW = "full_attention", "sliding_attention"


@pytest.mark.parametrize(
    ("change", "window"),
    [
        ({"use_sliding_window": False}, (None, 0)),
        ({"max_window_layers": 3}, (None, 0)),
        ({"max_window_layers": 1}, (5, 1)),
        ({"max_window_layers": 3, "layer_types": [FULL, NARROW, NARROW]}, (5, 1)),
        ({"layer_types": [FULL] * 3}, (None, 0)),
    ],
)
def test_windows_of_qwen(change, window):
    """From max_window_layers on, or as layer_types says where it is there."""
    record = to_hf(VARIANTS["qwen2-window"][0]) | change
    config = from_hf(record)
    assert (config.sliding_window, config.window_from) == window


@pytest.mark.parametrize(
    ("base", "change", "message"),
    [
        ("opt", {"activation_function": "gelu"}, "activation_function = 'gelu'"),
        ("opt", {"enable_bias": False}, "enable_bias = False"),
        ("opt", {"_remove_final_layer_norm": True}, "_remove_final_layer_norm = True"),
        ("qwen3", {"attention_bias": True}, "attention_bias = True"),
        (
            "qwen2-window",
            {"layer_types": [NARROW, FULL, FULL]},
            "layer_types = .*only full_attention and then sliding_attention",
        ),
        (
            "qwen2-window",
            {"layer_types": [FULL, FULL, NARROW], "use_sliding_window": False},
            "but no sliding_window is in use",
        ),
        (
            "llama-3.1",
            {"rope_scaling": None, "rope_parameters": {"rope_type": "yarn"}},
            "rope_type 'yarn' in .*'linear', 'llama3'",
        ),
        (
            "llama-3.1",
            {"rope_parameters": {"partial_rotary_factor": 0.5}},
            "partial_rotary_factor in",
        ),
    ],
)
def test_variants_that_are_not_computed(base, change, message):
    """The key and its value are named."""
    with pytest.raises(ValueError, match=message):
        from_hf(to_hf(VARIANTS[base][0]) | change)


@pytest.mark.parametrize(
    ("base", "change", "message"),
    [
        (
            "opt",
            {"qk_norm": True},
            "qk_norm is True, but is computed in family 'llama'",
        ),
        ("qwen2", {"pre_norm": False}, "pre_norm is False, but is computed in .*'opt'"),
        ("qwen2", {"qk_norm": True}, "qkv_bias and qk_norm"),
        ("qwen2", {"window_from": 1}, "window_from is 1 without a sliding_window"),
        ("mistral", {"window_from": 1}, "only Qwen"),
        ("mistral", {"sliding_window": 0}, "sliding_window is 0"),
        ("qwen2-window", {"window_from": 3}, "window_from is 3, must be below layers"),
        ("opt", {"norm_eps": 1e-6}, "norm_eps is 1e-06, in OPT it is 1e-5"),
        ("opt", {"kv_heads": 2}, "OPT needs kv_heads = heads"),
        ("opt-350m", {"embed_dim": 0}, "embed_dim is 0"),
        ("llama-3.1", {"rope_scaling": RopeScaling("ntk", 2.0)}, "known kinds are"),
        ("llama-3.1", {"rope_scaling": RopeScaling("linear", 0.5)}, "at least 1"),
    ],
)
def test_contradictions_of_variants(base, change, message):
    """Fields of another family, and those that do not go together."""
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(VARIANTS[base][0], **change)
