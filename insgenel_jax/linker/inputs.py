"""Texts and given mentions as callers pass them in; documents and checked spans out."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from insgenel_jax.linker.sections import TOGETHER
from insgenel_jax.text.document import (
    Document,
    check_string,
    check_text,
    document_from_json,
)

Span = tuple[int, int]
Text = str | Document | Mapping[str, Any]


def as_documents(texts: Iterable[Text]) -> list[Document]:
    """Documents of texts; a text's id is its number.

    Raises TypeError and ValueError that name the text at fault.
    """
    return list(each_document("text", texts))


def each_document(kind: str, texts: object) -> Iterator[Document]:
    """The document of each text, as they come. kind: what errors call one of them.

    A single text is an error at once: it would be taken for its characters, and a
    document as a dictionary for its keys.
    """
    if not isinstance(texts, Iterable) or isinstance(texts, str | bytes | Mapping):
        raise TypeError(
            f"{kind}s: expected a sequence of strings or Documents, found "
            f"{type(texts).__name__}; put a single one in a list"
        )
    return (as_document(kind, number, text) for number, text in enumerate(texts))


def as_document(kind: str, number: int, text: Text) -> Document:
    """The document of one text. kind: what errors call it, before its number."""
    if isinstance(text, Mapping):
        try:
            return document_from_json(dict(text))
        except ValueError as error:
            raise ValueError(f"{kind} {number}: {error}") from error
    own = text.text if isinstance(text, Document) else text
    if not isinstance(own, str):
        raise TypeError(
            f"{kind} {number}: expected a string or a Document, found "
            f"{type(own).__name__}"
        )
    check_text(own, f"{kind} {number}")
    if not isinstance(text, Document):
        return Document(str(number), text)
    # what no file could hold is said now, not when the linked document is written
    check_string(text.id, f"{kind} {number}: id")
    if text.title is not None:
        check_string(text.title, f"{kind} {number}: title")
    return text


def take_group(documents: Iterator[Document], most: int) -> list[Document]:
    """The next documents: `most`, or fewer where they are long."""
    group: list[Document] = []
    size = 0
    while len(group) < most and size < TOGETHER:
        document = next(documents, None)
        if document is None:
            break
        group.append(document)
        size += len(document.text)
    return group


def own_mentions(documents: Sequence[Document]) -> list[list[Span]]:
    """The mentions that documents have, as given ones: each span once.

    Raises ValueError that names the document and the mention at fault.
    """
    spans = [dict.fromkeys((m.start, m.end) for m in d.mentions) for d in documents]
    return check_given(documents, spans)


def check_given(documents: Sequence[Document], mentions: object) -> list[list[Span]]:
    """Given mentions as pairs of integers that lie within their texts.

    Raises TypeError and ValueError that name the text and the mention at fault.
    """
    if not isinstance(mentions, Collection):
        raise TypeError(
            "mentions: expected a sequence of spans for each text, found "
            f"{type(mentions).__name__}"
        )
    if len(mentions) != len(documents):
        raise ValueError(
            f"mentions: expected a sequence of spans for each of {len(documents)} "
            f"texts, found {len(mentions)}"
        )
    checked = []
    for number, (document, spans) in enumerate(zip(documents, mentions, strict=True)):
        if not isinstance(spans, Iterable):
            raise TypeError(
                f"text {number}: expected mentions as a sequence of (start, end), "
                f"found {spans!r}"
            )
        length = len(document.text)
        checked.append([check_span(number, length, span) for span in spans])
    return checked


def check_span(number: int, length: int, span: object) -> Span:
    """A given mention of text `number`, which has `length` characters."""
    try:
        start, end = map(operator.index, span)
    except (TypeError, ValueError):
        raise ValueError(
            f"text {number}: expected a mention as (start, end), two integers, found "
            f"{span!r}"
        ) from None
    if not 0 <= start < end <= length:
        raise ValueError(
            f"text {number}: mention [{start}, {end}): expected 0 <= start < end <= "
            f"{length}, the length of the text"
        )
    return start, end
