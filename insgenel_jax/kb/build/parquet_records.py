"""A Parquet file of entities in; its records out, a part of the file at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from insgenel_jax.kb.build.csv_records import COLUMNS
from insgenel_jax.text.formats.rejects import InputError, Rejects

_ROWS = 10_000  # that are read at a time


def read_parquet(
    path: str | os.PathLike, rejects: Rejects
) -> Iterator[tuple[int, dict[str, Any], str]]:
    """(row from 1, column -> value, the same as JSON) of each row.

    Columns go by their names in lower case; those that no entity has are not read.
    `aliases` is a list, or a string that is split at "|". Raises InputError for a file
    that is no Parquet, has no column `title` or has a column twice. Where a part cannot
    be read, the rest goes to `rejects` as one entry.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: expected a Parquet file, found none")
    number = 0
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path}: expected a Parquet file, found something else ({error}); write "
            "it again, or name it .jsonl or .csv if it is that"
        ) from error
    with file:
        names = _columns(path, file.schema_arrow.names)
        try:
            for batch in file.iter_batches(_ROWS, columns=list(names)):
                for row in batch.to_pylist():
                    number += 1
                    record = {name: row[column] for column, name in names.items()}
                    yield number, _split(record), json.dumps(record, default=str)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = f"file cut short or damaged: {error}"
            rejects.add(str(path), number + 1, reason, "")


def _columns(path: str | os.PathLike, found: list[str]) -> dict[str, str]:
    """The columns that are read, and what they are called here."""
    names = {column: column.strip().lower() for column in found}
    names = {column: name for column, name in names.items() if name in COLUMNS}
    if "title" not in names.values() or len(set(names.values())) < len(names):
        raise InputError(
            f"{path}: expected the columns {', '.join(COLUMNS)} (title is needed), "
            f"each once, found {found}; name them so"
        )
    return names


def _split(record: dict[str, Any]) -> dict[str, Any]:
    """A record whose aliases are a list."""
    aliases = record.get("aliases")
    if isinstance(aliases, str):
        record = record | {"aliases": [a for a in aliases.split("|") if a.strip()]}
    return record
