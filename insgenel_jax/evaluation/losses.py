"""Gold and predicted documents in; the golds each stage of linking lost, and what is
wrong with each prediction, out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from insgenel_jax.evaluation.scoring import (
    Resolve,
    Same,
    Span,
    match,
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
MISSED = "missed"  # the stage of a loss where no knowledge base tells which it was


class Lost(NamedTuple):
    """An in-KB gold without a matching prediction, and the stage that lost it."""

    gold: Mention
    stage: str


def count_losses(
    gold: Sequence[Document],
    predicted: Sequence[Document],
    kb: KnowledgeBase,
    resolve: Resolve,
    candidates: Sequence[Candidates] | None = None,
) -> dict[str, int]:
    """Count the golds of `find_losses` by stage: stage -> number, for all `STAGES`."""
    return sum_stages(find_losses(gold, predicted, kb, resolve, candidates))


def sum_stages(lost: Sequence[Sequence[Lost]]) -> dict[str, int]:
    """Stage -> how many golds of all documents it lost, for all of `STAGES`."""
    counts = dict.fromkeys(STAGES, 0)
    for of_document in lost:
        for _, stage in of_document:
            counts[stage] += 1
    return counts


def find_losses(
    gold: Sequence[Document],
    predicted: Sequence[Document],
    kb: KnowledgeBase | None,
    resolve: Resolve,
    candidates: Sequence[Candidates] | None = None,
) -> list[list[Lost]]:
    """For each document, its in-KB golds without a matching prediction.

    candidates: for each document, what the system could choose from. An entity that is
    missing there counts as "not retrieved", also where a filter of candidate mentions
    removed it. Without `candidates` that stage counts nothing. Without `kb` the stages
    before decoding cannot be told; what they lost is `MISSED`. Raises InputError where
    the two sides do not pair up.
    """
    same = same_entity(resolve)
    lost: list[list[Lost]] = []
    for number, (labelled, linked) in enumerate(pair_documents(gold, predicted)):
        predictions = [m for m in linked.mentions if m.entity is not None]
        allowed = None if candidates is None else candidates[number]
        lost.append([])
        for mention in labelled.mentions:
            if mention.entity is None:
                continue
            on_span = [p for p in predictions if _span(p) == _span(mention)]
            if any(same(mention, p) for p in on_span):
                continue
            stage = None
            if kb is not None:
                stage = _before_decoding(mention, labelled.text, kb, resolve, allowed)
            stage = stage or _in_decoding(mention, predictions)
            if kb is None and stage == "opening refused":
                stage = MISSED
            lost[-1].append(Lost(mention, stage))
    return lost


def name_errors(gold: Document, predicted: Document, same: Same) -> list[str | None]:
    """What is wrong with each prediction of a document; None where nothing is.

    A prediction of NIL is no claim, so nothing is wrong with it.
    """
    golds = [m for m in gold.mentions if m.entity is not None]
    claims = [i for i, m in enumerate(predicted.mentions) if m.entity is not None]
    right = match(golds, [predicted.mentions[i] for i in claims], same)
    names: list[str | None] = [None] * len(predicted.mentions)
    for number, i in enumerate(claims):
        if number not in right:
            names[i] = _name_error(gold, predicted.mentions[i], same)
    return names


def _name_error(gold: Document, wrong: Mention, same: Same) -> str:
    on_span = [m for m in gold.mentions if _span(m) == _span(wrong)]
    if any(m.entity is not None and same(m, wrong) for m in on_span):
        return "duplicate"
    if any(m.entity is not None for m in on_span):
        return "wrong entity"
    if on_span:
        return "gold is NIL"
    if any(m.start < wrong.end and wrong.start < m.end for m in gold.mentions):
        return "wrong span"
    return "no gold here"


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
