"""Parquet in, Documents out, and back.

The columns are the fields of Document JSON: `text`, and where they are there `id`,
`title` and `mentions`. Any other column is a further field of the document. A file
without the column `id` gives each document the id "<stem>:<row>", rows from 1. What is
written has the columns of `SCHEMA`; further fields stand in `extra`, as JSON.
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from insgenel_jax.text.document import Document, document_from_json, document_to_json
from insgenel_jax.text.formats.lines import Place, is_damage, write_whole
from insgenel_jax.text.formats.names import Names
from insgenel_jax.text.formats.rejects import Rejects

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "text": pa.large_string(),
        "title": pa.string(),
        "mentions": pa.list_(
            pa.struct(
                {
                    "start": pa.int64(),
                    "end": pa.int64(),
                    "entity": pa.string(),
                    "external_id": pa.string(),
                    "score": pa.float64(),
                    "candidates": pa.list_(
                        pa.struct({"entity": pa.string(), "score": pa.float64()})
                    ),
                    "no_mention": pa.float64(),
                }
            )
        ),
        "extra": pa.string(),
    }
)
FEW = 1000  # rows that are read and written at a time
STANDARD = ("id", "text", "title", "mentions")


class ParquetError(ValueError):
    """A file is no Parquet, is damaged, or has no texts."""


def open_parquet(file: BinaryIO) -> pq.ParquetFile:
    """An open file as Parquet. Raises ParquetError that says what is wrong with it."""
    try:
        opened = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        if not is_damage(error):
            raise
        raise ParquetError(f"not Parquet, or damaged: {_one_line(error)}") from error
    if "text" not in opened.schema_arrow.names:
        found = ", ".join(opened.schema_arrow.names)
        raise ParquetError(f"expected a column text, found {found}")
    return opened


def read_parquet(
    path: str | os.PathLike, rejects: Rejects, names: Names, place: Place | None
) -> Iterator[Document]:
    """The documents of a Parquet file; see `read_documents`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file, found none; check the path")
    with path.open("rb") as file:
        try:
            opened = open_parquet(file)
        except ParquetError as error:
            rejects.add(str(path), None, str(error), "")
            return
        yield from read_rows(opened, path, 0, opened.metadata.num_rows, rejects)
        if place is not None:
            place.bytes = path.stat().st_size


def read_rows(
    opened: pq.ParquetFile,
    path: str | os.PathLike,
    start: int,
    end: int,
    rejects: Rejects,
) -> Iterator[Document]:
    """The documents of the rows [start, end), from 0. path: what rejects call the file.

    A bad row goes to `rejects` with its number, from 1; where a part of the file cannot
    be read, the rest of the rows is one entry.
    """
    stem, named = Path(path).stem, "id" in opened.schema_arrow.names
    row = start
    try:
        for rows in _batches(opened, start, end):
            for record in _records(rows):
                row += 1
                if not named and isinstance(record, dict):
                    record = {"id": f"{stem}:{row}", **record}
                try:
                    yield document_from_json(record)
                except ValueError as error:
                    wrong = record if isinstance(record, Exception) else error
                    content = "" if wrong is record else json.dumps(record, default=str)
                    reason = f"not a document: {_one_line(wrong)}"
                    rejects.add(str(path), row, reason, content)
    except (pa.ArrowException, OSError) as error:
        if not is_damage(error):
            raise
        reason = f"cannot be read: rows {row + 1} to {end}, {_one_line(error)}"
        rejects.add(str(path), row + 1, reason, "")


def _batches(opened: pq.ParquetFile, start: int, end: int) -> Iterator[pa.RecordBatch]:
    """The rows [start, end), some at a time; other groups of rows are not read."""
    first = 0
    for group in range(opened.metadata.num_row_groups):
        after = first + opened.metadata.row_group(group).num_rows
        if first < end and after > start:
            at = first
            for rows in opened.iter_batches(FEW, row_groups=[group]):
                low, high = max(start - at, 0), min(end - at, len(rows))
                if low < high:
                    yield rows.slice(low, high - low)
                at += len(rows)
        first = after


def _records(rows: pa.RecordBatch) -> Iterator[dict[str, Any] | Exception]:
    """Each row as a JSON object, or the error that it raises."""
    for number in range(len(rows)):
        try:
            (row,) = rows.slice(number, 1).to_pylist()
            yield {
                name: value if name in STANDARD else _plain(value)
                for name, value in row.items()
            }
        except (ValueError, OverflowError, pa.ArrowException) as error:
            yield error


def _plain(value: Any) -> Any:
    """A value of a further column as JSON can hold it."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, decimal.Decimal | datetime.timedelta):
        return str(value)
    return value


def _one_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error))


def write_parquet(path: str | os.PathLike, documents: Iterable[Document]) -> int:
    """Write documents to a file, which appears when it is complete; how many."""
    return write_whole(path, lambda stream: write_rows(stream, documents))


def write_rows(stream: BinaryIO, documents: Iterable[Document]) -> int:
    """Write documents as Parquet to a stream, some at a time; how many."""
    count = 0
    with pq.ParquetWriter(stream, SCHEMA, compression="zstd") as writer:
        rows: list[dict[str, Any]] = []
        for count, document in enumerate(documents, 1):  # noqa: B007
            rows.append(_row(document))
            if len(rows) == FEW:
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
    return count


def _row(document: Document) -> dict[str, Any]:
    record = document_to_json(document)
    extra = json.dumps(document.extra) if document.extra else None
    row = {name: record.get(name) for name in ("text", "title", "mentions")}
    return {"id": document.id, **row, "extra": extra}
