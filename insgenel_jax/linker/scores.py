"""A decoded chunk in; its links out, each with all that tells how sure it is."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from insgenel_jax.decoding.path import DecodedPath, Link, read_links
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.linker.chunks import DocumentChunk
from insgenel_jax.linker.features import Features, ScoredLink, prior_margin
from insgenel_jax.text.document import Mention


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
            yield ScoredLink(mention, number == 0, make_features(kb, link))


def make_features(kb: KnowledgeBase, link: Link) -> Features:
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
        documents_linked=candidate.linked,
        documents_seen=candidate.seen,
        candidates=len(candidate.entities),
        prior_margin=prior_margin(candidate.log_prior, row),
        popularity=kb.popularity(link.entity),
    )
