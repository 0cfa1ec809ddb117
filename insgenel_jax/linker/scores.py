"""A decoded chunk in; its links out, each with all that tells how sure it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from insgenel_jax.decoding.path import DecodedPath, Link, TitleScores, read_links
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.linker.chunks import DocumentChunk
from insgenel_jax.linker.features import Features, ScoredLink, prior_margin
from insgenel_jax.text.document import Candidate, Mention

Span = tuple[int, int]


def score_links(
    kb: KnowledgeBase,
    chunk: DocumentChunk,
    path: DecodedPath,
    *,
    unlinked: bool = True,
    others: int = 0,
) -> Iterator[ScoredLink]:
    """The links of a chunk: those on the path, then those passed over if `unlinked`.

    others: how many other candidates a mention carries; the path has their scores.
    """
    table = chunk.chunk.table
    titles: dict[Span, TitleScores] = {}
    for scores in path.titles if others else ():  # the last of a mention's counts
        inside = table.mentions[scores.mention][2]
        titles[inside.start, inside.end] = scores
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
                candidates=rank_others(kb, link, titles, others),
                no_mention=-math.expm1(link.open + link.span) if others else None,
            )
            yield ScoredLink(mention, number == 0, make_features(kb, link))


def rank_others(
    kb: KnowledgeBase, link: Link, titles: Mapping[Span, TitleScores], most: int
) -> tuple[Candidate, ...]:
    """The most probable other entities of a link's mention, the first `most` of them.

    titles: of each mention. One that had a single title has none there.
    """
    scores = titles.get((link.mention.start, link.mention.end))
    if scores is None:
        return ()
    marked = link.open + link.span  # ln p that this span is linked
    order = np.argsort(-scores.log_probs, kind="stable").tolist()
    others = [i for i in order if scores.entities[i] != link.entity]
    return tuple(
        Candidate(
            kb.title(int(scores.entities[i])),
            math.exp(marked + float(scores.log_probs[i])),
        )
        for i in others[:most]
    )


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
