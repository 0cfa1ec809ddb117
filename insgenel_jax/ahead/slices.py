"""The name of a slice in ("v5e:4x8"); the devices that it would have out."""

from __future__ import annotations

import importlib.util
import os

import jax
from jax.experimental import topologies


class SliceError(ValueError):
    """A slice that libtpu does not know, or no libtpu to ask."""


def slice_devices(topology: str) -> list[jax.Device]:
    """The devices of a slice, by the description that libtpu has of it.

    Raises SliceError where libtpu is missing, or knows no such slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise SliceError(
            "compiling for TPUs needs libtpu, which runs on any Linux machine: pip "
            "install insgenel_jax[tpu]"
        )
    # libtpu must not look for the machine that it is on, which is no TPU's
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_STDERR_LOG_LEVEL", "3")
    # only one process may hold a TPU, but any number may compile
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "true")
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    except (jax.errors.JaxRuntimeError, ValueError, RuntimeError) as error:
        told = " ".join(str(error).split())[:200]
        raise SliceError(
            f"--topology {topology}: expected a generation and the chips along each "
            f"side, as v5e:4x8, v5p:2x2x2 or v6e:16x16 ({told})"
        ) from error
    return list(found.devices)
