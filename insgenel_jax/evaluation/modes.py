"""Labelled and linked documents, and the mode to score by, in; scores out.

"gerbil" scores Documents, "elevant" the Articles of ELEVANT's files or Documents. Each
mode takes both: what is of the other kind is turned into it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from insgenel_jax.evaluation import elevant, scoring
from insgenel_jax.evaluation.elevant import ElevantScores
from insgenel_jax.evaluation.scoring import Resolve, Scores
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.elevant import (
    NIL,
    UNKNOWN,
    Article,
    Label,
    Link,
    to_document,
)

MODES = ("gerbil", "elevant")
Labelled = Document | Article


@dataclasses.dataclass(frozen=True)
class Rules:
    """How mentions are compared and counted.

    resolve: title -> the title to compare by. titles: all titles that exist, folded
    (gerbil alone). id_of: a resolved title -> its Wikidata id; title_of: the reverse.
    Both give None for what they do not know.
    """

    mode: str
    resolve: Resolve
    titles: frozenset[str] | None
    id_of: Callable[[str], str | None]
    title_of: Callable[[str], str | None]


def make_rules(
    mode: str,
    resolve: Resolve,
    kb: KnowledgeBase | None = None,
    titles: frozenset[str] | None = None,
    ids: Mapping[str, str] | None = None,
) -> Rules:
    """The rules of a mode. ids: title -> Wikidata id, beside those that `kb` holds.

    Raises ValueError for an unknown mode, and for titles with "elevant", which knows
    entities by their ids.
    """
    if mode not in MODES:
        raise ValueError(f"mode: expected one of {MODES}, found {mode!r}")
    if mode == "elevant" and titles is not None:
        raise ValueError(
            'titles: no effect with mode = "elevant", which compares ids; leave it out'
        )
    by_title = {resolve(title): entity_id for title, entity_id in (ids or {}).items()}
    by_id: dict[str, str] = {}
    for title, entity_id in (ids or {}).items():
        by_id.setdefault(entity_id, title)

    def title_of(entity_id: str) -> str | None:
        row = None if kb is None else kb.find_external(entity_id)
        return by_id.get(entity_id) if row is None else kb.title(row)

    def id_of(title: str) -> str | None:
        row = None if kb is None or title in by_title else kb.find(title)
        return by_title.get(title) if row is None else kb.external_id(row)

    return Rules(mode, resolve, titles, id_of, title_of)


def score(
    gold: Sequence[Labelled],
    predicted: Sequence[Labelled],
    rules: Rules,
    within: Callable[[Mention], bool] | None = None,
) -> tuple[Scores, ElevantScores | None]:
    """The scores of predictions, and with "elevant" the counts they are made from.

    gold: of one kind. within: a gold mention for which it is false becomes NIL. Raises
    InputError that names the documents where the two sides do not pair up.
    """
    if rules.mode == "gerbil":
        return scoring.score(
            gold_documents(gold, rules),
            linked_documents(predicted, rules),
            same=scoring.same_entity(rules.resolve),
            titles=rules.titles,
            within=within,
        ), None
    if any(isinstance(labelled, Article) for labelled in gold):
        if within is not None:
            gold = [_within(article, within, rules) for article in gold]
        counts = elevant.score_articles(gold, [_article(p, rules) for p in predicted])
    else:
        if within is not None:
            gold = scoring.make_nil(gold, lambda m: not within(m))
        documents = linked_documents(predicted, rules)
        counts = elevant.count_documents(gold, documents, rules.resolve)
    return elevant.make_elevant_scores(counts), counts


def bare(labelled: Labelled) -> Document:
    """The document that a system gets to see: without labels."""
    return Document(labelled.id, labelled.text, labelled.title)


def gold_documents(gold: Sequence[Labelled], rules: Rules) -> list[Document]:
    """Labelled documents; what of an Article's labels a Document can say."""
    return [
        to_document(labelled, rules.title_of)
        if isinstance(labelled, Article)
        else labelled
        for labelled in gold
    ]


def linked_documents(linked: Sequence[Labelled], rules: Rules) -> list[Document]:
    """Linked documents, with a Wikidata id for each entity that has one."""
    documents = []
    for each in linked:
        if isinstance(each, Article):
            mentions = [_mention(link, rules) for link in each.links]
            each = dataclasses.replace(bare(each), mentions=tuple(mentions))
        else:
            mentions = [_with_id(mention, rules) for mention in each.mentions]
            each = dataclasses.replace(each, mentions=tuple(mentions))
        documents.append(each)
    return documents


def count_unmapped(linked: Sequence[Labelled], rules: Rules) -> int:
    """How many links have no id, so that "elevant" goes by their titles."""
    return sum(
        mention.entity is not None and mention.external_id is None
        for document in linked_documents(linked, rules)
        for mention in document.mentions
    )


def _mention(link: Link, rules: Rules) -> Mention:
    if link.entity_id is None or link.entity_id in UNKNOWN:
        return Mention(link.start, link.end, None)
    title = rules.title_of(link.entity_id) or link.entity_id
    return Mention(link.start, link.end, title, link.entity_id)


def _with_id(mention: Mention, rules: Rules) -> Mention:
    if mention.entity is None or mention.external_id is not None:
        return mention
    entity_id = rules.id_of(rules.resolve(mention.entity))
    return dataclasses.replace(mention, external_id=entity_id)


def _article(linked: Labelled, rules: Rules) -> Article:
    """A linked document as ELEVANT's.

    An entity without an id is known by its title, which is the id of no label: a link
    to it is wrong, as it should be, and does not pass for NIL.
    """
    if isinstance(linked, Article):
        return linked
    links = []
    for mention in linked_documents([linked], rules)[0].mentions:
        entity_id = NIL
        if mention.entity is not None:
            entity_id = mention.external_id or mention.entity
        links.append(Link(mention.start, mention.end, entity_id))
    whole = (0, len(linked.text))
    return Article(linked.id, linked.text, whole, links=tuple(links))


def _within(
    article: Article, within: Callable[[Mention], bool], rules: Rules
) -> Article:
    """An article with the labels for which `within` is false made NIL."""

    def keep(label: Label) -> bool:
        title = rules.title_of(label.entity_id) or label.other.get("name")
        mention = Mention(
            label.start, label.end, str(title or label.entity_id), label.entity_id
        )
        return not label.known or within(mention)

    labels = [
        label if keep(label) else dataclasses.replace(label, entity_id=NIL)
        for label in article.labels
    ]
    return dataclasses.replace(article, labels=tuple(labels))
