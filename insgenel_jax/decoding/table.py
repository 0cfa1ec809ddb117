"""The transition table of a chunk: what may be decoded, and the bias of each choice.

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
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from insgenel_jax.decoding.mentions import CandidateMention
from insgenel_jax.decoding.title_trie import TitleTrie, find_leaf

COPY, OPEN, CLOSE, ENTITY, TITLE, END = range(6)  # kinds of edges
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
    prior_weight: exponent of p(entity | surface form) in the mass of title edges.
    retriever_weight: exponent of the retriever's softmax in that mass. rest_of_span:
    whether decisions go on after a link, in the rest of its decision span (*release*:
    no).

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
