"""Bad input in; a JSONL file of rejects out, with the place and the reason of each.

Bad lines never stop a job: they are written down, counted and shown in the exit status.
An input that is wrong as a whole, or an argument, raises InputError instead.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO, final

# Reasons, or how they begin, that are no fault of the input: what was done with it.
NOTES = ("title taken", "anchor refused: empty name")
FIELDS = ("source", "line", "reason", "content")


class InputError(ValueError):
    """An argument or a whole input cannot be used; the message says what to do."""


@final
class Rejects:
    """Collects bad input in a JSONL file, which is created with the first entry.

    Each line of it is {"source", "line", "reason", "content"}. Without a path the
    entries are kept in `entries` instead. `count` is their number, `by_reason` their
    number for each reason; what is only a note (`NOTES`) counts in `notes` instead and
    leaves the exit status as it is. Raises InputError for a path with anything but
    rejects.
    """

    def __init__(self, path: str | os.PathLike | None = None):
        self.path = None if path is None else Path(path)
        self.count = 0
        self.by_reason: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.entries: list[tuple[str, int | None, str, str]] = []
        self._stream: TextIO | None = None
        if self.path is not None:
            _remove_older(self.path)

    def add(self, source: str, line: int | None, reason: str, content: str) -> None:
        """Count one piece of bad input and write all of it down.

        The part of `reason` after a colon describes this entry alone, so `by_reason`
        leaves it out.
        """
        if reason.startswith(NOTES):
            self.notes[reason.split(":")[0]] += 1
        else:
            self.count += 1
            self.by_reason[reason.split(":")[0]] += 1
        entry = (str(source), line, reason, content)
        if self.path is None:
            self.entries.append(entry)
            return
        if self._stream is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Line buffering: an error later in the job loses no entry.
            self._stream = self.path.open("w", encoding="utf-8", buffering=1)
        with _naming(self.path):
            self._stream.write(entry_line(entry) + "\n")

    def __enter__(self) -> Rejects:
        return self

    def __exit__(self, *_) -> None:
        if self._stream is not None and self.path is not None:
            with _naming(self.path):
                self._stream.close()
            self._stream = None


def entry_line(entry: tuple[str, int | None, str, str]) -> str:
    """An entry as a line of the file of rejects."""
    # JSON in ASCII can hold a lone surrogate of the content; UTF-8 cannot.
    return json.dumps(dict(zip(FIELDS, entry, strict=True)))


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Have an OSError name the path: that of a write does not say what was written."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _remove_older(path: Path) -> None:
    """Remove the rejects of an older job, which would be mistaken for those of this.

    A pipe or a device is left alone. Raises InputError for a file of anything else.
    """
    if not path.is_file():
        return
    with path.open("rb") as stream:
        line = stream.readline()
    if line and not _is_entry(line):
        raise InputError(
            f"{path}: expected a new file for rejects, or one with the rejects of an "
            "earlier job, found something else; choose another path"
        )
    path.unlink()


def _is_entry(line: bytes) -> bool:
    """Whether a line is an entry of a file of rejects."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and record.keys() == set(FIELDS)
