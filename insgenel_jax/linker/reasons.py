"""A text and what was decided for it in; for each word, why it was or was not linked.

Every span that the dictionary has, or that a part of a linked name gives, gets one
reason: the stage that it reached. A word gets the reason of the span over it that got
farthest.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from insgenel_jax.decoding.mentions import merge_spans
from insgenel_jax.decoding.path import DecodedPath
from insgenel_jax.decoding.table import Table
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.kb.occurrences import find_filtered, find_occurrences
from insgenel_jax.linker.chunks import DocumentChunk, Stage
from insgenel_jax.linker.features import ScoredLink
from insgenel_jax.linker.settings import Settings
from insgenel_jax.text.document import WORD

Span = tuple[int, int]
# From the farthest stage to the first.
Reason = Literal[
    "linked",
    "below threshold",
    "another mention",
    "refused",
    "left out",
    "not retrieved",
    "filtered",
    "no surface form",
]
REASONS: tuple[Reason, ...] = get_args(Reason)

# Larger margins are not told apart: ln p of the copied token rounds to 0.
LARGEST_MARGIN = 36.0

_FILTERS = {
    "case": "it starts in lower case",
    "capitalised_run": "it lies inside a longer run of capitalised words",
}
_STAGES: dict[Stage, tuple[Reason, str]] = {
    "titles": ("left out", "the generator cannot write the titles of its entities"),
    "border": ("left out", "the border of a chunk cuts it"),
    "scope": ("not retrieved", "none of its entities was retrieved for its place"),
    "room": ("left out", "its chunk has no room for more candidate mentions"),
}


@dataclasses.dataclass(frozen=True)
class SpanReason:
    """Why a span [start, end) was linked, or not.

    detail: the filter, the other mention and so on, in words. entity: the linked one,
    else the most frequent of the surface form. score: of a link. margin: where the
    generator refused to open a mention, by how much OPEN fell short, in natural-log
    units, biases included. (With marginal selection and beam search, which compare
    whole mentions, it may be negative.)
    """

    start: int
    end: int
    reason: Reason
    detail: str = ""
    entity: str | None = None
    score: float | None = None
    margin: float | None = None

    def move(self, by: int) -> SpanReason:
        """The same at another place."""
        return dataclasses.replace(self, start=self.start + by, end=self.end + by)


@dataclasses.dataclass(frozen=True)
class WordReason:
    """Why a word [start, end) of a text was linked, or not.

    reason: that of the first span. spans: those that the word has a part in, the one
    that got farthest first, then the longest; () where no surface form has the word.
    """

    start: int
    end: int
    reason: Reason
    spans: tuple[SpanReason, ...] = ()

    def move(self, by: int) -> WordReason:
        """The same at another place, with its spans."""
        spans = tuple(span.move(by) for span in self.spans)
        return dataclasses.replace(
            self, start=self.start + by, end=self.end + by, spans=spans
        )


def explain_spans(
    kb: KnowledgeBase,
    text: str,
    settings: Settings,
    decided: Iterable[tuple[DocumentChunk, DecodedPath]],
    stages: Mapping[tuple[int, int, int], Stage],
    links: Sequence[ScoredLink],
) -> list[SpanReason]:
    """The reason of each span of one text, in order.

    decided, links: the chunks of the text, and the links that linking scores. stages:
    what left out candidate mentions on the way to the chunks.
    """
    reasons = {(r.start, r.end): r for r in _before_chunks(kb, text, settings)}
    for (_, *place), stage in stages.items():
        span = (place[0], place[1])
        reason, detail = _STAGES[stage]
        entity = reasons[span].entity if span in reasons else None
        reasons[span] = SpanReason(*span, reason, detail, entity)
    taken = [link for link in links if link.linked]
    for chunk, path in decided:
        for found in _in_chunk(kb, text, settings, chunk, path, taken):
            reasons[found.start, found.end] = found
    for link in links:
        mention, score = link.mention, link.mention.score or 0.0
        span, enough = (mention.start, mention.end), score >= settings.threshold
        detail = "" if enough else f"its score is below {settings.threshold:g}"
        reason: Reason = "linked" if enough else "below threshold"
        reasons[span] = SpanReason(*span, reason, detail, mention.entity, score)
    return [reasons[span] for span in sorted(reasons)]


def explain_words(text: str, spans: Sequence[SpanReason]) -> list[WordReason]:
    """The reason of each word of a text, in order.

    A span without a letter or digit stands among the words, as one.
    """
    words = {word.span() for word in WORD.finditer(text)}
    words |= {(s.start, s.end) for s in spans if not WORD.search(text, s.start, s.end)}
    places = sorted(words)
    starts, ends = ([place[edge] for place in places] for edge in (0, 1))
    over: list[list[SpanReason]] = [[] for _ in places]
    for span in spans:
        first = bisect.bisect_right(ends, span.start)
        for i in range(first, bisect.bisect_left(starts, span.end)):
            over[i].append(span)
    return [
        WordReason(
            *place,
            reason=min((s.reason for s in own), key=REASONS.index, default=REASONS[-1]),
            spans=tuple(sorted(own, key=_farthest)),
        )
        for place, own in zip(places, over, strict=True)
    ]


def _farthest(span: SpanReason) -> tuple[int, int, int]:
    return REASONS.index(span.reason), span.start - span.end, span.start


def _before_chunks(
    kb: KnowledgeBase, text: str, settings: Settings
) -> Iterator[SpanReason]:
    """The matches of the dictionary, as filtered, or else as not retrieved."""
    found = find_occurrences(kb, text)
    filtered = find_filtered(
        found, settings.case, settings.min_link_probability, settings.capitalised_run
    )
    starts, ends = found.starts.tolist(), found.ends.tolist()
    number = {span: i for i, span in enumerate(zip(starts, ends, strict=True))}
    for match in zip(*(column.tolist() for column in kb.matches(text)), strict=True):
        *span, form = match
        entities, _ = kb.candidates(form)
        entity = kb.title(int(entities[0])) if len(entities) else None
        i = number.get((span[0], span[1]))
        by = [name for name, out in filtered.items() if i is not None and out[i]]
        if i is None:
            yield SpanReason(*span, "filtered", "it is a stop word", entity)
        elif by:
            low = f"{found.probability[i]:.4f} is below {settings.min_link_probability}"
            what = f"{by[0]}: {_FILTERS.get(by[0], low)}"
            yield SpanReason(*span, "filtered", what, entity)
        else:
            what = f"none of its {len(entities)} entities was retrieved"
            yield SpanReason(*span, "not retrieved", what, entity)


def _in_chunk(
    kb: KnowledgeBase,
    text: str,
    settings: Settings,
    chunk: DocumentChunk,
    path: DecodedPath,
    taken: Sequence[ScoredLink],
) -> Iterator[SpanReason]:
    """The candidate mentions of a chunk, none of them as linked.

    taken: the links on the paths of the text.
    """
    table = chunk.chunk.table
    on_tokens = {
        (chunk.start + c.start, chunk.start + c.end): first
        for first, _, c in table.mentions
    }
    read = _read_states(table, path)
    # without rest_of_span nothing is decided after a link in a decision span
    decisions = [] if settings.rest_of_span else merge_spans(list(on_tokens))
    for candidate in chunk.candidates:
        span = (candidate.start, candidate.end)
        entity = kb.title(int(candidate.entities[0]))
        winner = _find_winner(span, decisions, taken)
        if span not in on_tokens:
            what = "it starts or ends inside a token"
            yield SpanReason(*span, "left out", what, entity)
        elif path.score == -math.inf:
            what = "all beams of its chunk ended in a dead end"
            yield SpanReason(*span, "left out", what, entity)
        elif winner is not None:
            other = text[winner.mention.start : winner.mention.end]
            what = f"“{other}” was taken, for {winner.mention.entity}"
            yield SpanReason(*span, "another mention", what, entity)
        else:
            margin = _margin(read[on_tokens[span]])
            what = f"the generator did not open it, by {margin:.2f}"
            yield SpanReason(*span, "refused", what, entity, margin=margin)


def _find_winner(
    span: Span, decisions: Iterable[Span], taken: Sequence[ScoredLink]
) -> ScoredLink | None:
    """The link that leaves a span no chance, if there is one.

    It overlaps the span, or ends the decision span, one of `decisions`, before it.
    """
    start, end = span
    reach = next((first for first, last in decisions if first <= start < last), start)
    for link in taken:
        if reach <= link.mention.start < start or (
            link.mention.start < end and start < link.mention.end
        ):
            return link
    return None


def _read_states(table: Table, path: DecodedPath) -> dict[int, float]:
    """ln p of the edge that a path takes in each state it goes through."""
    edges = np.array(path.edges, np.int64)
    own = edges < len(table.token)
    states = np.searchsorted(table.indptr, edges[own], side="right") - 1
    log_probs = np.array(path.log_probs)[own]
    return dict(zip(states.tolist(), log_probs.tolist(), strict=True))


def _margin(log_prob: float) -> float:
    """The logit of one of two edges minus the other's, from ln p of the one."""
    other = -math.expm1(log_prob)
    if other <= 0:
        return LARGEST_MARGIN
    return min(log_prob - math.log(other), LARGEST_MARGIN)
