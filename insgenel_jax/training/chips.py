"""What is known of accelerators: the peak that MFU is measured against, and memory."""

from __future__ import annotations

from typing import NamedTuple

import jax


class Chip(NamedTuple):
    """One accelerator as JAX counts devices.

    kind: how its `device_kind` begins. peak: dense FLOPs a second in `dtype`. memory:
    bytes, of which XLA and the driver keep a part.
    """

    kind: str
    peak: float
    memory: float
    dtype: str = "bfloat16"


# From the makers' data sheets; GB of a TPU are 2^30 bytes. The first that fits counts.
CHIPS = (
    Chip("TPU v4", 275e12, 32 * 2**30),
    Chip("TPU v5 lite", 197e12, 16 * 2**30),
    Chip("TPU v5", 459e12, 95 * 2**30),
    Chip("TPU v6 lite", 918e12, 32 * 2**30),
    Chip("NVIDIA H200", 989e12, 141e9),
    Chip("NVIDIA H100 PCIe", 756e12, 80e9),
    Chip("NVIDIA H100", 989e12, 80e9),
    Chip("NVIDIA A100-SXM4-80GB", 312e12, 80e9),
    Chip("NVIDIA A100 80GB", 312e12, 80e9),
    Chip("NVIDIA A100", 312e12, 40e9),
    Chip("Tesla V100", 125e12, 16e9, "float16"),
)


def find_chip(device: jax.Device) -> Chip | None:
    """What is known of a device, or None."""
    kind = device.device_kind
    return next((chip for chip in CHIPS if kind.startswith(chip.kind)), None)


def describe_peak(chip: Chip) -> str:
    """The peak in words, to stand beside an MFU."""
    return f"{chip.peak / 1e12:,.0f} TFLOP/s a device, dense {chip.dtype} ({chip.kind})"
