"""Against Hugging Face in torch: models that transformers wrote to disk, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax import models
from insgenel_jax.models import attention, hf
from tests.models.tiny import cached_mask

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "max_position_embeddings": 64,
}
TOKENS = np.random.default_rng(0).integers(0, 97, (2, 17))
POSITIONS = np.tile(np.arange(17), (2, 1))


def write(model, path):
    """Random in every tensor (transformers starts biases at 0, norms at 1), saved."""
    torch.manual_seed(0)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.normal_(std=0.2).add_(0.5 if tensor.ndim == 1 else 0.0)
    model.eval().save_pretrained(path)
    config = hf.load_config(path)
    return model, config, hf.load_params(path, config)


def close(found, expected):
    """1e-4, of values that are not all small."""
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"num_key_value_heads": 2, "tie_word_embeddings": True},
        {"num_key_value_heads": 1, "head_dim": 16, "rms_norm_eps": 1e-2},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    ],
    ids=["plain", "grouped-tied", "wide-heads", "theta"],
)
def test_llama(change, tmp_path):
    """Logits of a sequence, and transformers opens what is written here."""
    hf_config = transformers.LlamaConfig(**(SHAPE | change))
    theirs, config, params = write(
        transformers.LlamaForCausalLM(hf_config), tmp_path / "theirs"
    )
    with torch.no_grad():
        expected = theirs(torch.tensor(TOKENS)).logits.numpy()
    mask = attention.causal_mask(jnp.ones_like(TOKENS))
    apply = jax.jit(models.build(config).apply)
    hidden, _ = apply({"params": params}, TOKENS, POSITIONS, mask)
    close(models.unembed(config, params, hidden), expected)

    hf.save_model(tmp_path / "ours", config, params)
    again, info = transformers.LlamaForCausalLM.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(info.values())
    with torch.no_grad():
        logits = again(torch.tensor(TOKENS)).logits.numpy()
    np.testing.assert_array_equal(logits, expected)


def test_llama_cached(tmp_path):
    """Logits through the cache, token by token."""
    hf_config = transformers.LlamaConfig(**SHAPE, num_key_value_heads=2)
    theirs, config, params = write(transformers.LlamaForCausalLM(hf_config), tmp_path)
    with torch.no_grad():
        expected = theirs(torch.tensor(TOKENS)).logits.numpy()

    @jax.jit
    def step(token, position, cache):
        mask = cached_mask(cache["length"], 1, 17)
        hidden, cache = models.build(config).apply(
            {"params": params}, token[:, None], position[:, None], mask, cache
        )
        cache["length"] += 1
        return models.unembed(config, params, hidden)[:, 0], cache

    cache = models.init_cache(config, 2, 17)
    for t in range(17):
        logits, cache = step(TOKENS[:, t], POSITIONS[:, t], cache)
        close(logits, expected[:, t])


def test_bert(tmp_path):
    """Hidden states with padding, and transformers opens ours."""
    theirs, config, params = write(
        transformers.BertModel(transformers.BertConfig(**SHAPE)), tmp_path / "theirs"
    )
    segments = np.ones_like(TOKENS)
    segments[1, 9:] = 0
    inputs = torch.tensor(TOKENS), torch.tensor(segments)
    with torch.no_grad():
        expected = theirs(*inputs).last_hidden_state.numpy()
    mask = attention.bidirectional_mask(jnp.array(segments))
    apply = jax.jit(models.build(config).apply)
    hidden, _ = apply({"params": params}, TOKENS, POSITIONS, mask)
    close(hidden[0], expected[0])
    close(hidden[1, :9], expected[1, :9])

    hf.save_model(tmp_path / "ours", config, params)
    again, info = transformers.BertModel.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert {name.split(".")[0] for name in info["missing_keys"]} == {"pooler"}
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    with torch.no_grad():
        hidden = again(*inputs).last_hidden_state.numpy()
    np.testing.assert_array_equal(hidden, expected)
