"""Where arrays live: the mesh, logical axes -> shardings, host batches -> global ones."""

from __future__ import annotations

import math

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

MESH_AXES = ("data", "fsdp", "tensor")
BATCH = ("data", "fsdp")  # what the first axis of a batch is split over

# Logical axis -> mesh axis, or several; None keeps it whole on every device.
RULES = {
    "batch": BATCH,
    "vocabulary": "tensor",
    "model": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "ffn": "tensor",
    "layers": None,
}


def make_mesh(data: int = 1, fsdp: int = 1, tensor: int = 1, *, devices=None) -> Mesh:
    """A mesh data × fsdp × tensor over the first devices (all of them, or those given).

    Raises ValueError when there are too few devices.
    """
    devices = jax.devices() if devices is None else devices
    need = data * fsdp * tensor
    if min(data, fsdp, tensor) < 1 or need > len(devices):
        raise ValueError(
            f"mesh {data} x {fsdp} x {tensor}: needs {need} devices, "
            f"found {len(devices)}"
        )
    return jax.make_mesh(
        (data, fsdp, tensor),
        MESH_AXES,
        axis_types=(AxisType.Auto,) * 3,
        devices=devices[:need],
    )


def shardings(shapes, axes: dict[str, tuple], mesh: Mesh, rules=RULES):
    """A NamedSharding for each leaf of `shapes`, a tree of arrays or their shapes.

    axes: path -> one logical axis (or None) per dimension; rules: logical axis -> mesh
    axis or axes. Raises ValueError that names every leaf without a row, with
    a row that does not fit it, with two dimensions on one mesh axis, or with a
    dimension that its mesh axis does not divide.
    """
    problems: list[str] = []

    def place(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name not in axes:
            problems.append(f"{name} has no row in the table of logical axes")
            return None
        row = axes[name]
        if len(row) != len(leaf.shape):
            problems.append(f"{name} has shape {leaf.shape}, but its row is {row}")
            return None
        unknown = [a for a in row if a is not None and a not in rules]
        if unknown:
            problems.append(f"{name}: no rule for logical axes {unknown}")
            return None
        spec = [None if a is None else rules[a] for a in row]
        used = [axis for entry in spec for axis in mesh_axes(entry)]
        if len(set(used)) < len(used):
            problems.append(f"{name}: {row} puts two dimensions on one axis of {spec}")
            return None
        for size, logical, entry in zip(leaf.shape, row, spec):
            parts = math.prod(mesh.shape[axis] for axis in mesh_axes(entry))
            if size % parts:
                fit = [n for n in range(1, mesh.size + 1) if size % n == 0]
                problems.append(
                    f"{name}: mesh axis {' x '.join(mesh_axes(entry))} = {parts} does "
                    f"not divide {logical} = {size} (of up to {mesh.size}, "
                    f"{', '.join(map(str, fit))} would)"
                )
        return NamedSharding(mesh, P(*spec))

    tree = jax.tree_util.tree_map_with_path(place, shapes)
    if problems:
        raise ValueError(f"cannot shard: {'; '.join(problems)}")
    return tree


def mesh_axes(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The mesh axes that one entry of a PartitionSpec names."""
    return (entry,) if isinstance(entry, str) else entry or ()


def bytes_per_device(shapes, places) -> int:
    """What the leaves of `shapes` take on each device, placed as `places` says."""
    sizes = jax.tree.map(
        lambda leaf, place: (
            math.prod(place.shard_shape(leaf.shape)) * np.dtype(leaf.dtype).itemsize
        ),
        shapes,
        places,
    )
    return sum(jax.tree.leaves(sizes))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis over `data` and `fsdp`, the others whole."""
    return NamedSharding(mesh, P(BATCH))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, P())


def host_batch_to_global(batch, mesh: Mesh):
    """This process's share of a batch (a tree of numpy arrays) -> global arrays.

    Raises ValueError when the batch cannot be split over the mesh.
    """
    place = batch_sharding(mesh)
    parts = mesh.shape["data"] * mesh.shape["fsdp"]

    def globalise(path, leaf):
        leaf = np.asarray(leaf)
        rows = leaf.shape[0] * jax.process_count()
        if rows % parts:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(
                f"batch {name!r}: {rows} rows cannot be split over data x fsdp = {parts}"
            )
        return jax.make_array_from_process_local_data(place, leaf)

    return jax.tree_util.tree_map_with_path(globalise, batch)


def pin(x: jax.Array, *spec) -> jax.Array:
    """Hold x to `spec` (mesh axes by dimension) on the mesh of `jax.set_mesh`, if any.

    Left to itself XLA may drop a sharding. A dimension that does not divide (the single
    row of an initialisation) is left to it.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    for size, axes in zip(x.shape, spec):
        if size % math.prod(mesh.shape[axis] for axis in mesh_axes(axes)):
            return x
    return jax.lax.with_sharding_constraint(x, P(*spec))


def pin_batch(x: jax.Array) -> jax.Array:
    """Keep the first axis split as batches are."""
    return pin(x, BATCH)
