"""Weights of 8 bits: how near they are, how they are read, and what is refused."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from insgenel_jax import models, sharding
from insgenel_jax.models import hf
from insgenel_jax.models.hf.int8 import quantise
from tests.helpers.tiny import BERT, LLAMA, OPT_350M, random_params

FILE = "model.safetensors"
GATE = "model.layers.1.mlp.gate_proj.weight"


def test_quantise():
    """By hand: the largest of a row is 127, halves are off by half a step at most."""
    rows = np.array([[-2.54, 1.27, 0.03], [0, 0, 0], [0.5, -1, 1]], np.float32)
    steps, scale = quantise(rows)
    assert steps.tolist() == [[-127, 64, 2], [0, 0, 0], [64, -127, 127]]
    np.testing.assert_allclose(scale, [0.02, 0, 1 / 127], rtol=1e-6)


def test_the_nearest_steps():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((50, 33)).astype(np.float32)
    rows *= np.geomspace(1e-34, 1e37, 50)[:, None].astype(np.float32)
    steps, scale = quantise(rows)
    assert np.abs(steps).max(axis=1).tolist() == [127] * 50
    off = np.abs(steps * scale[:, None] - rows)
    assert (off <= np.abs(rows).max(axis=1, keepdims=True) * (0.5001 / 127)).all()


def test_a_scale_that_float32_rounds():
    """Steps of 143 would not fit int8."""
    steps, _ = quantise(np.array([[2e-43, -2e-43, 0]], np.float32))
    assert steps.tolist() == [[127, -127, 0]]


@pytest.mark.parametrize("config", [LLAMA, OPT_350M, BERT], ids=lambda c: c.family)
@pytest.mark.parametrize("shard_bytes", [4000, 10**9])
def test_every_family(config, shard_bytes, tmp_path):
    """Each matrix as the tensors say, each vector as it was; also into shardings."""
    params = random_params(config)
    hf.save_model(tmp_path / "whole", config, params)
    hf.save_model(tmp_path / "small", config, params, shard_bytes, bits=8)
    held = {}
    for file in (tmp_path / "small").glob("*.safetensors"):
        held |= load_file(file)
    dequantised = {
        name: tensor * held[name + ".scale"][:, None] if tensor.ndim > 1 else tensor
        for name, tensor in held.items()
        if not name.endswith(".scale")
    }
    save_file(dequantised, tmp_path / "whole" / FILE, metadata={"format": "pt"})
    assert hf.load_config(tmp_path / "small") == hf.load_config(tmp_path / "whole")
    assert {t.dtype for t in held.values() if t.ndim > 1} == {np.dtype(np.int8)}
    expected = hf.load_params(tmp_path / "whole", config)
    actual = hf.load_params(tmp_path / "small", config)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=np.abs(b).max() / 250),
        actual,
        params,
    )
    places = models.param_shardings(config, sharding.make_mesh(1, 2, 2))
    split = hf.load_params(tmp_path / "small", config, places)
    jax.tree.map(np.testing.assert_array_equal, split, expected)


def change(path, **tensors):
    held = load_file(path / FILE) | tensors
    save_file({n: t for n, t in held.items() if t is not None}, path / FILE)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (None, f"{GATE} holds I8 instead of floating-point numbers, and no scales"),
        (np.ones(39, np.float32), r"for each row of \(40, 24\), found F32 \(39,\)"),
        (np.ones((40, 1), np.float32), r"for each row of .*, found F32 \(40, 1\)"),
        (np.ones(40, np.int32), r"for each row of .*, found I32 \(40,\)"),
    ],
)
def test_missing_and_wrong_scales(tmp_path, scale, message):
    hf.save_model(tmp_path, LLAMA, random_params(LLAMA), bits=8)
    change(tmp_path, **{f"{GATE}.scale": scale})
    with pytest.raises(ValueError, match=message):
        hf.load_params(tmp_path, LLAMA)


def test_what_config_json_says(tmp_path):
    """The mark of another method is refused."""
    hf.save_model(tmp_path, LLAMA, random_params(LLAMA), bits=8)
    file = tmp_path / "config.json"
    record = json.loads(file.read_text())
    assert record["quantization_config"] == {"insgenel_bits": 8}
    record["quantization_config"]["quant_method"] = "gptq"
    file.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="quantization_config"):
        hf.load_config(tmp_path)


@pytest.mark.torch
def test_transformers_refuses_it(tmp_path):
    """Rather than to take int8 for the weights."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    hf.save_model(tmp_path, BERT, random_params(BERT), bits=8)
    with pytest.raises(ValueError, match="quant_method"):
        transformers.AutoModel.from_pretrained(tmp_path)
