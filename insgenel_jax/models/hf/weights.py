"""Model directories as Hugging Face writes them <-> ModelConfig and parameters.

Which tensor is which parameter is data (names.py); one reader and one writer use it for
every family. Neither needs torch.
"""

from __future__ import annotations

import fnmatch
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save_file

from insgenel_jax import models
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.models.hf.config import from_hf, to_hf
from insgenel_jax.models.hf.names import IGNORED, NAMES, SPELLINGS
from insgenel_jax.models.hf.tensors import FLOATS, INDEX, WEIGHTS, Tensor, open_tensors

CONFIG = "config.json"
SHARD_BYTES = 5_000_000_000
COMPARED = 4096  # rows of a tied model's two embeddings compared at a time
TRANSPOSED = 64  # rows of a tensor transposed at a time; of 16 to 256 the fastest


def load_config(path: str | os.PathLike) -> ModelConfig:
    """The ModelConfig of a model directory. Raises ValueError that names the file."""
    file = Path(path) / CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; expected a model directory")
    try:
        return from_hf(dict(json.loads(file.read_text(encoding="utf-8"))))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file}: {error}") from error


def check_tokenizer(path: str | os.PathLike, config: ModelConfig, size: int) -> None:
    """Raises ValueError where a tokenizer of `size` ids has more than the embedding.

    Fewer are fine: many models pad their vocabulary to a round number.
    """
    if size > config.vocabulary:
        raise ValueError(
            f"{path}: the tokenizer has {size} ids, but the embedding of the model has "
            f"{config.vocabulary} rows (vocab_size in {CONFIG}); they are not a pair, or "
            "tokens were added to the tokenizer alone"
        )


def load_params(path: str | os.PathLike, config: ModelConfig, shardings=None) -> dict:
    """The parameters of a model directory, read tensor by tensor into `shardings`.

    At its peak the host holds, beside the parameters that are placed, one more: a
    stacked one, all its layers.

    Raises ValueError that names every tensor that is missing, left over, of another
    shape than `config` asks for or quantised, and every file that cannot be read.
    """
    path, names = Path(path), NAMES[config.family]
    tensors = _spell(open_tensors(path), config)
    shapes = flatten_dict(models.abstract_params(config), sep="/")
    problems, expected = [], set()
    for name, leaf in shapes.items():
        for tensor, shape in _expected(*names[name], leaf.shape):
            expected.add(tensor)
            if tensor not in tensors:
                problems.append(f"{tensor} is missing")
            elif tensors[tensor].dtype not in FLOATS:
                problems.append(
                    f"{tensor} holds {tensors[tensor].dtype} instead of floating-point "
                    "numbers (a quantised model? fetch the one it was made from)"
                )
            elif tensors[tensor].shape != shape:
                found = tensors[tensor].shape
                problems.append(f"{tensor} has shape {found} instead of {shape}")
    if config.tie_embeddings and "unembed" in names:
        problems += _check_tied(tensors, names)
        expected.add(names["unembed"][0])
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
            leaf.shape, shardings[name], _reader(tensors, *names[name], leaf)
        )
        for name, leaf in shapes.items()
    }
    return unflatten_dict(params, sep="/")


def save_model(
    path: str | os.PathLike,
    config: ModelConfig,
    params: dict,
    shard_bytes: int = SHARD_BYTES,
    special: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Write config.json and safetensors, which transformers opens, to `path`.

    `special`: the ids that config.json names, as {"eos_token_id": 2}; generation in
    transformers stops and pads by them. In several files where the tensors are more than `shard_bytes`; no more than one
    file is held in memory. Raises ValueError when the parameters are not those of
    `config`.
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
    record, path = to_hf(config), Path(path)
    path.mkdir(parents=True, exist_ok=True)
    (path / INDEX).unlink(missing_ok=True)  # of what was saved here before
    shards: list[dict] = [{}]  # tensor -> (parameter, layer, input axes, shape)
    size = total = 0
    for name, leaf in shapes.items():
        pattern, inputs = NAMES[config.family][name]
        for layer, (tensor, shape) in enumerate(_expected(pattern, inputs, leaf.shape)):
            held = math.prod(shape) * leaf.dtype.itemsize
            if shards[-1] and size + held > shard_bytes:
                shards.append({})
                size = 0
            size, total = size + held, total + held
            row = layer if "{}" in pattern else None
            shards[-1][tensor] = name, row, inputs, shape
    files = [WEIGHTS]
    if len(shards) > 1:
        count = len(shards)
        files = [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    for file, shard in zip(files, shards, strict=True):
        arrays = {}
        for tensor, (name, row, inputs, shape) in shard.items():
            part = np.asarray(params[name] if row is None else params[name][row])
            part = part.astype(config.param_dtype)
            part = part.reshape(shape[::-1]).T if inputs else part.reshape(shape)
            arrays[tensor] = np.ascontiguousarray(part)
        save_file(arrays, path / file, metadata={"format": "pt"})
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": total},
            "weight_map": {t: f for f, s in zip(files, shards, strict=True) for t in s},
        }
        _write_json(path / INDEX, index)
    _write_json(path / CONFIG, record | special)


def _write_json(file: Path, record: dict) -> None:
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    file.write_text(text, encoding="utf-8")


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


def _spell(tensors: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The tensors named as in NAMES, without those that are nothing to us."""
    spelled = {}
    for name, tensor in tensors.items():
        for theirs, ours in SPELLINGS[config.family]:
            name = re.sub(theirs, ours, name)
        if not any(fnmatch.fnmatch(name, p) for p in IGNORED[config.family]):
            spelled[name] = tensor
    return spelled


def _check_tied(tensors: dict[str, Tensor], names: dict) -> list[str]:
    """A tied model may bring its embedding twice, but not two embeddings."""
    first, second = names["embed/embedding"][0], names["unembed"][0]
    if first not in tensors or second not in tensors:
        return []
    shapes = {tensors[first].shape, tensors[second].shape}
    rows = tensors[first].shape[0]
    blocks = (slice(i, min(i + COMPARED, rows)) for i in range(0, rows, COMPARED))
    same = len(shapes) == 1 and all(
        np.array_equal(tensors[first].read((b,)), tensors[second].read((b,)))
        for b in blocks
    )
    if same:
        return []
    return [f"{second} differs from {first}, but tie_word_embeddings says they are one"]


def _reader(tensors: dict[str, Tensor], pattern: str, inputs: int | None, leaf):
    """A function from an index into a parameter to that part of it, read from disk."""
    layered = "{}" in pattern
    shape = leaf.shape[1:] if layered else leaf.shape

    def read(index):
        index = [slice(*i.indices(n)) for i, n in zip(index, leaf.shape, strict=True)]
        numbers = range(index[0].start, index[0].stop) if layered else [0]
        index = index[1:] if layered else index
        part = _aligned([len(numbers), *(i.stop - i.start for i in index)], leaf.dtype)
        for row, number in enumerate(numbers):
            tensor = tensors[pattern.format(number)]
            _copy(part[row], _read_part(tensor, inputs, shape, index), inputs)
        return part if layered else part[0]

    return read


def _read_part(tensor: Tensor, inputs: int | None, shape: tuple, index: list):
    """The part `index` of a parameter of `shape` (one layer's), out of its tensor.

    Axes that the tensor has as one are read between the bounds of their first, which is
    the one that shardings split; what the others leave out is dropped here.
    """
    if inputs is None:
        return tensor.read(tuple(index))
    groups = [(index[:inputs], shape[:inputs]), (index[inputs:], shape[inputs:])]
    bounds, sizes, inner = [], [], []
    for (first, *rest), (_, *sizes_of_rest) in (g for g in groups if g[0]):
        width = math.prod(sizes_of_rest)
        bounds.append(slice(first.start * width, first.stop * width))
        sizes += [first.stop - first.start, *sizes_of_rest]
        inner += [slice(None), *rest]
    return tensor.read(tuple(bounds[::-1])).T.reshape(sizes)[tuple(inner)]


def _copy(target: np.ndarray, source: np.ndarray, inputs: int | None) -> None:
    """target[...] = source; what is transposed goes by blocks that a cache holds."""
    axis = inputs or 0
    width = math.prod(source.shape[axis + 1 :])  # the tensor's rows of one output
    step = max(TRANSPOSED // width, 1) if inputs else source.shape[axis]
    for start in range(0, source.shape[axis], step):
        block = (slice(None),) * axis + (slice(start, start + step),)
        target[block] = source[block]


def _aligned(shape: list[int], dtype) -> np.ndarray:
    """An uninitialised array that jax on a CPU takes over as it is, without a copy."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)
