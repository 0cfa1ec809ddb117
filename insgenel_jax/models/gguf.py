"""A GGUF file of the LLaMA family in; the tensors of a Hugging Face directory out.

GGUF is the format of llama.cpp. Its weights may be quantised; they are dequantised
here. Its names are its own, and its query and key rows are in another order: a head's
rotary pairs stand side by side there, and half a head apart at Hugging Face.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from insgenel_jax.models.config import ModelConfig
from insgenel_jax.models.hf.config import to_hf
from insgenel_jax.models.hf.tensors import WEIGHTS
from insgenel_jax.models.hf.weights import CONFIG

# GGUF's name of a tensor -> Hugging Face's; {} is the layer's number.
_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
    "blk.{}.attn_norm.weight": "model.layers.{}.input_layernorm.weight",
    "blk.{}.attn_q.weight": "model.layers.{}.self_attn.q_proj.weight",
    "blk.{}.attn_k.weight": "model.layers.{}.self_attn.k_proj.weight",
    "blk.{}.attn_v.weight": "model.layers.{}.self_attn.v_proj.weight",
    "blk.{}.attn_output.weight": "model.layers.{}.self_attn.o_proj.weight",
    "blk.{}.ffn_norm.weight": "model.layers.{}.post_attention_layernorm.weight",
    "blk.{}.ffn_gate.weight": "model.layers.{}.mlp.gate_proj.weight",
    "blk.{}.ffn_up.weight": "model.layers.{}.mlp.up_proj.weight",
    "blk.{}.ffn_down.weight": "model.layers.{}.mlp.down_proj.weight",
}
_LAYER = re.compile(r"(?<=blk\.)\d+(?=\.)")


@dataclasses.dataclass(frozen=True)
class Gguf:
    """What a GGUF file holds: its fields, and its tensors, still quantised."""

    file: Path
    fields: Mapping[str, Any]
    tensors: Mapping[str, gguf.ReaderTensor]

    def field(self, name: str, kind: type, default: Any = None) -> Any:
        """The value of a field. Raises ValueError where it is missing and no default
        is given, or where it is of another kind."""
        value = self.fields.get(name, default)
        if isinstance(value, int | float) and kind is float:
            value = float(str(np.float32(value)))  # 1e-05 is 9.99999974e-06 in float32
        if not isinstance(value, kind):
            raise ValueError(  # noqa: TRY004 (the file is wrong, not a type of ours)
                f"{self.file}: {name}: expected {kind.__name__}, found {value!r:.80}"
            )
        return value


def open_gguf(path: str | os.PathLike) -> Gguf:
    """Open a GGUF file; its tensors are memory-mapped.

    Raises ValueError for a file that is damaged, cut off or no GGUF.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a GGUF file")
    try:
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
    except Exception as error:  # on a damaged file the library raises anything
        raise ValueError(
            f"{path}: expected a GGUF file, found one that cannot be read ({error}); "
            "it may be cut off: fetch it again"
        ) from error
    return Gguf(path, fields, {tensor.name: tensor for tensor in reader.tensors})


def write_model(source: Gguf, path: Path, dtype: str = "float32") -> ModelConfig:
    """Write config.json and model.safetensors of a GGUF file to the folder `path`.

    dtype: what the weights are kept in. Raises ValueError for another architecture than
    LLaMA's, and for a tensor that is missing, of another shape or not read.
    """
    config = read_config(source, dtype)
    expected = _shapes(config)
    names = {_hugging_face_name(source, name): name for name in source.tensors}
    if missing := sorted(expected.keys() - names.keys()):
        raise ValueError(f"{source.file}: expected the tensors {missing}, found none")
    if extra := sorted(names.keys() - expected.keys()):
        raise ValueError(f"{source.file}: expected no tensors {extra}, found them")
    arrays = {}
    for name, shape in expected.items():
        array = _dequantise(source, names[name])
        if array.shape != shape:
            raise ValueError(
                f"{source.file}: {names[name]}: expected the shape {shape}, found "
                f"{array.shape}"
            )
        heads = {"q_proj": config.heads, "k_proj": config.kv_heads}
        for part, count in heads.items():
            if part in name:
                array = _half_apart(array, count)
        arrays[name] = np.ascontiguousarray(array.astype(jnp.dtype(dtype)))
    save_file(arrays, path / WEIGHTS, metadata={"format": "pt"})
    record = json.dumps(to_hf(config), indent=2, sort_keys=True) + "\n"
    (path / CONFIG).write_text(record, encoding="utf-8")
    return config


def read_config(source: Gguf, dtype: str = "float32") -> ModelConfig:
    """The ModelConfig that the fields of a GGUF file describe.

    Raises ValueError for another architecture than LLaMA's, and for scaled rotary
    positions, which GGUF keeps in a form that cannot be turned back.
    """
    architecture = source.field("general.architecture", str)
    if architecture != "llama":
        raise ValueError(
            f"{source.file}: general.architecture: expected 'llama', found "
            f"{architecture!r}; give the model's Hugging Face directory"
        )
    scaling = source.fields.get("llama.rope.scaling.type", "none")
    if scaling != "none" or "rope_freqs.weight" in source.tensors:
        raise ValueError(
            f"{source.file}: expected plain rotary positions, found scaled ones; give "
            "the model's Hugging Face directory"
        )
    heads = source.field("llama.attention.head_count", int)
    dim = source.field("llama.embedding_length", int)
    if "token_embd.weight" not in source.tensors:
        raise ValueError(f"{source.file}: expected token_embd.weight, found none")
    return ModelConfig(
        family="llama",
        vocabulary=int(source.tensors["token_embd.weight"].shape[1]),
        dim=dim,
        layers=source.field("llama.block_count", int),
        heads=heads,
        ffn=source.field("llama.feed_forward_length", int),
        max_positions=source.field("llama.context_length", int),
        kv_heads=source.field("llama.attention.head_count_kv", int, heads),
        head_dim=source.field("llama.attention.key_length", int, dim // heads),
        norm_eps=source.field("llama.attention.layer_norm_rms_epsilon", float),
        rope_theta=source.field("llama.rope.freq_base", float, 10_000.0),
        tie_embeddings="output.weight" not in source.tensors,
        param_dtype=dtype,
    )


def _shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Hugging Face's tensors of a LLaMA model, with their shapes."""
    dim, ffn = config.dim, config.ffn
    queries = config.heads * config.head_dim
    keys = config.kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (config.vocabulary, dim),
        "output_norm.weight": (dim,),
    }
    if not config.tie_embeddings:
        shapes["output.weight"] = (config.vocabulary, dim)
    layer = {
        "attn_norm": (dim,),
        "attn_q": (queries, dim),
        "attn_k": (keys, dim),
        "attn_v": (keys, dim),
        "attn_output": (dim, queries),
        "ffn_norm": (dim,),
        "ffn_gate": (ffn, dim),
        "ffn_up": (ffn, dim),
        "ffn_down": (dim, ffn),
    }
    for number in range(config.layers):
        for name, shape in layer.items():
            shapes[f"blk.{number}.{name}.weight"] = shape
    return {_rename(name): shape for name, shape in shapes.items()}


def _hugging_face_name(source: Gguf, name: str) -> str:
    if _LAYER.sub("{}", name) not in _NAMES:
        raise ValueError(
            f"{source.file}: expected the tensors of a plain LLaMA model, found "
            f"{name}; give the model's Hugging Face directory"
        )
    return _rename(name)


def _rename(name: str) -> str:
    """Hugging Face's name of a tensor of GGUF."""
    layer = _LAYER.search(name)
    return _NAMES[_LAYER.sub("{}", name)].format(layer[0] if layer else "")


def _dequantise(source: Gguf, name: str) -> np.ndarray:
    """A tensor as float32, laid out as Hugging Face keeps it."""
    tensor = source.tensors[name]
    try:
        return gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    except (NotImplementedError, ValueError) as error:
        raise ValueError(
            f"{source.file}: {name}: expected a quantisation that can be undone, found "
            f"{tensor.tensor_type.name} ({error}); fetch a file with another one"
        ) from error


def _half_apart(array: np.ndarray, heads: int) -> np.ndarray:
    """Query or key rows with a rotary pair half a head apart, from side by side.

    array: [heads * H, D]; rows 2i and 2i + 1 of a head become i and i + H / 2.
    """
    pairs = array.reshape(heads, -1, 2, array.shape[1])  # [N, H / 2, 2, D]
    return pairs.swapaxes(1, 2).reshape(array.shape)
