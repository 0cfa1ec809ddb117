"""Document text in; windows for the retriever and chunks for the generator out.

Both are character spans of the document, so results need no mapping back.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterable, Sequence

import numpy as np

Span = tuple[int, int]

_WORD = re.compile(r"\S+")
# Possessive (++), so that no mark is looked at twice, however many stand in a row.
_SENTENCE_END = re.compile(
    r"""(?P<mark>[.!?…。！？]++)["'”’»)\]]*+(?P<space>\s*+)|(?P<line>\n\s*+)"""
)
_NO_END = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|(?:[A-Z]\.)+[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Gen|Col|Lt|Sgt|"
    r"Capt|Gov|Sen|Rep|Rev|Hon|No|Nos|vs|etc|e\.g|i\.e|cf|ca|approx|Inc|Corp|Ltd|Co|"
    r"Fig|Vol|pp|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec)$"
)


def windows(text: str, length: int = 32, stride: int = 16) -> list[Span]:
    """Spans of `length` whitespace words, a new one every `stride` words.

    Every word is in at least one; a text without a word has none. (*paper*, 3.2.)
    Raises ValueError for a stride that would leave words out.
    """
    if not 1 <= stride <= length:
        raise ValueError(
            f"stride: expected 1 <= stride <= length = {length}, found {stride}"
        )
    words = [match.span() for match in _WORD.finditer(text)]
    if not words:
        return []
    firsts = range(0, max(len(words) - length, 0) + stride, stride)
    return [(words[i][0], words[min(i + length, len(words)) - 1][1]) for i in firsts]


def sentences(text: str) -> list[Span]:
    """Spans of the sentences: they tile the text, each with the spaces behind it."""
    breaks = []
    for match in _SENTENCE_END.finditer(text):
        mark, space = match["mark"], match["space"]
        if mark and "\n" not in space:
            if not space and mark[-1] not in "。！？":
                continue
            before = text[max(match.start() - 12, 0) : match.start()]
            after = text[match.end() : match.end() + 1]
            alone = match[0].rstrip() == "."
            if alone and (after.islower() or _NO_END.search(before)):
                continue
        breaks.append(match.end())
    edges = sorted({0, *breaks, len(text)})
    return list(itertools.pairwise(edges))


def chunks(
    text: str,
    starts: Sequence[int],
    costs: Sequence[float],
    budget: float,
    joined: Iterable[Span] = (),
) -> list[Span]:
    """Cut a text into spans of whole sentences whose tokens cost at most `budget`.

    starts, costs: of the source tokens, [T] each. A sentence over the budget is cut at
    spaces, a word over the budget between tokens. No span in `joined` (candidate
    mentions) is cut, unless it is over the budget itself. A single token is never over
    it. Spaces at the edges are left out.
    """
    starts = np.asarray(starts, np.int64)
    total = np.concatenate([[0.0], np.cumsum(np.asarray(costs, np.float64))])
    count = len(starts)
    if not count:
        return []
    whole = np.zeros(count + 1, bool)  # may a chunk start at token i?
    whole[np.searchsorted(starts, [s for s, _ in sentences(text)])] = True
    spaced = np.array([s == 0 or text[s - 1 : s].isspace() for s in starts] + [True])
    free = np.ones(count + 1, bool)
    for start, end in joined:
        i, j = np.searchsorted(starts, [start + 1, end])
        free[i:j] = False
    anywhere = np.ones_like(free)
    levels = [
        np.flatnonzero(level) for level in (whole & free, spaced & free, free, anywhere)
    ]
    spans, first = [], 0
    while first < count:
        last = int(np.searchsorted(total, total[first] + budget, side="right")) - 1
        last = max(last, first + 1)
        if last < count:
            last = next(filter(None, (_last_in(at, first, last) for at in levels)))
        end = int(starts[last]) if last < count else len(text)
        start = int(starts[first]) if first else 0
        piece = text[start:end]
        start += len(piece) - len(piece.lstrip())
        end = start + len(piece.strip())
        if start < end:
            spans.append((start, end))
        first = last
    return spans


def _last_in(at: np.ndarray, first: int, last: int) -> int | None:
    i = bisect.bisect_right(at, last)
    return int(at[i - 1]) if i and at[i - 1] > first else None
