"""The name or path of a linker in, its directory out: "nano" comes with the package."""

from __future__ import annotations

import os
from pathlib import Path

from insgenel_jax.artifact import MANIFEST, ArtifactError

NANO = "nano"
BUNDLED = Path(__file__).resolve().parents[1] / "assets" / NANO


def locate(linker: str | os.PathLike[str]) -> Path:
    """The directory of a linker: `linker` itself, or the bundled one for "nano".

    A folder of that name in the working directory goes before the bundled one. Raises
    ArtifactError where neither is there.
    """
    path = Path(linker)
    if path != Path(NANO) or path.is_dir():
        return path
    if not (BUNDLED / MANIFEST).is_file():
        raise ArtifactError(
            f'{NANO}: expected the linker that comes with the package in "{BUNDLED}", '
            "found none in this installation; install insgenel_jax again from its "
            "wheel or a complete checkout, or give the directory of another linker"
        )
    return BUNDLED


def is_bundled(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of the bundled linker, which nothing may change."""
    return Path(path).resolve() == BUNDLED
