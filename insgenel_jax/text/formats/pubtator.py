"""PubTator's files in; Documents out.

A document is `ID|t|title`, `ID|a|abstract` and a line for each mention: ID, start, end,
surface, type and the entity's id, with tabs between them. Offsets count from the title
on; one character stands between title and abstract. Lines of relations are left out.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator

from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.lines import Place, decode_lines
from insgenel_jax.text.formats.names import Names
from insgenel_jax.text.formats.offsets import find_misplaced
from insgenel_jax.text.formats.rejects import Rejects

_OFFSET = re.compile(r"[0-9]{1,15}")
_PART = re.compile(r"(?P<id>[^|\t]+)\|(?P<part>[ta])\|(?P<text>.*)", re.DOTALL)
_NO_ID = ("", "-", "-1", "None")


@dataclasses.dataclass
class _Growing:
    """A document that is being read; lines: those of mentions, by their numbers."""

    id: str
    parts: dict[str, str] = dataclasses.field(default_factory=dict)
    mentions: list[tuple[Mention, str, int, str]] = dataclasses.field(
        default_factory=list
    )  # with its surface, and the number and content of its line
    lines: list[str] = dataclasses.field(
        default_factory=list
    )  # all that was read of it


def read_pubtator(
    path: str | os.PathLike,
    rejects: Rejects,
    names: Names,
    place: Place | None = None,
) -> Iterator[Document]:
    """Yield the documents of a file in order; what cannot be read goes to `rejects`.

    A mention's `external_id` is the id in the file, with its prefix ("MESH:D003920"),
    and its entity what names.title_of gives for it, else the id itself; NIL where there
    is none. A mention of several entities is rejected, as is a whole document whose
    offsets count bytes or UTF-16 code units. Raises FileNotFoundError for a missing
    file.
    """
    growing: _Growing | None = None
    for number, line in decode_lines(path, rejects, place):
        part = _PART.fullmatch(line)
        if part is not None and (
            growing is None
            or growing.id != part["id"]
            or part["part"] in growing.parts  # another document with this id
        ):
            if growing is not None:
                yield from _finish(path, growing, rejects)
            growing = _Growing(part["id"])
        if growing is not None:
            growing.lines.append(line)
        if part is not None and growing is not None:
            growing.parts[part["part"]] = part["text"]
        elif not line.strip():
            if growing is not None:
                yield from _finish(path, growing, rejects)
            growing = None
        elif growing is None:
            rejects.add(str(path), number, "not in a document", line)
        elif reason := _read_line(growing, number, line, names):
            rejects.add(str(path), number, f"not a mention: {reason}", line)
    if growing is not None:
        yield from _finish(path, growing, rejects)


def _read_line(growing: _Growing, number: int, line: str, names: Names) -> str | None:
    """Take in the line of a mention; the reason why it is none."""
    identifier, *fields = line.split("\t")
    if identifier != growing.id:
        return f"expected the id {growing.id}, found {identifier!r}"
    if len(fields) == 3 and not fields[0].isdigit():
        return None  # a relation
    if len(fields) < 4 or not all(_OFFSET.fullmatch(f) for f in fields[:2]):
        return "expected id, start, end, surface, type and id, with tabs between them"
    start, end, surface = int(fields[0]), int(fields[1]), fields[2]
    if not start < end:
        return f"expected start < end, found {start} and {end}"
    external_id = fields[4].strip() if len(fields) > 4 else ""
    if any(mark in external_id for mark in "|,;+"):
        return f"expected one entity, found several: {external_id}"
    mention = Mention(start, end, None)
    if external_id not in _NO_ID:
        entity = names.title_of(external_id) or external_id
        mention = Mention(start, end, entity, external_id)
    growing.mentions.append((mention, surface, number, line))
    return None


def _finish(
    path: str | os.PathLike, growing: _Growing, rejects: Rejects
) -> Iterator[Document]:
    """Yield a document that is complete, if its offsets are code points."""
    parts = (growing.parts.get(part) for part in "ta")
    text = "\n".join(part for part in parts if part is not None)
    surfaces = [(m.start, m.end, surface) for m, surface, *_ in growing.mentions]
    try:
        misplaced = find_misplaced(text, surfaces)
    except ValueError as error:
        number = growing.mentions[0][2]
        rejects.add(
            str(path), number, f"not a document: {error}", "\n".join(growing.lines)
        )
        return
    for i in misplaced:
        mention, surface, number, line = growing.mentions[i]
        found = text[mention.start : mention.end]
        reason = f"expected its surface {surface!r} in the text, found {found!r}"
        rejects.add(str(path), number, f"not a mention: {reason}", line)
    kept = [m for i, (m, *_) in enumerate(growing.mentions) if i not in misplaced]
    kept.sort(key=lambda m: (m.start, m.end))
    yield Document(growing.id, text, None, tuple(kept))
