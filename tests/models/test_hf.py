"""Model directories: round trips bit for bit, and every way in which one is broken."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from insgenel_jax import models, sharding
from insgenel_jax.models import hf
from tests.models.tiny import BERT, LLAMA, random_params

TIED = dataclasses.replace(LLAMA, tie_embeddings=True)


@pytest.fixture
def saved(tmp_path):
    hf.save_model(tmp_path, LLAMA, random_params(LLAMA))
    return tmp_path


def change(path, **tensors):
    """Replace tensors of a directory; None takes one away."""
    held = load_file(path / hf.WEIGHTS) | tensors
    held = {name: tensor for name, tensor in held.items() if tensor is not None}
    save_file(held, path / hf.WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "config",
    [LLAMA, TIED, BERT, dataclasses.replace(LLAMA, param_dtype="bfloat16")],
    ids=["llama", "tied", "bert", "bfloat16"],
)
def test_round_trip(config, tmp_path):
    """Every bit of every parameter, and the names are one layer's each."""
    params = random_params(config)
    hf.save_model(tmp_path, config, params)
    found = hf.load_config(tmp_path)
    assert dataclasses.replace(found, param_dtype=config.param_dtype) == config
    loaded = hf.load_params(tmp_path, config)
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    assert {x.dtype for x in jax.tree.leaves(loaded)} == {
        np.dtype(jax.numpy.dtype(config.param_dtype))
    }


def test_layout_on_disk(saved):
    """[out, in], heads after each other, as transformers multiplies them."""
    params, tensors = random_params(LLAMA), load_file(saved / hf.WEIGHTS)
    query = params["layers"]["attention"]["query"]["kernel"][1]  # [D N H]
    on_disk = tensors["model.layers.1.self_attn.q_proj.weight"]
    np.testing.assert_array_equal(on_disk[2 * 6 + 5], query[:, 2, 5])
    output = params["layers"]["attention"]["output"]["kernel"][0]  # [N H D]
    on_disk = tensors["model.layers.0.self_attn.o_proj.weight"]
    np.testing.assert_array_equal(on_disk[7], output[:, :, 7].reshape(-1))
    with (saved / hf.WEIGHTS).open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    assert json.loads(header)["__metadata__"] == {"format": "pt"}


def test_into_shardings(saved):
    """Each leaf where it was asked to be, the values unchanged."""
    places = models.param_shardings(LLAMA, sharding.make_mesh(2, 2, 2))
    loaded = hf.load_params(saved, LLAMA, places)
    jax.tree.map(np.testing.assert_array_equal, loaded, random_params(LLAMA))
    assert jax.tree.map(lambda leaf: leaf.sharding, loaded) == places


def test_cast_while_loading(saved):
    """fp32 on disk, bf16 asked for."""
    config = dataclasses.replace(LLAMA, param_dtype="bfloat16")
    loaded = hf.load_params(saved, config)
    expected = random_params(LLAMA)["unembed"].astype(jax.numpy.bfloat16)
    np.testing.assert_array_equal(loaded["unembed"], expected)


def test_everything_wrong_at_once(saved):
    """One error names the missing, the left over and the misshapen."""
    change(
        saved,
        **{
            "model.norm.weight": None,
            "model.layers.1.mlp.up_proj.weight": np.zeros((40, 23), np.float32),
            "model.layers.2.mlp.up_proj.weight": np.zeros((40, 24), np.float32),
            "model.layers.0.self_attn.q_proj.bias": np.zeros(24, np.float32),
        },
    )
    with pytest.raises(ValueError, match="do not fit config.json") as error:
        hf.load_params(saved, LLAMA)
    for part in (
        str(saved),
        "model.norm.weight is missing",
        "model.layers.1.mlp.up_proj.weight has shape (40, 23) instead of (40, 24)",
        "model.layers.2.mlp.up_proj.weight is left over",
        "model.layers.0.self_attn.q_proj.bias is left over",
    ):
        assert part in str(error.value)
    assert str(error.value).count("model.") == 4


@pytest.mark.parametrize("cut", [1, 1000, -4])
def test_truncated(saved, cut):
    """Cut in the header, in the data, by a few bytes: named as such."""
    file = saved / hf.WEIGHTS
    file.write_bytes(file.read_bytes()[: 7 if cut == 1 else cut])
    with pytest.raises(ValueError, match=r"cannot read model.safetensors.*truncated"):
        hf.load_params(saved, LLAMA)


def test_extras_that_are_known(tmp_path):
    """Buffers, poolers and a tied model's second copy of its embedding are no error."""
    params = random_params(TIED)
    hf.save_model(tmp_path / "tied", TIED, params)
    change(
        tmp_path / "tied",
        **{
            "lm_head.weight": np.array(params["embed"]["embedding"]),
            "model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(3, np.float32),
        },
    )
    loaded = hf.load_params(tmp_path / "tied", TIED)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_older_bert(tmp_path):
    """`bert.` before every name, gamma and beta, heads on top: the files of 2018."""
    params = random_params(BERT)
    hf.save_model(tmp_path, BERT, params)
    held = load_file(tmp_path / hf.WEIGHTS)
    older = {
        "bert."
        + re.sub(
            r"(LayerNorm\.)(weight|bias)",
            lambda m: m[1] + {"weight": "gamma", "bias": "beta"}[m[2]],
            name,
        ): tensor
        for name, tensor in held.items()
    }
    extra = dict.fromkeys(
        ("bert.pooler.dense.weight", "cls.predictions.bias"), np.zeros(3, np.float32)
    )
    save_file(older | extra, tmp_path / hf.WEIGHTS)
    loaded = hf.load_params(tmp_path, BERT)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_several_files(saved):
    """A sharded checkpoint is read by its index; a file that lacks is named."""
    held = load_file(saved / hf.WEIGHTS)
    (saved / hf.WEIGHTS).unlink()
    weight_map = {}
    for number, name in enumerate(sorted(held)):
        weight_map[name] = f"model-0000{number % 2 + 1}-of-00002.safetensors"
    for file in set(weight_map.values()):
        part = {name: held[name] for name in held if weight_map[name] == file}
        save_file(part, saved / file)
    (saved / hf.INDEX).write_text(json.dumps({"weight_map": weight_map}))
    loaded = hf.load_params(saved, LLAMA)
    jax.tree.map(np.testing.assert_array_equal, loaded, random_params(LLAMA))
    (saved / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match=r"cannot read model-00002-of-00002"):
        hf.load_params(saved, LLAMA)
    (saved / hf.INDEX).write_text("{}")
    with pytest.raises(ValueError, match=r"index.json: expected .* 'weight_map'"):
        hf.load_params(saved, LLAMA)


def test_no_model(tmp_path):
    """An empty folder, one with a .bin, one with a config that is no JSON."""
    with pytest.raises(FileNotFoundError, match="expected a model directory"):
        hf.load_config(tmp_path)
    with pytest.raises(FileNotFoundError, match="saved as safetensors first"):
        hf.load_params(tmp_path, LLAMA)
    for text in ("{", "[1]", '{"model_type": "llama", "vocab_size": "many"}'):
        (tmp_path / hf.CONFIG).write_text(text)
        with pytest.raises(ValueError, match=r"config\.json: "):
            hf.load_config(tmp_path)


def test_parameters_of_another_config(tmp_path):
    """Nothing is written for a pair that could not be read back."""
    with pytest.raises(ValueError, match=r"unembed: None for \(64, 24\)"):
        hf.save_model(tmp_path, LLAMA, random_params(TIED))
    assert not list(tmp_path.iterdir())
