"""Files in; shards out: stretches of a file, cut at the same places every time.

A shard is a range of bytes (of rows, in Parquet) that begins and ends between two
documents. Cutting reads each file once, and counts the lines and documents before each
shard, so that rejects name true lines and texts get the ids they would have without
shards. The sha256 of its bytes (in Parquet, of its groups of rows) shows later whether
the file is still the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow.parquet as pq

from insgenel_jax.jobs import store
from insgenel_jax.text.formats.documents import find_format
from insgenel_jax.text.formats.lines import DAMAGE, decode_line, is_damage
from insgenel_jax.text.formats.parquet import ParquetError, open_parquet
from insgenel_jax.text.formats.rejects import Rejects

MOST_BYTES = 16 << 20  # of a shard of more than one document


@dataclasses.dataclass(frozen=True)
class Shard:
    """Part `number` of a job: the stretch [start, end) of file number `file`.

    start, end: bytes of the unpacked file, or rows. line, document: how many came
    before, in the file. documents: in the shard, as far as is known before reading
    them; bad ones count. damage: why the file ends behind it, where it is damaged.
    """

    number: int
    file: int
    start: int
    end: int
    line: int
    document: int
    documents: int
    sha256: str
    damage: str = ""


def cut_files(
    files: Sequence[str],
    format: str | None,
    most: int,
    limit: int | None,
) -> list[Shard]:
    """The shards of files, of at most `most` documents each.

    limit: documents in all. Raises OSError for a file that cannot be opened.
    """
    shards: list[Shard] = []
    left = limit
    for number, file in enumerate(files):
        name = format or find_format(file)
        cut = _cut_rows if name == "parquet" else _cut_lines
        for shard in cut(file, number, name, most, left):
            shards.append(dataclasses.replace(shard, number=len(shards)))
            if left is not None:
                left -= shard.documents
        if left == 0:
            break
    return shards


def _cut_rows(
    file: str, number: int, format: str, most: int, limit: int | None
) -> Iterator[Shard]:
    with store.open_path(file).open("rb") as stream:
        try:
            opened = open_parquet(stream)
        except ParquetError as error:
            yield Shard(0, number, 0, 0, 0, 0, 0, "", str(error))
            return
        rows = opened.metadata.num_rows
        rows = rows if limit is None else min(rows, limit)
        hashed: dict[int, bytes] = {}
        for start in range(0, rows, most):
            end = min(start + most, rows)
            found = hash_rows(opened, stream, start, end, hashed)
            yield Shard(0, number, start, end, start, start, end - start, found)


def hash_rows(
    opened: pq.ParquetFile,
    stream: BinaryIO,
    start: int,
    end: int,
    hashed: dict[int, bytes],
) -> str:
    """The sha256 of the groups of rows that hold the rows [start, end), as packed.

    hashed: that of the last group, which is kept here for the next call.
    """
    digest, first = hashlib.sha256(), 0
    for number in range(opened.metadata.num_row_groups):
        group = opened.metadata.row_group(number)
        after = first + group.num_rows
        if first < end and after > start:
            if number not in hashed:
                hashed.clear()
                hashed[number] = _hash_group(group, stream)
            digest.update(hashed[number])
        first = after
    return digest.hexdigest()


def _hash_group(group: pq.RowGroupMetaData, stream: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    for number in range(group.num_columns):
        column = group.column(number)
        start = column.dictionary_page_offset or column.data_page_offset
        stream.seek(min(start, column.data_page_offset))
        left = column.total_compressed_size
        while left > 0 and (content := stream.read(min(left, 1 << 20))):
            digest.update(content)
            left -= len(content)
    return digest.digest()


def _cut_lines(
    file: str, number: int, format: str, most: int, limit: int | None
) -> Iterator[Shard]:
    """The shards of a file of lines. Of a text, a paragraph is a document."""
    start = _Ahead(0, 0, 0)
    end = start
    digest = hashlib.sha256()
    inside = False  # of a paragraph
    damage = ""

    def shard() -> Shard:
        count = end.document - start.document
        place = (start.byte, end.byte, start.line, start.document, count)
        return Shard(0, number, *place, digest.hexdigest(), damage)

    for line in _lines_until_damage(file):
        if isinstance(line, Exception):
            damage = f"file cut short or damaged: {line}"
            break
        begins, after = _begins_document(line, end.line + 1, format, inside)
        if begins and end.document == limit:
            break
        full = end.document - start.document >= most
        full = full or end.byte - start.byte >= MOST_BYTES
        if begins and full:
            yield shard()
            start, digest = end, hashlib.sha256()
        digest.update(line)
        inside = after
        end = _Ahead(end.byte + len(line), end.line + 1, end.document + begins)
    if end.byte > start.byte or damage:
        yield shard()


@dataclasses.dataclass(frozen=True)
class _Ahead:
    """How much of a file lies before a place."""

    byte: int
    line: int
    document: int


def _lines_until_damage(file: str) -> Iterator[bytes | Exception]:
    """The lines of a file, with their breaks; last the error of a damaged file."""
    with store.open_unpacked(file) as stream:
        try:
            yield from stream
        except DAMAGE as error:
            if not is_damage(error):
                raise
            yield error


def _begins_document(
    line: bytes, number: int, format: str, inside: bool
) -> tuple[bool, bool]:
    """Whether a line begins a document, and whether one goes on after it."""
    if format != "text":
        return bool(line.strip()), False
    decoded = decode_line("", number, line.rstrip(b"\r\n"), Rejects(None))
    if decoded is None:  # it is rejected, and neither begins nor ends a paragraph
        return False, inside
    filled = bool(decoded.strip())
    return filled and not inside, filled
