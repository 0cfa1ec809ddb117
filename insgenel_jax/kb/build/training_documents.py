"""Training documents on disk: labelled paragraphs as Document JSON in ArrayRecords.

They are an artifact of their own beside the knowledge base that they were made with.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from array_record.python import array_record_module

from insgenel_jax import artifact
from insgenel_jax.kb.knowledge_base import KIND as KB_KIND
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.document import Document, dumps, loads

KIND = "training-documents"
VERSION = 1

_SHARD = 100_000  # documents a file
_READ_AT_ONCE = 1024


def write_training_documents(
    path: str | os.PathLike, documents: Iterable[Document], kb: str | os.PathLike
) -> int:
    """Write an artifact of documents; return their number.

    kb: the directory of the knowledge base that they were made with.
    """
    with artifact.create(path, KIND, VERSION) as draft:
        records = (dumps(document).encode() for document in documents)
        finish(draft, write_shards(draft.path, records), kb)
    return draft.counts["documents"]


def finish(draft: artifact.Draft, count: int, kb: str | os.PathLike) -> None:
    """Note in an artifact of `count` documents the knowledge base they belong to."""
    draft.counts = {"documents": count}
    draft.made_from = {KB_KIND: artifact.identity(kb)}


def write_shards(path: Path, records: Iterable[bytes]) -> int:
    """Write records to `documents-0000i-of-0000n.arrayrecord`; return their number.

    Each record is a group of its own, because training reads in random order. Without
    records there is one empty file.
    """
    files: list[Path] = []
    writer = _open_writer(files, path)
    count = 0
    for count, record in enumerate(records, 1):
        if count > _SHARD * len(files):
            writer.close()
            writer = _open_writer(files, path)
        writer.write(record)
    writer.close()
    for i, file in enumerate(files):
        file.rename(path / f"documents-{i:05}-of-{len(files):05}.arrayrecord")
    return count


def read_training_documents(path: str | os.PathLike) -> Iterator[Document]:
    """Every document of an artifact, in the order written."""
    artifact.check(path, KIND, VERSION)
    for file in sorted(Path(path).glob("documents-*.arrayrecord")):
        reader = array_record_module.ArrayRecordReader(str(file))
        total = reader.num_records()
        for first in range(0, total, _READ_AT_ONCE):
            rows = range(first, min(first + _READ_AT_ONCE, total))
            for record in reader.read(list(rows)):
                yield loads(record)
        reader.close()


def tokenizer_texts(
    documents: str | os.PathLike, kb: str | os.PathLike, most: int
) -> Iterator[str]:
    """Texts to train a tokenizer on: of training documents, then titles of entities.

    documents, kb: the directories. most: the largest number of either.
    """
    texts = (document.text for document in read_training_documents(documents))
    yield from itertools.islice(texts, most)
    base = KnowledgeBase.open(kb)
    yield from map(base.title, range(min(len(base), most)))


def _open_writer(
    files: list[Path], path: Path
) -> array_record_module.ArrayRecordWriter:
    """Open the next file to write, and add it to `files`."""
    files.append(path / f"{len(files)}.arrayrecord")
    return array_record_module.ArrayRecordWriter(str(files[-1]), "group_size:1")
