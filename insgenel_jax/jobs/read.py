"""A shard in; its documents and rejects out."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from insgenel_jax.jobs import store
from insgenel_jax.jobs.shards import Shard, hash_rows
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import find_format, parse_jsonl, parse_text
from insgenel_jax.text.formats.lines import DAMAGE, OPENERS, decode_line, is_damage
from insgenel_jax.text.formats.parquet import ParquetError, open_parquet, read_rows
from insgenel_jax.text.formats.rejects import InputError, Rejects

CHANGED = (
    "{}: expected the file that the job began with, found another ({}); put it back, "
    "or begin a new job in another folder"
)


class Reader:
    """Reads shards, and keeps the file of the last one open.

    A packed file can only be read from its beginning: shards that come in order are
    read in one go.
    """

    def __init__(self) -> None:
        self._path = ""
        self._stream: Any = None
        self._closing = contextlib.ExitStack()

    def read(self, path: str, start: int, end: int) -> bytes:
        """The bytes [start, end) of a file, unpacked."""
        if path != self._path or self._stream.tell() > start:
            self.close()
            self._stream = self._closing.enter_context(store.open_unpacked(path))
            self._path = path
        if PurePosixPath(path).suffix in OPENERS:
            return self._read_packed(start, end)
        self._stream.seek(start)
        parts = io.BytesIO()
        while (left := end - start - parts.tell()) > 0:
            if not (content := self._stream.read(left)):
                break
            parts.write(content)
        return parts.getvalue()

    def _read_packed(self, start: int, end: int) -> bytes:
        """Line by line, as the file was cut: asked for more at a time, zlib gives up
        lines before a damage that it gave then. Where it is damaged before `end`, what
        comes before that: it is not the file that was cut."""
        parts = io.BytesIO()
        try:
            while self._stream.tell() < end and (line := self._stream.readline()):
                if self._stream.tell() > start:
                    parts.write(line)
        except DAMAGE as error:
            if not is_damage(error):
                raise
            self.close()
        return parts.getvalue()

    def close(self) -> None:
        """Close the file."""
        self._path = ""
        self._closing.close()


def read_shard(
    path: str, format: str | None, shard: Shard, rejects: Rejects, reader: Reader
) -> Iterator[Document]:
    """The documents of a shard of the file `path`; bad ones go to `rejects`.

    Raises InputError where the file is another than when it was cut.
    """
    format = format or find_format(path)
    if format == "parquet":
        yield from _read_rows(path, shard, rejects)
    else:
        content = reader.read(path, shard.start, shard.end)
        if hashlib.sha256(content).hexdigest() != shard.sha256:
            where = f"bytes {shard.start} to {shard.end} differ"
            raise InputError(CHANGED.format(path, where))
        lines = _decode(path, content, shard.line, rejects)
        if format == "text":
            yield from parse_text(path, lines, shard.document)
        else:
            yield from parse_jsonl(path, lines, rejects)
    if shard.damage:
        lines_read = content.count(b"\n") if format != "parquet" else 0
        rejects.add(path, shard.line + lines_read + 1, shard.damage, "")


def _decode(
    path: str, content: bytes, before: int, rejects: Rejects
) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(io.BytesIO(content), before + 1):
        decoded = decode_line(path, number, line.rstrip(b"\r\n"), rejects)
        if decoded is not None:
            yield number, decoded


def _read_rows(path: str, shard: Shard, rejects: Rejects) -> Iterator[Document]:
    if shard.damage:
        return
    with store.open_path(path).open("rb") as file:
        try:
            opened = open_parquet(file)
        except ParquetError as error:
            raise InputError(CHANGED.format(path, error)) from error
        if hash_rows(opened, file, shard.start, shard.end, {}) != shard.sha256:
            where = f"rows {shard.start + 1} to {shard.end} differ"
            raise InputError(CHANGED.format(path, where))
        yield from read_rows(opened, path, shard.start, shard.end, rejects)
