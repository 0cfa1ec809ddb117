"""A dump's files in; pieces of about equal size, which processes read apart, out.

A piece is a range of bytes of a plain file or of whole bzip2 streams of a multistream
file, and a page belongs to the piece in which it begins. A file of one bzip2 or gzip
stream can only be unpacked from its beginning, so its pieces carry their XML.
"""

from __future__ import annotations

import bz2
import gzip
import mmap
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from insgenel_jax.kb.build.dump.export import LONGEST_PAGE, OPEN
from insgenel_jax.text.formats.lines import Place, decode_lines
from insgenel_jax.text.formats.rejects import Rejects

ENDINGS = (".xml", ".xml.bz2", ".xml.gz")
PIECE = 8_000_000  # bytes of XML, roughly
PACKED_PIECE = 2_000_000  # bytes of bzip2 streams
_BLOCK = 1 << 20
_INDEX_ENDINGS = ("-index.txt.bz2", "-index.txt")
# How a bzip2 stream begins. Blocks within a stream are not cut at bytes.
_STREAM = re.compile(rb"BZh[1-9]\x31\x41\x59\x26\x53\x59")


class Piece(NamedTuple):
    """Part of a file: bytes [begin, end), or the XML itself where it is given.

    Where it is, begin and end are about the bytes that were unpacked to it.
    """

    file: Path
    number: int  # within the file
    begin: int
    end: int
    data: bytes | None = None


def is_dump(path: Path) -> bool:
    """Whether a file is named as a dump in XML is."""
    return path.name.endswith(ENDINGS)


def dump_files(path: Path) -> list[Path]:
    """The files of a dump in XML at a path, sorted; none where it is something else."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [file for file in files if is_dump(file) and not file.name.startswith(".")]


def cut_file(file: Path, rejects: Rejects) -> Iterator[Piece]:
    """The pieces of a file. What cannot be unpacked goes to `rejects`."""
    if file.suffix == ".xml":
        yield from _cut_plain(file)
        return
    streams = find_streams(file, rejects) if file.suffix == ".bz2" else []
    if len(streams) > 1:
        yield from _cut_streams(file, streams)
    else:
        yield from _unpack(file, rejects)


def read_header(file: Path) -> bytes:
    """What stands before the first page of a file, as far as it can be read."""
    read, rejects = bytearray(), Rejects()  # reading the pages reports what is wrong
    if file.suffix == ".xml":
        blocks = _read(file, 0, file.stat().st_size)
    else:
        blocks = _unpacked(file, rejects, Place())
    for block in blocks:
        read += block
        if OPEN in read or len(read) > LONGEST_PAGE:
            break
    return bytes(read).partition(OPEN)[0]


def read_piece(piece: Piece, rejects: Rejects) -> tuple[Iterator[bytes], Iterator]:
    """The blocks of XML of a piece, and those that follow it in the file."""
    if piece.data is not None:
        return iter((piece.data,)), iter(())
    size = piece.file.stat().st_size
    if piece.file.suffix == ".bz2":
        unpacked = _read_streams(piece.file, piece.begin, piece.end, rejects)
        return unpacked, _read_streams(piece.file, piece.end, size, Rejects())
    return _read(piece.file, piece.begin, piece.end), _read(piece.file, piece.end, size)


def find_streams(file: Path, rejects: Rejects) -> list[int]:
    """Where each bzip2 stream of a file begins.

    The index beside a multistream dump tells, where it is there and right; without it
    the whole file is searched.
    """
    with file.open("rb") as stream:
        if stream.seek(0, 2) == 0:
            return []
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for index in _indices(file):
                offsets = _read_index(index, rejects)
                if offsets and all(_STREAM.match(content, at) for at in offsets):
                    return offsets
                reason = "index of another dump: searched the dump itself instead"
                rejects.add(str(index), None, reason, str(file))
            return [match.start() for match in _STREAM.finditer(content)]


def _indices(file: Path) -> list[Path]:
    stem = file.name.removesuffix(".xml.bz2")
    paths = [file.with_name(stem + ending) for ending in _INDEX_ENDINGS]
    return [path for path in paths if path.is_file()]


def _read_index(index: Path, rejects: Rejects) -> list[int]:
    """The offsets in lines `offset:page id:title`, each once, with 0 for the header."""
    offsets = {0}
    for number, line in decode_lines(index, rejects):
        offset = line.partition(":")[0]
        if offset.isdecimal() and len(offset) < 16:
            offsets.add(int(offset))
        elif line.strip():
            reason = "not a line of an index: expected offset:id:title"
            rejects.add(str(index), number, reason, line)
    return sorted(offsets) if len(offsets) > 1 else []


def _cut_plain(file: Path) -> Iterator[Piece]:
    size = file.stat().st_size
    for number, begin in enumerate(range(0, size, PIECE)):
        yield Piece(file, number, begin, min(begin + PIECE, size))


def _cut_streams(file: Path, streams: Sequence[int]) -> Iterator[Piece]:
    """Neighbouring streams together, until they are a piece."""
    size, begin, number = file.stat().st_size, 0, 0
    for following in [*streams[1:], size]:
        if following - begin >= PACKED_PIECE or following == size:
            yield Piece(file, number, begin, following)
            begin, number = following, number + 1


def _unpack(file: Path, rejects: Rejects) -> Iterator[Piece]:
    """Pieces with their XML, cut before a page."""
    held, number, begin, place = bytearray(), 0, 0, Place()
    for block in _unpacked(file, rejects, place):
        searched = max(0, len(held) - len(OPEN))
        held += block
        # A page that is too long is given up in whole, so that `held` stays small.
        cut = held.rfind(OPEN, max(1, searched)) if len(held) >= PIECE else -1
        if cut < 0 and len(held) > LONGEST_PAGE + PIECE:
            cut = len(held)
        if cut > 0:
            yield Piece(file, number, begin, place.bytes, bytes(held[:cut]))
            del held[:cut]
            number, begin = number + 1, place.bytes
    if held:
        yield Piece(file, number, begin, place.bytes, bytes(held))


def _unpacked(file: Path, rejects: Rejects, place: Place) -> Iterator[bytes]:
    if file.suffix == ".bz2":
        yield from _read_streams(file, 0, file.stat().st_size, rejects, place)
        return
    try:
        with file.open("rb") as packed, gzip.GzipFile(fileobj=packed) as stream:
            while block := stream.read1(_BLOCK):
                place.bytes = packed.tell()
                yield block
    except (EOFError, OSError, zlib.error) as error:
        rejects.add(str(file), None, f"file cut short or damaged: {error}", "")


def _read(file: Path, begin: int, end: int) -> Iterator[bytes]:
    with file.open("rb") as stream:
        stream.seek(begin)
        while begin < end and (block := stream.read(min(_BLOCK, end - begin))):
            begin += len(block)
            yield block


def _read_streams(
    file: Path, begin: int, end: int, rejects: Rejects, place: Place | None = None
) -> Iterator[bytes]:
    """Unpack the bzip2 streams in bytes [begin, end); a damaged one is passed over."""
    place = place or Place()
    unpacker, is_fed = bz2.BZ2Decompressor(), False
    passed: bytes | None = None  # the end of what was passed over, after damage
    for block in _read(file, begin, end):
        place.bytes += len(block)
        if passed is not None:
            block = passed + block
            following = _STREAM.search(block)
            passed = None if following else block[-9:]
            block = block[following.start() :] if following else b""
        while block or not (unpacker.needs_input or unpacker.eof):
            if unpacker.eof:
                unpacker = bz2.BZ2Decompressor()
            try:
                unpacked = unpacker.decompress(block, _BLOCK)
            except OSError as error:
                reason = f"bzip2 stream damaged, pages lost: {error}"
                rejects.add(str(file), None, reason, f"in bytes {begin} to {end}")
                following = _STREAM.search(block, 1)
                passed = None if following else block[-9:]
                block = block[following.start() :] if following else b""
                unpacker, is_fed = bz2.BZ2Decompressor(), False
                continue
            is_fed = True
            block = unpacker.unused_data if unpacker.eof else b""
            if unpacked:
                yield unpacked
    if is_fed and not unpacker.eof:
        reason = "file cut short: a bzip2 stream has no end"
        rejects.add(str(file), None, reason, f"in bytes {begin} to {end}")
