"""The logistic calibrator against Newton's method, and as JSON."""

import json
import math

import numpy as np
import pytest

from insgenel_jax.linker.calibrator import Calibrator, Term, fit
from insgenel_jax.linker.features import NAMES

OPEN, PRIOR, LINKED = (NAMES.index(name) for name in ("open", "prior", "linked"))


def table(count, seed=0):
    """Numbers of links of which only three vary; one of these is missing at times."""
    rng = np.random.default_rng(seed)
    numbers = np.full((count, len(NAMES)), np.nan)
    numbers[:, OPEN] = rng.normal(-2, 3, count)
    numbers[:, PRIOR] = np.where(
        rng.random(count) < 0.3, np.nan, rng.normal(size=count)
    )
    numbers[:, LINKED] = 1.0
    return numbers, rng


def probability(log_odds):
    return 1 / (1 + np.exp(-log_odds))


def newton(design, right, l2):
    """Logistic regression by Newton's method; the last weight is free of l2."""
    penalty = np.diag([l2] * (design.shape[1] - 1) + [0.0])
    weights = np.zeros(design.shape[1])
    for _ in range(50):
        p = probability(design @ weights)
        slope = design.T @ (p - right) + penalty @ weights
        curve = design.T @ (design * (p * (1 - p))[:, None]) + penalty
        weights -= np.linalg.solve(curve, slope)
    return weights


@pytest.mark.parametrize("l2", [0.1, 1.0, 30.0])
def test_fit_is_the_minimum(l2):
    numbers, rng = table(400)
    log_odds = 0.5 * numbers[:, OPEN] + np.nan_to_num(numbers[:, PRIOR], nan=-1.0)
    right = rng.random(400) < probability(log_odds)
    calibrator = fit(numbers, right, l2)
    assert set(calibrator.terms) == {"open", "prior"}  # the others tell nothing
    missing = np.isnan(numbers[:, PRIOR])
    columns = []
    for number in (OPEN, PRIOR):
        known = numbers[~np.isnan(numbers[:, number]), number]
        columns.append((numbers[:, number] - known.mean()) / known.std())
    design = np.nan_to_num(np.array([*columns, missing, np.ones(400)]).T)
    expected = newton(design, right, l2)
    opened, prior = calibrator.terms["open"], calibrator.terms["prior"]
    found = [opened.weight, prior.weight, prior.missing, calibrator.intercept]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert opened.missing == 0
    given = calibrator(numbers)
    np.testing.assert_allclose(given, probability(design @ expected), atol=1e-5)


def test_counts_are_repeated_links():
    """A link that counts as 3 is as three links."""
    numbers, rng = table(200)
    numbers[:, PRIOR] = np.nan
    right = rng.random(200) < probability(numbers[:, OPEN])
    counts = np.where(right, 3, 1)
    weighed = fit(numbers, right, l2=0.0, counts=counts.astype(float))
    repeated = fit(np.repeat(numbers, counts, 0), np.repeat(right, counts), l2=0.0)
    np.testing.assert_allclose(weighed(numbers), repeated(numbers), atol=1e-4)
    assert abs(weighed(numbers) - fit(numbers, right, l2=0.0)(numbers)).max() > 0.01


def test_known_weights_are_recovered():
    numbers, rng = table(60_000)
    log_odds = (
        0.4 + 0.5 * numbers[:, OPEN] + np.nan_to_num(-0.8 * numbers[:, PRIOR], nan=1.5)
    )
    right = rng.random(len(numbers)) < probability(log_odds)
    calibrator = fit(numbers, right, l2=0.0)
    opened, prior = calibrator.terms["open"], calibrator.terms["prior"]
    assert opened.weight / opened.scale == pytest.approx(0.5, abs=0.02)
    assert prior.weight / prior.scale == pytest.approx(-0.8, abs=0.05)
    np.testing.assert_allclose(calibrator(numbers), probability(log_odds), atol=0.02)


def test_nothing_to_learn():
    numbers, _ = table(3)
    for right, expected in (([True] * 3, 3.5 / 4), ([False] * 3, 0.5 / 4)):
        calibrator = fit(numbers, np.array(right))
        assert not calibrator.terms
        np.testing.assert_allclose(calibrator(numbers), expected)
    nothing = fit(numbers[:0], np.zeros(0, bool))
    assert nothing(numbers[:1]) == 0.5 and len(nothing(numbers[:0])) == 0


def test_extremes_do_not_overflow():
    calibrator = Calibrator({"open": Term(0.0, 1.0, 1e6, 0.0)}, 0.0)
    numbers = np.full((2, len(NAMES)), [[1.0], [-1.0]])
    assert calibrator(numbers).tolist() == [1, 0]


def test_json_and_back():
    terms = {"open": Term(0.1, 2.0, -3.0, 0.0), "prior": Term(0.0, 1.0, 0.5, 4.0)}
    calibrator = Calibrator(terms, -1.0)
    record = json.loads(json.dumps(calibrator.to_json()))
    assert Calibrator.from_json(record) == calibrator


TERM = {"mean": 0.0, "scale": 1.0, "weight": 1.0, "missing": 0.0}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "expected an intercept and terms"),
        ({"terms": {}}, "expected an intercept and terms"),
        ({"terms": {"open": {}}, "intercept": 0}, "expected an intercept and terms"),
        ({"terms": {"opened": TERM}, "intercept": 0}, "found .'opened'"),
        ({"terms": {}, "intercept": math.nan}, "finite"),
        ({"terms": {}, "intercept": "1"}, "finite numbers, found '1'"),
        ({"terms": {}, "intercept": True}, "finite numbers, found True"),
        ({"terms": {}, "intercept": 10**400}, "finite numbers, found 1000"),
        ({"terms": {"open": TERM | {"mean": False}}, "intercept": 0}, "finite"),
        ({"terms": {"open": TERM | {"weight": -math.inf}}, "intercept": 0}, "finite"),
        ({"terms": {"open": TERM | {"missing": [1]}}, "intercept": 0}, "finite"),
        ({"terms": {"open": TERM | {"scale": 0.0}}, "intercept": 0}, "open: .*> 0"),
        ({"terms": {"open": TERM | {"scale": -1}}, "intercept": 0}, "found -1"),
    ],
)
def test_damaged_json(record, message):
    with pytest.raises(ValueError, match=message):
        Calibrator.from_json(record)
