"""A text in; the occurrences of surface forms that may be mentions out.

The rules here say which occurrences may be mentions, and what the parts of a linked
name mean in the rest of a text. The linker and the prior-only baseline share them.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, get_args

import numpy as np
import regex
from jaxtyping import Bool, Float32, Int, Int32

from insgenel_jax.kb.knowledge_base import Case, KnowledgeBase
from insgenel_jax.kb.matcher import starts_lower
from insgenel_jax.text import chunking
from insgenel_jax.text.document import WORD

CapitalisedRun = Literal["any", "whole"]
NameParts = Literal["off", "new", "override"]
MatchKind = Literal["words", "substrings"]

CASES: tuple[Case, ...] = get_args(Case)
CAPITALISED_RUNS: tuple[CapitalisedRun, ...] = get_args(CapitalisedRun)
NAME_PARTS: tuple[NameParts, ...] = get_args(NameParts)
MATCHES: tuple[MatchKind, ...] = get_args(MatchKind)

Span = tuple[int, int]
# A span [start, end) of a text that names an entity, a row of the knowledge base.
Name = tuple[int, int, int]

_BEFORE = r"(?<![\p{L}\p{M}\p{N}])"
_WORD = rf"{_BEFORE}[\p{{Lu}}\p{{Lt}}][\p{{L}}\p{{M}}\p{{N}}]*+"
_CAPITALISED_WORD = regex.compile(_WORD)
# an initial is joined to the next word by its full stop too
_JOIN = rf"[ '’&-]|(?<={_BEFORE}[\p{{Lu}}\p{{Lt}}])\. ?"
_RUN = regex.compile(rf"{_WORD}(?:(?:{_JOIN}){_WORD})*+")


@dataclasses.dataclass(frozen=True)
class Occurrences:
    """The N dictionary matches of a text that are no stop words.

    probability: the link probability of the form. lower: whether the match starts in
    lower case.
    """

    text: str
    starts: Int32[np.ndarray, " N"]
    ends: Int32[np.ndarray, " N"]
    forms: Int32[np.ndarray, " N"]
    probability: Float32[np.ndarray, " N"]
    lower: Bool[np.ndarray, " N"]

    @functools.cached_property
    def inside_run(self) -> Bool[np.ndarray, " N"]:
        """Whether each match lies inside a longer capitalised run."""
        return inside_longer_run(self.text, self.starts, self.ends)


@functools.cache
def stop_words() -> frozenset[str]:
    """Words that are no mention by themselves, unless written in capitals."""
    file = importlib.resources.files("insgenel_jax") / "assets/stop_words.txt"
    return frozenset(file.read_text(encoding="utf-8").split())


def is_stop_word(text: str) -> bool:
    """Whether a string is a stop word, in lower case or with a capital first letter."""
    return text[:1].lower() + text[1:] in stop_words()


def find_occurrences(
    kb: KnowledgeBase, text: str, matches: MatchKind = "words"
) -> Occurrences:
    """All dictionary matches of a text except stop words ("us" and "Us", not "US").

    matches: "words", or "substrings" for those that start or end inside a word too
    (*release*).
    """
    find = kb.matches if matches == "words" else kb.substring_matches
    starts, ends, forms = find(text)
    keep = [
        i
        for i, (start, end) in enumerate(
            zip(starts.tolist(), ends.tolist(), strict=True)
        )
        if not is_stop_word(text[start:end])
    ]
    starts, ends, forms = starts[keep], ends[keep], forms[keep]
    probability = kb.link_probability(forms)
    return Occurrences(
        text, starts, ends, forms, probability, starts_lower(text, starts)
    )


def passes(
    occurrences: Occurrences,
    case: Case,
    min_link_probability: float,
    capitalised_run: CapitalisedRun = "any",
) -> Bool[np.ndarray, " N"]:
    """Which occurrences may be mentions.

    case: "any", or "capitalised" for those that do not start in lower case (*release*).
    capitalised_run: "any", or "whole" for those that do not lie inside a longer run of
    capitalised words, see `find_runs`.
    """
    filters = find_filtered(occurrences, case, min_link_probability, capitalised_run)
    return ~np.logical_or.reduce(list(filters.values()))


def find_filtered(
    occurrences: Occurrences,
    case: Case,
    min_link_probability: float,
    capitalised_run: CapitalisedRun,
) -> dict[str, Bool[np.ndarray, " N"]]:
    """Which occurrences each filter leaves out, by its name; see `passes`."""
    rare = ~(occurrences.probability >= min_link_probability)
    filtered = {"min_link_probability": rare}
    if case == "capitalised":
        filtered["case"] = occurrences.lower
    if capitalised_run == "whole":
        filtered["capitalised_run"] = occurrences.inside_run
    return filtered


def find_runs(text: str) -> list[Span]:
    """The runs of capitalised words in a text, in order: "J. K. Rowling", "New York".

    A run is a longest sequence of words of one sentence that begin with a capital, each
    joined to the next by one space, apostrophe, `&` or hyphen; after an initial also by
    a full stop, with or without a space. Words in lower case join nothing ("Bank of
    England" has two runs). The first word of a sentence belongs to none if it is a stop
    word, as "In" of "In Paris".
    """
    runs = []
    for first, last in chunking.sentences(text):
        for run in _RUN.finditer(text, first, last):
            words = _CAPITALISED_WORD.finditer(text, *run.span())
            name = next(words)
            if is_stop_word(name[0]) and not WORD.search(text, first, run.start()):
                name = next(words, None)
            if name is not None:
                runs.append((name.start(), run.end()))
    return runs


def inside_longer_run(
    text: str,
    starts: Int[np.ndarray, " N"] | Sequence[int],
    ends: Int[np.ndarray, " N"] | Sequence[int],
) -> Bool[np.ndarray, " N"]:
    """Whether each of N spans lies inside a run of capitalised words and is shorter.

    "Paris" does in "Paris Hilton". A span that is a whole run, holds one, or crosses
    the border of one does not.
    """
    starts, ends = np.asarray(starts, np.int64), np.asarray(ends, np.int64)
    runs = np.array([(-1, -1), *find_runs(text)])
    first, last = runs[np.searchsorted(runs[:, 0], starts, side="right") - 1].T
    return (ends <= last) & ((starts > first) | (ends < last))


def find_name_parts(
    text: str,
    names: Iterable[Name],
    taken: Collection[Span],
    name_parts: NameParts,
    capitalised_run: CapitalisedRun = "any",
) -> list[Name]:
    """What the parts of linked names mean in the rest of a text, in order.

    A part of a name is a word of a linked mention of several words that begins with a
    capital, is neither an initial nor a stop word, and belongs to the names of one
    linked entity alone. Each later place of that word means that entity. taken: the
    candidate mentions there are. With name_parts "new", only places that overlap none
    of them count; with "override" all do, and a candidate mention of the very same
    place is to be replaced. With "off" nothing is a part. capitalised_run: see
    `passes`.
    """
    if name_parts == "off":
        return []
    first: dict[str, int] = {}
    named: dict[str, set[int]] = {}
    for start, end, entity in sorted(names):
        words = [word[0] for word in WORD.finditer(text, start, end)]
        for word in words if len(words) > 1 else ():
            if word[0].isupper() and len(word) > 1 and not is_stop_word(word):
                first.setdefault(word, end)
                named.setdefault(word, set()).add(entity)
    parts = [
        (*word.span(), next(iter(named[word[0]])))
        for word in (WORD.finditer(text) if first else ())
        if len(named.get(word[0], ())) == 1 and word.start() >= first[word[0]]
    ]
    if name_parts == "new":
        parts = _without_overlap(parts, taken)
    if capitalised_run == "whole" and parts:
        starts, ends, _ = zip(*parts, strict=True)
        inside = inside_longer_run(text, starts, ends).tolist()
        parts = [part for part, is_in in zip(parts, inside, strict=True) if not is_in]
    return parts


def _without_overlap(parts: Sequence[Name], taken: Collection[Span]) -> list[Name]:
    """The parts that overlap no span that is taken."""
    spans = sorted(taken)
    starts = [start for start, _ in spans]
    reach = np.maximum.accumulate([0, *(end for _, end in spans)])
    # reach[k]: how far the first k spans reach; those that start before a part ends
    before = np.searchsorted(starts, [end for _, end, _ in parts], side="left")
    return [
        part
        for part, reached in zip(parts, reach[before].tolist(), strict=True)
        if reached <= part[0]
    ]
