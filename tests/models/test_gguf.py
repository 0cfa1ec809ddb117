"""A small LLaMA written as GGUF, as llama.cpp lays it out, and read back."""

import dataclasses

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax import models
from insgenel_jax.models import hf
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.models.gguf import open_gguf, write_model

CONFIG = ModelConfig(
    family="llama",
    vocabulary=48,
    dim=32,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    ffn=64,
    max_positions=64,
    norm_eps=1e-5,
    rope_theta=5000.0,
    tie_embeddings=True,
)
PARTS = {
    "attn_q": "attention/query",
    "attn_k": "attention/key",
    "attn_v": "attention/value",
    "attn_output": "attention/output",
    "ffn_gate": "mlp/gate",
    "ffn_up": "mlp/up",
    "ffn_down": "mlp/down",
}


def side_by_side(kernel):
    """[D, N, H] -> GGUF's rows [N * H, D]: rotary pair i of a head is rows 2i, 2i+1."""
    rows = []
    for head in range(kernel.shape[1]):
        half = kernel.shape[2] // 2
        for i in range(half):
            rows += [kernel[:, head, i], kernel[:, head, i + half]]
    return np.stack(rows)


def write(path, params, *, architecture="llama", kind=None, without=(), extra=()):
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(CONFIG.layers)
    writer.add_context_length(CONFIG.max_positions)
    writer.add_embedding_length(CONFIG.dim)
    writer.add_feed_forward_length(CONFIG.ffn)
    writer.add_head_count(CONFIG.heads)
    writer.add_head_count_kv(CONFIG.kv_heads)
    writer.add_layer_norm_rms_eps(CONFIG.norm_eps)
    writer.add_rope_freq_base(CONFIG.rope_theta)
    tensors = {
        "token_embd": np.asarray(params["embed"]["embedding"]),
        "output_norm": np.asarray(params["norm"]["scale"]),
    }
    layers = params["layers"]
    for i in range(CONFIG.layers):
        for name, ours in {"attn": "attention_norm", "ffn": "mlp_norm"}.items():
            tensors[f"blk.{i}.{name}_norm"] = np.asarray(layers[ours]["scale"][i])
        for name, ours in PARTS.items():
            first, second = ours.split("/")
            kernel = np.asarray(layers[first][second]["kernel"][i])
            if name in ("attn_q", "attn_k"):
                rows = side_by_side(kernel)
            elif name == "attn_output":
                rows = kernel.reshape(-1, CONFIG.dim).T
            else:
                rows = kernel.reshape(len(kernel), -1).T
            tensors[f"blk.{i}.{name}"] = rows
    for name, tensor in tensors.items():
        if name in without:
            continue
        tensor = np.ascontiguousarray(tensor, np.float32)
        if kind is not None and tensor.ndim == 2:
            packed = gguf.quantize(tensor, kind)
            writer.add_tensor(f"{name}.weight", packed, raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", tensor)
    for name in extra:
        writer.add_tensor(name, np.zeros(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def params():
    return models.init_params(CONFIG, jax.random.key(0), None)


def read(file, out, dtype="float32"):
    out.mkdir()
    config = write_model(open_gguf(file), out, dtype)
    stored = dataclasses.replace(config, param_dtype="float32")  # not in config.json
    assert hf.load_config(out) == stored
    return config, hf.load_params(out, config)


def test_weights_come_back(tmp_path, params):
    write(tmp_path / "m.gguf", params)
    config, loaded = read(tmp_path / "m.gguf", tmp_path / "out")
    assert config == CONFIG
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1", "F16"])
def test_quantised_weights_are_dequantised(tmp_path, params, kind):
    write(tmp_path / "m.gguf", params, kind=gguf.GGMLQuantizationType[kind])
    _, loaded = read(tmp_path / "m.gguf", tmp_path / "out")
    error = {"Q8_0": 0.01, "Q4_1": 0.12, "F16": 1e-3}[kind]
    for got, wanted in zip(
        jax.tree.leaves(loaded), jax.tree.leaves(params), strict=True
    ):
        assert jnp.abs(got - wanted).max() <= error * jnp.abs(wanted).max()


def test_kept_in_bfloat16(tmp_path, params):
    write(tmp_path / "m.gguf", params)
    config, loaded = read(tmp_path / "m.gguf", tmp_path / "out", "bfloat16")
    assert config.param_dtype == "bfloat16"
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {jnp.bfloat16.dtype}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "qwen2"}, "expected 'llama', found 'qwen2'"),
        ({"without": ("blk.1.attn_q",)}, r"model.layers.1.self_attn.q_proj.weight"),
        ({"extra": ("blk.0.attn_q.bias",)}, "found blk.0.attn_q.bias"),
        ({"extra": ("rope_freqs.weight",)}, "scaled"),
    ],
)
def test_what_is_no_plain_llama_is_refused(tmp_path, params, change, message):
    write(tmp_path / "m.gguf", params, **change)
    with pytest.raises(ValueError, match=message):
        write_model(open_gguf(tmp_path / "m.gguf"), tmp_path)


@pytest.mark.parametrize("keep", [0, 3, 100, 900, -200])
def test_a_file_that_is_cut_off(tmp_path, params, keep):
    write(tmp_path / "m.gguf", params)
    data = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(data[:keep])
    with pytest.raises(ValueError, match=r"cut\.gguf"):
        write_model(open_gguf(tmp_path / "cut.gguf"), tmp_path)
