"""Training documents: labelled paragraphs as Document JSON in ArrayRecord files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from array_record.python import array_record_module

from insgenel_jax import artifact
from insgenel_jax.text.document import WORD, Document, loads

KIND = "training-documents"
VERSION = 1

_SHARD = 100_000  # documents a file
_FEWEST_WORDS = 10
_MOST_ANCHOR_TEXT = 0.8
_READ_AT_ONCE = 1024


def is_training_document(paragraph: Document) -> bool:
    """Whether a paragraph has enough words, a link, and text beside its links."""
    linked = sum(mention.end - mention.start for mention in paragraph.mentions)
    return (
        0 < linked <= _MOST_ANCHOR_TEXT * len(paragraph.text)
        and len(WORD.findall(paragraph.text)) >= _FEWEST_WORDS
    )


def is_held_back(page_id: str, share: float) -> bool:
    """Whether a page belongs to the development share; a hash of its id decides."""
    digest = hashlib.blake2b(page_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def write_shards(path: Path, records: Iterable[bytes]) -> int:
    """Write records to `documents-0000i-of-0000n.arrayrecord`; returns how many.

    One record a group: examples are read in random order. Without records there is one
    empty file.
    """
    files: list[Path] = []
    writer = None
    count = 0
    for record in records:
        if count % _SHARD == 0:
            writer = _next_writer(files, writer, path)
        writer.write(record)
        count += 1
    writer = writer or _next_writer(files, None, path)
    writer.close()
    for i, file in enumerate(files):
        file.rename(path / f"documents-{i:05}-of-{len(files):05}.arrayrecord")
    return count


def read_training_documents(path: str | os.PathLike) -> Iterator[Document]:
    """Every training document of an artifact, in the order written."""
    artifact.check(path, KIND, VERSION)
    for file in sorted(Path(path).glob("documents-*.arrayrecord")):
        reader = array_record_module.ArrayRecordReader(str(file))
        total = reader.num_records()
        for first in range(0, total, _READ_AT_ONCE):
            rows = range(first, min(first + _READ_AT_ONCE, total))
            for record in reader.read(list(rows)):
                yield loads(record)
        reader.close()


def _next_writer(files: list[Path], writer, path: Path):
    if writer is not None:
        writer.close()
    files.append(path / f"{len(files)}.arrayrecord")
    return array_record_module.ArrayRecordWriter(str(files[-1]), "group_size:1")
