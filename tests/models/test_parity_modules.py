"""Each module against Hugging Face's in torch: the same output within 1e-5."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax.models import bert, layers, llama, opt
from insgenel_jax.models.hf.config import from_hf
from tests.helpers.torch_models import (
    CAUSAL,
    DECODERS,
    LENGTH,
    POSITIONS,
    SHAPE,
    build,
    close,
    torch,
    transformers,
    write,
)

pytestmark = pytest.mark.torch

X = np.random.default_rng(1).normal(size=(2, LENGTH, 48)).astype(np.float32)
HIDDEN = torch.where(torch.tensor(CAUSAL), 0.0, -1e30)[
    :, None
]  # added to the attention scores


def check(modules: dict) -> None:
    """modules: name -> (our module, its parameters, its arguments after x, theirs)."""
    for name, (ours, params, inputs, theirs) in modules.items():
        x = (X, None) if isinstance(ours, opt.Layer | llama.Layer) else X
        actual = ours.apply({"params": params}, x, *inputs)
        while isinstance(actual, tuple):
            actual = actual[0]
        with torch.no_grad():
            expected = theirs(torch.tensor(X)).numpy()
        close(actual, expected, 1e-5, name)


@pytest.mark.parametrize("name", [n for n in DECODERS if n.startswith("opt")])
def test_opt(name, tmp_path):
    theirs, _, c, params = build(name, tmp_path)
    theirs, own = theirs.model.decoder.layers[1], layer_params(params)
    norm = layers.layer_norm(c, None)
    at = 1, CAUSAL
    check(
        {
            "norm": (norm, own["attention_norm"], (), theirs.self_attn_layer_norm),
            "mlp_norm": (norm, own["mlp_norm"], (), theirs.final_layer_norm),
            "attention": (
                opt.Attention(c),
                own["attention"],
                (None, *at),
                lambda x: theirs.self_attn(x, attention_mask=HIDDEN)[0],
            ),
            "mlp": (
                opt.MLP(c),
                own["mlp"],
                (),
                lambda x: theirs.fc2(theirs.activation_fn(theirs.fc1(x))),
            ),
            "layer": (
                opt.Layer(c, deterministic=True),
                own,
                at,
                lambda x: theirs(x, attention_mask=HIDDEN),
            ),
        }
    )


@pytest.mark.parametrize("name", [n for n in DECODERS if not n.startswith("opt")])
def test_llama(name, tmp_path):
    theirs, _, c, params = build(name, tmp_path)
    turned = theirs.model.rotary_emb(torch.tensor(X), torch.tensor(POSITIONS))
    theirs, own = theirs.model.layers[1], layer_params(params)
    angles = layers.rotary_angles(c, jnp.array(POSITIONS))
    for ours, other in zip(angles, turned, strict=True):
        close(ours, other.numpy(), 1e-5, "rotary")
    attend = {"attention_mask": HIDDEN, "position_embeddings": turned}
    norm = layers.RMSNorm(c)
    modules = {
        "norm": (norm, own["attention_norm"], (), theirs.input_layernorm),
        "mlp_norm": (norm, own["mlp_norm"], (), theirs.post_attention_layernorm),
        "attention": (
            llama.Attention(c),
            own["attention"],
            (None, 1, angles, CAUSAL),
            lambda x: theirs.self_attn(x, **attend)[0],
        ),
        "mlp": (llama.MLP(c), own["mlp"], (), theirs.mlp),
        "layer": (
            llama.Layer(c, deterministic=True),
            own,
            (1, llama.Shared(angles, CAUSAL, None)),
            lambda x: theirs(x, **attend),
        ),
    }
    check(modules)


def test_bert(tmp_path):
    """A layer sees both sides, so there is no mask."""
    model = transformers.BertModel(transformers.BertConfig(**SHAPE))
    theirs, _, c, params = write(model, tmp_path)
    theirs, own = theirs.encoder.layer[1], layer_params(params)
    norm, everything = layers.layer_norm(c, None), np.ones_like(CAUSAL)
    own_attention = theirs.attention
    check(
        {
            "norm": (
                norm,
                own["attention_norm"],
                (),
                own_attention.output.LayerNorm,
            ),
            "mlp_norm": (norm, own["mlp_norm"], (), theirs.output.LayerNorm),
            "attention": (
                bert.Attention(c),
                own["attention"],
                (everything,),
                lambda x: own_attention.output.dense(own_attention.self(x)[0]),
            ),
            "mlp": (
                bert.MLP(c),
                own["mlp"],
                (),
                lambda x: theirs.output.dense(theirs.intermediate(x)),
            ),
            "layer": (bert.Layer(c, deterministic=True), own, (1, everything), theirs),
        }
    )


def layer_params(params: dict) -> dict:
    """The parameters of layer 1."""
    return jax.tree.map(operator.itemgetter(1), params["layers"])


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "default", "rope_theta": 10000.0},
        {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
        {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    ],
    ids=["llama-2-7b", "linear", "llama-3.1-8b"],
)
def test_rotary_rates(rope):
    """Of the published models with heads of 128, within one float32 rounding."""
    shape = {"hidden_size": 4096, "num_attention_heads": 32, "rope_parameters": rope}
    config = transformers.LlamaConfig(**shape)
    theirs = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config)
    ours = layers.rotary_rates(from_hf(config.to_dict()))
    assert ours.min() < 2e-4
    np.testing.assert_allclose(ours, theirs.inv_freq.numpy(), rtol=5e-7)
