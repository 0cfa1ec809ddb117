"""ELEVANT articles with labels, and with a linker's links, in; counts out.

The rules are those of ELEVANT's evaluation with optional labels ignored. Their numbers
in comments are those of `tests/evaluation/test_elevant.py`, which has a case for each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from insgenel_jax.evaluation.scoring import (
    Counts,
    Resolve,
    Scores,
    make_scores,
    pair_documents,
)
from insgenel_jax.kb.folding import fold_title
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.elevant import NIL, UNKNOWN, Article, Label, Link

Span = tuple[int, int]  # characters [start, end)

NOTHING = Counts(0, 0, 0)
TP = Counts(1, 0, 0)
FN = Counts(0, 0, 1)

WORD_MARKS = "'\"_`"  # the characters of a word beside letters and digits
PRONOUNS = """
    i me my mine myself we us our ours ourselves you your yours yourself yourselves
    he him his himself she her hers herself it its itself
    they them their theirs themself themselves this that those who whom whose
"""
DETERMINERS = "the this that these those my your his her its our their"


@dataclasses.dataclass(frozen=True)
class ElevantScores:
    """The counts of one linker on one benchmark.

    all: every mention. entity, coref: those that are named, and those that are
    coreferences. detection: of the entities, whether their span was found and said to
    be an entity, whichever (ELEVANT's "ner"). per_document: tp, fp and fn of "all".
    """

    documents: int
    all: Counts
    entity: Counts
    coref: Counts
    detection: Counts
    per_document: Int[np.ndarray, "documents 3"]


@dataclasses.dataclass(frozen=True)
class _Case:
    """A label and what a linker says of it.

    predicted: there is a link on its span. claims: that link is not NIL.
    """

    label: Label
    predicted: bool
    claims: bool
    right: bool


_Cases = Mapping[int, _Case]  # by the label's id


def score_articles(gold: Sequence[Article], linked: Sequence[Article]) -> ElevantScores:
    """Score the links of `linked` against the labels of `gold`.

    Both may be the same articles, since a file of linked articles has the labels too.
    Raises InputError that names the documents where the two sides do not pair up.
    """
    totals = {kind: np.zeros(3, np.int64) for kind in ("entity", "coref", "detection")}
    rows = []
    for labelled, predicted in pair_documents(gold, linked):
        counts = count_article(dataclasses.replace(labelled, links=predicted.links))
        for kind, total in totals.items():
            total += np.array(counts[kind])
        rows.append(np.add(counts["entity"], counts["coref"]))
    per_document = np.array(rows, np.int64).reshape(-1, 3)
    return ElevantScores(
        documents=len(rows),
        all=Counts(*per_document.sum(0).tolist()),
        **{kind: Counts(*total.tolist()) for kind, total in totals.items()},
        per_document=per_document,
    )


def score_documents(
    gold: Sequence[Document],
    predicted: Sequence[Document],
    resolve: Resolve = fold_title,
) -> Scores:
    """Score documents by ELEVANT's rules, as `scoring.score` does by GERBIL's.

    Two entities are one where their external ids are equal, or their titles after
    `resolve`. A document has no optional or nested labels, and all of its text is
    evaluated. `accuracy` is that of the entities, and so is `detection`.
    """
    return make_elevant_scores(count_documents(gold, predicted, resolve))


def count_documents(
    gold: Sequence[Document],
    predicted: Sequence[Document],
    resolve: Resolve = fold_title,
) -> ElevantScores:
    """The counts of `score_documents`."""
    titles = {
        mention.external_id: resolve(mention.entity)
        for document in gold
        for mention in document.mentions
        if mention.external_id is not None and mention.entity is not None
    }

    def name(mention: Mention) -> str:
        if mention.entity is None:
            return NIL
        return titles.get(mention.external_id) or resolve(mention.entity)

    golds, links = [], []
    for document in gold:
        labels = tuple(
            Label(number, mention.start, mention.end, name(mention))
            for number, mention in enumerate(document.mentions)
        )
        whole = (0, len(document.text))
        golds.append(Article(document.id, document.text, whole, labels))
    for document in predicted:
        found = tuple(Link(m.start, m.end, name(m)) for m in document.mentions)
        whole = (0, len(document.text))
        links.append(Article(document.id, document.text, whole, links=found))
    return score_articles(golds, links)


def make_elevant_scores(counts: ElevantScores) -> Scores:
    """Counts as the scores that every table shows. `accuracy` is of the entities."""
    return make_scores(
        counts.per_document,
        counts.detection,
        counts.entity.tp,
        titles_checked=False,
    )


def count_article(article: Article) -> dict[str, Counts]:
    """The counts of one article's links: "entity", "coref" and "detection"."""
    found: dict[str, list[Counts]] = {"entity": [], "coref": [], "detection": []}
    cases = _make_cases(article)
    for case in cases.values():
        links = _count_case(case, cases, detection=False)
        if _is_coref_label(case.label, article.text):
            found["coref"].append(links)
        else:
            found["entity"].append(links)
            found["detection"].append(_count_case(case, cases, detection=True))
    for start, end in _spurious(article):
        wrong = Counts(0, 1, 0)
        if is_coreference(article.text[start:end]):
            found["coref"].append(wrong)
        else:
            found["entity"].append(wrong)
            found["detection"].append(wrong)
    return {
        kind: Counts(*np.array([NOTHING, *counts]).sum(0).tolist())
        for kind, counts in found.items()
    }


def expand(span: Span, text: str) -> Span:
    """The span widened to whole words (rule 2)."""
    start, end = span
    while start > 0 and (text[start - 1].isalnum() or text[start - 1] in WORD_MARKS):
        start -= 1
    # ELEVANT never takes in the last character of a text.
    last = len(text) - 1
    while end < last and (text[end].isalnum() or text[end] in WORD_MARKS):
        end += 1
    if text.startswith('"', start) and '"' not in text[start + 1 : end]:
        start += 1
    return start, end


def is_coreference(mention: str) -> bool:
    """Whether a mention refers back instead of naming (rule 7): a pronoun, or a
    determiner before a word without a capital."""
    first, _, rest = mention.partition(" ")
    if rest:
        return first.lower() in DETERMINERS.split() and not rest[0].isupper()
    # Capitals alone are a name, like "US".
    capitals = len(first) > 1 and first.isupper()
    return first.lower() in PRONOUNS.split() and not capitals


def _make_cases(article: Article) -> _Cases:
    """Each label with the link that stands for it (rules 1, 2)."""
    on_span = {(link.start, link.end): link for link in article.links}
    for link in article.links:
        on_span[expand((link.start, link.end), article.text)] = link
    cases = {}
    for label in article.labels:
        span = label.start, label.end
        link = on_span.get(span) or on_span.get(expand(span, article.text))
        # A link whose id is null claims an entity, and is never right (rule 4).
        claims = link is not None and link.entity_id not in UNKNOWN
        right = claims and label.known and link.entity_id == label.entity_id
        cases[label.id] = _Case(label, link is not None, claims, right)
    return cases


def _spurious(article: Article) -> list[Span]:
    """The spans of links that are false positives because no label is there (3)."""
    text = article.text
    labelled = {(label.start, label.end) for label in article.labels}
    labelled |= {expand(span, text) for span in labelled}
    first, last = article.evaluation_span
    by_span = {(link.start, link.end): link for link in article.links}
    return [
        span
        for span, link in by_span.items()
        if link.entity_id is not None
        and link.entity_id not in UNKNOWN
        and labelled.isdisjoint((span, expand(span, text)))
        and first <= span[0]
        and span[1] <= last
    ]


def _count_case(case: _Case, cases: _Cases, *, detection: bool) -> Counts:
    """What one label adds to the counts (6).

    True positives and false negatives count at roots. False positives count at every
    label that speaks for itself, unless one above it does.
    """
    tp = fn = fp = 0
    if case.label.parent is None:
        tp, _, fn = _judge(case, cases, detection=detection)
    if _is_counted(case, cases) and not _deciding(case, cases):
        fp = _judge_alone(case, cases, detection=detection).fp
    return Counts(tp, fp, fn)


def _judge(case: _Case, cases: _Cases, *, detection: bool) -> Counts:
    """The counts of a label, those of its nested labels in its place where they
    decide."""
    deciding = _deciding(case, cases)
    if not deciding:
        return _judge_alone(case, cases, detection=detection)
    judged = [(c, _judge(c, cases, detection=detection)) for c in deciding]
    if any(counts.fn and not child.label.optional for child, counts in judged):
        return FN
    heard = [counts for _, counts in judged if counts != NOTHING]
    return TP if heard and all(counts.tp for counts in heard) else NOTHING


def _judge_alone(case: _Case, cases: _Cases, *, detection: bool) -> Counts:
    """The counts of a label without regard to what its nested labels add (4, 5)."""
    label = case.label
    if label.optional:
        wrong = not label.known if detection else not case.right
        missed = (
            label.known
            and not case.predicted
            and any(not child.label.optional for child in _children(case, cases))
        )
        return Counts(0, int(case.claims and wrong), int(missed))
    if not label.known:
        return Counts(0, int(case.claims), 0)
    if case.claims if detection else case.right:
        return TP
    return Counts(0, int(case.claims), 1)


def _deciding(case: _Case, cases: _Cases) -> list[_Case]:
    """The nested labels that are judged in place of a label; none where it is itself.

    A file may list a label under several others. `parent` says to which it belongs, and
    it decides for all of them or for none.
    """
    if not _leaves_to_children(case, cases):
        return []
    return [child for child in _children(case, cases) if _is_counted(child, cases)]


def _leaves_to_children(case: _Case, cases: _Cases) -> bool:
    """Whether the links found nested labels rather than the label itself."""
    if case.right:
        return False
    below = list(_below(case, cases))
    if case.predicted:  # wrong, unless a nested label of the same span makes it right
        return any(child.right for child in below)
    return any(child.predicted for child in below)


def _is_counted(case: _Case, cases: _Cases) -> bool:
    """Whether every label above leaves the decision to those nested in it."""
    if case.label.parent is None:
        return True
    parent = cases[case.label.parent]
    return _leaves_to_children(parent, cases) and _is_counted(parent, cases)


def _children(case: _Case, cases: _Cases) -> list[_Case]:
    return [cases[number] for number in case.label.children]


def _below(case: _Case, cases: _Cases) -> list[_Case]:
    """All labels nested in a label, at any depth."""
    below = []
    for child in _children(case, cases):
        below += [child, *_below(child, cases)]
    return below


def _is_coref_label(label: Label, text: str) -> bool:
    """Whether a label is a coreference: as its flag says, else by its text (7)."""
    if label.coref is not None:
        return label.coref
    return is_coreference(text[label.start : label.end])
