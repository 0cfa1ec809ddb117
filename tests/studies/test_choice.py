"""Conditional logistic regression against brute force."""

import itertools

import numpy as np
import pytest

from insgenel_jax.studies.choice import Choice, fit, probabilities


def random_choices(count, weights, seed):
    """Choices of two to five candidates, drawn by the probabilities of the weights."""
    rng = np.random.default_rng(seed)
    choices = []
    for _ in range(count):
        features = rng.normal(size=(int(rng.integers(2, 6)), len(weights)))
        p = np.exp(features @ weights)
        choices.append(Choice(features, int(rng.choice(len(p), p=p / p.sum()))))
    return choices


def penalised_loss(choices, weights, start, l2):
    within = np.concatenate([c.features - c.features.mean(0) for c in choices])
    total = l2 / 2 * np.sum(((weights - start) * within.std(0)) ** 2)
    for features, gold in choices:
        odds = np.exp(features @ weights)
        total -= np.log(odds[gold] / odds.sum())
    return total


def test_probabilities_by_hand():
    choice = Choice(np.log([[2.0, 1.0], [1.0, 3.0], [1.0, 1.0]]), 0)
    found = probabilities(choice, np.array([1.0, 2.0]))
    np.testing.assert_allclose(found, np.array([2, 9, 1]) / 12)
    huge = probabilities(choice, np.array([0.0, 1e6]))
    np.testing.assert_allclose(huge, [0, 1, 0])


def test_no_weights_near_by_are_better():
    """On a grid around those that are found, coarse and fine."""
    choices, start = random_choices(40, [1.0, -2.0], 0), np.array([1.0, 0.0])
    weights = fit(choices, start, l2=3.0)
    best = penalised_loss(choices, weights, start, 3.0)
    for step in (1.0, 0.1, 0.01, 0.001):
        for move in itertools.product((-2, -1, 0, 1, 2), repeat=2):
            other = weights + step * np.array(move)
            worse = penalised_loss(choices, other, start, 3.0) - best
            assert worse > 0 if any(move) else worse == 0


def test_the_weights_that_choices_were_drawn_by():
    weights = [0.5, -1.5, 0.0]
    found = fit(random_choices(4000, weights, 1), np.zeros(3))
    np.testing.assert_allclose(found, weights, atol=0.1)


def test_units_do_not_matter():
    choices = random_choices(30, [1.0, -2.0], 2)
    units = np.array([100.0, 0.01])
    other = [Choice(c.features * units + 5, c.gold) for c in choices]
    expected = fit(choices, np.zeros(2))
    np.testing.assert_allclose(fit(other, np.zeros(2)) * units, expected, rtol=1e-4)


def test_few_choices():
    start = np.array([1.0, 0.0])
    assert fit([], start) is start
    same = [Choice(np.ones((3, 2)), 0)]  # nothing to tell candidates apart by
    np.testing.assert_allclose(fit(same, start), start)
    perfect = [Choice(np.array([[0.0, 1.0], [0.0, 0.0]]), 0)] * 20
    assert fit(perfect, start)[0] == pytest.approx(1)
    assert 1 < fit(perfect, start)[1] < 20  # finite
