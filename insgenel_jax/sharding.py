"""Where arrays live: the device mesh, shardings by logical axes, global batches."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

# An array on the devices or in the host's memory; jax's functions take both.
AnyArray = jax.Array | np.ndarray

MESH_AXES = ("data", "fsdp", "tensor")
BATCH = ("data", "fsdp")  # the mesh axes that the first axis of a batch is split over

# Logical axis -> the mesh axis or axes that split it. None: it is not split.
RULES: dict[str, str | tuple[str, ...] | None] = {
    "batch": BATCH,
    "vocabulary": "tensor",
    "model": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "ffn": "tensor",
    "layers": None,
}
# Parameter path -> one logical axis (or None) for each dimension of the parameter.
Axes = dict[str, tuple[str | None, ...]]


def make_mesh(
    data: int = 1,
    fsdp: int = 1,
    tensor: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """A mesh of data × fsdp × tensor devices, the first ones of `jax.devices()`.

    devices: take these instead, which need not be there (jax.experimental.topologies).
    Devices of several processes are ordered by process: each has rows of a batch of its
    own, side by side.

    Raises ValueError when there are too few devices, and where a process would have
    none, or would share its rows of a batch with another process.
    """
    devices = list(jax.devices() if devices is None else devices)
    need = data * fsdp * tensor
    if min(data, fsdp, tensor) < 1 or need > len(devices):
        raise ValueError(
            f"mesh {data} x {fsdp} x {tensor}: needs {need} devices, "
            f"found {len(devices)}"
        )
    shape, types = (data, fsdp, tensor), (AxisType.Auto,) * 3
    processes = len({device.process_index for device in devices})
    if processes == 1:
        return jax.make_mesh(shape, MESH_AXES, axis_types=types, devices=devices[:need])
    if need < len(devices) or len(devices) // processes % tensor:
        raise ValueError(
            f"mesh {data} x {fsdp} x {tensor}: expected all {len(devices)} devices of "
            f"{processes} processes, and a tensor axis that divides the "
            f"{len(devices) // processes} of each"
        )
    devices.sort(key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices).reshape(shape), MESH_AXES, axis_types=types)


def shardings(shapes: Any, axes: Axes, mesh: Mesh) -> Any:
    """A NamedSharding for each leaf of `shapes`, a tree of arrays or of their shapes.

    axes: the leaf's path, joined by "/", -> its logical axes; RULES maps those to mesh
    axes. Raises ValueError that names every leaf without a row in `axes`, every row of
    another rank than its leaf, every row that puts two dimensions on one mesh axis, and
    every dimension that its mesh axes do not divide.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(shapes)
    places, problems = [], []
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        row = axes.get(name)
        if wrong := _check_row(name, row, leaf.shape, mesh):
            problems += wrong
        else:
            places.append(NamedSharding(mesh, P(*_mesh_axes_of_row(row))))
    if problems:
        raise ValueError(f"cannot shard: {'; '.join(problems)}")
    return tree.unflatten(places)


def _check_row(
    name: str,
    row: tuple[str | None, ...] | None,
    shape: tuple[int, ...],
    mesh: Mesh,
) -> list[str]:
    """Why the leaf `name` cannot be placed by its row of logical axes."""
    if row is None:
        return [f"{name} has no row in the table of logical axes"]
    if len(row) != len(shape):
        return [f"{name} has shape {shape}, but its row is {row}"]
    if unknown := [axis for axis in row if axis is not None and axis not in RULES]:
        return [f"{name}: no rule for logical axes {unknown}"]
    spec = _mesh_axes_of_row(row)
    used = [axis for entry in spec for axis in _as_tuple(entry)]
    if len(set(used)) < len(used):
        return [f"{name}: {row} puts two dimensions on one axis of {spec}"]
    problems = []
    for size, logical, entry in zip(shape, row, spec, strict=True):
        parts = _parts(mesh, entry)
        if size % parts:
            fit = [n for n in range(1, mesh.size + 1) if size % n == 0]
            problems.append(
                f"{name}: mesh axis {' x '.join(_as_tuple(entry))} = {parts} does "
                f"not divide {logical} = {size} (of up to {mesh.size}, "
                f"{', '.join(map(str, fit))} would)"
            )
    return problems


def _mesh_axes_of_row(row: tuple[str | None, ...]) -> list:
    """One entry of a PartitionSpec for each logical axis."""
    return [None if axis is None else RULES[axis] for axis in row]


def _as_tuple(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The mesh axes that one entry of a PartitionSpec names."""
    return (entry,) if isinstance(entry, str) else entry or ()


def _parts(mesh: Mesh | jax.sharding.AbstractMesh, entry) -> int:
    """Into how many parts an entry of a PartitionSpec splits a dimension."""
    return math.prod(mesh.shape[axis] for axis in _as_tuple(entry))


def bytes_per_device(shapes: Any, places: Any) -> int:
    """The bytes that the leaves of `shapes` take on each device.

    places: the shardings, in a tree of the same structure as `shapes`.
    """
    sizes = jax.tree.map(
        lambda leaf, place: (
            math.prod(place.shard_shape(leaf.shape)) * np.dtype(leaf.dtype).itemsize
        ),
        shapes,
        places,
    )
    return sum(jax.tree.leaves(sizes))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis split over `data` and `fsdp`, the others whole."""
    return NamedSharding(mesh, P(BATCH))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, P())


def host_batch_to_global(batch: Any, mesh: Mesh) -> Any:
    """This process's share of a batch, a tree of numpy arrays, as global arrays.

    Raises ValueError when the rows of all processes cannot be split over the mesh.
    """
    return jax.tree_util.tree_map_with_path(
        functools.partial(_leaf_to_global, mesh), batch
    )


def _leaf_to_global(mesh: Mesh, path: tuple, leaf: np.ndarray) -> jax.Array:
    leaf = np.asarray(leaf)
    rows, parts = leaf.shape[0] * jax.process_count(), _parts(mesh, BATCH)
    if rows % parts:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        raise ValueError(
            f"batch {name!r}: {rows} rows cannot be split over data x fsdp = {parts}"
        )
    return jax.make_array_from_process_local_data(batch_sharding(mesh), leaf)


@contextlib.contextmanager
def locally() -> Iterator[Mesh | None]:
    """Where several processes share the mesh: compute on this one's devices alone.

    Gives a mesh of these, over which batches are split, or None in a single process.
    """
    if jax.process_count() == 1:
        yield None
        return
    mesh = jax.make_mesh(
        (jax.local_device_count(), 1, 1),
        MESH_AXES,
        axis_types=(AxisType.Auto,) * 3,
        devices=jax.local_devices(),
    )
    with jax.set_mesh(mesh):
        yield mesh


def gather(tree: Any) -> Any:
    """Arrays that several processes share -> whole arrays on each host, leaf by leaf.

    In a single process they stay where they are.
    """
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(
        lambda leaf: multihost_utils.process_allgather(leaf, tiled=True), tree
    )


def pin(x: jax.Array, *spec: str | tuple[str, ...] | None) -> jax.Array:
    """Constrain x to `spec`, the mesh axes of its first dimensions.

    The mesh is that of `jax.set_mesh`; without one x stays as it is. The constraint is
    needed because XLA may drop a sharding that nobody states. Where a dimension cannot
    be split (the single row that parameters are initialised with), XLA decides.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    # spec may be shorter than the shape
    if any(
        size % _parts(mesh, axes) for size, axes in zip(x.shape, spec, strict=False)
    ):
        return x
    return jax.lax.with_sharding_constraint(x, P(*spec))


def pin_batch(x: jax.Array) -> jax.Array:
    """Constrain the first axis of x to the split that batches have."""
    return pin(x, BATCH)
