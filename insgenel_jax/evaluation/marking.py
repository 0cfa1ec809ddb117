"""A document, its golds and the links in it in; marked pieces and errors out."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from insgenel_jax.evaluation.losses import Lost
from insgenel_jax.text.document import Document, Mention


@dataclasses.dataclass(frozen=True)
class Error:
    """What is wrong at a place: its name, the right entity, and what was linked.

    gold: None where nothing is to be found. linked, score: None where nothing was.
    """

    start: int
    end: int
    surface: str
    name: str
    gold: str | None
    linked: str | None
    score: float | None = None


@dataclasses.dataclass(frozen=True)
class Piece:
    """A stretch of text that is marked alike.

    mark: "right", "wrong" (linked, and another link was to be found), "missed", "extra"
    (linked, nothing was to be found), "nil" (a gold without an entity) or "". entity:
    that of the right link. ends: numbers, from 1, of the errors whose place ends here.
    """

    text: str
    mark: str
    entity: str | None
    ends: tuple[int, ...] = ()


def find_errors(
    predicted: Document, lost: Sequence[Lost], names: Sequence[str | None]
) -> list[Error]:
    """The errors of a document, in order of place.

    A gold and a wrong link on one span are one error. names: of each link's error.
    """
    text = predicted.text
    wrong = {
        (m.start, m.end): m
        for m, name in zip(reversed(predicted.mentions), reversed(names), strict=True)
        if name is not None
    }
    errors, told = [], set()
    for gold, stage in lost:
        span = gold.start, gold.end
        link = wrong.get(span)
        linked, score = (link.entity, link.score) if link else (None, None)
        errors.append(
            Error(*span, text[slice(*span)], stage, gold.entity, linked, score)
        )
        told.add(id(link))
    for link, name in zip(predicted.mentions, names, strict=True):
        if name is not None and id(link) not in told:
            span = link.start, link.end
            surface = text[slice(*span)]
            errors.append(Error(*span, surface, name, None, link.entity, link.score))
    return sorted(errors, key=lambda error: (error.start, error.end))


def cut(
    gold: Document,
    predicted: Document,
    lost: Sequence[Lost],
    names: Sequence[str | None],
    errors: Sequence[Error],
) -> list[Piece]:
    """The text of a document in pieces, each with its mark; together they are the text.

    names: of the error of each link of `predicted`. errors: as `find_errors` gives.
    """
    text = gold.text
    links = list(zip(predicted.mentions, names, strict=True))
    right = [m for m, name in links if name is None and m.entity is not None]
    wrong = [m for m, name in links if name is not None]
    missed = [gold for gold, _ in lost]
    nil = [m for m in gold.mentions if m.entity is None]
    every = (*right, *wrong, *missed, *nil)
    edges = sorted({0, len(text), *(e for m in every for e in (m.start, m.end))})
    edges = [edge for edge in edges if 0 <= edge <= len(text)]
    ends: dict[int, list[int]] = {}
    for number, error in enumerate(errors, 1):
        ends.setdefault(error.end, []).append(number)
    pieces = []
    if 0 in ends:  # an empty link before the first character
        pieces.append(Piece("", "", None, tuple(ends[0])))
    for start, end in itertools.pairwise(edges):
        linked, found = _covers(wrong, start, end), _covers(missed, start, end)
        correct = _covers(right, start, end)
        if linked or found:
            mark = "wrong" if linked and found else "extra" if linked else "missed"
        else:
            mark = "nil" if _covers(nil, start, end) else ""
            mark = "right" if correct else mark
        entity = correct.entity if correct and mark == "right" else None
        pieces.append(Piece(text[start:end], mark, entity, tuple(ends.get(end, ()))))
    return pieces


def _covers(mentions: Iterable[Mention], start: int, end: int) -> Mention | None:
    """The first mention that covers the characters [start, end)."""
    return next((m for m in mentions if m.start <= start and end <= m.end), None)
