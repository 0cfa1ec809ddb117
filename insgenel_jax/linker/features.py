"""The scored links of a document in; the numbers that a calibrator reads out.

The linker and the prior-only baseline share them: the baseline's links have no numbers
of a generator, so those are nan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import regex
from jaxtyping import Float

from insgenel_jax.kb.folding import form_key
from insgenel_jax.kb.occurrences import inside_longer_run
from insgenel_jax.text.document import WORD, Mention

LEAST = -20.0  # ln of the smallest probability that is told apart from smaller ones


class Features(NamedTuple):
    """What is known of a link, as numbers; nan where it was not asked for.

    open, span, title: ln of the probability of OPEN, of the mention with CLOSE, and of
    ENTITY and the title with END, over the allowed edges; they sum to ln of the score
    without a calibrator. vocabulary_open, vocabulary_span, vocabulary_title: the same
    over the whole vocabulary and without biases (with `vocabulary_scores`). prior: ln
    p(entity | surface form); retriever: ln of the softmax of the retriever's scores.
    Both are over the mention's candidates, and nan where the mention may take any
    title. retriever_score: the retriever's score itself, an inner product; nan without
    a retriever and for parts of names. link_probability: of the surface form, 0 to 1.

    documents_linked, documents_seen: how many documents of the knowledge base's source
    link the surface form, and how many have it; 0 where that is not known. candidates:
    the number of the mention's candidates. prior_margin: `prior` minus that of the best
    other candidate; nan where there is no other. popularity: the links and redirects of
    the entity, see `KnowledgeBase.popularity`.
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
    documents_linked: float
    documents_seen: float
    candidates: float
    prior_margin: float
    popularity: float


class ScoredLink(NamedTuple):
    """A link with its score and with what tells how sure it is.

    linked: whether it was taken. Otherwise it is the best link that its block passed
    over.
    """

    mention: Mention
    linked: bool
    features: Features


# What `describe` gives, in this order. score: the log-odds of exp(open + span + title).
# link_log_odds: of the documents that link the surface form among those that have it.
# inside_run: see `occurrences.inside_longer_run`. same_title, same_name: the surface is
# the title; it is in any letter case, without the title's parenthesis. after_comma,
# before_comma: a capitalised word and a comma stand before it, or after it, as where
# places are nested. The last two look at the links of the document that end before this
# one begins.
NAMES: tuple[str, ...] = (
    *("open", "span", "title", "score"),
    *("vocabulary_open", "vocabulary_span", "vocabulary_title"),
    *("prior", "prior_margin", "retriever", "retriever_score"),
    *("link_probability", "link_log_odds", "log_linked", "log_seen", "log_candidates"),
    *("log_popularity", "linked", "inside_run", "log_words", "log_characters"),
    *("sentence_start", "capitalised", "all_capitals", "last_word_lower"),
    *("same_title", "same_name", "parenthesis", "after_comma", "before_comma"),
    *("surface_before", "entity_before"),
)

# what stands before the first word of a sentence
_BETWEEN_SENTENCES = regex.compile(r"(?:^|[.!?:\n])[\s\p{P}]*$")
_AFTER_COMMA = regex.compile(r"\p{Lu}[\p{L}\p{M}]*, $")
_BEFORE_COMMA = regex.compile(r", \p{Lu}")
_NEAR = 30  # characters on either side that are looked at


def describe(text: str, links: Sequence[ScoredLink]) -> Float[np.ndarray, "N F"]:
    """The numbers `NAMES` of each link of one text; nan where one is not known.

    links: all that were scored in the text, in any order.
    """
    starts, ends = ([getattr(m, edge) for m, *_ in links] for edge in ("start", "end"))
    inside = inside_longer_run(text, starts, ends).tolist()
    rows = [
        [
            *_describe_numbers(link),
            inside_run,
            *_describe_text(text, link.mention),
            *past,
        ]
        for link, inside_run, past in zip(
            links, inside, _repeats(text, links), strict=True
        )
    ]
    return np.array(rows, np.float64).reshape(-1, len(NAMES))


def prior_margin(log_prior: np.ndarray, row: np.ndarray) -> float:
    """ln p of a candidate minus that of the best other; nan where there is no other.

    log_prior: of all candidates of a mention. row: one number, or none.
    """
    if not len(row) or len(log_prior) < 2:
        return math.nan
    return float(log_prior[row[0]] - np.delete(log_prior, row[0]).max())


def _describe_numbers(link: ScoredLink) -> list[float]:
    """The numbers that the features give, up to "linked"."""
    known = link.features
    linked, seen = known.documents_linked, known.documents_seen
    log_score = known.open + known.span + known.title
    return [
        _limit(known.open),
        _limit(known.span),
        _limit(known.title),
        _log_odds(log_score),
        _limit(known.vocabulary_open),
        _limit(known.vocabulary_span),
        _limit(known.vocabulary_title),
        _limit(known.prior),
        _limit(known.prior_margin),
        _limit(known.retriever),
        known.retriever_score,
        known.link_probability if seen else math.nan,
        math.log((linked + 0.5) / (seen - linked + 0.5)) if seen else math.nan,
        math.log1p(linked),
        math.log1p(seen),
        math.log(max(known.candidates, 1.0)),
        math.log1p(known.popularity),
        float(link.linked),
    ]


def _describe_text(text: str, mention: Mention) -> list[float]:
    """What the text says of a mention, from "log_words" to "before_comma"."""
    start, end = mention.start, mention.end
    surface, title = text[start:end], mention.entity or ""
    words = WORD.findall(surface)
    before = text[max(start - _NEAR, 0) : start]
    name, parenthesis, _ = title.partition(" (")
    true = (
        _BETWEEN_SENTENCES.search(before),
        surface[0].isupper(),
        len(surface) > 1 and surface.isupper(),
        words and words[-1][0].islower(),
        surface == title,
        form_key(surface) == form_key(name),
        parenthesis,
        _AFTER_COMMA.search(before),
        _BEFORE_COMMA.match(text, end),
    )
    sizes = (math.log(max(len(words), 1)), math.log(len(surface)))
    return [*sizes, *(float(bool(each)) for each in true)]


def _repeats(text: str, links: Sequence[ScoredLink]) -> list[tuple[float, float]]:
    """Whether a link that was taken before each has its surface; its entity."""
    surfaces: dict[str, int] = {}  # -> where the first link of that surface ends
    entities: dict[str | None, int] = {}
    for mention, linked, _ in links:
        if linked:
            surface = text[mention.start : mention.end]
            surfaces[surface] = min(surfaces.get(surface, mention.end), mention.end)
            end = entities.get(mention.entity, mention.end)
            entities[mention.entity] = min(end, mention.end)
    after = len(text) + 1
    return [
        (
            float(surfaces.get(text[m.start : m.end], after) <= m.start),
            float(entities.get(m.entity, after) <= m.start),
        )
        for m, _, _ in links
    ]


def _limit(log: float) -> float:
    """A log-probability or a difference of two, within [LEAST, -LEAST]."""
    return min(max(log, LEAST), -LEAST) if not math.isnan(log) else log


def _log_odds(log_probability: float) -> float:
    """ln(p / (1 - p)) of ln p, within [LEAST, -LEAST]."""
    if math.isnan(log_probability):
        return log_probability
    other = -math.expm1(min(log_probability, 0.0))  # 1 - p
    return _limit(log_probability - math.log(other)) if other > 0 else -LEAST
