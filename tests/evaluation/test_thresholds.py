"""Calibrator and threshold, on links of which it is known what tells the right ones."""

import math

import numpy as np
import pytest

from insgenel_jax.evaluation import thresholds
from insgenel_jax.linker.features import Features, ScoredLink
from insgenel_jax.text.document import Document, Mention


def scored(start, linked, **known):
    unknown = Features(*[math.nan] * len(Features._fields))
    known = {"documents_linked": 0, "documents_seen": 0, "candidates": 1} | known
    mention = Mention(start, start + 1, "A", score=0.5)
    return ScoredLink(mention, linked, unknown._replace(**known))


def example(count=30, seed=0):
    """Documents whose links are right where their prior is high, taken or not."""
    rng = np.random.default_rng(seed)
    documents, links = [], []
    for number in range(count):
        right = rng.random(8) < 0.5
        taken = rng.random(8) < 0.7
        golds = tuple(Mention(i, i + 1, "A") for i in np.flatnonzero(right).tolist())
        documents.append(Document(str(number), f"{number:08} a", None, golds))
        priors = np.where(right, -0.5, -3) + rng.normal(size=8) / 3
        links.append(
            [scored(i, bool(taken[i]), prior=float(priors[i])) for i in range(8)]
        )
    return {"dev": documents}, links


def test_calibration_chooses_threshold_and_unlinked():
    sets, links = example()
    calibrated = thresholds.calibrate(sets, links, consider_unlinked=True)
    assert calibrated.consider_unlinked and 0.2 <= calibrated.threshold <= 0.8
    first, second = calibrated.steps
    assert first.setting == "threshold" and second.setting == "threshold and unlinked"
    assert first.after == second.before < second.after
    assert second.after > 0.97 and first.before < 0.7
    # without those passed over
    alone = thresholds.calibrate(sets, links, consider_unlinked=False)
    assert not alone.consider_unlinked and alone.steps == [first]
    taken = sum(link.linked for own in links for link in own)
    for scores in calibrated.scores.values():
        assert len(scores) == len(calibrated.right) == taken
    plain, ours = calibrated.scores.values()
    assert (plain == 0.5).all() and ((ours > 0.5) == calibrated.right).mean() > 0.97


def test_calibration_of_hopeless_links_keeps_what_there_was():
    """Scores that tell nothing give no threshold."""
    sets, links = example()
    rng = np.random.default_rng(1)
    links = [
        [
            link._replace(features=link.features._replace(prior=float(rng.normal())))
            for link in own
        ]
        for own in links
    ]
    calibrated = thresholds.calibrate(sets, links, consider_unlinked=False)
    assert calibrated.threshold < 0.5


def test_sets_count_alike_in_the_fit():
    """Of two sets that ask for opposite things, the larger one does not win."""
    small, links = example(count=30)
    large, opposite = example(count=300, seed=2)
    opposite = [
        [
            link._replace(features=link.features._replace(prior=-link.features.prior))
            for link in own
        ]
        for own in opposite
    ]
    sets = {"small": small["dev"], "empty": [], "large": large["dev"]}
    counts = thresholds.count_alike(sets, links + opposite)
    assert np.concatenate(counts[:30]).sum() == len(np.concatenate(counts[:30]))
    assert np.concatenate(counts[30:]).sum() == pytest.approx(30 * 8)
    calibrated = thresholds.calibrate(sets, links + opposite, consider_unlinked=False)
    assert abs(calibrated.calibrator.terms["prior"].weight) < 0.2
