"""ModelConfig: what it derives, what it refuses, and Hugging Face's config.json."""

import dataclasses

import pytest

from insgenel_jax.models.config import ModelConfig
from insgenel_jax.models.hf.config import from_hf, to_hf

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
    """Left out, there is a key head for every head, and heads share the width."""
    assert (BERT.kv_heads, BERT.head_dim) == (4, 6)
    assert (LLAMA.kv_heads, LLAMA.head_dim) == (2, 6)


@pytest.mark.parametrize("config", [LLAMA, BERT], ids=lambda c: c.family)
def test_round_trip(config):
    """What `to_hf` writes, `from_hf` reads as the same config."""
    assert from_hf(to_hf(config)) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "gpt"}, "'gpt', known are"),
        ({"heads": 5, "kv_heads": None, "head_dim": None}, "5 does not divide dim"),
        ({"kv_heads": 3}, "kv_heads = 3 does not divide heads = 4"),
        ({"kv_heads": 0}, "kv_heads = 0"),
        ({"head_dim": 0}, "head_dim is 0, must be at least 1"),
        ({"head_dim": 5}, "head_dim = 5 is odd"),
        ({"layers": 0}, "layers is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"remat": "some"}, "remat is 'some'"),
        ({"dtype": "float8"}, "dtype is 'float8'"),
    ],
)
def test_contradictions_are_refused(change, message):
    """The error names the contradiction."""
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(LLAMA, **change)


def test_bert_has_no_grouped_heads():
    """BERT's heads share the width evenly and have a key head each."""
    with pytest.raises(ValueError, match="BERT needs kv_heads = heads"):
        dataclasses.replace(BERT, kv_heads=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "t5"}, "model_type is 't5'; this version knows"),
        ({"hidden_act": "relu"}, "hidden_act = 'relu'"),
        ({"attention_bias": True}, "attention_bias = True"),
        ({"rope_scaling": {"type": "yarn"}, "rope_parameters": None}, "'yarn' in"),
        ({"rope_parameters": {"rope_type": "linear"}}, "factor missing in the rotary"),
        ({"hidden_size": None, "vocab_size": None}, "vocab_size is missing; hidden_"),
        (
            {"quantization_config": {"quant_method": "gptq"}},
            "quantization_config = {'q",
        ),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings = 'false' .*ed bool"),
        ({"tie_word_embeddings": 1}, r"tie_word_embeddings = 1 \(expected bool"),
        ({"hidden_size": "4096"}, r"hidden_size = '4096' \(expected int"),
        ({"num_hidden_layers": True}, r"num_hidden_layers = True \(expected int"),
        ({"rms_norm_eps": "1e-5"}, r"rms_norm_eps = '1e-5' \(expected float"),
        ({"head_dim": 0}, "head_dim is 0, must be at least 1"),
        ({"rope_scaling": "linear"}, r"rope_scaling = 'linear' \(expected an object"),
        ({"rope_parameters": {"rope_theta": "1e4"}}, "rope_theta = '1e4'"),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": "2"}},
            r"factor = '2' \(expected float",
        ),
        (
            {"model_type": "mistral", "sliding_window": "4096"},
            "sliding_window = '4096'",
        ),
        (
            {"model_type": "qwen2", "use_sliding_window": "no"},
            "use_sliding_window = 'n",
        ),
        ({"model_type": "qwen2", "layer_types": "full"}, "layer_types = 'full'"),
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
