"""Paths on disk or in a bucket in; files that appear there whole, or not at all.

On disk a file is written aside, fsynced and renamed. In a bucket an object appears when
it is complete, so a file is made on local disk first and then uploaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import fsspec
from etils import epath

from insgenel_jax import aside
from insgenel_jax.text.formats.lines import OPENERS
from insgenel_jax.text.formats.rejects import InputError


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path is one of a bucket, such as gs://bucket/folder."""
    return "://" in os.fspath(path)


def open_path(path: str | os.PathLike) -> epath.Path:
    """A path on disk or in a bucket. Raises InputError where its library is missing."""
    if is_remote(path):
        scheme = os.fspath(path).split("://")[0]
        # what other processes write must show: nothing is kept of earlier listings
        name = "gcs" if scheme == "gs" else scheme
        fsspec.config.conf.setdefault(name, {})["use_listings_cache"] = False
        try:
            fsspec.get_filesystem_class(scheme)
        except (ImportError, ValueError) as error:
            raise InputError(
                f"{path}: expected gs:// or s3:// with its library, found neither "
                f'({error}); pip install "insgenel_jax[buckets]"'
            ) from error
    return epath.Path(path)


@contextlib.contextmanager
def open_unpacked(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """The bytes of a file on disk or in a bucket, unpacked."""
    with open_path(path).open("rb") as file:
        unpack = OPENERS.get(PurePosixPath(path).suffix)
        yield file if unpack is None else unpack(file)


def file_size(path: str | os.PathLike) -> int | None:
    """The bytes of a file; None where there is none."""
    opened = open_path(path)
    try:
        return None if opened.is_dir() else opened.stat().length
    except FileNotFoundError:
        return None


def write_whole(
    path: str | os.PathLike, write: Callable[[BinaryIO], object]
) -> dict[str, Any]:
    """Let `write` fill a file that then appears at `path`; its {"bytes", "sha256"}.

    Raises OSError that names the file where it cannot be written, as on a full disk.
    """
    try:
        if is_remote(path):
            return _upload(open_path(path), write)
        return _write(Path(path), write)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _write(path: Path, write: Callable[[BinaryIO], object]) -> dict[str, Any]:
    with aside.file(path) as temporary:
        with temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        facts = {"bytes": temporary.stat().st_size, "sha256": _hash(temporary)}
        os.replace(temporary, path)
    sync_folder(path.parent)
    return facts


def _upload(path: epath.Path, write: Callable[[BinaryIO], object]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / path.name
        with made.open("wb") as stream:
            write(stream)
        with made.open("rb") as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 22)
        return {"bytes": made.stat().st_size, "sha256": _hash(made)}


def sync_folder(folder: Path) -> None:
    """Let the names in a folder outlast a crash of the machine."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_at(path: str | os.PathLike) -> str:
    """The sha256 of a file on disk or in a bucket."""
    digest = hashlib.sha256()
    with open_path(path).open("rb") as stream:
        while content := stream.read(1 << 22):
            digest.update(content)
    return digest.hexdigest()


def write_json(path: str | os.PathLike, record: Any) -> None:
    """Write a JSON file that appears whole."""
    text = json.dumps(record, indent=1) + "\n"
    write_whole(path, lambda stream: stream.write(text.encode()))


def read_json(path: str | os.PathLike) -> Any:
    """The content of a JSON file; None where there is none. Raises ValueError."""
    try:
        content = open_path(path).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
