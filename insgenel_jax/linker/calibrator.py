"""Numbers of links in; the probability that each link is right out.

A logistic regression over the numbers that `linker.features` gives, fitted on a
development set. The linker and the prior-only baseline use the same one.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from insgenel_jax.linker.features import NAMES, ScoredLink, describe
from insgenel_jax.text.document import Candidate, Mention

LARGEST = sys.float_info.max


class Term(NamedTuple):
    """What one number adds to the log-odds: weight * (number - mean) / scale.

    missing: what is added instead where the number is nan.
    """

    mean: float
    scale: float
    weight: float
    missing: float


@dataclasses.dataclass(frozen=True)
class Calibrator:
    """The log-odds that a link is right: an intercept and a term a number.

    terms: name, among `features.NAMES`, -> its term. Numbers without a term are not
    read.
    """

    terms: Mapping[str, Term]
    intercept: float

    def __call__(self, numbers: Float[np.ndarray, "N F"]) -> Float[np.ndarray, " N"]:
        """The probability, between 0 and 1, that each of N links is right."""
        log_odds = np.full(len(numbers), self.intercept)
        for name, (mean, scale, weight, missing) in self.terms.items():
            column = numbers[:, NAMES.index(name)]
            log_odds += np.where(
                np.isnan(column), missing, weight * (column - mean) / scale
            )
        return _probability(log_odds)

    def score(self, text: str, links: Sequence[ScoredLink]) -> list[ScoredLink]:
        """The links of one text, their mentions with this calibrator's scores."""
        scores = self(describe(text, links)).tolist()
        return [
            link._replace(mention=rescore(link.mention, score))
            for link, score in zip(links, scores, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        terms = {name: term._asdict() for name, term in self.terms.items()}
        return {"intercept": self.intercept, "terms": terms}

    @classmethod
    def from_json(cls, record: Any) -> Calibrator:
        """From a JSON object. Raises ValueError that says what is wrong with it."""
        try:
            terms = {name: Term(**term) for name, term in record["terms"].items()}
            intercept = record["intercept"]
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"expected an intercept and terms ({error!r})") from error
        for number in (intercept, *sum(terms.values(), ())):
            # neither a bool nor, in an int, more than a float can hold
            if type(number) not in (int, float) or not abs(number) <= LARGEST:
                raise ValueError(f"expected finite numbers, found {repr(number)[:40]}")
        for name, term in terms.items():
            terms[name] = Term(*map(float, term))
            if term.scale <= 0:
                raise ValueError(f"{name}: expected scale > 0, found {term.scale}")
        if unknown := sorted(terms.keys() - set(NAMES)):
            raise ValueError(f"expected terms for some of {NAMES}, found {unknown}")
        return cls(terms, float(intercept))


def rescore(mention: Mention, score: float) -> Mention:
    """A mention with another score.

    Its other candidates and "no mention" share what is left, in the proportions that
    they had.
    """
    if mention.no_mention is None or mention.score is None:
        return dataclasses.replace(mention, score=score)
    known = mention.no_mention + sum(c.score for c in mention.candidates)
    left = max(1.0 - mention.score, known)
    if left <= 0:  # nothing to share by: the doubt is whether it is a mention
        return dataclasses.replace(mention, score=score, no_mention=1.0 - score)
    share = (1.0 - score) / left
    others = (Candidate(c.entity, c.score * share) for c in mention.candidates)
    return dataclasses.replace(
        mention,
        score=score,
        candidates=tuple(others),
        no_mention=mention.no_mention * share,
    )


def fit(
    numbers: Float[np.ndarray, "N F"],
    right: Bool[np.ndarray, " N"],
    l2: float = 3.0,
    counts: Float[np.ndarray, " N"] | None = None,
) -> Calibrator:
    """The calibrator that explains best which of N links are right.

    It minimises the log loss plus l2 / 2 * the sum of the squared weights of
    standardised numbers. (Of l2 from 0.3 to 30, 3 and 10 had the lowest log loss in
    cross-fitting on a few hundred links of OKE-2015 train.) counts: how many links each
    one counts as in the loss; None is one. A number that is nan everywhere, or the same
    everywhere, gets no term. Where all links are right, or all wrong, only the
    intercept is fitted.
    """
    count, correct = len(right), int(right.sum())
    if not 0 < correct < count:
        odds = (correct + 0.5) / (count - correct + 0.5)
        return Calibrator({}, math.log(odds))
    names, means, scales, columns = [], [], [], []
    for name, column in zip(NAMES, numbers.T, strict=True):
        missing = np.isnan(column)
        known = column[~missing]
        if not len(known) or (np.ptp(known) == 0 and not missing.any()):
            continue
        mean, scale = float(known.mean()), float(known.std()) or 1.0
        names.append(name)
        means.append(mean)
        scales.append(scale)
        columns += [np.where(missing, 0.0, (column - mean) / scale), missing]
    design = np.array([*columns, np.ones(count)], np.float64).T
    counts = np.ones(count) if counts is None else counts
    *weights, intercept = _minimise(design, right, l2, counts).tolist()
    fitted = zip(means, scales, weights[::2], weights[1::2], strict=True)
    terms = dict(zip(names, (Term(*term) for term in fitted), strict=True))
    return Calibrator(terms, intercept)


def _minimise(
    design: Float[np.ndarray, "N D"],
    right: Bool[np.ndarray, " N"],
    l2: float,
    counts: Float[np.ndarray, " N"],
) -> Float[np.ndarray, " D"]:
    """The weights of a logistic regression; the last, the intercept, is free of l2."""
    from scipy.optimize import minimize  # only here: it takes a while to load

    penalty = np.full(design.shape[1], l2)
    penalty[-1] = 0.0
    sign = np.where(right, 1.0, -1.0)

    def loss(weights):
        margin = sign * (design @ weights)
        losses = counts * np.logaddexp(0.0, -margin)
        value = losses.sum() + 0.5 * (penalty * weights**2).sum()
        slope = design.T @ (-sign * counts * _probability(-margin)) + penalty * weights
        return value / len(right), slope / len(right)

    start = np.zeros(design.shape[1])
    options = {"maxiter": 5000, "ftol": 1e-14, "gtol": 1e-9}
    return minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x


def _probability(log_odds: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """1 / (1 + exp(-log_odds)), without overflow."""
    return np.exp(-np.logaddexp(0.0, -log_odds))
