"""Candidate mentions of a chunk in; its transition table out.

The table is the policy of DESIGN.md section 6 as an automaton: states, and for every
state its allowed edges (token, next state, bias), sorted by token. One edge: forced.
Several: a decision, the argmax of logit + bias. None: the end, for behind the last
decision span everything is copied.

    copy p:       source[p] -> copy p+1                 OPEN -> inside (p, p)
    inside s, q:  source[q] -> inside (s, q+1)          CLOSE -> closed (s, q)
    closed s, e:  ENTITY -> root of the titles of (s, e)
    title node:   token -> title node                   END -> copy e

A mention that may take any title of the knowledge base has no title nodes here: its
ENTITY edge leads into the one tree of all titles, which all chunks share.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from insgenel_jax.decoding.mentions import CandidateMention, merge_spans
from insgenel_jax.decoding.title_trie import TitleTrie, find_leaf
from insgenel_jax.decoding.trie import build_forest
from insgenel_jax.text.linked_text import Tokens, find_tokens
from insgenel_jax.tokenizer import Tokenizer

COPY, OPEN, CLOSE, ENTITY, TITLE, END = range(6)  # kinds of edges


@dataclasses.dataclass(frozen=True)
class Weights:
    """Biases on edges, and where decisions end. The weights at zero are the paper's.

    mention_bias: added to OPEN (the paper's constant offset). prior_weight,
    retriever_weight: exponents of p(entity | surface form) and of the retriever's
    softmax in the mass of title edges. rest_of_span: whether decisions go on behind a
    link within its decision span (the release: no).
    """

    mention_bias: float = 0.0
    prior_weight: float = 0.0
    retriever_weight: float = 0.0
    rest_of_span: bool = True


@dataclasses.dataclass(frozen=True)
class Table:
    """The automaton of one chunk. State 0 is the start; S states, E edges.

    An edge to a state below 0, always one of ENTITY, leads to the root of the tree of
    all titles, `titles` (None where no mention may take any title); from END there it
    goes on to state ~next. On a path, edge E + e is edge e of that tree.

    indptr int32 [S + 1]; token, next int32 [E]; bias float32 [E]; kind int8 [E].
    value int32 [E]: on CLOSE edges which of `mentions` it is, on END edges the entity,
    else -1. mentions: (token start, token end, candidate mention). span_end int32
    [last + 1]: for the states that copy source tokens, which are the first, the end of
    their decision span (their own number outside of one). longest: edges on the longest
    path. dropped: candidate mentions that start or end inside a token, or stand on a
    span that an earlier one has.
    """

    indptr: np.ndarray
    token: np.ndarray
    next: np.ndarray
    bias: np.ndarray
    kind: np.ndarray
    value: np.ndarray
    mentions: list[tuple[int, int, CandidateMention]]
    span_end: np.ndarray
    longest: int
    dropped: int
    titles: TitleTrie | None = None

    def degree(self, state: int) -> int:
        """How many edges leave a state; 0 at the end."""
        if state < 0:
            return int(self.titles.indptr[1])
        return int(self.indptr[state + 1] - self.indptr[state])

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
        """Raise ValueError where a mention may take any title: for `step` alone."""
        for start, end, candidate in self.mentions:
            if candidate.any_title:
                raise ValueError(
                    f"the {decoder} decoder expects candidates for every mention; that "
                    f"on tokens [{start}, {end}) may take any title of the knowledge "
                    'base: decode it with decoder="step", or give it candidates'
                )


@dataclasses.dataclass
class Path:
    """What was decided for a chunk: the edges taken, in order, and ln p of each.

    A forced edge has ln p = 0. vocabulary: ln p of the edges of links over the whole
    vocabulary, without biases (0 for other edges); None where it was not asked for.
    unlinked: (edges, log_probs, vocabulary) from OPEN to END of the best link that each
    block passed over. gap: of the closest decision, between the best and the second.
    score: of a hypothesis of beam search, else None. calls: forwards the chunk took
    part in; tokens: run in them.
    """

    edges: list[int]
    log_probs: list[float]
    vocabulary: list[float] | None = None
    unlinked: list[tuple[Sequence, Sequence, Sequence | None]] = dataclasses.field(
        default_factory=list
    )
    gap: float = float("inf")
    score: float | None = None
    calls: int = 0
    tokens: int = 0

    @classmethod
    def begin(cls, *, vocabulary: bool = False) -> Path:
        """A path of no edges."""
        return cls([], [], [] if vocabulary else None)

    def extend(self, edges, log_probs=None, vocabulary=None) -> None:
        """Take edges; without log_probs they were forced."""
        zeros = [0.0] * len(edges)
        self.edges += map(int, edges)
        self.log_probs += zeros if log_probs is None else map(float, log_probs)
        if self.vocabulary is not None:
            self.vocabulary += zeros if vocabulary is None else map(float, vocabulary)


@dataclasses.dataclass(frozen=True)
class Link:
    """A link on a path: what was marked, as whom, and how sure the generator was.

    open, span, title: ln of the product of p over the edges of OPEN, of the mention
    with CLOSE, and of the title with END. vocabulary: the same three over the whole
    vocabulary, or None.
    """

    mention: CandidateMention
    entity: int
    open: float
    span: float
    title: float
    vocabulary: tuple[float, float, float] | None = None

    @property
    def log_prob(self) -> float:
        """ln of the product of p over all edges of the link."""
        return self.open + self.span + self.title


def build_table(
    tokenizer: Tokenizer,
    tokens: Tokens,
    candidates: Sequence[CandidateMention],
    title_ids: Callable[[int], Sequence[int]],
    weights: Weights,
    titles: TitleTrie | None = None,
) -> Table:
    """Build the transition table of a chunk.

    tokens: the source tokens, in the same characters as the candidates. title_ids: the
    title tokens of an entity. Titles of one mention with equal tokens are one title,
    of the candidate that comes first. titles: the tree of all titles; a ValueError
    where it is missing and a candidate mention may take any.
    """
    mentions = _on_tokens(tokens, candidates)
    source = tokens.ids.tolist()
    last = max((end for _, end, _ in mentions), default=0)
    edges: list[tuple[int, int, int, float, int, int]] = []
    states = last + 1  # copy p is state p
    decision_spans = merge_spans([mention[:2] for mention in mentions])
    behind = {end: end for _, end, _ in mentions}  # a link's end -> state
    if not weights.rest_of_span:
        for start, end in decision_spans:
            for p in range(start + 1, end):  # states that pass the rest of the span by
                behind[p], states = states, states + 1
                to = end if p + 1 == end else states
                edges.append((behind[p], source[p], to, 0.0, COPY, -1))
    by_start: dict[int, list[int]] = {}
    for m, (start, _, _) in enumerate(mentions):
        by_start.setdefault(start, []).append(m)
    span_end = np.arange(last + 1, dtype=np.int32)
    for start, end in decision_spans:
        span_end[start:end] = end
    for p in range(last):
        if all(mentions[m][2].optional for m in by_start.get(p, ())):
            edges.append((p, source[p], p + 1, 0.0, COPY, -1))
    closed = []  # the state behind the CLOSE of each mention
    for start, members in by_start.items():
        edges.append((start, tokenizer.open, states, weights.mention_bias, OPEN, -1))
        reach = mentions[members[-1]][1]
        for q in range(start, reach):
            to = states + 1 + q - start
            edges.append((to - 1, source[q], to, 0.0, COPY, -1))
        first_closed = states + 1 + reach - start
        for i, m in enumerate(members):
            inside = states + mentions[m][1] - start
            edges.append((inside, tokenizer.close, first_closed + i, 0.0, CLOSE, m))
        closed += range(first_closed, first_closed + len(members))
        states = first_closed + len(members)
    own = [m for m, (_, _, c) in enumerate(mentions) if not c.any_title]
    if titles is None and len(own) < len(mentions):
        raise ValueError(
            "a candidate mention may take any title of the knowledge base: give the "
            "tree of all titles, or candidates for it"
        )
    roots = {m: states + i for i, m in enumerate(own)}
    for m, (_, end, _) in enumerate(mentions):
        to = roots.get(m, ~behind[end])
        edges.append((closed[m], tokenizer.entity, to, 0.0, ENTITY, -1))
    columns = [np.array(column) for column in zip(*edges, strict=True)]
    columns = columns or [np.zeros(0)] * 6
    forest, lengths = _title_edges(
        tokenizer, [mentions[m] for m in own], title_ids, weights, behind, states
    )
    columns = [np.concatenate(pair) for pair in zip(columns, forest, strict=True)]
    longest_titles = [titles.longest if titles else 0] * len(mentions)
    for m, length in zip(own, lengths, strict=True):
        longest_titles[m] = length
    order = np.lexsort((columns[1], columns[0]))
    state, token, following, bias, kind, value = (column[order] for column in columns)
    count = 1 + int(max(state.max(initial=0), following.max(initial=0)))
    degree = np.bincount(state.astype(np.int64), minlength=count)
    return Table(
        indptr=np.concatenate([[0], np.cumsum(degree)]).astype(np.int32),
        token=token.astype(np.int32),
        next=following.astype(np.int32),
        bias=bias.astype(np.float32),
        kind=kind.astype(np.int8),
        value=value.astype(np.int32),
        mentions=mentions,
        span_end=span_end,
        longest=_longest_path(mentions, longest_titles, last),
        dropped=len(candidates) - len(mentions),
        titles=titles if len(own) < len(mentions) else None,
    )


def _on_tokens(
    tokens: Tokens, candidates: Sequence[CandidateMention]
) -> list[tuple[int, int, CandidateMention]]:
    """The candidate mentions that lie on token boundaries, by start, then end."""
    placed = {}
    for candidate in candidates:
        span = find_tokens(tokens, candidate.start, candidate.end)
        if span is not None:
            placed.setdefault(span, candidate)
    return [(*span, placed[span]) for span in sorted(placed)]


def _title_edges(
    tokenizer, mentions, title_ids, weights, behind, states
) -> tuple[list[np.ndarray], list[int]]:
    """Edges from the root of each mention to every END, as six columns; longest titles.

    State `states` is the root of the first mention, and so on.
    """
    sequences, groups, entities, logs = [], [], [], []
    for m, (_, _, candidate) in enumerate(mentions):
        for entity in candidate.entities.tolist():
            sequences.append([*title_ids(entity), tokenizer.end])
        groups += [m] * len(candidate.entities)
        entities.append(candidate.entities)
        log_weight = (
            weights.prior_weight * candidate.log_prior
            + weights.retriever_weight * candidate.log_retriever
        )
        # bounded, so that no mass is zero
        logs.append(np.maximum(log_weight - log_weight.max(), -50.0))
    if not mentions:
        return [np.zeros(0)] * 6, []
    group = np.array(groups)
    entity = np.concatenate(entities)
    forest = build_forest(sequences, group, np.exp(np.concatenate(logs)), len(mentions))
    count, size = len(mentions), len(forest.token)
    node = states + np.arange(count + size)  # roots, then the node behind each edge
    parent = np.repeat(np.arange(count + size), np.diff(forest.indptr))
    # the mean weight below the child over the mean weight below the parent
    mean = np.log(forest.mass) - np.log(forest.size)
    ends = forest.leaf >= 0
    back = np.array([behind[end] for _, end, _ in mentions])
    to = node[count:].copy()
    to[ends] = back[group[forest.leaf[ends]]]
    columns = [
        node[parent],
        forest.token,
        to,
        mean[count:] - mean[parent],
        np.where(ends, END, TITLE),
        np.where(ends, entity[forest.leaf], -1),
    ]
    lengths = np.array([len(sequence) for sequence in sequences])
    longest = np.zeros(count, np.int64)
    np.maximum.at(longest, group, lengths)
    return columns, longest.tolist()


def _longest_path(mentions, longest_titles: list[int], last: int) -> int:
    """Edges on the longest way from copy 0 to copy `last`."""
    longest = [0] * (last + 1)
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


def read_links(
    table: Table,
    edges: Sequence[int],
    log_probs: Sequence[float],
    vocabulary: Sequence[float] | None = None,
) -> list[Link]:
    """The links on a path."""
    links, mention, part = [], None, 0
    sums = np.zeros((2, 3))  # over allowed edges and the vocabulary; OPEN, span, title
    full = log_probs if vocabulary is None else vocabulary
    for edge, *scores in zip(edges, log_probs, full, strict=True):
        kind, value = table.describe(edge)
        if kind == OPEN:
            part, sums = 0, np.zeros((2, 3))
        elif kind == ENTITY:
            part = 2
        sums[:, part] += scores
        if kind == OPEN:
            part = 1
        elif kind == CLOSE:
            mention = table.mentions[value][2]
        elif kind == END:
            allowed, whole = (tuple(map(float, row)) for row in sums)
            whole = None if vocabulary is None else whole
            links.append(Link(mention, value, *allowed, whole))
    return links


def follow(table: Table, state: int, *, links: bool = True) -> tuple[int, list[int]]:
    """Forced edges from a state: the state they lead to, and the edges.

    links: whether to follow them into a link, too. They end where the tree of all
    titles begins, whatever it holds.
    """
    edges = []
    while state >= 0 and table.degree(state) == 1:
        edge = int(table.indptr[state])
        if not links and table.kind[edge] == OPEN:
            break
        edges.append(edge)
        state = int(table.next[edge])
    return state, edges
