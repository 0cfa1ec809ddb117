"""Files of documents in any format in; Documents out; and back.

`FORMATS` is the one place where the name of a format, or the ending of a file, stands
for what reads and writes it. The path `-` is standard input or output.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

from insgenel_jax.text.document import Document, dumps, loads
from insgenel_jax.text.formats.aida import read_aida
from insgenel_jax.text.formats.elevant import read_elevant, write_elevant
from insgenel_jax.text.formats.html import write_html
from insgenel_jax.text.formats.lines import (
    Place,
    decode_lines,
    unpacked_name,
    write_lines,
)
from insgenel_jax.text.formats.names import Names, add_ids
from insgenel_jax.text.formats.nif import read_nif, write_nif
from insgenel_jax.text.formats.parquet import read_parquet, write_parquet
from insgenel_jax.text.formats.pubtator import read_pubtator
from insgenel_jax.text.formats.rejects import Rejects

FormatName = Literal["jsonl", "text", "parquet", "nif", "elevant", "aida", "pubtator"]
WrittenName = Literal["jsonl", "parquet", "nif", "elevant", "html"]  # those written


def read_documents(
    path: str | os.PathLike,
    rejects: Rejects,
    *,
    format: str | None = None,
    names: Names | None = None,
    place: Place | None = None,
) -> Iterator[Document]:
    """Yield the documents of a file in order; what cannot be read goes to `rejects`.

    format: None goes by the file's ending, see `FORMATS`, and takes any other file for
    JSONL. In a text file each paragraph between blank lines is a document with the id
    "<stem>:<n>", n from 1, or "<n>" from standard input. names: titles of ids, and ids
    of titles, for formats that have only one of the two. place: the bytes read so far,
    kept up to date. Raises FileNotFoundError for a missing file, ValueError for an
    unknown format.
    """
    how = FORMATS.get(format or find_format(path))
    if how is None or how.read is None:
        able = [name for name, how in FORMATS.items() if how.read is not None]
        raise ValueError(f"format: expected one of {able}, found {format!r}")
    yield from how.read(path, rejects, names or Names(), place)


def write_documents(
    path: str | os.PathLike,
    documents: Iterable[Document],
    *,
    format: str | None = None,
    names: Names | None = None,
) -> int:
    """Write documents and return how many; the file appears when complete.

    format: None goes by the file's ending, and writes JSONL to any other. names: gives
    ids to mentions that have none. Raises OSError that names the file where it
    cannot be written, as on a full disk; ValueError for an unknown format.
    """
    how = FORMATS.get(format or find_format(path, written=True))
    if how is None or not how.written:
        able = [name for name, how in FORMATS.items() if how.written]
        raise ValueError(f"format: expected one of {able}, found {format!r}")
    if names is not None:
        documents = (add_ids(document, names) for document in documents)
    if how.write_file is not None:
        return how.write_file(path, documents)
    assert how.write is not None  # as `written` says
    count = 0

    def counted() -> Iterator[Document]:
        nonlocal count
        for count, document in enumerate(documents, 1):  # noqa: B007 (it is returned)
            yield document

    write_lines(path, how.write(counted()))
    return count


def find_format(path: str | os.PathLike, *, written: bool = False) -> str:
    """The format that the ending of a file says; "jsonl" where it says none.

    written: only formats that are written count, else only those that are read.
    """
    name = unpacked_name(path)
    for format, how in FORMATS.items():
        if name.endswith(how.endings) and (how.written if written else how.read):
            return format
    return "jsonl"


def _read_jsonl(
    path: str | os.PathLike, rejects: Rejects, names: Names, place: Place | None
) -> Iterator[Document]:
    yield from parse_jsonl(path, decode_lines(path, rejects, place), rejects)


def parse_jsonl(
    path: str | os.PathLike, lines: Iterable[tuple[int, str]], rejects: Rejects
) -> Iterator[Document]:
    """The documents of numbered lines of JSONL. path: what rejects call their file."""
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


def _write_jsonl(documents: Iterable[Document]) -> Iterator[str]:
    return map(dumps, documents)


def _read_text(
    path: str | os.PathLike, rejects: Rejects, names: Names, place: Place | None
) -> Iterator[Document]:
    yield from parse_text(path, decode_lines(path, rejects, place))


def parse_text(
    path: str | os.PathLike, lines: Iterable[tuple[int, str]], count: int = 0
) -> Iterator[Document]:
    """The paragraphs of numbered lines of text; `count` of the file came before."""
    prefix = "" if str(path) == "-" else f"{Path(unpacked_name(path)).stem}:"
    paragraph: list[str] = []
    for _, line in lines:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            count += 1
            yield Document(f"{prefix}{count}", "\n".join(paragraph))
            paragraph = []
    if paragraph:
        yield Document(f"{prefix}{count + 1}", "\n".join(paragraph))


@dataclasses.dataclass(frozen=True)
class Format:
    """How files of a format are read and written, and how their names end.

    write: documents -> lines; None where we only read the format, or where
    `write_file` writes it, which has no lines. read: None where we only write it.
    """

    read: (
        Callable[[str | os.PathLike, Rejects, Names, Place | None], Iterator[Document]]
        | None
    )
    write: Callable[[Iterable[Document]], Iterator[str]] | None
    endings: tuple[str, ...]
    write_file: Callable[[str | os.PathLike, Iterable[Document]], int] | None = None

    @property
    def written(self) -> bool:
        """Whether we write the format."""
        return self.write is not None or self.write_file is not None


FORMATS: dict[str, Format] = {
    "text": Format(_read_text, None, (".txt", ".text")),
    "parquet": Format(read_parquet, None, (".parquet",), write_parquet),
    "nif": Format(read_nif, write_nif, (".ttl", ".nif")),
    "elevant": Format(
        read_elevant, write_elevant, (".benchmark.jsonl", ".linked_articles.jsonl")
    ),
    "aida": Format(read_aida, None, (".conll", "AIDA-YAGO2-dataset.tsv")),
    "pubtator": Format(read_pubtator, None, (".pubtator",)),
    "html": Format(None, write_html, (".html", ".htm")),
    "jsonl": Format(_read_jsonl, _write_jsonl, (".jsonl",)),
}
