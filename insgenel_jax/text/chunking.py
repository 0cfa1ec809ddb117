"""A text in; windows for the retriever and chunks for the generator out.

Windows and chunks are character spans [start, end) of the text.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

Span = tuple[int, int]

_WORD = re.compile(r"\S+")
# The quantifiers are possessive (++): without backtracking a long run of marks takes
# linear time.
_SENTENCE_END = re.compile(
    r"""(?P<mark>[.!?…。！？]++)["'”’»)\]]*+(?P<space>\s*+)|(?P<line>\n\s*+)"""
)
# A full stop after one of these abbreviations or initials ends no sentence.
_NO_END = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|(?:[A-Z]\.)+[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Gen|Col|Lt|Sgt|"
    r"Capt|Gov|Sen|Rep|Rev|Hon|No|Nos|vs|etc|e\.g|i\.e|cf|ca|approx|Inc|Corp|Ltd|Co|"
    r"Fig|Vol|pp|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec)$"
)


def windows(text: str, length: int = 32, stride: int = 16) -> list[Span]:
    """Spans of `length` words, one starting every `stride` words (*paper*, 3.2).

    Words are separated by whitespace. Each word lies in at least one window; a text
    without words has no windows. Raises ValueError for a stride that would leave words
    out.
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
    """Spans of the sentences, which tile the text: each includes the spaces after it.

    A sentence ends at a line break or at one of `.!?…。！？`. A full stop after an
    abbreviation or an initial, or before a small letter, ends no sentence.
    """
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
    starts: Int[np.ndarray, " T"] | Sequence[int],
    costs: Float[np.ndarray, " T"] | Sequence[float],
    budget: float,
    joined: Iterable[Span] = (),
) -> list[Span]:
    """Cut a text into spans of whole sentences whose tokens cost at most `budget`.

    starts, costs: the first character and the cost of each source token. A sentence
    that exceeds the budget is cut at spaces, a word that exceeds it between tokens. A
    span in `joined` (candidate mentions) is cut only if it exceeds the budget itself.
    Each chunk has at least one token, whatever that costs. Spaces at its edges are left
    out.
    """
    starts = np.asarray(starts, np.int64)
    total = np.concatenate([[0.0], np.cumsum(np.asarray(costs, np.float64))])
    count = len(starts)
    if not count:
        return []
    # For each token, and for the end of the text: may a chunk start there?
    whole = np.zeros(count + 1, bool)  # at a sentence
    whole[np.searchsorted(starts, [s for s, _ in sentences(text)])] = True
    spaced = np.array([s == 0 or text[s - 1 : s].isspace() for s in starts] + [True])
    free = np.ones(count + 1, bool)  # outside all joined spans
    for start, end in joined:
        i, j = np.searchsorted(starts, [start + 1, end])
        free[i:j] = False
    anywhere = np.ones_like(free)
    # from the best place to cut to the worst
    levels = [
        np.flatnonzero(level) for level in (whole & free, spaced & free, free, anywhere)
    ]
    spans, first = [], 0
    while first < count:
        last = int(np.searchsorted(total, total[first] + budget, side="right")) - 1
        last = max(last, first + 1)
        if last < count:
            cuts = (_last_within(level, first, last) for level in levels)
            last = next(filter(None, cuts))
        end = int(starts[last]) if last < count else len(text)
        start = int(starts[first]) if first else 0
        piece = text[start:end]
        start += len(piece) - len(piece.lstrip())
        end = start + len(piece.strip())
        if start < end:
            spans.append((start, end))
        first = last
    return spans


def _last_within(at: Int[np.ndarray, " N"], first: int, last: int) -> int | None:
    """The last number in (first, last] of ascending ones, or None."""
    i = bisect.bisect_right(at, last)
    return int(at[i - 1]) if i and at[i - 1] > first else None
