"""LoRA: low-rank additions to chosen projections, as leaves beside their kernels.

    .../query/kernel [D N H]   .../query/lora_a [D R]   .../query/lora_b [R N H]

y = x W + alpha / R * (x A) B, where B is 0 at the start (Hu et al. 2021, "LoRA").
Inside a stack of layers all three have a leading layer axis. A parameter's path, joined
by "/", is called its name here.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, PRNGKeyArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from insgenel_jax.sharding import AnyArray, Axes

LEAVES = ("lora_a", "lora_b")
SETTINGS = "lora.json"
WEIGHTS = "lora.safetensors"
KIND, VERSION = "lora", 1  # of the directory that training writes


@dataclasses.dataclass(frozen=True)
class Lora:
    """Which projections get additions, and of what rank.

    The defaults are those of the code that the paper's authors published (*release*).
    rank: of the two matrices of an addition. alpha: an addition is multiplied by alpha
    / rank. targets: the projections, query, key, value and others. dropout: applied to
    the input of A alone, and wherever a dropout key is given, that is in training,
    whatever the rest of the model drops.

    Raises ValueError that names every setting that is wrong.
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
    """A linear map with its addition."""

    lora: Lora = Lora()

    @nn.compact
    def __call__(self, x: Float[AnyArray, ...]) -> Float[Array, ...]:
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


def _init_a(key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Float[Array, ...]:
    """Uniform within 1 / sqrt(inputs) of 0, as PyTorch's linear maps start."""
    bound = math.prod(shape[:-1]) ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def add_rows(axes: Axes, params: dict) -> Axes:
    """A table of logical axes with rows for the LoRA leaves in `params` (or shapes).

    The rows follow from those of the kernels; the rank is not split.
    """
    rows, leaves = dict(axes), flatten_dict(params, sep="/")
    for kernel, (a, b) in _additions(leaves).items():
        stacked, inputs = _form(leaves[kernel], leaves[a], leaves[b])
        row = axes[kernel]
        rows[a] = (*row[: stacked + inputs], None)
        rows[b] = (*row[:stacked], None, *row[stacked + inputs :])
    return rows


def split(params: dict) -> tuple[dict, dict]:
    """A tree with LoRA leaves, which may hold anything -> the LoRA leaves, the rest."""
    additions, base = {}, {}
    for path, leaf in flatten_dict(params).items():
        (additions if path[-1] in LEAVES else base)[path] = leaf
    return unflatten_dict(additions), unflatten_dict(base)


def join(base: dict, additions: dict) -> dict:
    """The tree that `split` took apart."""
    return unflatten_dict(flatten_dict(base) | flatten_dict(additions))


def merge(lora: Lora, params: dict) -> dict:
    """The parameters of a plain model: each kernel W becomes W + alpha / rank * A B.

    Added in float32 and rounded once to the kernel's dtype.
    """
    leaves = flatten_dict(params, sep="/")
    merged = flatten_dict(split(params)[1], sep="/")
    for kernel, (a, b) in _additions(leaves).items():
        stacked, _ = _form(leaves[kernel], leaves[a], leaves[b])
        with jax.default_matmul_precision("highest"):
            multiply = jax.vmap(_multiply) if stacked else _multiply
            addition = multiply(*(leaves[name].astype(jnp.float32) for name in (a, b)))
        whole = leaves[kernel].astype(jnp.float32) + lora.alpha / lora.rank * addition
        merged[kernel] = whole.astype(leaves[kernel].dtype)
    return unflatten_dict(merged, sep="/")


def _multiply(a: AnyArray, b: AnyArray) -> Array:
    """A B of one layer."""
    return jnp.tensordot(a, b, 1)


def save(
    path: str | os.PathLike, lora: Lora, params: dict, dtype: str | None = None
) -> None:
    """Write the settings and the LoRA leaves of `params` to a directory.

    dtype: what the leaves are kept in [their own].
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    leaves = flatten_dict(split(params)[0], sep="/")
    arrays = {
        name: np.ascontiguousarray(leaf, dtype and jnp.dtype(dtype))
        for name, leaf in leaves.items()
    }
    save_file(arrays, path / WEIGHTS)
    record = {"version": VERSION, **dataclasses.asdict(lora)}
    (path / SETTINGS).write_text(json.dumps(record, indent=1) + "\n")


def load(path: str | os.PathLike, base: dict) -> tuple[Lora, dict]:
    """The settings and the LoRA leaves (numpy) that `save` wrote.

    base: the parameters of the model that they were made for, or their shapes. Raises
    what `read` does, and ValueError that names every leaf that is missing, left over or
    does not fit the base's kernel.
    """
    lora, tree = read(path)
    leaves = flatten_dict(tree, sep="/")
    if problems := _check_leaves(lora, leaves, flatten_dict(base, sep="/")):
        raise ValueError(f"{path}: not made for this base: {'; '.join(problems)}")
    return lora, tree


def read(path: str | os.PathLike) -> tuple[Lora, dict]:
    """The settings and the LoRA leaves (numpy) that `save` wrote, whatever their base.

    Raises FileNotFoundError where a file is missing, ValueError where one is damaged.
    """
    path = Path(path)
    for name in (SETTINGS, WEIGHTS):
        if not (path / name).is_file():
            raise FileNotFoundError(f"{path / name}: no such file; expected saved LoRA")
    lora = _read_settings(path / SETTINGS)
    try:
        leaves = load_file(path / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(
            f"{path / WEIGHTS}: {error}; damaged, save it again"
        ) from error
    if wrong := [n for n in leaves if not np.isfinite(leaves[n].astype("f4")).all()]:
        raise ValueError(
            f"{path / WEIGHTS}: expected finite numbers, found others in {wrong}; save "
            "it again, in float32 if float16 is too narrow"
        )
    return lora, unflatten_dict(leaves, sep="/")


def _read_settings(file: Path) -> Lora:
    try:
        record = json.loads(file.read_text())
        if (version := record.pop("version")) != VERSION:
            raise ValueError(f"format version {version}, expected {VERSION}")
        return Lora(**record | {"targets": tuple(record["targets"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{file}: {error!r}; save it again") from error


def _check_leaves(lora: Lora, leaves: dict, base: dict) -> list[str]:
    """Which leaves (name -> array) do not belong to the base (name -> array)."""
    expected = {
        kernel: [kernel.removesuffix("kernel") + leaf for leaf in LEAVES]
        for kernel in base
        if kernel.split("/")[-1] == "kernel" and kernel.split("/")[-2] in lora.targets
    }
    targets = {kernel.split("/")[-2] for kernel in expected}
    problems = [f"the base has no {t}" for t in lora.targets if t not in targets]
    for kernel, names in expected.items():
        if missing := [name for name in names if name not in leaves]:
            problems += [f"{name} is missing" for name in missing]
            continue
        a, b = (leaves[name] for name in names)
        if a.shape[-1:] != (lora.rank,) or _form(base[kernel], a, b) is None:
            problems.append(
                f"{names[0]} {a.shape} and {names[1]} {b.shape} of rank {lora.rank} "
                f"do not fit {kernel} {base[kernel].shape}"
            )
    known = {name for names in expected.values() for name in names}
    return problems + [f"{name} is left over" for name in sorted(set(leaves) - known)]


def _additions(leaves: dict) -> dict[str, tuple[str, str]]:
    """Kernel's name -> the names of its A and B, for all kernels that have them."""
    stems = [n.removesuffix("lora_a") for n in leaves if n.split("/")[-1] == "lora_a"]
    return {s + "kernel": (s + "lora_a", s + "lora_b") for s in stems}


class _Form(NamedTuple):
    """How many axes of a kernel are layers (0 or 1), and how many next are inputs."""

    stacked: int
    inputs: int


def _form(kernel: Any, a: Any, b: Any) -> _Form | None:
    """The form of a kernel with these A and B; None if they do not belong together.

    All three are arrays or their shapes.
    """
    for stacked in (0, 1):
        inputs = len(a.shape) - stacked - 1
        layers, rest = kernel.shape[:stacked], kernel.shape[stacked:]
        rank = a.shape[-1]
        shapes = (*layers, *rest[:inputs], rank), (*layers, rank, *rest[inputs:])
        if (a.shape, b.shape) == shapes:
            return _Form(stacked, inputs)
    return None
