"""Features of candidates in; weights under which the right candidates are most probable
out: conditional logistic regression.

The probability of a candidate is the softmax, over the candidates of its mention, of
the weighted sum of its features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

L2 = 1.0


class Choice(NamedTuple):
    """The features of a mention's n candidates, and which of them is right."""

    features: Float[np.ndarray, "n F"]
    gold: int


def probabilities(
    choice: Choice, weights: Float[np.ndarray, " F"]
) -> Float[np.ndarray, " n"]:
    """The probability of each candidate."""
    total = choice.features @ weights
    odds = np.exp(total - total.max())
    return odds / odds.sum()


def fit(
    choices: Sequence[Choice], start: Float[np.ndarray, " F"], l2: float = L2
) -> Float[np.ndarray, " F"]:
    """The weights that minimise the log loss plus a penalty.

    The penalty is l2 / 2 * the sum of squared distances from the weights `start`, each
    in units in which its feature has standard deviation 1 within mentions. It keeps
    weights finite where the choices can be told apart perfectly. Without choices,
    `start` is returned.
    """
    from scipy.optimize import minimize  # only here: it takes a while to load

    if not choices:
        return start
    design = np.concatenate([c.features - c.features.mean(0) for c in choices])
    scale = design.std(0)
    scale[scale == 0] = 1.0
    sizes = np.array([len(c.features) for c in choices])
    firsts = np.cumsum(sizes) - sizes
    golds = firsts + [c.gold for c in choices]
    origin, scaled = start * scale, design / scale

    def loss(weights):
        total = scaled @ weights
        best = np.maximum.reduceat(total, firsts)
        odds = np.exp(total - np.repeat(best, sizes))
        sums = np.add.reduceat(odds, firsts)
        expected = odds / np.repeat(sums, sizes)
        away = weights - origin
        value = np.sum(best + np.log(sums) - total[golds]) + l2 / 2 * np.sum(away**2)
        slope = scaled.T @ expected - scaled[golds].sum(0) + l2 * away
        return value / len(sizes), slope / len(sizes)

    options = {"maxiter": 5000, "ftol": 1e-14, "gtol": 1e-9}
    found = minimize(loss, origin, jac=True, method="L-BFGS-B", options=options)
    return found.x / scale
