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
from insgenel_jax.evaluation.calibration import Quality, hash_text, measure
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
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.rejects import InputError

HALVES = 2
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
    probability.
    """

    system: str
    features: tuple[str, ...]
    weights: list[list[float]]
    right: Bool[np.ndarray, " M"]
    quality: Quality

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

    left_out: gold mentions, by the reason, see `REASONS`, of the documents that were
    read; the last reason of those that were scored. skipped: features that cannot be
    had, and why.
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
    golds, left_out = find_golds(kb, documents, resolve, limit)
    golds = sample(documents, golds, len(golds) if most is None else most)
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
        scores[RETRIEVER] = score_by_retriever(kb, linker.retriever, documents, golds)
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
    most: int | None,
) -> tuple[list[Gold], Counter[str]]:
    """The gold mentions with something to choose; the others, counted by the reason.

    most: that many candidates are kept of each, those of highest prior; None: all.
    """
    golds, left_out = [], Counter()
    for number, document in enumerate(documents):
        for mention in document.mentions:
            if mention.entity is None:
                continue
            entity = find_entity(mention, kb, resolve)
            form = kb.form(document.text[mention.start : mention.end])
            reason = _reason(kb, entity, form, most)
            if reason is not None:
                left_out[reason] += 1
                continue
            entities, counts = (column[:most] for column in kb.candidates(form))
            log_prior = np.log(counts / counts.sum())
            right = int(np.flatnonzero(entities == entity)[0])
            span = mention.start, mention.end
            golds.append(Gold(number, *span, entities, log_prior, right))
    return golds, left_out


def _reason(
    kb: KnowledgeBase, entity: int | None, form: int | None, most: int | None
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
    kept = entities[:most]
    return REASONS[4] if entity not in kept or len(kept) < 2 else None


def sample(
    documents: Sequence[Document], golds: Sequence[Gold], most: int
) -> list[Gold]:
    """The golds of whole documents, at most `most` of them.

    Documents are taken in the order of a hash of their id, up to the first that does
    not fit.
    """
    by_document: dict[int, list[Gold]] = {}
    for gold in golds:
        by_document.setdefault(gold.document, []).append(gold)
    taken: list[Gold] = []
    for number in sorted(by_document, key=lambda i: hash_text(documents[i].id)):
        if len(taken) + len(by_document[number]) > most:
            break
        taken += by_document[number]
    return taken


def score_by_bags(
    kb: KnowledgeBase,
    train: Iterable[Document],
    documents: Sequence[Document],
    golds: Sequence[Gold],
) -> list[Float[np.ndarray, " _"]]:
    """How like each candidate's bag of words the words around its gold are."""
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
    return Row(system, features, fitted, right, measure(score, right))


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
