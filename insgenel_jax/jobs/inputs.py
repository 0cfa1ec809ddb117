"""Files, globs, folders and buckets in; the files that a job reads out, in order."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import fsspec

from insgenel_jax.jobs import store
from insgenel_jax.text.formats.documents import FORMATS, find_format
from insgenel_jax.text.formats.lines import OTHER_PACKED, unpacked_name
from insgenel_jax.text.formats.rejects import InputError

READ = ("jsonl", "text", "parquet")  # the formats that can be cut into shards
WILD = "*?["


def is_several(path: str) -> bool:
    """Whether an input may be several files: a folder, a glob, or in a bucket."""
    if store.is_remote(path) or Path(path).is_dir():
        return True
    return _is_wild(path) and not os.path.lexists(path)


def find_files(inputs: Sequence[str], format: str | None) -> list[str]:
    """The files of inputs, each once, with absolute paths.

    Those of a folder (at any depth) or a glob come in the order of their names. In a
    folder hidden ones are left out, such as begin with "_", and those of other endings
    unless `format` is given. Raises InputError for an input without a file, and for a
    file of a format that cannot be cut into shards.
    """
    files: dict[str, None] = {}
    for path in inputs:
        find = _find_remote if store.is_remote(path) else _find_local
        found, in_folder = find(path)
        if in_folder and format is None:
            found = [f for f in found if _plain_name(f).endswith(_endings())]
        if not found:
            raise InputError(
                f"{path}: expected files of documents ({', '.join(_endings())}, also "
                ".gz or .bz2), found none; check the path, or say --format"
            )
        files |= dict.fromkeys(found)
    for file in files:
        if file.endswith(OTHER_PACKED):
            raise InputError(
                f"{file}: expected a plain file, .gz or .bz2, found "
                f"{PurePosixPath(file).suffix}; unpack it, or pack it anew"
            )
        name = format or find_format(file)
        if name not in READ:
            raise InputError(
                f"{file}: expected {', '.join(READ)} in a batch job, found {name}; "
                "insgenel convert makes JSONL of it"
            )
    return list(files)


def _endings() -> tuple[str, ...]:
    return tuple(ending for name in READ for ending in FORMATS[name].endings)


def _plain_name(file: str) -> str:
    """The name of a file without the endings of any packing."""
    name = unpacked_name(file)
    return name.removesuffix(next((e for e in OTHER_PACKED if name.endswith(e)), ""))


def _is_wild(path: str) -> bool:
    return any(character in path for character in WILD)


def _find_local(path: str) -> tuple[list[str], bool]:
    """The files of a path or a glob, and whether the path is a folder."""
    if in_folder := Path(path).is_dir():
        found = [p for p in Path(path).rglob("*") if _is_shown(p.relative_to(path))]
    elif _is_wild(path) and not os.path.lexists(path):
        found = [Path(p) for p in glob.glob(path, recursive=True)]
    else:
        found = [Path(path)]
    return sorted(os.path.abspath(p) for p in found if p.is_file()), in_folder


def _find_remote(path: str) -> tuple[list[str], bool]:
    opened = store.open_path(path)
    if _is_wild(path):
        scheme, rest = path.split("://")
        base = store.open_path(f"{scheme}://{rest.split('/')[0]}")
        found = base.glob("/".join(rest.split("/")[1:]))
        return sorted(str(p) for p in found if not p.is_dir()), False
    if not opened.is_dir():
        return [str(opened)] if opened.exists() else [], False
    # not opened.walk(), which gives names without gs:// (etils 1.15)
    system, root = fsspec.core.url_to_fs(path)
    scheme, start = path.split("://")[0], len(root.rstrip("/")) + 1
    found = [f for f in system.find(root) if _is_shown(PurePosixPath(f[start:]))]
    return sorted(f"{scheme}://{file}" for file in found), True


def _is_shown(path: PurePosixPath | Path) -> bool:
    return not any(part.startswith((".", "_")) for part in path.parts)
