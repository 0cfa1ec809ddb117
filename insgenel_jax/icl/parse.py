"""A model's answer in; the mentions that it names, at their places in the text, out.

A line is "mention | entity | context". Whatever else an answer holds is a failure, and
no failure becomes a mention:

    format            the line is no such line
    not placed        the text has no such mention, or all its places are taken
    not a candidate   the entity is none of those in the prompt
    cut off           the answer reached the limit of new tokens; its last line is left
                      out where it may be incomplete
"""

from __future__ import annotations

import collections
import itertools
import re
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from insgenel_jax.icl.prompt import END, SEPARATOR
from insgenel_jax.text.document import WORD

FAILURES = ("format", "not placed", "not a candidate", "cut off")
MOST_LINES = 1000  # of an answer; 300 tokens make fewer
LONGEST_LINE = 2000  # characters
LONGEST_CONTEXT = 200  # characters that are looked at, before and after a mention
MOST_WORDS = 10  # that are compared, on each side

Span = tuple[int, int]

_BULLET = re.compile(r"(?:[-*•]|\d{1,3}[.)])\s+")
_QUOTES = "\"'`“”„‘’«»*"


class Link(NamedTuple):
    """A mention [start, end) of a text, and the row of its entity."""

    start: int
    end: int
    entity: int


class Surroundings(NamedTuple):
    """The words before a span, the nearest first, and the words after it."""

    before: tuple[str, ...]
    after: tuple[str, ...]


class Parsed(NamedTuple):
    """The links of an answer by place, and how many of its lines failed, by kind."""

    links: list[Link]
    failures: collections.Counter[str]


def parse(
    answer: str,
    text: str,
    candidates: Collection[int],
    find: Callable[[str], int | None],
    *,
    contexts: bool,
    cut_off: bool = False,
) -> Parsed:
    """Place each line of an answer in the text that it is about.

    candidates: the entities that the prompt listed; find: the entity of a title or a
    redirect. contexts: whether lines have a context. cut_off: whether the answer
    reached the limit of new tokens.
    """
    failures: collections.Counter[str] = collections.Counter()
    links: list[Link] = []
    for line in _lines(answer, cut_off, failures):
        fields = _fields(line, contexts)
        if fields is None:
            failures["format"] += 1
            continue
        entity = _first(_unquoted(fields.entity), find)
        if entity is None or entity not in candidates:
            failures["not a candidate"] += 1
            continue
        places = _first(_unquoted(fields.mention), lambda name: occurrences(name, text))
        place = _best(places or [], text, fields, links)
        if place is None:
            failures["not placed"] += 1
        else:
            links.append(Link(*place, entity))
    return Parsed(sorted(links), failures)


class _Fields(NamedTuple):
    """A line of an answer. context: empty where the model writes none."""

    mention: str
    entity: str
    context: str


def _lines(answer: str, cut_off: bool, failures: collections.Counter) -> list[str]:
    """The lines of an answer up to END, those without a letter or a digit left out."""
    lines = answer.splitlines()
    before = list(itertools.takewhile(lambda line: line.strip() != END, lines))
    ended = len(before) < len(lines)
    if cut_off and not ended:
        failures["cut off"] += 1
        if not answer.endswith("\n"):
            before = before[:-1]
    kept = [line for line in before if len(line) > LONGEST_LINE or WORD.search(line)]
    if not kept and not ended and not cut_off:
        failures["format"] += 1  # it is empty, and does not say that nothing is there
    if len(kept) > MOST_LINES:
        failures["format"] += len(kept) - MOST_LINES
    return kept[:MOST_LINES]


def _fields(line: str, contexts: bool) -> _Fields | None:
    """The fields of a line; a separator too many is taken as part of the title."""
    if len(line) > LONGEST_LINE:
        return None
    line = line.strip().strip(SEPARATOR)  # a table has bars at both ends, too
    line = line[match.end() :] if (match := _BULLET.match(line)) else line
    mention, *rest = (field.strip() for field in line.split(SEPARATOR.strip()))
    if len(rest) < 1 + contexts:
        return None
    context = rest.pop() if contexts else ""
    entity = SEPARATOR.join(rest)
    return _Fields(mention, entity, context) if mention and entity else None


def _unquoted(field: str) -> list[str]:
    """A field as it is, and without quotation marks around it."""
    return list(filter(None, dict.fromkeys((field, field.strip(_QUOTES)))))


def _first(names: Sequence[str], look_up: Callable):
    """The first result of looking names up that is not empty."""
    results = (look_up(name) for name in names)
    return next((r for r in results if r is not None and r != []), None)


def occurrences(mention: str, text: str, flags: int = 0) -> list[Span]:
    """Where a text has a mention, without cutting a word.

    Any run of spaces or line breaks matches any other. flags: of `re`.
    """
    words = [re.escape(word) for word in mention.split()]
    if not words or not WORD.search(mention):
        return []
    spans = (match.span() for match in re.finditer(r"\s+".join(words), text, flags))
    return [span for span in spans if _is_whole(text, *span)]


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether neither end of a span lies inside a word."""
    return not any(
        WORD.match(text[at - 1 : at]) and WORD.match(text[at : at + 1])
        for at in (start, end)
        if 0 < at < len(text)
    )


def _best(
    places: Sequence[Span], text: str, fields: _Fields, taken: Sequence[Link]
) -> Span | None:
    """The place whose surroundings match the context best; of equal ones, the first
    that no link has taken. None where all the best are taken."""
    context = fields.context[:LONGEST_CONTEXT]
    written = {
        _surroundings(context, span)
        for name in _unquoted(fields.mention)
        for span in occurrences(name, context, re.IGNORECASE)
    }
    around = [_surroundings(text, place) for place in places]
    scores = {here: _score(here, written) for here in set(around)}
    best = max(scores.values(), default=0)
    for (start, end), here in zip(places, around, strict=True):
        free = all(end <= link.start or link.end <= start for link in taken)
        if free and scores[here] == best:
            return start, end
    return None


def _surroundings(text: str, span: Span) -> Surroundings:
    """The words around a span, at most MOST_WORDS on each side."""
    start, end = span
    before = text[max(start - LONGEST_CONTEXT, 0) : start].casefold()
    after = text[end : end + LONGEST_CONTEXT].casefold()
    return Surroundings(
        tuple(WORD.findall(before)[: -MOST_WORDS - 1 : -1]),
        tuple(WORD.findall(after)[:MOST_WORDS]),
    )


def _score(here: Surroundings, written: Collection[Surroundings]) -> int:
    """How many words next to a place stand next to the mention in its context too."""
    return max((sum(map(_common, here, there)) for there in written), default=0)


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """How many words two lists have in common at their beginning."""
    pairs = zip(a, b, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
