"""How good scores are, against sums and pairs counted one by one."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insgenel_jax.evaluation import calibration
from insgenel_jax.evaluation.scoring import same_entity
from insgenel_jax.linker.calibrator import fit
from insgenel_jax.linker.features import NAMES
from insgenel_jax.text.document import Document, Mention

SCORED = st.lists(
    st.tuples(st.sampled_from([0.0, 0.04, 0.1, 0.35, 0.4, 0.99, 1.0]), st.booleans()),
    min_size=1,
    max_size=30,
)


def columns(scored):
    scores, right = zip(*scored, strict=True)
    return np.array(scores), np.array(right)


@given(scored=SCORED)
def test_calibration_error_and_auroc_by_brute_force(scored):
    quality = calibration.measure(*columns(scored))
    error = 0.0
    for low in range(10):
        inside = [(s, r) for s, r in scored if low == min(int(s * 10), 9)]
        error += abs(sum(s - r for s, r in inside)) / len(scored)
    assert quality.error == pytest.approx(error)
    pairs = [
        (a > b) + (a == b) / 2 for a, r in scored for b, w in scored if r and not w
    ]
    expected = sum(pairs) / len(pairs) if pairs else math.nan
    assert quality.auroc == pytest.approx(expected, nan_ok=True)
    assert quality.links == len(scored)
    assert quality.right == pytest.approx(sum(r for _, r in scored) / len(scored))


@given(scored=SCORED, threshold=st.sampled_from([0.0, 0.1, 0.36, 1.0]))
def test_bins_and_thresholds(scored, threshold):
    scores, right = columns(scored)
    rows = calibration.bins(scores, right)
    assert sum(row.links for row in rows) == len(scored)
    assert all(row.low - 1e-9 <= row.score <= row.high + 1e-9 for row in rows)
    kept = calibration.keep(scores, right, threshold)
    left = [r for s, r in scored if s >= threshold]
    assert kept.share == len(left) / len(scored)
    expected = sum(left) / len(left) if left else math.nan
    assert kept.precision == pytest.approx(expected, nan_ok=True)


def test_nothing_to_measure():
    none = np.zeros(0)
    quality = calibration.measure(none, none.astype(bool))
    assert quality.links == quality.error == 0 and math.isnan(quality.auroc)


def test_which_links_are_right():
    """By the rules of strong match: each gold makes one link right, NIL makes none."""
    gold = Document(
        "1", "Ann met Bob", None, (Mention(0, 3, "Ann Lee"), Mention(8, 11, None))
    )
    links = [
        Mention(0, 3, "Ann Bo"),
        Mention(0, 3, "Ann Lee"),
        Mention(0, 3, "Ann Lee"),
        Mention(8, 11, "Bob Lee"),
    ]
    (right,) = calibration.judge([gold], [links], same_entity())
    assert right.tolist() == [False, True, False, False]
    twice = dataclasses.replace(gold, mentions=gold.mentions[:1] * 2)
    (right,) = calibration.judge([twice], [links], same_entity())
    assert right.tolist() == [False, True, True, False]
    assert calibration.judge([gold], [[]], same_entity())[0].tolist() == []


def test_cross_fitting_never_sees_the_document():
    """Each score is that of a calibrator fitted on the other folds; equal texts stay
    together."""
    rng = np.random.default_rng(0)
    texts = [f"text {i}" for i in range(11)] + ["text 3"]
    numbers = [np.full((4, len(NAMES)), np.nan) for _ in texts]
    for rows in numbers:
        rows[:, 0] = rng.normal(size=4)
    right = [rng.random(4) < 0.5 for _ in texts]
    counts = [np.full(4, 0.5 + i % 2) for i in range(len(texts))]
    scores = calibration.cross_fit(texts, numbers, right, counts)
    order = sorted({calibration.hash_text(text) for text in texts})
    fold = [order.index(calibration.hash_text(text)) % 5 for text in texts]
    assert fold[3] == fold[11] and len(set(fold)) == 5
    for i, own in enumerate(scores):
        others = [j for j in range(len(texts)) if fold[j] != fold[i]]
        calibrator = fit(
            np.concatenate([numbers[j] for j in others]),
            np.concatenate([right[j] for j in others]),
            counts=np.concatenate([counts[j] for j in others]),
        )
        np.testing.assert_array_equal(own, calibrator(numbers[i]))


def test_cross_fitting_a_single_document():
    numbers, right = [np.zeros((2, len(NAMES)))], [np.array([True, False])]
    (scores,) = calibration.cross_fit(["alone"], numbers, right, [np.ones(2)])
    assert scores.tolist() == [0.5, 0.5]


def test_a_figure(tmp_path):
    pytest.importorskip("matplotlib")
    scores, right = np.array([0.1, 0.9, 1.0]), np.array([False, True, True])
    calibration.draw(tmp_path / "drawn.png", {"a": scores, "b": scores / 2}, right)
    assert (tmp_path / "drawn.png").read_bytes().startswith(b"\x89PNG")


@settings(deadline=None)
@given(SCORED, st.integers(0, 3))
def test_the_curve_against_each_threshold(scored, missed):
    scores, right = columns(scored)
    golds = int(right.sum()) + missed
    points = calibration.curve(scores, right, golds)
    if not golds:
        assert points == []
        return
    assert [point.threshold for point in points] == sorted(set(scores))[::-1]
    for threshold, precision, recall, f1 in points:
        kept = right[scores >= threshold]
        assert precision == pytest.approx(kept.mean())
        assert recall == pytest.approx(kept.sum() / golds)
        assert f1 == pytest.approx(2 * kept.sum() / (len(kept) + golds))
