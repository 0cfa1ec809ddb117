"""AIDA-CoNLL's file of tokens in; Documents out.

A line has a token; that of a mention also has B (it begins one) or I, the mention, the
entity's name in YAGO (--NME-- for NIL), and perhaps its URL in Wikipedia. A sentence
ends with an empty line, and a document begins with -DOCSTART-. The text is the tokens
with one space between them, and a line for each sentence.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator

from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.lines import Place, decode_lines
from insgenel_jax.text.formats.names import Names, decode_title, title_of_uri
from insgenel_jax.text.formats.rejects import Rejects

_START = re.compile(r"-DOCSTART-\s*(?:\((?P<id>.*)\)\s*)?")
_NIL = "--NME--"
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


@dataclasses.dataclass
class _Growing:
    """A document that is being read."""

    id: str
    parts: list[str] = dataclasses.field(default_factory=list)  # tokens and spaces
    length: int = 0  # of the parts together
    mentions: list[Mention] = dataclasses.field(default_factory=list)
    open: bool = False  # whether the last token is of the last mention
    new_sentence: bool = False

    def add(self, token: str) -> tuple[int, int]:
        """Append a token; its place."""
        if self.parts:
            self.parts.append("\n" if self.new_sentence else " ")
            self.length += 1
        start = self.length
        self.parts.append(token)
        self.length += len(token)
        self.new_sentence = False
        return start, self.length

    def finish(self) -> Document:
        return Document(self.id, "".join(self.parts), None, tuple(self.mentions))


def read_aida(
    path: str | os.PathLike,
    rejects: Rejects,
    names: Names,
    place: Place | None = None,
) -> Iterator[Document]:
    """Yield the documents of a file in order; what cannot be read goes to `rejects`.

    Of a line whose mention cannot be read the token is kept. names.id_of: the Wikidata
    id of a title. Raises FileNotFoundError for a missing file.
    """
    growing: _Growing | None = None
    for number, line in decode_lines(path, rejects, place):
        if begins := _START.fullmatch(line):
            if growing is not None:
                yield growing.finish()
            growing = _Growing(begins["id"] or f"line {number}")
        elif not line.strip():
            if growing is not None:
                growing.open, growing.new_sentence = False, True
        elif growing is None:
            rejects.add(str(path), number, "before the first -DOCSTART-", line)
        elif reason := _read_token(growing, line, names):
            rejects.add(str(path), number, f"not a mention: {reason}", line)
    if growing is not None:
        yield growing.finish()


def _read_token(growing: _Growing, line: str, names: Names) -> str | None:
    """Take in a token; the reason why its mention is none, where it should be one."""
    token, *fields = line.split("\t")
    if not token:
        return "expected a token in the first column, found none"
    start, end = growing.add(token)
    was_open, growing.open = growing.open, False
    if not any(fields):
        return None
    if fields[0] not in ("B", "I"):
        return f"expected B or I in the second column, found {fields[0]!r}"
    if fields[0] == "I":
        if not was_open:
            return "expected B for the first token, found I"
        last = growing.mentions[-1]
        growing.mentions[-1] = dataclasses.replace(last, end=end)
    elif len(fields) < 3 or not fields[2]:
        return "expected an entity in the fourth column, found none"
    else:
        entity = _read_entity(fields)
        external_id = None if entity is None else names.id_of(entity)
        growing.mentions.append(Mention(start, end, entity, external_id))
    growing.open = True
    return None


def _read_entity(fields: list[str]) -> str | None:
    """The title that the columns after the token name; None is NIL."""
    if fields[2] == _NIL:
        return None
    title = title_of_uri(fields[3]) if len(fields) > 3 else None
    if not title:  # YAGO writes letters as \u00e9
        named = _ESCAPE.sub(lambda code: chr(int(code[1], 16)), fields[2])
        units = named.encode("utf-16-le", "surrogatepass")  # pairs make one character
        title = decode_title(units.decode("utf-16-le", "replace"))
    return title
