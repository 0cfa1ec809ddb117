"""What linking gave, part by part, in; files from which a later evaluation goes on.

    FOLDER/SYSTEM/SET.jsonl   the predictions, as any linked documents; once complete
    FOLDER/SYSTEM/SET.log     the parts: all links with their scores, seconds, calls

A name that no file can have is changed, and a hash of it is added.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from insgenel_jax.evaluation.losses import Candidates
from insgenel_jax.text.document import Document, document_from_json, document_to_json
from insgenel_jax.text.formats.documents import write_documents
from insgenel_jax.text.formats.rejects import InputError


@dataclasses.dataclass(frozen=True)
class Part:
    """What linking some documents of a set gave, and what that took.

    documents: with all links, also those whose score is below the threshold.
    candidates: for each document, what could be chosen on the spans of its golds.
    ranks: for each, the rank of each gold's entity in what was retrieved for it.
    """

    documents: Sequence[Document]
    seconds: float | None = None
    calls: int | None = None
    candidates: Sequence[Candidates] | None = None
    ranks: Sequence[Sequence[int | None]] | None = None


@dataclasses.dataclass(frozen=True)
class Header:
    """Whose links of which documents a log holds.

    identity, documents, golds: hashes; only parts of the same ones go together. golds:
    of the rows of the labels' entities, which redirects decide too; "" where unknown.
    kb: the identity of the knowledge base that candidates are rows of. settings,
    decoder, threshold: those of the system, for the record.
    """

    system: str
    identity: str
    documents: str
    kb: str | None
    settings: Mapping[str, Any]
    decoder: str | None
    threshold: float
    golds: str = ""


def log_path(folder: Path, system: str, dataset: str) -> Path:
    """The log of a system's links of a set."""
    return folder / file_name(system) / f"{file_name(dataset)}.log"


def predictions_path(log: Path) -> Path:
    """The predictions that belong to a log."""
    return log.with_suffix(".jsonl")


def file_name(name: str) -> str:
    """A name as that of a file: itself where it can be one."""
    safe = re.sub(r"[^\w.-]+", "_", name).lstrip(".")[:80]
    if safe == name != "":
        return name
    return f"{safe}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"


def read(path: Path) -> tuple[Header, list[Part]] | None:
    """What a log holds; None where there is none yet.

    A last line that was not finished is left out: it is being written, or its writer
    was killed. Raises InputError for a file that is no such log.
    """
    *lines, _ = path.read_bytes().split(b"\n") if path.exists() else [b""]
    if not lines:
        return None
    try:
        header, *records = map(json.loads, lines)
        return Header(**header), [_from_json(record) for record in records]
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
    ) as error:
        raise InputError(
            f"{path}: expected the log of an evaluation, found another file "
            f"({error!r}); give another --out, or remove this file"
        ) from error


def resume(
    path: Path, identity: str, golds: Sequence[Document], digest: str, rows: str = ""
) -> tuple[Header, list[Part]] | None:
    """What a log holds of a system's links of these documents; None where nothing.

    A last line that was not finished is taken away. rows: see `Header.golds`. Raises
    InputError where the log is of another system, of other documents or made with other
    redirects.
    """
    _cut_unfinished(path)
    found = read(path)
    if found is None:
        return None
    header, parts = found
    differs = [
        what
        for what, own, expected in (
            ("identity", header.identity, identity),
            ("documents", header.documents, digest),
            ("redirects or knowledge base", header.golds or rows, rows),
        )
        if own != expected
    ]
    if differs:
        raise InputError(
            f"{path}: expected links by the same linker and settings of the same "
            f"documents, found a log of another {' and '.join(differs)}; give another "
            "--out, or remove this file"
        )
    linked = [document for part in parts for document in part.documents]
    known = [(document.id, document.text) for document in golds[: len(linked)]]
    if [(document.id, document.text) for document in linked] != known:
        raise InputError(
            f"{path}: expected links of the first documents of the set, found others; "
            "the file was changed: remove it"
        )
    return header, parts


def _cut_unfinished(path: Path) -> None:
    """Take away what follows the last line break of a file, if it is there."""
    if path.exists():
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            with path.open("r+b") as stream:
                stream.truncate(content.rfind(b"\n") + 1)


def begin(path: Path, header: Header) -> None:
    """Write the first line of a log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _append(path, dataclasses.asdict(header))


def add(path: Path, part: Part) -> None:
    """Write a part at the end of a log."""
    record: dict[str, Any] = {"seconds": part.seconds, "calls": part.calls}
    record["documents"] = [document_to_json(document) for document in part.documents]
    if part.candidates is not None:
        record["candidates"] = [
            [[*span, sorted(entities)] for span, entities in of_document.items()]
            for of_document in part.candidates
        ]
    if part.ranks is not None:
        record["ranks"] = [list(ranks) for ranks in part.ranks]
    _append(path, record)


def finish(path: Path, documents: Sequence[Document]) -> None:
    """Write the predictions beside a complete log."""
    write_documents(predictions_path(path), documents)


def digest(documents: Sequence[Any]) -> str:
    """A hash of labelled documents."""
    return hashlib.sha256(repr(list(documents)).encode()).hexdigest()


def _append(path: Path, record: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(record) + "\n")


def _from_json(record: Mapping[str, Any]) -> Part:
    candidates = record.get("candidates")
    if candidates is not None:
        candidates = [
            {(start, end): frozenset(entities) for start, end, entities in of_document}
            for of_document in candidates
        ]
    documents = [document_from_json(document) for document in record["documents"]]
    return Part(
        documents, record["seconds"], record["calls"], candidates, record.get("ranks")
    )
