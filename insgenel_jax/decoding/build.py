"""Candidate mentions of a chunk in; its transition table out (see decoding.table)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from insgenel_jax.decoding.mentions import CandidateMention, merge_spans
from insgenel_jax.decoding.table import (
    CLOSE,
    COPY,
    END,
    ENTITY,
    LARGEST_BIAS,
    OPEN,
    TITLE,
    OnTokens,
    Table,
    Weights,
)
from insgenel_jax.decoding.title_trie import TitleTrie
from insgenel_jax.decoding.trie import Forest, build_forest
from insgenel_jax.text.linked_text import Tokens, find_tokens
from insgenel_jax.tokenizer import Tokenizer

# The smallest ln weight of a candidate, relative to the best candidate of its mention.
# This floor keeps every mass above zero, and lies far below what the logits of a model
# can make up for.
LEAST_LOG_WEIGHT = -500.0


class _Edge(NamedTuple):
    """One edge of a table that is being built."""

    state: int
    token: int
    next: int
    kind: int
    bias: float = 0.0
    value: int = -1


class _Columns(NamedTuple):
    """Edges as columns [E], in any order."""

    state: np.ndarray
    token: np.ndarray
    next: np.ndarray
    kind: np.ndarray
    bias: np.ndarray
    value: np.ndarray


def build_table(
    tokenizer: Tokenizer,
    tokens: Tokens,
    candidates: Sequence[CandidateMention],
    title_ids: Callable[[int], Sequence[int]] | None,
    weights: Weights,
    titles: TitleTrie | None = None,
) -> Table:
    """Build the transition table of a chunk.

    tokens: the source tokens; their offsets and the candidates' count the same
    characters. title_ids: gives the title tokens of an entity. Titles of one mention
    with equal tokens become one title, which names the candidate that comes first.
    titles: the prefix tree of all titles. Raises ValueError where it is missing and a
    candidate mention may take any title.
    """
    mentions = _on_tokens(tokens, candidates)
    listed = [m for m, (_, _, c) in enumerate(mentions) if not c.any_title]
    if titles is None and len(listed) < len(mentions):
        raise ValueError(
            "a candidate mention may take any title of the knowledge base: give the "
            "tree of all titles, or candidates for it"
        )
    source = tokens.ids.tolist()
    spans = merge_spans([mention[:2] for mention in mentions])
    last = max((end for _, end, _ in mentions), default=0)
    states = itertools.count(last + 1)  # numbers not in use yet; copy p is state p
    edges, resume = _resume_edges(source, mentions, spans, weights, states)
    edges += _copy_edges(source, mentions, last)
    marked, closed = _mention_edges(tokenizer, source, mentions, weights, states)
    first_root = next(states)
    roots = {m: first_root + i for i, m in enumerate(listed)}
    edges += marked
    edges += [
        _Edge(closed[m], tokenizer.entity, roots.get(m, ~resume[end]), ENTITY)
        for m, (_, end, _) in enumerate(mentions)
    ]
    ends = [resume[mentions[m][1]] for m in listed]
    title_edges, lengths = _title_edges(
        tokenizer,
        [mentions[m][2] for m in listed],
        title_ids,
        weights,
        first_root,
        ends,
    )
    longest_titles = [titles.longest if titles else 0] * len(mentions)
    for m, length in zip(listed, lengths, strict=True):
        longest_titles[m] = length
    return Table(
        **_sort_edges(_join(_as_columns(edges), title_edges)),
        mentions=mentions,
        span_end=_span_ends(spans, last),
        longest=_longest_path(mentions, longest_titles, last),
        dropped=len(candidates) - len(mentions),
        titles=titles if len(listed) < len(mentions) else None,
        mention_bias=weights.mention_bias,
    )


def _on_tokens(
    tokens: Tokens, candidates: Sequence[CandidateMention]
) -> list[OnTokens]:
    """The candidate mentions that lie on token boundaries, by start, then end."""
    placed: dict[tuple[int, int], CandidateMention] = {}
    for candidate in candidates:
        span = find_tokens(tokens, candidate.start, candidate.end)
        if span is not None:
            placed.setdefault(span, candidate)
    return [(*span, placed[span]) for span in sorted(placed)]


def _resume_edges(
    source: list[int],
    mentions: list[OnTokens],
    spans: list[tuple[int, int]],
    weights: Weights,
    states: Iterator[int],
) -> tuple[list[_Edge], dict[int, int]]:
    """The state that decoding resumes in after a link that ends at each token.

    That is the state that copies the next source token. Without rest_of_span it is a
    state of its own, whose edges copy the rest of the decision span without decisions.
    """
    edges, resume = [], {end: end for _, end, _ in mentions}
    for start, end in [] if weights.rest_of_span else spans:
        for p in range(start + 1, end):
            resume[p] = next(states)
        for p in range(start + 1, end):
            behind = end if p + 1 == end else resume[p + 1]
            edges.append(_Edge(resume[p], source[p], behind, COPY))
    return edges, resume


def _copy_edges(source: list[int], mentions: list[OnTokens], last: int) -> list[_Edge]:
    """The edges that copy one source token each.

    There is none where a given mention begins, because that mention must be opened.
    """
    given = {start for start, _, c in mentions if not c.optional}
    return [_Edge(p, source[p], p + 1, COPY) for p in range(last) if p not in given]


def _mention_edges(
    tokenizer: Tokenizer,
    source: list[int],
    mentions: list[OnTokens],
    weights: Weights,
    states: Iterator[int],
) -> tuple[list[_Edge], list[int]]:
    """OPEN, the mentions' tokens and CLOSE; the state after CLOSE of each mention.

    Mentions of one start share their tokens, up to the longest of them.
    """
    edges, closed = [], []
    by_start = itertools.groupby(enumerate(mentions), key=lambda item: item[1][0])
    for start, group in by_start:
        members = [(m, end, c) for m, (_, end, c) in group]  # by end
        inside = [next(states) for _ in range(start, members[-1][1] + 1)]
        opening, longer = _mention_biases([c for _, _, c in members], weights)
        bias = {
            end: value for (_, end, _), value in zip(members[:-1], longer, strict=True)
        }
        edges.append(_Edge(start, tokenizer.open, inside[0], OPEN, opening))
        edges += [
            _Edge(state, source[start + i], behind, COPY, bias.get(start + i, 0.0))
            for i, (state, behind) in enumerate(itertools.pairwise(inside))
        ]
        for m, end, _ in members:
            closed.append(next(states))
            at = inside[end - start]
            edges.append(_Edge(at, tokenizer.close, closed[m], CLOSE, value=m))
    return edges, closed


def _mention_biases(
    mentions: Sequence[CandidateMention], weights: Weights
) -> tuple[float, list[float]]:
    """The biases for n mentions that start together, the shortest first.

    That of OPEN, and of the tokens that lengthen mention 0, 1, ... n - 2.
    """
    odds = np.array([mention.link_log_odds for mention in mentions])
    best = np.maximum.accumulate(odds[::-1])[::-1]  # of each mention and those longer
    opening = weights.mention_bias + weights.link_weight * best[0]
    longer = weights.length_bias + weights.link_weight * (best[1:] - odds[:-1])
    limited = np.clip([opening, *longer], -LARGEST_BIAS, LARGEST_BIAS).tolist()
    return limited[0], limited[1:]


def _span_ends(spans: list[tuple[int, int]], last: int) -> Int[np.ndarray, " P"]:
    """The end of each source token's decision span; outside of one its own number."""
    ends = np.arange(last + 1, dtype=np.int32)
    for start, end in spans:
        ends[start:end] = end
    return ends


def _title_edges(
    tokenizer: Tokenizer,
    mentions: Sequence[CandidateMention],
    title_ids: Callable[[int], Sequence[int]] | None,
    weights: Weights,
    first_root: int,
    ends: Sequence[int],
) -> tuple[_Columns, list[int]]:
    """The prefix trees of the titles of N mentions; edges of each one's longest title.

    The root of mention i is state first_root + i, further nodes follow; its END edges
    lead to state ends[i].
    """
    if not mentions:
        return _as_columns([]), []
    sequences = [
        [*title_ids(entity), tokenizer.end]
        for mention in mentions
        for entity in mention.entities.tolist()
    ]
    group = np.repeat(np.arange(len(mentions)), [len(c.entities) for c in mentions])
    entity = np.concatenate([mention.entities for mention in mentions])
    weight = np.concatenate([_candidate_weights(c, weights) for c in mentions])
    forest = build_forest(sequences, group, weight, len(mentions))
    columns = _forest_columns(forest, first_root, entity, np.array(ends)[group])
    longest = np.zeros(len(mentions), np.int64)
    np.maximum.at(longest, group, [len(sequence) for sequence in sequences])
    return columns, longest.tolist()


def _candidate_weights(
    mention: CandidateMention, weights: Weights
) -> Float[np.ndarray, " n"]:
    """p(entity | surface form) and the retriever's softmax, each to its power.

    Relative to the best candidate's, as only ratios matter.
    """
    log_weight = (
        weights.prior_weight * mention.log_prior
        + weights.retriever_weight * mention.log_retriever
    )
    return np.exp(np.maximum(log_weight - log_weight.max(), LEAST_LOG_WEIGHT))


def _forest_columns(
    forest: Forest, first_root: int, entity: np.ndarray, back: np.ndarray
) -> _Columns:
    """Title edges. entity, back: of each title its entity, and where its END leads."""
    roots = len(forest.indptr) - 1 - len(forest.token)
    node = first_root + np.arange(len(forest.indptr) - 1)
    parent = np.repeat(np.arange(len(node)), np.diff(forest.indptr))
    # bias: ln of the mean weight below the child over the mean weight below the parent
    mean = np.log(forest.mass) - np.log(forest.size)
    ends = forest.leaf >= 0
    behind = node[roots:].copy()
    behind[ends] = back[forest.leaf[ends]]
    return _Columns(
        state=node[parent],
        token=forest.token,
        next=behind,
        kind=np.where(ends, END, TITLE),
        bias=mean[roots:] - mean[parent],
        value=np.where(ends, entity[forest.leaf], -1),
    )


def _as_columns(edges: Sequence[_Edge]) -> _Columns:
    if not edges:
        return _Columns(*[np.zeros(0, np.int64)] * len(_Columns._fields))
    return _Columns(*map(np.array, zip(*edges, strict=True)))


def _join(a: _Columns, b: _Columns) -> _Columns:
    return _Columns(*map(np.concatenate, zip(a, b, strict=True)))


def _sort_edges(edges: _Columns) -> dict[str, np.ndarray]:
    """The arrays of a table: edges by state, then token."""
    order = np.lexsort((edges.token, edges.state))
    edges = _Columns(*(column[order] for column in edges))
    states = 1 + int(max(edges.state.max(initial=0), edges.next.max(initial=0)))
    degree = np.bincount(edges.state.astype(np.int64), minlength=states)
    return {
        "indptr": np.concatenate([[0], np.cumsum(degree)]).astype(np.int32),
        "token": edges.token.astype(np.int32),
        "next": edges.next.astype(np.int32),
        "bias": edges.bias.astype(np.float32),
        "kind": edges.kind.astype(np.int8),
        "value": edges.value.astype(np.int32),
    }


def _longest_path(
    mentions: list[OnTokens], longest_titles: list[int], last: int
) -> int:
    """How many edges the longest path from copy 0 to copy `last` has."""
    longest = [0] * (last + 1)  # from copy p on
    at = len(mentions)
    for p in reversed(range(last)):
        longest[p] = 1 + longest[p + 1]
        while at and mentions[at - 1][0] == p:
            at -= 1
            end = mentions[at][1]
            # OPEN, the mention, CLOSE, ENTITY, the title with its END
            link = 3 + end - p + longest_titles[at]
            longest[p] = max(longest[p], link + longest[end])
    return longest[0]
