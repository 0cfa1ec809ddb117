"""A text with its entity links (Document, Mention), to JSON and back.

Offsets count Unicode code points. A mention is the half-open span [start, end).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from typing import Any

import regex

# A word: a run of letters, digits and combining marks. Every other character that is
# not a space is punctuation. Word boundaries and the cuts of a target rest on this.
WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")

FIELDS = ("id", "text", "title", "mentions")  # of a document in JSON
DEEPEST = 100  # levels of objects and lists within any other field

_NORMALISE = str.maketrans(
    {
        **dict.fromkeys("{[", "("),
        **dict.fromkeys("}]", ")"),
        # line breaks, tabs and no-break spaces, one space each
        **dict.fromkeys(
            "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u2007\u2028\u2029\u202f", " "
        ),
    }
)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An entity that a mention may refer to, and the probability that it does."""

    entity: str
    score: float


@dataclasses.dataclass(frozen=True)
class Mention:
    """A linked span [start, end). `entity` is a title, or None for NIL (no entity).

    score: the probability of the link. candidates: other entities, the most probable
    first. no_mention: the probability that the span is no mention. Where all candidates
    are there, the three sum to 1.
    """

    start: int
    end: int
    entity: str | None
    external_id: str | None = None
    score: float | None = None
    candidates: tuple[Candidate, ...] = ()
    no_mention: float | None = None


@dataclasses.dataclass(frozen=True)
class Document:
    """A text with an id and its mentions.

    extra: the fields of its JSON that we have no use for; they go back to JSON as they
    came. numbered: whether the id is an integer in JSON. Documents that differ in
    these alone are equal.
    """

    id: str
    text: str
    title: str | None = None
    mentions: tuple[Mention, ...] = ()
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)
    numbered: bool = dataclasses.field(default=False, compare=False)


def normalise(text: str) -> str:
    """Map braces and brackets to parentheses and every kind of space to a space.

    Each character becomes one character, so offsets stay the same. No boundary token
    can occur in the result, since each of them holds a brace or a bracket.
    """
    return text.translate(_NORMALISE)


def document_to_json(document: Document) -> dict[str, Any]:
    """The JSON object of a document.

    Optional fields without a value are left out. A mention always has its `entity`,
    since null means NIL there.
    """
    identifier: str | int = document.id
    if document.numbered and document.id.removeprefix("-").isdecimal():
        identifier = int(document.id)
    record: dict[str, Any] = {"id": identifier, "text": document.text}
    if document.title is not None:
        record["title"] = document.title
    record["mentions"] = [_mention_to_json(mention) for mention in document.mentions]
    return record | dict(document.extra)


def document_from_json(record: Any) -> Document:
    """The document of a JSON object.

    Raises ValueError that names the field, what was expected and what was found.
    """
    check(isinstance(record, dict), "document", "an object", record)
    identifier, text = record.get("id"), record.get("text")
    numbered = type(identifier) is int
    if numbered:
        identifier = str(identifier)
    check_string(identifier, "id")
    check_string(text, "text")
    title = record.get("title")
    if title is not None:
        check_string(title, "title")
    mentions = record.get("mentions")
    mentions = [] if mentions is None else mentions
    check(isinstance(mentions, list), "mentions", "a list", mentions)
    extra = {name: value for name, value in record.items() if name not in FIELDS}
    _check_nesting(extra)
    return Document(
        id=identifier,
        text=text,
        title=title,
        mentions=tuple(
            _mention_from_json(mention, f"mentions[{i}]", len(text))
            for i, mention in enumerate(mentions)
        ),
        extra=extra,
        numbered=numbered,
    )


def dumps(document: Document) -> str:
    """The document as one line of JSON."""
    record = document_to_json(document)
    line = json.dumps(record, ensure_ascii=False)
    if document.extra:
        try:
            line.encode()
        except UnicodeEncodeError:  # a lone surrogate, which an escape can hold
            return json.dumps(record)
    return line


def loads(line: str | bytes) -> Document:
    """The document of one line of JSON. Raises ValueError that says what is wrong."""
    return document_from_json(json.loads(line))


def _mention_to_json(mention: Mention) -> dict[str, Any]:
    record: dict[str, Any] = {
        "start": mention.start,
        "end": mention.end,
        "entity": mention.entity,
    }
    if mention.external_id is not None:
        record["external_id"] = mention.external_id
    if mention.score is not None:
        record["score"] = mention.score
    if mention.candidates:
        record["candidates"] = [
            {"entity": c.entity, "score": c.score} for c in mention.candidates
        ]
    if mention.no_mention is not None:
        record["no_mention"] = mention.no_mention
    return record


def _mention_from_json(record: Any, where: str, length: int) -> Mention:
    check(isinstance(record, dict), where, "an object", record)
    start, end = record.get("start"), record.get("end")
    check(
        type(start) is int and type(end) is int and 0 <= start < end <= length,
        f"{where}.start, .end",
        f"integers with 0 <= start < end <= {length}, the length of the text",
        (start, end),
    )
    check("entity" in record, f"{where}.entity", "a title or null", "nothing")
    entity, external_id = record["entity"], record.get("external_id")
    if entity is not None:
        check_string(entity, f"{where}.entity", "a title or null")
    if type(external_id) is int:
        external_id = str(external_id)
    if external_id is not None:
        check_string(external_id, f"{where}.external_id")
    score, no_mention = record.get("score"), record.get("no_mention")
    for name, number in (("score", score), ("no_mention", no_mention)):
        check(
            number is None or _is_number(number), f"{where}.{name}", "a number", number
        )
    candidates = record.get("candidates") or []
    check(isinstance(candidates, list), f"{where}.candidates", "a list", candidates)
    for candidate in candidates:
        check(
            isinstance(candidate, dict)
            and isinstance(candidate.get("entity"), str)
            and _is_number(candidate.get("score")),
            f"{where}.candidates",
            "objects with an entity and a score",
            candidate,
        )
        check_string(candidate["entity"], f"{where}.candidates")
    return Mention(
        start=start,
        end=end,
        entity=entity,
        external_id=external_id,
        score=score,
        candidates=tuple(Candidate(c["entity"], c["score"]) for c in candidates),
        no_mention=no_mention,
    )


def check_string(value: Any, where: str, expected: str = "a string") -> None:
    """Raise ValueError for what is no string, or one that UTF-8 cannot hold."""
    check(isinstance(value, str), where, expected, value)
    check_text(value, where)


def check_text(value: str, where: str) -> None:
    """Raise ValueError for a string with a lone surrogate, which UTF-8 cannot hold."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where}: a lone surrogate at character {error.start}, which no encoding "
            "can hold; replace it before linking"
        ) from None


def _check_nesting(extra: Mapping[str, Any]) -> None:
    """Raise ValueError for fields nested so deep that writing them could fail."""
    level: list[Any] = [extra]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, Mapping) else outer)
            if isinstance(inner, Mapping | list)
        ]
        if not level:
            return
    raise ValueError(f"expected fields nested at most {DEEPEST} deep, found deeper")


def _is_number(value: Any) -> bool:
    # A bool is no number here. math.isfinite would raise for an integer that no float
    # can hold; Python compares such an integer exactly. NaN compares false.
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def check(holds: bool, where: str, expected: str, found: Any) -> None:
    """Raise ValueError that names the field, what was expected and what was found."""
    if not holds:
        shown = repr(found)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        raise ValueError(f"{where}: expected {expected}, found {shown}")
