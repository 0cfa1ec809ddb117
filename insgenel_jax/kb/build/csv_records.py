"""A CSV of entities in; its records out, read so that no open quote swallows the rows
after it.

A quoted field may hold line breaks, so a quote that is never closed would make csv take
all that follows for one field. Here a record that is broken in any way loses its first
line alone, to the rejects, and reading goes on at the next line.
"""

from __future__ import annotations

import csv
import itertools
import os
from collections import deque
from collections.abc import Iterator

from insgenel_jax.text.formats.lines import decode_lines
from insgenel_jax.text.formats.rejects import InputError, Rejects

COLUMNS = ("id", "title", "description", "aliases")
_NAMES = ("id", "title", "aliases")  # the columns in which no line break is allowed
_LONGEST_RECORD = 100  # lines
csv.field_size_limit(1 << 30)  # else 128 kB, which a description may be longer than

Lines = Iterator[tuple[int, str]]  # line number, line
Ahead = deque[tuple[int, str]]  # lines that were read and that no record has taken yet


def read_csv(
    path: str | os.PathLike, rejects: Rejects
) -> Iterator[tuple[int, dict[str, str], str]]:
    """(first line, column -> field, lines as they stand) of each record.

    A field may hold line breaks if it is quoted, is no name, and is in a record with
    every field of the header, of at most `_LONGEST_RECORD` lines. Raises InputError for
    a header without `title` or with a column twice.
    """
    lines = decode_lines(path, rejects)
    ahead: Ahead = deque()
    header = _read_header(path, _peek(lines, ahead))
    if ahead:
        ahead.popleft()
    while any(_peek(lines, ahead)):
        number = ahead[0][0]
        reader = csv.reader(_peek(lines, ahead), strict=True)
        try:
            row = next(reader)
            raw = "\n".join(ahead[i][1] for i in range(reader.line_num))
            _check_row(row, raw, header)
        except (csv.Error, ValueError) as error:
            is_ours = isinstance(error, ValueError)
            reason = str(error) if is_ours else f"not CSV: {error}"
            rejects.add(str(path), number, reason, ahead.popleft()[1])
            continue
        for _ in range(reader.line_num):
            ahead.popleft()
        if row:
            yield number, dict(zip(header, row, strict=False)), raw


def _peek(lines: Lines, ahead: Ahead) -> Iterator[str]:
    """The next lines, at most as many as a record may have. They stay in `ahead`."""
    for i in range(_LONGEST_RECORD):
        if i == len(ahead):
            ahead.extend(itertools.islice(lines, 1))
        if i == len(ahead):
            return
        yield ahead[i][1] + "\n"


def _read_header(path: str | os.PathLike, lines: Iterator[str]) -> list[str]:
    """The names of the columns, from the first line alone."""
    try:
        row = next(csv.reader(itertools.islice(lines, 1), strict=True), [])
    except csv.Error as error:
        row = [f"not CSV: {error}"]
    header = [name.strip().lower() for name in row]
    if "title" not in header or len(set(header)) < len(header):
        raise InputError(
            f"{path}: line 1: expected a header with the columns "
            f"{', '.join(COLUMNS)} (title is needed), each once, found {header}; add "
            "it as the first line"
        )
    return header


def _check_row(row: list[str], raw: str, header: list[str]) -> None:
    """Raise ValueError for a row that csv accepts although it is wrong.

    That is a row with too many fields, and one in which a stray quote has joined lines.
    """
    fields = f"{len(row)} for {len(header)}"
    if len(row) > len(header):
        raise ValueError(f"more fields than the header: {fields}")
    # As when a quote was opened in an earlier line, which was rejected, and is closed
    # in this record.
    if raw.count('"') % 2:
        raise ValueError("quote out of place: an odd number of them")
    if "\n" in raw and len(row) < len(header):
        raise ValueError(f"quote left open: fewer fields than the header, {fields}")
    for name, field in zip(header, row, strict=False):  # a row may be shorter
        if name in _NAMES and "\n" in field:
            raise ValueError(f"quote left open: line break in the {name}")
