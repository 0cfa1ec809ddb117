"""A decoded chunk in; its links out, each with all that tells how sure it is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from insgenel_jax.decoding.path import DecodedPath, Link, read_links
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.linker.chunks import DocumentChunk
from insgenel_jax.text.document import Mention


class Features(NamedTuple):
    """What is known of a link, as numbers; nan where it was not asked for.

    open, span, title: ln of the probability of OPEN, of the mention with CLOSE, and of
    ENTITY and the title with END, over the allowed edges; they sum to ln of the score.
    vocabulary_open, vocabulary_span, vocabulary_title: the same over the whole
    vocabulary and without biases (with `vocabulary_scores`). prior: ln p(entity |
    surface form); retriever: ln of the softmax of the retriever's scores. Both are over
    the mention's candidates, and nan where the mention may take any title.
    retriever_score: the retriever's score itself, an inner product; nan where the
    entity was not retrieved. link_probability: of the surface form, 0 to 1.
    """

    open: float
    span: float
    title: float
    vocabulary_open: float
    vocabulary_span: float
    vocabulary_title: float
    prior: float
    retriever: float
    retriever_score: float
    link_probability: float


class ScoredLink(NamedTuple):
    """A link that the generator scored.

    linked: whether it was taken. Otherwise it is the best link that its block passed
    over.
    """

    mention: Mention
    linked: bool
    features: Features


def score_links(
    kb: KnowledgeBase, chunk: DocumentChunk, path: DecodedPath, *, unlinked: bool = True
) -> Iterator[ScoredLink]:
    """The links of a chunk: those on the path, then those passed over if `unlinked`."""
    table = chunk.chunk.table
    ways = [(path.edges, path.log_probs, path.vocabulary)]
    ways += path.unlinked if unlinked else []
    for number, way in enumerate(ways):
        for link in read_links(table, *way):
            mention = Mention(
                start=chunk.start + link.mention.start,
                end=chunk.start + link.mention.end,
                entity=kb.title(link.entity),
                external_id=kb.external_id(link.entity),
                score=math.exp(link.log_prob),
            )
            yield ScoredLink(mention, number == 0, make_features(link))


def make_features(link: Link) -> Features:
    """The features of a link on a path."""
    candidate = link.mention
    row = np.flatnonzero(candidate.entities == link.entity)  # none with any title

    def pick(values: np.ndarray | None) -> float:
        return math.nan if values is None or not len(row) else float(values[row[0]])

    return Features(
        link.open,
        link.span,
        link.title,
        *(link.vocabulary or (math.nan,) * 3),
        prior=pick(candidate.log_prior),
        retriever=pick(candidate.log_retriever),
        retriever_score=pick(candidate.retriever_scores),
        link_probability=candidate.link_probability,
    )
