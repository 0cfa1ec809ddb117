"""Gold and predicted documents in; how many golds each stage of linking lost out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from insgenel_jax.evaluation.scoring import (
    Resolve,
    Span,
    pair_documents,
    same_entity,
)
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.document import Document, Mention

# of one document: span -> the entities (rows of the knowledge base) allowed for it
Candidates = Mapping[Span, Iterable[int]]

STAGES = (
    "not in KB",
    "surface not in dictionary",
    "not retrieved",
    "opening refused",
    "wrong span",
    "wrong entity",
)


def count_losses(
    gold: Sequence[Document],
    predicted: Sequence[Document],
    kb: KnowledgeBase,
    resolve: Resolve,
    candidates: Sequence[Candidates] | None = None,
) -> dict[str, int]:
    """Count the in-KB golds without a matching prediction, by the stage that lost them.

    candidates: for each document, what the system could choose from. An entity that is
    missing there counts as "not retrieved", also where a filter of candidate mentions
    removed it. Without `candidates` that stage counts nothing. Returns stage -> number,
    for all of `STAGES`. Raises InputError where the two sides do not pair up.
    """
    same = same_entity(resolve)
    lost = dict.fromkeys(STAGES, 0)
    pairs = pair_documents(gold, predicted)
    for number, (labelled, linked) in enumerate(pairs):
        predictions = [m for m in linked.mentions if m.entity is not None]
        allowed = None if candidates is None else candidates[number]
        for mention in labelled.mentions:
            if mention.entity is None:
                continue
            on_span = [p for p in predictions if _span(p) == _span(mention)]
            if any(same(mention, p) for p in on_span):
                continue
            stage = _before_decoding(mention, labelled.text, kb, resolve, allowed)
            lost[stage or _in_decoding(mention, predictions)] += 1
    return lost


def find_entity(mention: Mention, kb: KnowledgeBase, resolve: Resolve) -> int | None:
    """The row of a mention's entity in a knowledge base, by external id or title."""
    row = None
    if mention.external_id is not None:
        row = kb.find_external(mention.external_id)
    if row is None and mention.entity is not None:
        row = kb.find(resolve(mention.entity))
    return row


def _before_decoding(
    gold: Mention,
    text: str,
    kb: KnowledgeBase,
    resolve: Resolve,
    allowed: Candidates | None,
) -> str | None:
    """The stage that kept a gold from the system's choice; None where none did."""
    row = find_entity(gold, kb, resolve)
    if row is None:
        return "not in KB"
    # A knowledge base may hold a title and, as another entity, an alias of that title:
    # entities are compared by what their titles resolve to.
    title = resolve(kb.title(row))
    form = kb.form(text[gold.start : gold.end])
    in_dictionary = [] if form is None else kb.candidates(form)[0].tolist()
    if not any(resolve(kb.title(other)) == title for other in in_dictionary):
        return "surface not in dictionary"
    if allowed is not None:
        here = allowed.get(_span(gold), ())
        if not any(resolve(kb.title(other)) == title for other in here):
            return "not retrieved"
    return None


def _in_decoding(gold: Mention, predictions: Sequence[Mention]) -> str:
    """What the system did with a gold that it could have linked and did not."""
    if any(_span(p) == _span(gold) for p in predictions):
        return "wrong entity"
    if any(p.start < gold.end and gold.start < p.end for p in predictions):
        return "wrong span"
    return "opening refused"


def _span(mention: Mention) -> Span:
    return mention.start, mention.end
