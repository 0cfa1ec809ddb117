"""A linker and labelled documents in; how well the entities of given mentions are
chosen, by the prior and by what is added to it, out.

Each row's weights are fitted by conditional logistic regression on one half of the
documents and used on the other, so every mention is scored by weights that have not
seen its document.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from insgenel_jax.evaluation import scoring
from insgenel_jax.evaluation.calibration import Kept, Quality, hash_text, keep, measure
from insgenel_jax.evaluation.losses import find_entity
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.linker import Linker
from insgenel_jax.studies.bag_of_words import collect_bags, words_around
from insgenel_jax.studies.candidate_scores import (
    Gold,
    score_by_generator,
    score_by_retriever,
)
from insgenel_jax.studies.choice import Choice, fit, probabilities
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.rejects import InputError

HALVES = 2
SURE = 0.9  # the probability from which on a choice is called sure
PRIOR, BAG, RETRIEVER, GENERATOR = "prior", "bag of words", "retriever", "generator"
# name of a row -> its features
SYSTEMS = {
    PRIOR: (PRIOR,),
    f"{BAG} + {PRIOR}": (PRIOR, BAG),
    f"{RETRIEVER} + {PRIOR}": (PRIOR, RETRIEVER),
    f"{GENERATOR} + {PRIOR}": (PRIOR, GENERATOR),
    f"{RETRIEVER} + {GENERATOR} + {PRIOR}": (PRIOR, RETRIEVER, GENERATOR),
}
# rows that are compared with another one than the prior
COMPARED = (
    (f"{GENERATOR} + {PRIOR}", f"{BAG} + {PRIOR}"),
    (f"{RETRIEVER} + {GENERATOR} + {PRIOR}", f"{BAG} + {PRIOR}"),
)

# Why a gold mention is left out, in the order in which it is asked.
REASONS = (
    "entity not in the knowledge base",
    "surface form not in the dictionary",
    "entity is no candidate",
    "only candidate",
    "beyond max_candidates",
    "not scored by the generator",
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One way to choose, for M mentions.

    weights: of the features, for each half of the documents; none where the prior alone
    chooses. right: whether the right entity was chosen; quality: of the chosen entity's
    probability; sure: the choices with one of at least SURE, and how many are right.
    """

    system: str
    features: tuple[str, ...]
    weights: list[list[float]]
    right: Bool[np.ndarray, " M"]
    quality: Quality
    sure: Kept

    @property
    def accuracy(self) -> float:
        """The share of mentions whose entity was chosen."""
        return float(self.right.mean())


@dataclasses.dataclass(frozen=True)
class Difference:
    """A row's accuracy minus another's, with its 95 % interval."""

    system: str
    against: str
    interval: scoring.Interval


@dataclasses.dataclass(frozen=True)
class Study:
    """What was found. documents, mentions, candidates: those chosen among.

    left_out: the other gold mentions of the documents taken, by the reason, see
    `REASONS`. skipped: features that cannot be had, and why.
    """

    documents: int
    mentions: int
    candidates: int
    left_out: Mapping[str, int]
    skipped: Mapping[str, str]
    rows: list[Row]
    differences: list[Difference]


def study_given_mentions(
    linker: Linker,
    documents: Sequence[Document],
    resolve: scoring.Resolve,
    *,
    train: Iterable[Document] | None = None,
    most: int | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> Study:
    """Choose the entities of labelled mentions in several ways.

    resolve: what a gold's title stands for, see `scoring.make_resolve`. train: training
    documents, for the bags of words. most: that many mentions at most, whole documents.
    A mention with more candidates than the linker's max_candidates has those of highest
    prior, for every row.
    Raises InputError where no mention is left to choose for.
    """
    kb, limit = linker.kb, linker.settings.max_candidates
    golds, left_out = find_golds(kb, documents, resolve, limit, most)
    progress(f"the generator reads {len(golds):,} mentions")
    of_generator = score_by_generator(linker, documents, golds)
    kept = [i for i, own in enumerate(of_generator) if own is not None]
    left_out[REASONS[-1]] = len(golds) - len(kept)
    golds = [golds[i] for i in kept]
    if not golds:
        raise no_golds(left_out, most)
    scores: dict[str, list] = {PRIOR: [gold.log_prior for gold in golds]}
    scores[GENERATOR] = [of_generator[i] for i in kept]
    skipped = {}
    if linker.retriever is None:
        skipped[RETRIEVER] = "the linker has no retriever"
    else:
        progress("the retriever scores candidates")
        scores[RETRIEVER] = score_by_retriever(
            linker.retriever, linker.index, documents, golds
        )
    if train is None:
        skipped[BAG] = "no training documents were given"
    else:
        progress("collecting bags of words")
        scores[BAG] = score_by_bags(kb, train, documents, golds)
    half = halve(documents, golds)
    rows = [
        choose(name, features, scores, golds, half)
        for name, features in SYSTEMS.items()
        if scores.keys() >= set(features)
    ]
    return Study(
        documents=len({gold.document for gold in golds}),
        mentions=len(golds),
        candidates=sum(len(gold.entities) for gold in golds),
        left_out={reason: left_out[reason] for reason in REASONS},
        skipped=skipped,
        rows=rows,
        differences=compare(rows, [gold.document for gold in golds]),
    )


def no_golds(left_out: Mapping[str, int], most: int | None) -> InputError:
    """The error of documents in which there is nothing to choose."""
    told = "; ".join(f"{reason}: {count}" for reason, count in left_out.items())
    return InputError(
        "expected gold mentions with at least two candidates, the right entity among "
        f"them, found none ({told or 'no gold mention at all'}); give other documents"
        + ("" if most is None else f", or more than {most} mentions")
    )


def find_golds(
    kb: KnowledgeBase,
    documents: Sequence[Document],
    resolve: scoring.Resolve,
    limit: int | None,
    most: int | None = None,
) -> tuple[list[Gold], Counter[str]]:
    """The gold mentions with something to choose; the others, counted by the reason.

    limit: that many candidates are kept of each, those of highest prior. most: that
    many mentions are taken. Documents are taken whole, in the order of a hash of their
    id, up to the first that does not fit. None: no limit.
    """
    golds: list[Gold] = []
    left_out: Counter[str] = Counter()
    for number in sorted(range(len(documents)), key=lambda i: _hash_id(documents[i])):
        own, reasons = [], Counter()
        for mention in documents[number].mentions:
            if mention.entity is not None:
                surface = documents[number].text[mention.start : mention.end]
                entity, form = find_entity(mention, kb, resolve), kb.form(surface)
                reason = _reason(kb, entity, form, limit)
                if reason is None:
                    own.append(_make_gold(kb, number, mention, entity, form, limit))
                else:
                    reasons[reason] += 1
        if most is not None and len(golds) + len(own) > most:
            break
        golds += own
        left_out += reasons
    return golds, left_out


def _hash_id(document: Document) -> str:
    return hash_text(document.id)


def _make_gold(
    kb: KnowledgeBase,
    number: int,
    mention: Mention,
    entity: int,
    form: int,
    limit: int | None,
) -> Gold:
    """The gold of a mention of document `number`, with its first candidates."""
    entities, counts = (column[:limit] for column in kb.candidates(form))
    return Gold(
        document=number,
        start=mention.start,
        end=mention.end,
        entities=entities,
        log_prior=np.log(counts / counts.sum()),
        gold=int(np.flatnonzero(entities == entity)[0]),
    )


def _reason(
    kb: KnowledgeBase, entity: int | None, form: int | None, limit: int | None
) -> str | None:
    """Why a gold is left out; None where it is not."""
    if entity is None:
        return REASONS[0]
    if form is None:
        return REASONS[1]
    entities, _ = kb.candidates(form)
    if entity not in entities:
        return REASONS[2]
    if len(entities) < 2:
        return REASONS[3]
    kept = entities[:limit]
    return REASONS[4] if entity not in kept or len(kept) < 2 else None


def score_by_bags(
    kb: KnowledgeBase,
    train: Iterable[Document],
    documents: Sequence[Document],
    golds: Sequence[Gold],
) -> list[Float[np.ndarray, " _"]]:
    """How well each candidate's bag explains the words around its gold."""
    entities = {entity for gold in golds for entity in gold.entities.tolist()}
    bags = collect_bags(train, kb.find, entities)
    return [
        bags.score(
            words_around(documents[gold.document].text, gold.start, gold.end),
            gold.entities,
        )
        for gold in golds
    ]


def halve(
    documents: Sequence[Document], golds: Sequence[Gold]
) -> Int[np.ndarray, " M"]:
    """The half that each gold's document is in, by a hash of its text."""
    hashes = [hash_text(documents[gold.document].text) for gold in golds]
    places = {name: i % HALVES for i, name in enumerate(sorted(set(hashes)))}
    return np.array([places[name] for name in hashes])


def choose(
    system: str,
    features: tuple[str, ...],
    scores: Mapping[str, Sequence[Float[np.ndarray, " _"]]],
    golds: Sequence[Gold],
    half: Int[np.ndarray, " M"],
) -> Row:
    """Choose each gold's entity by weights that the other half of the documents gives.

    scores: of each feature, for each gold. The prior alone is p(entity | surface form),
    with no weight. Ties go to the first candidate.
    """
    choices = [
        Choice(np.stack([scores[name][i] for name in features], axis=1), gold.gold)
        for i, gold in enumerate(golds)
    ]
    start = np.array([float(name == PRIOR) for name in features])
    weights = [start] * HALVES
    if features != (PRIOR,):
        weights = [
            fit([c for c, own in zip(choices, half, strict=True) if own != part], start)
            for part in range(HALVES)
        ]
    given = [
        probabilities(choice, weights[part])
        for choice, part in zip(choices, half.tolist(), strict=True)
    ]
    chosen = [int(p.argmax()) for p in given]
    right = np.array([i == gold.gold for i, gold in zip(chosen, golds, strict=True)])
    score = np.array([p[i] for p, i in zip(given, chosen, strict=True)])
    fitted = [] if features == (PRIOR,) else [w.tolist() for w in weights]
    quality, sure = measure(score, right), keep(score, right, SURE)
    return Row(system, features, fitted, right, quality, sure)


def compare(rows: Sequence[Row], documents: Sequence[int]) -> list[Difference]:
    """Differences of rows: each from the prior, then those of `COMPARED`.

    documents: that of each mention; the bootstrap draws them anew.
    """
    _, place = np.unique(documents, return_inverse=True)
    counts = {}
    for row in rows:
        right = np.bincount(place, row.right).astype(np.int64)
        wrong = np.bincount(place) - right
        # With one prediction for each gold, a wrong one is a false positive and a false
        # negative, and micro F1 is accuracy.
        counts[row.system] = np.stack([right, wrong, wrong], axis=1)
    pairs = [(row.system, PRIOR) for row in rows if row.system != PRIOR]
    pairs += [pair for pair in COMPARED if counts.keys() >= set(pair)]
    return [
        Difference(a, b, scoring.compare_means([counts[a]], [counts[b]]))
        for a, b in pairs
    ]
