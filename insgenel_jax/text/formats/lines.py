"""A file in; its numbered lines out, unpacked (`.bz2`, `.gz`) and decoded from UTF-8.

The path `-` is standard input, which may be packed with gzip.
"""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import io
import itertools
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from insgenel_jax.text.formats.rejects import Rejects

_OPENERS: dict[str, Callable] = {".bz2": bz2.open, ".gz": gzip.open}
PACKED_ENDINGS = tuple(_OPENERS)
_GZIP = b"\x1f\x8b"  # how a file of gzip begins, and no text in UTF-8


@dataclasses.dataclass
class Place:
    """How many bytes of a file have been read, packed ones where it is packed."""

    bytes: int = 0


def read_lines(
    path: str | os.PathLike, place: Place | None = None
) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line without its line break) of a file.

    place: kept up to date, unless the file is a pipe. Raises FileNotFoundError for a
    missing file. Where a packed file is cut short or damaged, the lines before that
    place come first, then EOFError, OSError or zlib.error is raised.
    """
    if str(path) == "-":
        yield from _number(_unpack(sys.stdin.buffer))
        return
    path = Path(path)
    if path.is_dir() or not path.exists():  # is_file() would refuse a named pipe
        raise FileNotFoundError(
            f"{path}: expected a file, found "
            f"{'a directory' if path.is_dir() else 'nothing'}; check the path, or give "
            "- for standard input"
        )
    with path.open("rb") as file:
        place = place if file.seekable() else None
        unpack = _OPENERS.get(path.suffix)
        for line in _number(file if unpack is None else unpack(file)):
            if place is not None:
                place.bytes = file.tell()
            yield line


def decode_lines(
    path: str | os.PathLike, rejects: Rejects, place: Place | None = None
) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line) of a UTF-8 file. place: as in `read_lines`.

    A line that is not UTF-8 goes to `rejects`, and so does the end of a packed file
    that is cut short or damaged. Raises FileNotFoundError for a missing file.
    """
    number = 0
    try:
        for number, line in read_lines(path, place):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                reason = f"not UTF-8: byte {error.start} of the line"
                # escapes stand for the bytes, so that none of them is lost
                content = line.decode("utf-8", "surrogateescape")
                rejects.add(str(path), number, reason, content)
    except FileNotFoundError:
        raise
    except (EOFError, OSError, zlib.error) as error:
        rejects.add(str(path), number + 1, f"file cut short or damaged: {error}", "")


def unpacked_name(path: str | os.PathLike) -> str:
    """The name of a file without its directory and without `.bz2` or `.gz`."""
    name = Path(path).name
    for ending in PACKED_ENDINGS:
        name = name.removesuffix(ending)
    return name


class _Rest:
    """What was read of a stream already, then the rest of it: a file for gzip."""

    def __init__(self, before: bytes, stream: io.BufferedIOBase):
        self._before, self._stream = before, stream

    def read(self, size: int = -1) -> bytes:
        if not self._before:
            return self._stream.read(size)
        cut = len(self._before) if size < 0 else size
        part, self._before = self._before[:cut], self._before[cut:]
        return part


def _unpack(stream: io.BufferedIOBase) -> Iterable[bytes]:
    """The lines of a stream that may be packed with gzip."""
    first = stream.readline()
    if first.startswith(_GZIP):
        return gzip.GzipFile(fileobj=_Rest(first, stream), mode="rb")
    return itertools.chain([first] if first else [], stream)


def _number(stream: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(stream, 1):
        yield number, line.rstrip(b"\r\n")
