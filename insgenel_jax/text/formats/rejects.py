"""Bad input in; a JSONL file of rejects out, with the place and the reason of each.

Bad lines never stop a job: they are written down, counted and shown in the exit status.
An input that is wrong as a whole, or an argument, raises InputError instead.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import TextIO, final


class InputError(ValueError):
    """An argument or a whole input cannot be used; the message says what to do."""


@final
class Rejects:
    """Collects bad input in a JSONL file, which is created with the first entry.

    Each line of it is {"source", "line", "reason", "content"}. Without a path the
    entries are kept in `entries` instead. `count` is their number, `by_reason` their
    number for each reason.
    """

    def __init__(self, path: str | os.PathLike | None = None):
        self.path = None if path is None else Path(path)
        self.count = 0
        self.by_reason: Counter[str] = Counter()
        self.entries: list[tuple[str, int | None, str, str]] = []
        self._stream: TextIO | None = None
        if self.path is not None:
            # The rejects of an older job would be mistaken for those of this one.
            self.path.unlink(missing_ok=True)

    def add(self, source: str, line: int | None, reason: str, content: str) -> None:
        """Count one piece of bad input and write it down, cut to 2000 characters.

        The part of `reason` after a colon describes this entry alone, so `by_reason`
        leaves it out.
        """
        self.count += 1
        self.by_reason[reason.split(":")[0]] += 1
        entry = (str(source), line, reason, content[:2000])
        if self.path is None:
            self.entries.append(entry)
            return
        if self._stream is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Line buffering: an error later in the job loses no entry.
            self._stream = self.path.open("w", encoding="utf-8", buffering=1)
        record = dict(zip(("source", "line", "reason", "content"), entry, strict=True))
        # JSON in ASCII can hold a lone surrogate of the content; UTF-8 cannot.
        self._stream.write(json.dumps(record) + "\n")

    def __enter__(self) -> Rejects:
        return self

    def __exit__(self, *_) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
