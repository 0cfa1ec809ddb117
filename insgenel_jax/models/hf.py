"""Model directories as Hugging Face writes them <-> ModelConfig and parameters.

Which tensor is which parameter is data (`NAMES`); one reader and one writer use it for
every family. Neither needs torch.
"""

from __future__ import annotations

import fnmatch
import json
import math
import os
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from insgenel_jax import models
from insgenel_jax.models.config import ModelConfig, from_hf, to_hf

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

# Parameter path -> (tensor name, input axes). {} is the layer's number. Hugging Face
# keeps a linear map as [out, in], where ours is [*in, *out] with heads apart: so many of
# our axes are inputs. 0: a bias, its axes made one. None: the same on both sides.
NAMES: dict[str, dict[str, tuple[str, int | None]]] = {
    "llama": {
        "embed/embedding": ("model.embed_tokens.weight", None),
        "layers/attention_norm/scale": ("model.layers.{}.input_layernorm.weight", None),
        "layers/attention/query/kernel": ("model.layers.{}.self_attn.q_proj.weight", 1),
        "layers/attention/key/kernel": ("model.layers.{}.self_attn.k_proj.weight", 1),
        "layers/attention/value/kernel": ("model.layers.{}.self_attn.v_proj.weight", 1),
        "layers/attention/output/kernel": (
            "model.layers.{}.self_attn.o_proj.weight",
            2,
        ),
        "layers/mlp_norm/scale": (
            "model.layers.{}.post_attention_layernorm.weight",
            None,
        ),
        "layers/mlp/gate/kernel": ("model.layers.{}.mlp.gate_proj.weight", 1),
        "layers/mlp/up/kernel": ("model.layers.{}.mlp.up_proj.weight", 1),
        "layers/mlp/down/kernel": ("model.layers.{}.mlp.down_proj.weight", 1),
        "norm/scale": ("model.norm.weight", None),
        "unembed": ("lm_head.weight", None),
    },
    "bert": {
        "embed/embedding": ("embeddings.word_embeddings.weight", None),
        "embed_position/embedding": ("embeddings.position_embeddings.weight", None),
        "embed_type/embedding": ("embeddings.token_type_embeddings.weight", None),
        "embed_norm/scale": ("embeddings.LayerNorm.weight", None),
        "embed_norm/bias": ("embeddings.LayerNorm.bias", None),
        **{
            f"layers/attention/{ours}/{leaf}": (
                f"encoder.layer.{{}}.attention.{theirs}.{tensor}",
                inputs if leaf == "kernel" else 0,
            )
            for ours, theirs, inputs in (
                ("query", "self.query", 1),
                ("key", "self.key", 1),
                ("value", "self.value", 1),
                ("output", "output.dense", 2),
            )
            for leaf, tensor in (("kernel", "weight"), ("bias", "bias"))
        },
        **{
            f"layers/{norm}/{leaf}": (
                f"encoder.layer.{{}}.{theirs}.LayerNorm.{tensor}",
                None,
            )
            for norm, theirs in (
                ("attention_norm", "attention.output"),
                ("mlp_norm", "output"),
            )
            for leaf, tensor in (("scale", "weight"), ("bias", "bias"))
        },
        "layers/mlp/up/kernel": ("encoder.layer.{}.intermediate.dense.weight", 1),
        "layers/mlp/up/bias": ("encoder.layer.{}.intermediate.dense.bias", 0),
        "layers/mlp/down/kernel": ("encoder.layer.{}.output.dense.weight", 1),
        "layers/mlp/down/bias": ("encoder.layer.{}.output.dense.bias", 0),
    },
}
# Tensors that may be there and are nothing to us: buffers, and heads on top.
IGNORED = {
    "llama": ("model.layers.*.self_attn.rotary_emb.inv_freq",),
    "bert": ("pooler.*", "cls.*", "embeddings.position_ids"),
}
# Spellings of other releases -> the one in NAMES.
SPELLINGS = {
    "llama": (),
    "bert": (
        ("bert.", ""),
        ("LayerNorm.gamma", "LayerNorm.weight"),
        ("LayerNorm.beta", "LayerNorm.bias"),
    ),
}


def load_config(path: str | os.PathLike) -> ModelConfig:
    """The ModelConfig of a model directory. Raises ValueError that names the file."""
    file = Path(path) / CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; expected a model directory")
    try:
        return from_hf(dict(json.loads(file.read_text(encoding="utf-8"))))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file}: {error}") from error


def load_params(path: str | os.PathLike, config: ModelConfig, shardings=None) -> dict:
    """The parameters of a model directory, read tensor by tensor into `shardings`.

    Raises ValueError that names every tensor that is missing, left over or of another
    shape than `config` asks for, and every file that cannot be read.
    """
    tensors = _open_tensors(Path(path), config)
    shapes = flatten_dict(models.abstract_params(config), sep="/")
    problems, expected = [], set()
    for name, leaf in shapes.items():
        pattern, inputs = NAMES[config.family][name]
        for tensor, shape in _expected(pattern, inputs, leaf.shape):
            expected.add(tensor)
            if tensor not in tensors:
                problems.append(f"{tensor} is missing")
            elif (found := _shape(tensors[tensor])) != shape:
                problems.append(f"{tensor} has shape {found} instead of {shape}")
    problems += [f"{name} is left over" for name in sorted(set(tensors) - expected)]
    if problems:
        raise ValueError(
            f"{path}: the tensors do not fit {CONFIG}: {'; '.join(problems)}"
        )
    if shardings is None:
        place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        shardings = dict.fromkeys(shapes, place)
    else:
        shardings = flatten_dict(shardings, sep="/")
    params = {
        name: jax.make_array_from_callback(
            leaf.shape,
            shardings[name],
            _reader(tensors, *NAMES[config.family][name], leaf),
        )
        for name, leaf in shapes.items()
    }
    return unflatten_dict(params, sep="/")


def save_model(path: str | os.PathLike, config: ModelConfig, params: dict) -> None:
    """Write config.json and model.safetensors, which transformers opens, to `path`.

    Raises ValueError when the parameters are not those of `config`.
    """
    params = flatten_dict(params, sep="/")
    shapes = flatten_dict(models.abstract_params(config), sep="/")
    found = {name: leaf.shape for name, leaf in params.items()}
    wanted = {name: leaf.shape for name, leaf in shapes.items()}
    if found != wanted:
        differ = sorted(dict(found.items() ^ wanted.items()))
        raise ValueError(
            f"{path}: the parameters are not those of the config: "
            + "; ".join(f"{n}: {found.get(n)} for {wanted.get(n)}" for n in differ)
        )
    tensors = {}
    for name, leaf in params.items():
        pattern, inputs = NAMES[config.family][name]
        array = np.asarray(leaf).astype(config.param_dtype)
        parts = array if "{}" in pattern else array[None]
        for part, (tensor, shape) in zip(
            parts, _expected(pattern, inputs, array.shape), strict=True
        ):
            if inputs:
                part = part.reshape(shape[::-1]).T
            tensors[tensor] = np.ascontiguousarray(part.reshape(shape))
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path / WEIGHTS, metadata={"format": "pt"})
    text = json.dumps(to_hf(config), indent=2, sort_keys=True) + "\n"
    (path / CONFIG).write_text(text, encoding="utf-8")


def _expected(pattern: str, inputs: int | None, shape: tuple) -> list[tuple]:
    """The tensors [(name, shape)] that a parameter is made of, one for each layer."""
    layers = 1
    if "{}" in pattern:
        layers, *shape = shape
    if inputs == 0:
        shape = (math.prod(shape),)
    elif inputs:
        shape = (math.prod(shape[inputs:]), math.prod(shape[:inputs]))
    return [(pattern.format(number), tuple(shape)) for number in range(layers)]


def _open_tensors(path: Path, config: ModelConfig) -> dict:
    """Tensor name, spelled as in NAMES -> (open file, name in that file)."""
    if (path / INDEX).is_file():
        try:
            index = json.loads((path / INDEX).read_text(encoding="utf-8"))
            files = sorted(set(index["weight_map"].values()))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path / INDEX}: expected a JSON object with a 'weight_map': {error!r}"
            ) from error
    elif (path / WEIGHTS).is_file():
        files = [WEIGHTS]
    else:
        raise FileNotFoundError(
            f"{path}: found neither {WEIGHTS} nor {INDEX}; a model that is kept as "
            "*.bin has to be saved as safetensors first (save_pretrained of "
            "transformers does it)"
        )
    tensors, damaged = {}, []
    for file in files:
        try:
            opened = safe_open(path / file, framework="numpy")
        except (SafetensorError, OSError) as error:
            damaged.append(f"{file} ({error})")
            continue
        for name in opened.keys():  # noqa: SIM118 (not a dictionary)
            spelled = name
            for theirs, ours in SPELLINGS[config.family]:
                spelled = spelled.replace(theirs, ours)
            tensors[spelled] = opened, name
    if damaged:
        raise ValueError(
            f"{path}: cannot read {'; '.join(damaged)}; truncated or damaged, fetch it "
            "again"
        )
    ignored = IGNORED[config.family]
    if config.tie_embeddings:
        ignored += (NAMES[config.family]["unembed"][0],)
    return {
        name: place
        for name, place in tensors.items()
        if not any(fnmatch.fnmatch(name, pattern) for pattern in ignored)
    }


def _shape(place) -> tuple[int, ...]:
    opened, name = place
    return tuple(opened.get_slice(name).get_shape())


def _reader(tensors: dict, pattern: str, inputs: int | None, leaf):
    """A function from an index into a parameter to that part of it, read from disk."""
    layered = "{}" in pattern
    shape = leaf.shape[1:] if layered else leaf.shape

    def read_tensor(number, index):
        opened, name = tensors[pattern.format(number)]
        tensor = opened.get_tensor(name)
        return (tensor.T if inputs else tensor).reshape(shape)[index]

    def read(index):
        if not layered:
            return read_tensor(0, index).astype(leaf.dtype)
        numbers = range(*index[0].indices(leaf.shape[0]))
        first = read_tensor(numbers[0], index[1:])
        part = np.empty((len(numbers), *first.shape), leaf.dtype)
        part[0] = first
        for row, number in enumerate(numbers[1:], 1):
            part[row] = read_tensor(number, index[1:])
        return part

    return read
