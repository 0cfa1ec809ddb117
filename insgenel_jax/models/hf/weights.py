"""Model directories of Hugging Face to ModelConfig and parameters, and back.

One reader and one writer serve all families: names.py says which tensor is which
parameter. Neither needs torch, but for *.bin files.
"""

from __future__ import annotations

import fnmatch
import functools
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save_file

from insgenel_jax.models.config import ModelConfig
from insgenel_jax.models.hf.config import INT8, from_hf, to_hf
from insgenel_jax.models.hf.int8 import SCALE, join_scales, quantise
from insgenel_jax.models.hf.names import IGNORED, NAMES, SPELLINGS, Rows
from insgenel_jax.models.hf.tensors import FLOATS, INDEX, WEIGHTS, Tensor, open_tensors
from insgenel_jax.models.model import abstract_params

CONFIG = "config.json"
SHARD_BYTES = 5_000_000_000
COMPARED = 4096  # rows of a tied model's two embeddings that are compared at a time
TRANSPOSED = 64  # rows of a tensor that are transposed at a time: the fastest of 16-256


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
    """Raises ValueError if a tokenizer has more ids, `size`, than the embedding rows.

    Fewer are fine: many models pad their vocabulary to a round number.
    """
    if size > config.vocabulary:
        raise ValueError(
            f"{path}: the tokenizer has {size} ids, but the embedding of the model has "
            f"{config.vocabulary} rows (vocab_size in {CONFIG}); they are not a pair, "
            "or tokens were added to the tokenizer alone"
        )


def load_params(
    path: str | os.PathLike, config: ModelConfig, shardings: dict | None = None
) -> dict:
    """The parameters of a model directory, read tensor by tensor into `shardings`.

    Beside the parameters that are placed, the host holds one more at a time, of all its
    layers. Without shardings the parameters go to the first device.

    Raises ValueError that names every tensor that is missing, left over, quantised or
    of another shape than `config` asks for, and every file that cannot be read.
    """
    path, names = Path(path), NAMES[config.family]
    tensors = _spell(join_scales(path, open_tensors(path)), config)
    shapes = flatten_dict(abstract_params(config), sep="/")
    if problems := _check_tensors(tensors, config, shapes):
        raise ValueError(
            f"{path}: the tensors do not fit {CONFIG}: {'; '.join(problems)}"
        )
    if shardings is None:
        place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        places = dict.fromkeys(shapes, place)
    else:
        places = flatten_dict(shardings, sep="/")
    params = {
        name: jax.make_array_from_callback(
            leaf.shape,
            places[name],
            functools.partial(_read_parameter, tensors, *names[name], leaf),
        )
        for name, leaf in shapes.items()
    }
    return unflatten_dict(params, sep="/")


def save_model(
    path: str | os.PathLike,
    config: ModelConfig,
    params: dict,
    shard_bytes: int = SHARD_BYTES,
    special: Mapping[str, Any] = MappingProxyType({}),
    bits: Literal[8] | None = None,
) -> None:
    """Write config.json and safetensors to `path`, as transformers opens them.

    shard_bytes: tensors of more bytes go to several files; one file at a time is held
    in memory. special: the ids that config.json names, as {"eos_token_id": 2}, by which
    generation in transformers stops and pads. bits: 8 keeps matrices as int8 (see
    hf/int8.py), which only `load_params` reads; None keeps all in config.param_dtype.

    Raises ValueError when the parameters are not those of `config`.
    """
    params = flatten_dict(params, sep="/")
    shapes = flatten_dict(abstract_params(config), sep="/")
    given = {name: leaf.shape for name, leaf in params.items()}
    wanted = {name: leaf.shape for name, leaf in shapes.items()}
    if given != wanted:
        differ = sorted(dict(given.items() ^ wanted.items()))
        raise ValueError(
            f"{path}: the parameters are not those of the config: "
            + "; ".join(f"{n}: {given.get(n)} for {wanted.get(n)}" for n in differ)
        )
    record, path = to_hf(config), Path(path)
    path.mkdir(parents=True, exist_ok=True)
    (path / INDEX).unlink(missing_ok=True)  # of what was saved here before
    shards = _plan_shards(shapes, NAMES[config.family], shard_bytes)
    files = [WEIGHTS]
    if len(shards) > 1:
        count = len(shards)
        files = [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    total, weight_map = 0, {}
    for file, shard in zip(files, shards, strict=True):
        arrays: dict[str, np.ndarray] = {}
        for tensor, part in shard.items():
            arrays |= _to_tensors(params, tensor, part, config.param_dtype, bits)
        save_file(arrays, path / file, metadata={"format": "pt"})
        total += sum(array.nbytes for array in arrays.values())
        weight_map |= dict.fromkeys(arrays, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        _write_json(path / INDEX, index)
    if bits == 8:
        record |= INT8
    _write_json(path / CONFIG, record | dict(special))


def _write_json(file: Path, record: dict) -> None:
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    file.write_text(text, encoding="utf-8")


class _Part(NamedTuple):
    """The part of a parameter that becomes one tensor of this shape."""

    parameter: str
    layer: int | None
    inputs: int | None
    shape: tuple[int, ...]


def _plan_shards(
    shapes: dict[str, jax.ShapeDtypeStruct], names: Rows, shard_bytes: int
) -> list[dict[str, _Part]]:
    """For each file its tensors, name -> part: at most `shard_bytes`, or one tensor."""
    shards: list[dict[str, _Part]] = [{}]
    held = 0
    for name, leaf in shapes.items():
        pattern, inputs = names[name]
        for layer, (tensor, shape) in enumerate(_expected(pattern, inputs, leaf.shape)):
            size = math.prod(shape) * leaf.dtype.itemsize
            if shards[-1] and held + size > shard_bytes:
                shards.append({})
                held = 0
            held += size
            row = layer if "{}" in pattern else None
            shards[-1][tensor] = _Part(name, row, inputs, shape)
    return shards


def _to_tensors(
    params: dict, name: str, part: _Part, dtype: str, bits: Literal[8] | None
) -> dict[str, np.ndarray]:
    """The tensor of a part of a parameter, or the two of a matrix in 8 bits."""
    if bits is None or len(part.shape) == 1:
        return {name: _to_tensor(params, part, dtype)}
    matrix, scale = quantise(_to_tensor(params, part, "float32"))
    return {name: matrix, name + SCALE: scale}


def _to_tensor(params: dict, part: _Part, dtype: str) -> np.ndarray:
    """A part of a parameter, laid out as Hugging Face keeps it."""
    whole = params[part.parameter]
    array = np.asarray(whole if part.layer is None else whole[part.layer])
    array = array.astype(dtype)
    if part.inputs:
        array = array.reshape(part.shape[::-1]).T
    return np.ascontiguousarray(array.reshape(part.shape))


def _expected(
    pattern: str, inputs: int | None, shape: tuple[int, ...]
) -> list[tuple[str, tuple[int, ...]]]:
    """The tensors (name, shape) of a parameter of `shape`, one for each layer."""
    layers = 1
    if "{}" in pattern:
        layers, shape = shape[0], shape[1:]
    if inputs == 0:
        shape = (math.prod(shape),)
    elif inputs:
        shape = (math.prod(shape[inputs:]), math.prod(shape[:inputs]))
    return [(pattern.format(number), tuple(shape)) for number in range(layers)]


def _spell(tensors: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The tensors under the names of NAMES, without those that are not read."""
    spelled = {}
    for name, tensor in tensors.items():
        for theirs, ours in SPELLINGS[config.family]:
            name = re.sub(theirs, ours, name)
        if not any(fnmatch.fnmatch(name, p) for p in IGNORED[config.family]):
            spelled[name] = tensor
    return spelled


def _check_tensors(
    tensors: dict[str, Tensor],
    config: ModelConfig,
    shapes: dict[str, jax.ShapeDtypeStruct],
) -> list[str]:
    """Compare the tensors with those that parameters of these shapes are read from.

    Returns a message for each tensor that is missing, not floating-point, of another
    shape or left over, and one for a tied model whose two embeddings differ.
    """
    names, problems, expected = NAMES[config.family], [], set()
    for name, leaf in shapes.items():
        for tensor, shape in _expected(*names[name], leaf.shape):
            expected.add(tensor)
            if tensor not in tensors:
                problems.append(f"{tensor} is missing")
            elif tensors[tensor].dtype not in FLOATS:
                problems.append(
                    f"{tensor} holds {tensors[tensor].dtype} instead of floating-point "
                    "numbers, and no scales (a quantised model? fetch the one it was "
                    "made from)"
                )
            elif (other := tensors[tensor].shape) != shape:
                problems.append(f"{tensor} has shape {other} instead of {shape}")
    if config.tie_embeddings and "unembed" in names:
        problems += _check_tied(tensors, names)
        expected.add(names["unembed"][0])
    return problems + [
        f"{name} is left over" for name in sorted(set(tensors) - expected)
    ]


def _check_tied(tensors: dict[str, Tensor], names: Rows) -> list[str]:
    """A tied model may bring its embedding twice, but not two different ones."""
    first, second = names["embed/embedding"][0], names["unembed"][0]
    if first not in tensors or second not in tensors:
        return []
    shapes = {tensors[first].shape, tensors[second].shape}
    rows = tensors[first].shape[0]
    parts = (slice(i, min(i + COMPARED, rows)) for i in range(0, rows, COMPARED))
    same = len(shapes) == 1 and all(
        np.array_equal(tensors[first].read((part,)), tensors[second].read((part,)))
        for part in parts
    )
    if same:
        return []
    return [f"{second} differs from {first}, but tie_word_embeddings says they are one"]


def _read_parameter(
    tensors: dict[str, Tensor],
    pattern: str,
    inputs: int | None,
    leaf: jax.ShapeDtypeStruct,
    index: tuple[slice, ...],
) -> np.ndarray:
    """The part `index` of a parameter, read from the tensors that it is made of."""
    layered = "{}" in pattern
    shape = leaf.shape[1:] if layered else leaf.shape
    bounds = [slice(*i.indices(n)) for i, n in zip(index, leaf.shape, strict=True)]
    numbers = range(bounds[0].start, bounds[0].stop) if layered else [0]
    bounds = bounds[1:] if layered else bounds
    part = _aligned([len(numbers), *(b.stop - b.start for b in bounds)], leaf.dtype)
    for row, number in enumerate(numbers):
        tensor = tensors[pattern.format(number)]
        _copy(part[row], _read_layer(tensor, inputs, shape, bounds), inputs)
    return part if layered else part[0]


def _read_layer(
    tensor: Tensor, inputs: int | None, shape: tuple[int, ...], index: list[slice]
) -> np.ndarray:
    """The part `index` of one layer of a parameter, of `shape`, from its tensor.

    The tensor keeps several axes of the parameter merged into one, such as heads and
    head size. Shardings split only the first axis of such a group, so its bounds alone
    limit what is read from disk; the bounds of the group's other axes are applied to
    what was read.
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
    """target[...] = source; if transposed, as many rows at a time as a cache holds."""
    axis = inputs or 0
    width = math.prod(source.shape[axis + 1 :])  # the tensor's rows of one output
    step = max(TRANSPOSED // width, 1) if inputs else source.shape[axis]
    for start in range(0, source.shape[axis], step):
        rows = (slice(None),) * axis + (slice(start, start + step),)
        target[rows] = source[rows]


def _aligned(shape: list[int], dtype: Any) -> np.ndarray:
    """An uninitialised array that jax on a CPU uses as it is, without a copy."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)
