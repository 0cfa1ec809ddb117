"""A file in; its numbered lines out, unpacked (`.bz2`, `.gz`) and decoded from UTF-8.

And lines in; a file out, packed where its name says so. The path `-` is standard input,
which may be packed with gzip, or standard output.
"""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import gzip
import io
import itertools
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from insgenel_jax import aside
from insgenel_jax.text.formats.rejects import InputError, Rejects

OPENERS: dict[str, Callable[[Any], BinaryIO]] = {
    ".bz2": bz2.BZ2File,
    ".gz": lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
}
# without a name and a time in it: the same lines are the same bytes
PACKERS: dict[str, Callable[[Any], Any]] = {
    ".bz2": lambda file: bz2.BZ2File(file, "wb"),
    ".gz": lambda file: gzip.GzipFile("", "wb", fileobj=file, mtime=0),
}
PACKED_ENDINGS = tuple(OPENERS)
OTHER_PACKED = (".zst", ".xz", ".lz4", ".br", ".zip", ".7z")  # which we do not unpack
DAMAGE = (EOFError, OSError, zlib.error)  # what a damaged file raises, see `is_damage`
_GZIP = b"\x1f\x8b"  # how a file of gzip begins, and no text in UTF-8


@dataclasses.dataclass
class Place:
    """How many bytes of a file have been read, packed ones where it is packed."""

    bytes: int = 0


def read_lines(
    path: str | os.PathLike, place: Place | None = None, *, breaks: bool = False
) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line without its line break) of a file.

    place: kept up to date, unless the file is a pipe. breaks: keep the line breaks.
    Raises FileNotFoundError for a missing file. Where a packed file is cut short or
    damaged, the lines before that place come first, then EOFError, OSError or
    zlib.error is raised.
    """
    if str(path) == "-":
        if sys.stdin is None:  # a process may be started without
            raise InputError("-: expected standard input, found it closed")
        yield from _number(_unpack(sys.stdin.buffer), breaks)
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
        unpack = OPENERS.get(path.suffix)
        for line in _number(file if unpack is None else unpack(file), breaks):
            if place is not None:
                place.bytes = file.tell()
            yield line


def decode_lines(
    path: str | os.PathLike,
    rejects: Rejects,
    place: Place | None = None,
    *,
    breaks: bool = False,
) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line) of a UTF-8 file; see `read_lines`.

    A line that is not UTF-8 goes to `rejects`, and so does the end of a packed file
    that is cut short or damaged. Raises FileNotFoundError for a missing file.
    """
    number = 0
    try:
        for number, line in read_lines(path, place, breaks=breaks):
            decoded = decode_line(path, number, line, rejects)
            if decoded is not None:
                yield number, decoded
    except FileNotFoundError:
        raise
    except (EOFError, OSError, zlib.error) as error:
        rejects.add(str(path), number + 1, f"file cut short or damaged: {error}", "")


def decode_line(
    path: str | os.PathLike, number: int, line: bytes, rejects: Rejects
) -> str | None:
    """Line `number` of a file, decoded; None where it is not UTF-8 and was rejected."""
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        reason = f"not UTF-8: byte {error.start} of the line"
        # escapes stand for the bytes, so that none of them is lost
        content = line.decode("utf-8", "surrogateescape")
        rejects.add(str(path), number, reason, content)
        return None


def is_damage(error: Exception) -> bool:
    """Whether one of DAMAGE is the file's, and for good.

    What a disk or a network could not read is there, and may be read another time.
    """
    is_passing = isinstance(error, ConnectionError | TimeoutError)
    return not is_passing and getattr(error, "errno", None) is None


def read_whole(
    path: str | os.PathLike, rejects: Rejects, place: Place | None = None
) -> str | None:
    """The text of a UTF-8 file, with its line breaks as they are.

    A file that is not UTF-8, or a packed one that is cut short or damaged, goes to
    `rejects`, and is None. Raises FileNotFoundError for a missing file.
    """
    before = rejects.count
    lines = list(decode_lines(path, rejects, place, breaks=True))
    return "".join(line for _, line in lines) if rejects.count == before else None


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


def _number(stream: Iterable[bytes], breaks: bool) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(stream, 1):
        yield number, line if breaks else line.rstrip(b"\r\n")


def write_lines(path: str | os.PathLike, lines: Iterable[str]) -> int:
    """Write lines and return how many; the file appears when it is complete.

    Raises OSError that names the file where it cannot be written, as on a full disk.
    """
    ending = Path(path).suffix
    return write_whole(path, lambda stream: pack_lines(stream, lines, ending))


def write_whole(path: str | os.PathLike, write: Callable[[Any], int]) -> int:
    """Let `write` fill a file, which appears when it is complete; what it returned.

    Raises OSError that names the file where it cannot be written, as on a full disk.
    """
    try:
        return _write_to(path, write)
    except BrokenPipeError:
        raise
    except OSError as error:  # that of a write does not say what was written
        if error.errno is None or error.filename is not None:
            raise
        name = "standard output" if str(path) == "-" else os.fspath(path)
        raise OSError(error.errno, error.strerror, name) from error


def _write_to(path: str | os.PathLike, write: Callable[[Any], int]) -> int:
    if str(path) == "-":
        if sys.stdout is None:
            raise InputError("-: expected standard output, found it closed")
        sys.stdout.flush()
        count = write(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return count
    path = Path(path)
    if path.exists() and not path.is_file():
        # A pipe or /dev/null is written to; a rename would replace it.
        with path.open("wb") as stream:
            return write(stream)
    path = Path(os.path.realpath(path))  # a link stays, and leads to the new file
    path.parent.mkdir(parents=True, exist_ok=True)
    with aside.file(path) as temporary:
        with temporary.open("wb") as stream:
            count = write(stream)
        os.replace(temporary, path)
    return count


def pack_lines(stream: BinaryIO | io.BytesIO, lines: Iterable[str], ending: str) -> int:
    """Write lines to a stream and return how many.

    ending: of the file's name; that of a packed file packs them.
    """
    pack = PACKERS.get(ending)
    count = 0
    with contextlib.nullcontext(stream) if pack is None else pack(stream) as packed:
        for line in lines:
            packed.write(line.encode() + b"\n")
            count += 1
    return count
