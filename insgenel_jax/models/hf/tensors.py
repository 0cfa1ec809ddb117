"""The tensors of a model directory, by name: safetensors or *.bin, one file or several.

A tensor is read when it is asked for, and no file stays open in between, because mapped
memory counts as resident until the file is closed.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
# The dtypes that parameters may have, as safetensors and PyTorch name them. float8 is
# not one of them: it means nothing without scales.
FLOATS = {"F64", "F32", "F16", "BF16"}
FLOATS |= {f"torch.{kind}" for kind in ("float64", "float32", "float16", "bfloat16")}
TORCH_WEIGHTS = "pytorch_model.bin"
TORCH_INDEX = "pytorch_model.bin.index.json"
# what reading something else than such an index raises
_NO_INDEX = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


class Tensor(NamedTuple):
    """A tensor on disk: read(index) returns that part of it. dtype: the file's word."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[tuple[slice, ...]], np.ndarray]


def open_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a model directory, by name: of safetensors, else of *.bin files.

    Raises FileNotFoundError if there are neither, ValueError that names every file that
    is damaged, and ValueError if only PyTorch could read them and is not installed.
    """
    files, scan = _files(path, WEIGHTS, INDEX), _scan_safetensors
    if not files:
        files, scan = _files(path, TORCH_WEIGHTS, TORCH_INDEX), _scan_torch
    if not files:
        raise FileNotFoundError(
            f"{path}: found no {WEIGHTS}, {INDEX}, {TORCH_WEIGHTS} or {TORCH_INDEX}"
        )
    if scan is _scan_torch and importlib.util.find_spec("torch") is None:
        raise ValueError(
            f"{path}: {', '.join(files)} can be read by PyTorch alone, which is not "
            "installed; install torch, or save the model as safetensors "
            "(save_pretrained of transformers does it)"
        )
    tensors, damaged = {}, []
    for file in files:
        try:
            tensors |= scan(path / file)
        except (SafetensorError, OSError) as error:
            damaged.append(f"{file} ({error})")
    if damaged:
        raise ValueError(
            f"{path}: cannot read {'; '.join(damaged)}; truncated or damaged, fetch it "
            "again"
        )
    return tensors


def _files(path: Path, one: str, index: str) -> list[str]:
    """The names of the files that hold tensors: those of `index`, or `one`, or none."""
    if (path / index).is_file():
        try:
            record = json.loads((path / index).read_text(encoding="utf-8"))
            files = sorted(set(record["weight_map"].values()))
            beside = all(Path(f).name == f and f not in ("", "..") for f in files)
        except _NO_INDEX as error:
            raise ValueError(
                f"{path / index}: expected a JSON object with a 'weight_map': {error!r}"
            ) from error
        if not beside:
            raise ValueError(
                f"{path / index}: expected names of files beside it, found {files}"
            )
        return files
    return [one] if (path / one).is_file() else []


def _scan_safetensors(file: Path) -> dict[str, Tensor]:
    with safe_open(file, framework="numpy") as opened:
        return {
            name: Tensor(
                tuple(opened.get_slice(name).get_shape()),
                opened.get_slice(name).get_dtype(),
                functools.partial(_read_safetensors, file, name),
            )
            for name in opened.keys()  # noqa: SIM118 (not a dictionary)
        }


def _read_safetensors(file: Path, name: str, index: tuple[slice, ...]) -> np.ndarray:
    with safe_open(file, framework="numpy") as opened:
        return opened.get_slice(name)[index]


def _scan_torch(file: Path) -> dict[str, Tensor]:
    import torch

    # the format from before 2020 cannot be mapped: its tensors stay in memory
    mapped = zipfile.is_zipfile(file)
    load = functools.partial(
        torch.load, file, map_location="cpu", weights_only=True, mmap=mapped
    )
    try:
        held = load()
        scanned = {name: (tuple(t.shape), str(t.dtype)) for name, t in held.items()}
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise OSError(str(error).partition("\n")[0] or repr(error)) from error
    if not mapped:
        load = functools.partial(dict, held)
    return {
        name: Tensor(*rest, functools.partial(_read_torch, load, name))
        for name, rest in scanned.items()
    }


def _read_torch(
    load: Callable[[], dict], name: str, index: tuple[slice, ...]
) -> np.ndarray:
    import torch

    part = load()[name][index].contiguous()
    if part.dtype == torch.bfloat16:  # numpy has no bfloat16 of its own
        return part.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return part.numpy()
