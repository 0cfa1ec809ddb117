"""The path that was decoded through a transition table, and the links on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from insgenel_jax.decoding.mentions import CandidateMention
from insgenel_jax.decoding.table import CLOSE, END, ENTITY, OPEN, Table


class ScoredEdges(NamedTuple):
    """Edges in order, ln p of each among the allowed ones, and over the vocabulary."""

    edges: Sequence[int] | Int[np.ndarray, " n"]
    log_probs: Sequence[float] | Float[np.ndarray, " n"]
    vocabulary: Sequence[float] | Float[np.ndarray, " n"] | None


class TitleScores(NamedTuple):
    """The n titles that a mention, by its number in the table, may be linked to.

    log_probs: ln p of the title with END, given that the mention is linked: over the
    allowed edges, with biases. unbiased: the same without biases.
    """

    mention: int
    entities: Int[np.ndarray, " n"]
    log_probs: Float[np.ndarray, " n"]
    unbiased: Float[np.ndarray, " n"]


@dataclasses.dataclass
class DecodedPath:
    """What was decided for a chunk: the edges taken, in order, and ln p of each.

    A forced edge has ln p = 0. vocabulary: ln p of the edges of links over the whole
    vocabulary, without biases (0 for other edges); None where it was not asked for.
    unlinked: the edges from OPEN to END of the best link that each block passed over.
    titles: where asked for, the scores of the titles of each mention that a block could
    link; of a mention that several blocks could link, one for each, in order.
    margin: of the closest decision, the best edge's logit minus the second's, both with
    bias (natural-log units; inf where nothing was decided). score: a hypothesis of beam
    search has one, other paths None. calls: forwards that the chunk took part in;
    tokens: how many of its tokens were run in them.
    """

    edges: list[int]
    log_probs: list[float]
    vocabulary: list[float] | None = None
    unlinked: list[ScoredEdges] = dataclasses.field(default_factory=list)
    titles: list[TitleScores] = dataclasses.field(default_factory=list)
    margin: float = float("inf")
    score: float | None = None
    calls: int = 0
    tokens: int = 0

    @classmethod
    def begin(cls, *, vocabulary: bool = False) -> DecodedPath:
        """A path of no edges."""
        return cls([], [], [] if vocabulary else None)

    def extend(
        self,
        edges: Sequence[int] | Int[np.ndarray, " n"],
        log_probs: Sequence[float] | Float[np.ndarray, " n"] | None = None,
        vocabulary: Sequence[float] | Float[np.ndarray, " n"] | None = None,
    ) -> None:
        """Append edges. Without log_probs they were forced."""
        zeros = [0.0] * len(edges)
        self.edges += map(int, edges)
        self.log_probs += zeros if log_probs is None else map(float, log_probs)
        if self.vocabulary is not None:
            self.vocabulary += zeros if vocabulary is None else map(float, vocabulary)


@dataclasses.dataclass(frozen=True)
class Link:
    """A link on a path: the mention, its entity, and how sure the generator was.

    open, span, title: ln of the product of p over the edges of OPEN, of the mention
    with CLOSE, and of ENTITY and the title with END. vocabulary: the same three over
    the whole vocabulary, or None.
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


def read_links(
    table: Table,
    edges: Sequence[int] | Int[np.ndarray, " n"],
    log_probs: Sequence[float] | Float[np.ndarray, " n"],
    vocabulary: Sequence[float] | Float[np.ndarray, " n"] | None = None,
) -> list[Link]:
    """The links on a path, in order."""
    kinds, own = table.lists.kind, len(table.token)
    full = log_probs if vocabulary is None else vocabulary
    links, mention, part = [], None, None
    for edge, log_prob, over_all in zip(edges, log_probs, full, strict=True):
        kind = kinds[edge] if edge < own else table.describe(int(edge))[0]
        if kind == OPEN:
            part, allowed, whole = 0, [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
        elif kind == ENTITY:
            part = 2
        if part is None:  # copied text between links
            continue
        allowed[part] += float(log_prob)
        whole[part] += float(over_all)
        if kind == OPEN:
            part = 1
        elif kind == CLOSE:
            mention = table.mentions[table.value[edge]][2]
        elif kind == END:
            _, entity = table.describe(int(edge))
            unasked = vocabulary is None
            links.append(
                Link(mention, entity, *allowed, None if unasked else tuple(whole))
            )
            part = None
    return links


def follow(table: Table, state: int, *, links: bool = True) -> tuple[int, list[int]]:
    """Follow forced edges from `state`; return the state reached and the edges taken.

    links: whether to follow a forced OPEN into its link. The walk ends where the prefix
    tree of all titles begins, even if only one edge is allowed there.
    """
    edges = []
    indptr, following, kinds = table.lists
    while state >= 0 and indptr[state + 1] - indptr[state] == 1:
        edge = indptr[state]
        if not links and kinds[edge] == OPEN:
            break
        edges.append(edge)
        state = following[edge]
    return state, edges


def log_softmax(
    logits: Float[np.ndarray, " E"], groups: Int[np.ndarray, " E"]
) -> Float[np.ndarray, " E"]:
    """ln of the softmax within each group, float64 [E].

    groups: the number of each logit's group; equal numbers stand side by side, in
    ascending order.
    """
    if not len(logits):
        return np.zeros(0)
    logits = np.asarray(logits, np.float64)
    first = np.flatnonzero(np.diff(groups, prepend=-1))
    sizes = np.diff(np.append(first, len(groups)))
    shifted = logits - np.repeat(np.maximum.reduceat(logits, first), sizes)
    return shifted - np.repeat(np.log(np.add.reduceat(np.exp(shifted), first)), sizes)
