"""Whole models against Hugging Face in torch, read from what transformers wrote.

Hidden states and logits, with and without the KV cache; greedily generated text; the
names on disk; and transformers opening what is written here.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from insgenel_jax import models
from insgenel_jax.models import attention, hf
from insgenel_jax.models.hf.tensors import WEIGHTS
from tests.helpers import tiny
from tests.helpers.torch_models import (
    DECODERS,
    LENGTH,
    POSITIONS,
    SHAPE,
    TOKENS,
    build,
    close,
    torch,
    transformers,
    write,
)

pytestmark = pytest.mark.torch

NEW = 64  # tokens generated


@pytest.fixture(scope="module", params=DECODERS)
def pair(request, tmp_path_factory):
    return build(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def expected(pair):
    """transformers' last hidden states and logits of TOKENS."""
    with torch.no_grad():
        hidden = pair.theirs.model(torch.tensor(TOKENS)).last_hidden_state
        return hidden.numpy(), pair.theirs.lm_head(hidden).numpy()


def test_sequence(pair, expected):
    """All positions at once."""
    mask = attention.causal_mask(jnp.ones_like(TOKENS))
    apply = jax.jit(models.build(pair.config).apply)
    hidden, _ = apply({"params": pair.params}, TOKENS, POSITIONS, mask)
    close(hidden, expected[0], 1e-4)
    close(models.unembed(pair.config, pair.params, hidden), expected[1], 1e-4)


def test_token_by_token(pair, expected):
    """Through the cache; and from there greedily the text that `generate` gives."""

    @jax.jit
    def step(params, token, cache):
        mask = tiny.cached_mask(cache["length"], 1, LENGTH + NEW)
        hidden, cache = models.build(pair.config).apply(
            {"params": params}, token[:, None], cache["length"][:, None], mask, cache
        )
        cache["length"] += 1
        logits = models.unembed(pair.config, params, hidden)
        return hidden[:, 0], logits[:, 0], cache

    cache = models.init_cache(pair.config, 2, LENGTH + NEW)
    for t in range(LENGTH):
        hidden, logits, cache = step(pair.params, TOKENS[:, t], cache)
        close(hidden, expected[0][:, t], 1e-4)
        close(logits, expected[1][:, t], 1e-4)
    theirs = pair.theirs.generate(
        torch.tensor(TOKENS),
        attention_mask=torch.ones(TOKENS.shape),
        do_sample=False,
        max_new_tokens=NEW,
        eos_token_id=None,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    text = []
    for new in theirs.logits:
        close(logits, new.numpy(), 1e-4)
        text.append(jnp.argmax(logits, -1))
        _, logits, cache = step(pair.params, text[-1], cache)
    assert len(text) == NEW
    assert len(set(np.ravel(text).tolist())) > 5
    np.testing.assert_array_equal(np.stack(text, 1), theirs.sequences[:, LENGTH:])


def test_round_trip(pair, expected, tmp_path):
    """The same names on disk; transformers opens them as the same model."""
    hf.save_model(tmp_path, pair.config, pair.params, shard_bytes=100_000)
    files = list(tmp_path.glob("*.safetensors"))
    assert len(files) > 1
    theirs = load_file(pair.path / WEIGHTS)
    ours = functools.reduce(dict.__or__, map(load_file, files))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor)
    again, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert type(again) is type(pair.theirs)
    assert not any(info.values())
    with torch.no_grad():
        logits = again(torch.tensor(TOKENS)).logits.numpy()
    close(logits, expected[1], 1e-5)


@pytest.mark.parametrize("kind", ["Model", "ForMaskedLM", "ForPreTraining"])
def test_bert(kind, tmp_path):
    """Hidden states with padding; transformers opens what is written here."""
    theirs, _, config, params = write(
        getattr(transformers, f"Bert{kind}")(transformers.BertConfig(**SHAPE)),
        tmp_path / "theirs",
    )
    theirs = theirs if kind == "Model" else theirs.bert
    segments = np.ones_like(TOKENS)
    segments[1, 9:] = 0
    inputs = torch.tensor(TOKENS), torch.tensor(segments)
    with torch.no_grad():
        expected = theirs(*inputs).last_hidden_state.numpy()
    mask = attention.Mask(segments=jnp.array(segments))
    apply = jax.jit(models.build(config).apply)
    hidden, _ = apply({"params": params}, TOKENS, POSITIONS, mask)
    close(hidden[0], expected[0], 1e-4)
    close(hidden[1, :9], expected[1, :9], 1e-4)

    hf.save_model(tmp_path / "ours", config, params)
    ours = load_file(tmp_path / "ours" / WEIGHTS)
    names = {name for name in theirs.state_dict() if not name.startswith("pooler.")}
    assert ours.keys() == names
    again, info = transformers.BertModel.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert {name.split(".")[0] for name in info["missing_keys"]} == {"pooler"}
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    with torch.no_grad():
        hidden = again(*inputs).last_hidden_state.numpy()
    close(hidden, expected, 1e-5)
