"""Paths that a command is given: those that cannot be read or written are refused.

The commands check them before any work begins.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from insgenel_jax.artifact import check_replaceable
from insgenel_jax.artifact import read as read_manifest
from insgenel_jax.text.formats.lines import PACKED_ENDINGS
from insgenel_jax.text.formats.rejects import InputError


def check_all(
    inputs: Iterable[str | os.PathLike | None],
    artifacts: Iterable[str | os.PathLike | None],
    outputs: Iterable[str | os.PathLike | None],
    either: Iterable[str | os.PathLike] = (),
    packed: Iterable[str | os.PathLike] = (),
) -> None:
    """Refuse what cannot be read or written, before any work; None is left out.

    either: inputs that may be folders. packed: outputs that may be packed. An output is
    none of the rest, nor in them.
    Raises InputError, and ArtifactError for a folder that is no artifact.
    """
    inputs, artifacts, outputs = (
        [path for path in paths if path is not None]
        for paths in (inputs, artifacts, outputs)
    )
    either, packed = list(either), list(packed)
    for path in inputs:
        check_input(path)
    for path in either:
        check_input(path, folder=True)
    for path in artifacts:
        read_manifest(path)
    for path in outputs:
        check_output(path)
    for path in packed:
        check_output(path, packed=True)
    check_apart([*outputs, *packed], [*inputs, *either, *artifacts])


def check_input(path: str | os.PathLike, *, folder: bool = False) -> None:
    """Refuse a path that is no readable file, or, with `folder`, no readable folder.

    `-` is standard input, unless a folder may be given. Raises InputError.
    """
    if str(path) == "-" and not folder:
        return
    path = Path(path)
    expected = "a file or a folder" if folder else "a file"
    if not path.exists():
        raise InputError(f"{path}: expected {expected}, found nothing; check the path")
    if path.is_dir() and not folder:
        raise InputError(
            f"{path}: expected {expected}, found a folder; give a file in it"
        )
    if not os.access(path, os.R_OK):
        raise InputError(
            f"{path}: expected {expected} that you may read, found one that you may "
            "not; change its permissions"
        )


def check_output(path: str | os.PathLike, *, packed: bool = False) -> None:
    """Refuse a path that no file can be written to; `-` is standard output.

    packed: what writes the file packs it, where its name says so. Raises InputError.
    """
    if str(path) == "-":
        return
    if Path(path).is_dir():
        raise InputError(
            f"{path}: expected a file to write, found a folder; add a file name"
        )
    if str(path).endswith(PACKED_ENDINGS) and not packed:
        raise InputError(
            f"{path}: expected a plain file to write, found the name of a packed one; "
            "choose another name and pack it afterwards"
        )
    check_parent(path)


def check_target(path: str | os.PathLike, kind: str) -> None:
    """Refuse a path that no artifact of this kind can be written to.

    Raises ArtifactError where something of another kind stands there, InputError where
    its folder cannot be written to.
    """
    check_replaceable(path, kind)
    check_parent(path)


def check_parent(path: str | os.PathLike) -> None:
    """Refuse a path whose folder cannot be written to, or cannot be made.

    Raises InputError.
    """
    parent = Path(path).absolute().parent
    while not os.path.lexists(parent):
        parent = parent.parent
    if not parent.is_dir():
        raise InputError(
            f"{path}: expected a folder at {parent}, found something else; choose "
            "another path"
        )
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(
            f"{path}: expected a folder {parent} that you may write to, found one that "
            "you may not; change its permissions or choose another path"
        )


def check_apart(
    outputs: Iterable[str | os.PathLike], inputs: Iterable[str | os.PathLike]
) -> None:
    """Refuse an output that equals, contains or lies in an input or another output.

    Raises InputError.
    """
    # Path.resolve would raise for a link that leads to itself
    written = [(p, Path(os.path.realpath(p))) for p in outputs if str(p) != "-"]
    read = [(p, Path(os.path.realpath(p))) for p in inputs if str(p) != "-"]
    for number, (path, whole) in enumerate(written):
        for other_path, other in written[:number] + read:
            if whole == other or whole in other.parents or other in whole.parents:
                how = "the same path" if whole == other else "one inside the other"
                raise InputError(
                    f"{path}: expected an output apart from {other_path}, found {how}; "
                    "choose another path"
                )
