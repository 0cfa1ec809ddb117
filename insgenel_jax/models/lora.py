"""LoRA: low-rank additions to chosen projections, as leaves beside their kernels.

    .../query/kernel [D N H]   .../query/lora_a [D R]   .../query/lora_b [R N H]

and y = x W + alpha / R * (x A) B, with B = 0 at the start. (Hu et al. 2021.) Inside a
stack of layers all three have a leading layer axis.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

LEAVES = ("lora_a", "lora_b")
SETTINGS = "lora.json"
WEIGHTS = "lora.safetensors"
VERSION = 1


@dataclasses.dataclass(frozen=True)
class Lora:
    """Which projections get additions of what rank; the defaults are the release's.

    `dropout` is of their input alone, and acts wherever a dropout key is given: that is
    in training, whatever the rest of the model drops.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.05
    targets: tuple[str, ...] = ("query", "value")

    def __post_init__(self):
        problems = []
        if self.rank < 1:
            problems.append(f"rank is {self.rank}, must be at least 1")
        if not self.alpha > 0:
            problems.append(f"alpha is {self.alpha}, must be above 0")
        if not 0.0 <= self.dropout < 1.0:
            problems.append(f"dropout is {self.dropout}, must be in [0, 1)")
        if not self.targets:
            problems.append("targets is empty; name projections, as 'query'")
        if problems:
            raise ValueError(f"contradictory LoRA settings: {'; '.join(problems)}")


class Adapted(nn.DenseGeneral):
    """A linear map and its addition."""

    lora: Lora = Lora()

    @nn.compact
    def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
        axes = self.axis if isinstance(self.axis, tuple) else (self.axis,)
        out = self.features if isinstance(self.features, tuple) else (self.features,)
        ins, rank = tuple(x.shape[axis] for axis in axes), self.lora.rank
        # what is trained is kept in float32, whatever the frozen kernel is kept in
        a = self.param("lora_a", _init_a, (*ins, rank), jnp.float32)
        b = self.param("lora_b", nn.initializers.zeros, (rank, *out), jnp.float32)
        y = super().__call__(x)
        x = nn.Dropout(self.lora.dropout, deterministic=not self.has_rng("dropout"))(x)
        x, a, b = (array.astype(self.dtype) for array in (x, a, b))
        low = jnp.tensordot(x, a, (axes, tuple(range(len(axes)))))
        return y + self.lora.alpha / rank * jnp.tensordot(low, b, 1)


def _init_a(key, shape, dtype):
    """Uniform to 1 / sqrt(inputs) on both sides, as PyTorch's linear maps start."""
    bound = math.prod(shape[:-1]) ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def add_rows(axes: dict[str, tuple], params: dict) -> dict[str, tuple]:
    """A table of logical axes with the rows of the LoRA leaves in `params` (or shapes).

    They follow from their kernels' rows; the rank lies whole on every device.
    """
    rows, found = dict(axes), flatten_dict(params, sep="/")
    for kernel, (a, b) in _additions(found).items():
        ins, stacked = _inputs(found[kernel], found[a], found[b])
        row = axes[kernel]
        rows[a] = (*row[: stacked + ins], None)
        rows[b] = (*row[:stacked], None, *row[stacked + ins :])
    return rows


def split(params: dict) -> tuple[dict, dict]:
    """A tree with LoRA leaves (of anything) -> the LoRA leaves, the base's."""
    leaves = flatten_dict(params)
    parts = (
        {path: leaf for path, leaf in leaves.items() if (path[-1] in LEAVES) == own}
        for own in (True, False)
    )
    return tuple(unflatten_dict(part) for part in parts)


def join(base: dict, additions: dict) -> dict:
    """What `split` parted."""
    return unflatten_dict(flatten_dict(base) | flatten_dict(additions))


def merge(lora: Lora, params: dict) -> dict:
    """The base with its additions worked in: W + alpha / rank * A B, without LoRA leaves.

    Added in float32 and rounded once to the kernel's dtype.
    """
    found = flatten_dict(params, sep="/")
    merged = flatten_dict(split(params)[1], sep="/")
    for kernel, (a, b) in _additions(found).items():
        _, stacked = _inputs(found[kernel], found[a], found[b])
        with jax.default_matmul_precision("highest"):
            multiply = jax.vmap(_multiply) if stacked else _multiply
            addition = multiply(*(found[name].astype(jnp.float32) for name in (a, b)))
        whole = found[kernel].astype(jnp.float32) + lora.alpha / lora.rank * addition
        merged[kernel] = whole.astype(found[kernel].dtype)
    return unflatten_dict(merged, sep="/")


def save(path: str | os.PathLike, lora: Lora, params: dict) -> None:
    """Write the settings and the LoRA leaves of `params` to a directory of their own."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    leaves = flatten_dict(split(params)[0], sep="/")
    arrays = {name: np.ascontiguousarray(leaf) for name, leaf in leaves.items()}
    save_file(arrays, path / WEIGHTS)
    record = {"version": VERSION, **dataclasses.asdict(lora)}
    (path / SETTINGS).write_text(json.dumps(record, indent=1) + "\n")


def load(path: str | os.PathLike, base: dict) -> tuple[Lora, dict]:
    """The settings and the LoRA leaves (numpy) that `save` wrote, for this base.

    base: its parameters, or their shapes. Raises ValueError that names every leaf that
    is missing, left over or does not fit the base's kernel.
    """
    path = Path(path)
    for name in (SETTINGS, WEIGHTS):
        if not (path / name).is_file():
            raise FileNotFoundError(f"{path / name}: no such file; expected saved LoRA")
    try:
        record = json.loads((path / SETTINGS).read_text())
        if (version := record.pop("version")) != VERSION:
            raise ValueError(f"version {version}, this release reads {VERSION}")
        lora = Lora(**record | {"targets": tuple(record["targets"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path / SETTINGS}: {error!r}; save it again") from error
    try:
        leaves = load_file(path / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(
            f"{path / WEIGHTS}: {error}; damaged, save it again"
        ) from error
    base, problems = flatten_dict(base, sep="/"), []
    expected = {
        kernel: [kernel.removesuffix("kernel") + leaf for leaf in LEAVES]
        for kernel in base
        if kernel.split("/")[-1] == "kernel" and kernel.split("/")[-2] in lora.targets
    }
    targets = {kernel.split("/")[-2] for kernel in expected}
    problems += [f"the base has no {t}" for t in lora.targets if t not in targets]
    for kernel, names in expected.items():
        if missing := [name for name in names if name not in leaves]:
            problems += [f"{name} is missing" for name in missing]
            continue
        shapes = [leaves[name].shape for name in names]
        if _inputs(base[kernel], *(leaves[name] for name in names), lora.rank) is None:
            problems.append(
                f"{names[0]} {shapes[0]} and {names[1]} {shapes[1]} of rank {lora.rank} "
                f"do not fit {kernel} {base[kernel].shape}"
            )
    known = {name for names in expected.values() for name in names}
    problems += [f"{name} is left over" for name in sorted(set(leaves) - known)]
    if problems:
        raise ValueError(f"{path}: not made for this base: {'; '.join(problems)}")
    return lora, unflatten_dict(leaves, sep="/")


def _additions(leaves: dict) -> dict[str, tuple[str, str]]:
    """Kernel's path -> those of its A and B, for all that have them."""
    stems = [n.removesuffix("lora_a") for n in leaves if n.split("/")[-1] == "lora_a"]
    return {s + "kernel": (s + "lora_a", s + "lora_b") for s in stems}


def _multiply(a, b):
    return jnp.tensordot(a, b, 1)


def _inputs(kernel, a, b, rank=None) -> tuple[int, int] | None:
    """How many axes of a kernel are inputs, and how many before them are layers.

    None where the shapes do not belong together.
    """
    for stacked in (0, 1):
        ins = len(a.shape) - stacked - 1
        layers, rest = kernel.shape[:stacked], kernel.shape[stacked:]
        r = rank or a.shape[-1]
        if a.shape == (*layers, *rest[:ins], r) and b.shape == (
            *layers,
            r,
            *rest[ins:],
        ):
            return ins, stacked
    return None
