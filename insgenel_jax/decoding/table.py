"""Candidate mentions of a chunk in; its transition table out.

The table is the policy of constrained decoding (*paper*, 3.3) as an automaton:
states, and for each state its allowed edges (token, next state, bias), sorted by token.
Where a state has one edge, that edge is forced. Where it has several, a decision is
made: the argmax of logit + bias. Where it has none, decoding ends: after the last
decision span all source tokens are copied.

    copy p:       source[p] -> copy p+1                 OPEN -> inside (p, p)
    inside s, q:  source[q] -> inside (s, q+1)          CLOSE -> closed (s, q)
    closed s, e:  ENTITY -> root of the titles of (s, e)
    title node:   token -> title node                   END -> copy e

A mention that may take any title of the knowledge base has no title nodes here: its
ENTITY edge leads into the one prefix tree of all titles, which all chunks share.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from insgenel_jax.decoding.mentions import CandidateMention, merge_spans
from insgenel_jax.decoding.title_trie import TitleTrie, find_leaf
from insgenel_jax.decoding.trie import Forest, build_forest
from insgenel_jax.text.linked_text import Tokens, find_tokens
from insgenel_jax.tokenizer import Tokenizer

COPY, OPEN, CLOSE, ENTITY, TITLE, END = range(6)  # kinds of edges
# The smallest ln weight of a candidate, relative to the best candidate of its mention.
# This floor keeps every mass above zero, and lies far below what the logits of a model
# can make up for.
LEAST_LOG_WEIGHT = -500.0
# The largest bias of an edge, either way, and the largest weight. At this size float32
# still tells logits apart that differ by 1/16.
LARGEST_BIAS = 1e6

OnTokens = tuple[int, int, CandidateMention]  # [start, end) in source tokens


@dataclasses.dataclass(frozen=True)
class Weights:
    """Biases on edges, and where decisions end. The defaults are the paper's.

    mention_bias: added to the logit of OPEN (the paper's constant offset). length_bias:
    added to the logit of the token that lengthens a mention where it could be closed.
    link_weight: weighs how often surface forms are linked. With s the link log-odds of
    a mention (CandidateMention.link_log_odds), OPEN gets link_weight * max s over the
    mentions that start there, and a token that lengthens a mention gets link_weight *
    (max s over the longer mentions - s of the mention that could be closed).
    prior_weight, retriever_weight: exponents of p(entity | surface form) and of the
    retriever's softmax in the mass of title edges. rest_of_span: whether decisions go
    on after a link, in the rest of its decision span (*release*: no).

    With greedy selection, a mention_bias, a length_bias and a prior_weight that are
    large make the links those of the lookup baseline: the leftmost longest mentions,
    each with its most frequent entity. Large biases are those that exceed the
    differences of the model's logits; 1,000 is far more. A large prior_weight is one
    that does so times the ln of the ratio of the two highest counts; at 1,000,000 the
    counts 10,000 and 9,999 differ by 100. The sum of an edge's terms is formed in
    float64, limited to LARGEST_BIAS and rounded to float32 once, so that large terms
    that cancel each other cost no precision.
    """

    mention_bias: float = 0.0
    length_bias: float = 0.0
    link_weight: float = 0.0
    prior_weight: float = 0.0
    retriever_weight: float = 0.0
    rest_of_span: bool = True


class EdgeLists(NamedTuple):
    """Arrays of a table as lists, see `Table`."""

    indptr: list[int]
    next: list[int]
    kind: list[int]


@dataclasses.dataclass(frozen=True)
class Table:
    """The automaton of one chunk: S states, of which 0 is the start, and E edges.

    The edges of state i are indptr[i]:indptr[i + 1]. A negative `next`, always of an
    ENTITY edge, enters the prefix tree of all titles; after END there, decoding resumes
    in state `~next`. On a path, the number E + e stands for edge e of that tree.

    value: on CLOSE edges which of `mentions` it closes, on END edges the entity, else
    -1. mentions: (token start, token end, candidate mention). span_end: one entry for
    each of the first states, where state p stands before source token p: the end of the
    decision span that the token is in, or p outside of spans. longest: edges on the
    longest path. dropped: how many candidate mentions start or end inside a token, or
    stand on the same tokens as an earlier one. titles: the tree of all titles; None
    where no mention needs it. mention_bias: the bias of OPEN where no candidate mention
    starts; only beam search opens there (whole_target.extend).
    """

    indptr: Int[np.ndarray, " _"]  # int32 [S + 1]
    token: Int[np.ndarray, " E"]  # int32
    next: Int[np.ndarray, " E"]  # int32
    bias: Float[np.ndarray, " E"]  # float32
    kind: Int[np.ndarray, " E"]  # int8
    value: Int[np.ndarray, " E"]  # int32
    mentions: list[OnTokens]
    span_end: Int[np.ndarray, " _"]  # int32 [last source token in a mention + 1]
    longest: int
    dropped: int
    titles: TitleTrie | None = None
    mention_bias: float = 0.0

    @functools.cached_property
    def lists(self) -> EdgeLists:
        """The arrays that are walked edge by edge, as lists: faster in Python."""
        return EdgeLists(self.indptr.tolist(), self.next.tolist(), self.kind.tolist())

    def degree(self, state: int) -> int:
        """How many edges leave a state; 0 at the end."""
        if state < 0:
            return int(self.titles.indptr[1])
        indptr = self.lists.indptr
        return indptr[state + 1] - indptr[state]

    @property
    def spans(self) -> int:
        """The number of decision spans."""
        inside = self.span_end > np.arange(len(self.span_end))
        return len(np.unique(self.span_end[inside]))

    def token_ids(self, edges: Sequence[int]) -> list[int]:
        """The tokens of the edges of a path."""
        own = len(self.token)
        return [
            int(self.token[edge] if edge < own else self.titles.token[edge - own])
            for edge in edges
        ]

    def describe(self, edge: int) -> tuple[int, int]:
        """The kind and the value of an edge of a path."""
        own = len(self.token)
        if edge < own:
            return int(self.kind[edge]), int(self.value[edge])
        entity = find_leaf(self.titles, edge - own)
        return (TITLE, -1) if entity is None else (END, entity)

    def refuse_all_titles(self, decoder: str) -> None:
        """Raise ValueError where a mention may take any title: only `step` can."""
        for start, end, candidate in self.mentions:
            if candidate.any_title:
                raise ValueError(
                    f"the {decoder} decoder expects candidates for every mention; that "
                    f"on tokens [{start}, {end}) may take any title of the knowledge "
                    'base: decode it with decoder="step", or give it candidates'
                )


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
