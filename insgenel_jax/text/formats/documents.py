"""Files of documents (JSONL or plain text) in; Documents out; and back to JSONL.

The path `-` is standard input or output.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from insgenel_jax import aside
from insgenel_jax.text.document import Document, dumps, loads
from insgenel_jax.text.formats.lines import Place, decode_lines, unpacked_name
from insgenel_jax.text.formats.rejects import Rejects

_TEXT_ENDINGS = (".txt", ".text")


def read_documents(
    path: str | os.PathLike,
    rejects: Rejects,
    *,
    format: str | None = None,
    place: Place | None = None,
) -> Iterator[Document]:
    """Yield the documents of a file in order; what cannot be read goes to `rejects`.

    place: the bytes read so far, kept up to date.

    `format` is "jsonl", "text", or None to go by the file's ending: .txt and .text are
    text, all others JSONL. In a text file each paragraph between blank lines is a
    document with the id "<stem>:<n>", n from 1, or "<n>" from standard input. Raises
    FileNotFoundError for a missing file, ValueError for an unknown format.
    """
    if format not in (None, "jsonl", "text"):
        raise ValueError(f"format: expected 'jsonl' or 'text', found {format!r}")
    name = unpacked_name(path)
    if format is None:
        format = "text" if name.endswith(_TEXT_ENDINGS) else "jsonl"
    lines = decode_lines(path, rejects, place)
    if format == "text":
        prefix = "" if str(path) == "-" else f"{Path(name).stem}:"
        yield from _read_text(lines, prefix)
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


def write_documents(path: str | os.PathLike, documents: Iterable[Document]) -> int:
    """Write documents as JSONL and return how many; the file appears when complete.

    Raises OSError that names the file where it cannot be written, as on a full disk.
    """
    return write_lines(path, map(dumps, documents))


def write_lines(path: str | os.PathLike, lines: Iterable[str]) -> int:
    """Write lines and return how many; the file appears when it is complete.

    Raises OSError that names the file where it cannot be written, as on a full disk.
    """
    try:
        return _write_to(path, lines)
    except BrokenPipeError:
        raise
    except OSError as error:  # that of a write does not say what was written
        if error.errno is None or error.filename is not None:
            raise
        name = "standard output" if str(path) == "-" else os.fspath(path)
        raise OSError(error.errno, error.strerror, name) from error


def _write_to(path: str | os.PathLike, lines: Iterable[str]) -> int:
    if str(path) == "-":
        count = _write(sys.stdout.write, lines)
        sys.stdout.flush()
        return count
    path = Path(path)
    if path.exists() and not path.is_file():
        # A pipe or /dev/null is written to; a rename would replace it.
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            return _write(stream.write, lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    with aside.file(path) as temporary:
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            count = _write(stream.write, lines)
        os.replace(temporary, path)
    return count


def _write(write: Callable[[str], object], lines: Iterable[str]) -> int:
    count = 0
    for line in lines:
        write(line + "\n")
        count += 1
    return count


def _read_text(lines: Iterable[tuple[int, str]], prefix: str) -> Iterator[Document]:
    paragraph: list[str] = []
    count = 0
    for _, line in lines:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            count += 1
            yield Document(f"{prefix}{count}", "\n".join(paragraph))
            paragraph = []
    if paragraph:
        yield Document(f"{prefix}{count + 1}", "\n".join(paragraph))
