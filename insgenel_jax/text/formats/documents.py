"""Files in, Documents out, and back: JSONL and plain text; bad input to a rejects file.

`-` stands for standard input or output; `.bz2` and `.gz` are unpacked while reading.
"""

from __future__ import annotations

import bz2
import gzip
import json
import os
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from insgenel_jax.text.document import Document, dumps, loads

_TEXT_ENDINGS = (".txt", ".text")
PACKED_ENDINGS = (".bz2", ".gz")


class InputError(ValueError):
    """An argument or a whole input that cannot be used; the message says what to do."""


class Rejects:
    """The one place that bad input goes to: a JSONL file, made with the first entry.

    Each line is {"source", "line", "reason", "content"}. Without a path the entries are
    kept in `entries`. `count` and `by_reason` say how many there were.
    """

    def __init__(self, path: str | os.PathLike | None = None):
        self.path = None if path is None else Path(path)
        self.count = 0
        self.by_reason: Counter[str] = Counter()
        self.entries: list[tuple[str, int | None, str, str]] = []
        self._stream = None
        if self.path is not None:
            # an older run's rejects would be mistaken for ours
            self.path.unlink(missing_ok=True)

    def add(self, source: str, line: int | None, reason: str, content: str) -> None:
        """Count one piece of bad input and write it down, cut to 2000 characters.

        What follows a colon in the reason is particular to this entry: `by_reason`
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
            # by lines, so that an error later loses none
            self._stream = self.path.open("w", encoding="utf-8", buffering=1)
        record = dict(zip(("source", "line", "reason", "content"), entry, strict=True))
        # ASCII, so that a lone surrogate in the content can be written
        self._stream.write(json.dumps(record) + "\n")

    def __enter__(self) -> Rejects:
        return self

    def __exit__(self, *_) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def read_documents(
    path: str | os.PathLike,
    rejects: Rejects,
    *,
    format: Literal["jsonl", "text"] | None = None,
) -> Iterator[Document]:
    """Documents of a file, in order; what cannot be read goes to `rejects`.

    format: None goes by the ending (.txt is text, all else JSONL). In a text file each
    paragraph between blank lines is a document with the id "<stem>:<n>", n from 1.
    Raises FileNotFoundError for a missing file.
    """
    if format not in (None, "jsonl", "text"):
        raise ValueError(f"format: expected 'jsonl' or 'text', found {format!r}")
    name = _unpacked_name(path)
    if format is None:
        format = "text" if name.endswith(_TEXT_ENDINGS) else "jsonl"
    lines = decode_lines(path, rejects)
    if format == "text":
        yield from _read_text(lines, Path(name).stem)
        return
    for number, line in lines:
        if not line.strip():
            continue
        try:
            yield loads(line)
        except json.JSONDecodeError as error:
            rejects.add(str(path), number, f"not JSON: {error}", line)
        except ValueError as error:
            rejects.add(str(path), number, f"not a document: {error}", line)
        except RecursionError:
            rejects.add(str(path), number, "not a document: nested too deep", line)


def read_lines(path: str | os.PathLike) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line without its line break) of a file.

    Raises FileNotFoundError for a missing file, and EOFError or OSError where a packed
    file is cut short or damaged, after the lines before that place.
    """
    if str(path) == "-":
        yield from _numbered(sys.stdin.buffer)
        return
    path = Path(path)
    if path.is_dir() or not path.exists():  # a pipe is as good as a file
        raise FileNotFoundError(
            f"{path}: expected a file, found "
            f"{'a directory' if path.is_dir() else 'nothing'}; check the path, or give "
            "- for standard input"
        )
    openers = {".bz2": bz2.open, ".gz": gzip.open}
    with openers.get(path.suffix, open)(path, "rb") as stream:
        yield from _numbered(stream)


def decode_lines(
    path: str | os.PathLike, rejects: Rejects
) -> Iterator[tuple[int, str]]:
    """(line number, line) of a UTF-8 file; what is not UTF-8 goes to `rejects`.

    So does the end of a packed file that is cut short or damaged.
    """
    number = 0
    try:
        for number, line in read_lines(path):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                reason = f"not UTF-8: byte {error.start} of the line"
                rejects.add(str(path), number, reason, line.decode("utf-8", "replace"))
    except FileNotFoundError:
        raise
    except (EOFError, OSError, zlib.error) as error:
        rejects.add(str(path), number + 1, f"file cut short or damaged: {error}", "")


def write_documents(path: str | os.PathLike, documents: Iterable[Document]) -> int:
    """Write documents as JSONL and return how many; the file appears when complete."""
    if str(path) == "-":
        return _write_lines(sys.stdout, documents)
    path = Path(path)
    if path.exists() and not path.is_file():  # /dev/null is not to be replaced
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            return _write_lines(stream, documents)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as stream:
            count = _write_lines(stream, documents)
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise
    return count


def _write_lines(stream, documents: Iterable[Document]) -> int:
    count = 0
    for document in documents:
        stream.write(dumps(document) + "\n")
        count += 1
    return count


def _read_text(lines: Iterable[tuple[int, str]], stem: str) -> Iterator[Document]:
    paragraph: list[str] = []
    count = 0
    for _, line in lines:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            count += 1
            yield Document(f"{stem}:{count}", "\n".join(paragraph))
            paragraph = []
    if paragraph:
        yield Document(f"{stem}:{count + 1}", "\n".join(paragraph))


def _numbered(stream) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(stream, 1):
        yield number, line.rstrip(b"\r\n")


def _unpacked_name(path: str | os.PathLike) -> str:
    name = Path(path).name
    for ending in PACKED_ENDINGS:
        name = name.removesuffix(ending)
    return name
