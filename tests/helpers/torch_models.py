"""Small models of transformers, random in every tensor, and the same read by us."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from insgenel_jax.models import hf
from insgenel_jax.models.config import ModelConfig

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
# models as small as these are slower on several threads, and tests run in parallel
torch.set_num_threads(1)

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "max_position_embeddings": 128,
}
OPT = {"ffn_dim": 80, "pad_token_id": None}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
QWEN_WINDOW = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
# name -> start of transformers' class names, changes to SHAPE
DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "opt": ("OPT", OPT),
    "opt-350m": (
        "OPT",
        OPT | {"do_layer_norm_before": False, "word_embed_proj_dim": 32},
    ),
    "opt-untied": ("OPT", OPT | {"tie_word_embeddings": False}),
    "llama": ("Llama", {}),
    "llama-grouped-tied": (
        "Llama",
        {"num_key_value_heads": 2, "tie_word_embeddings": True},
    ),
    "llama-wide-heads": (
        "Llama",
        {"num_key_value_heads": 1, "head_dim": 16, "rms_norm_eps": 1e-2},
    ),
    "llama-theta": (
        "Llama",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    ),
    "llama-linear": (
        "Llama",
        {"rope_parameters": LLAMA3 | {"rope_type": "linear", "factor": 2.5}},
    ),
    "llama-3.1": ("Llama", {"rope_parameters": LLAMA3, "num_key_value_heads": 2}),
    "mistral": ("Mistral", {"num_key_value_heads": 2, "sliding_window": 5}),
    "qwen2": ("Qwen2", {"num_key_value_heads": 2}),
    "qwen2-window": ("Qwen2", {"num_key_value_heads": 2} | QWEN_WINDOW),
    "qwen3": (
        "Qwen3",
        {"num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True},
    ),
    "qwen3-window": ("Qwen3", {"num_key_value_heads": 4, "head_dim": 12} | QWEN_WINDOW),
}
LENGTH = 17
TOKENS = np.random.default_rng(0).integers(0, 97, (2, LENGTH))
POSITIONS = np.tile(np.arange(LENGTH), (2, 1))
CAUSAL = np.tril(np.ones((LENGTH, LENGTH), bool))[None].repeat(2, 0)


class Pair(NamedTuple):
    """A model of transformers, where it was saved, and the same as read by us."""

    theirs: Any
    path: Any
    config: ModelConfig
    params: dict


def write(model, path) -> Pair:
    """Make every tensor random, save the model to `path`, and read it.

    transformers starts biases at 0 and norms at 1, which would hide errors. The spread
    is so wide that attention is far from uniform and greedy text varies.
    """
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            scale = tensor.ndim == 1 and name.endswith("weight")
            spread = 1.0 if "position" in name else 0.3 if "embed" in name else 0.2
            tensor.normal_(1.0 if scale else 0.0, spread)
    model.eval().save_pretrained(path)
    config = hf.load_config(path)
    return Pair(model, path, config, hf.load_params(path, config))


def build(name: str, path) -> Pair:
    """A decoder of the table above."""
    kind, change = DECODERS[name]
    config = getattr(transformers, f"{kind}Config")(**(SHAPE | change))
    return write(getattr(transformers, f"{kind}ForCausalLM")(config), path)


def close(actual, expected, bound, name=""):
    """Assert that the two are within `bound`, and not all small."""
    assert np.abs(expected).max() > 0.9, name
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound, err_msg=name)
