"""A mention's other candidates: against the enumeration of all it could have been."""

import dataclasses

import pytest

from insgenel_jax.linker import Linker
from insgenel_jax.linker.calibrator import Calibrator, rescore
from insgenel_jax.text.document import Candidate, Mention

TEXT = "Paris and Mercury, Java. Michael Jordan saw the Amazon; Apollo."
# biases that leave the generator in doubt
DOUBT = {"mention_bias": 3.0, "prior_weight": 0.5, "decoder": "tree"}


@pytest.fixture(scope="module")
def linker(linker_path):
    return Linker.from_pretrained(
        linker_path, system="insgenel", other_candidates=1000, **DOUBT
    )


def test_probabilities_sum_to_one(linker):
    document = linker(TEXT)
    (candidates,) = linker.candidates([document])
    titles = {
        (c.start, c.end): [linker.kb.title(e) for e in c.entities.tolist()]
        for c in candidates
    }
    several = 0
    for mention in document.mentions:
        others = [c.entity for c in mention.candidates]
        assert sorted([mention.entity, *others]) == sorted(
            titles[mention.start, mention.end]
        )
        scores = [c.score for c in mention.candidates]
        assert scores == sorted(scores, reverse=True)
        total = mention.score + sum(scores) + mention.no_mention
        assert total == pytest.approx(1, abs=1e-9)
        several += len(others) > 1
    assert several > 1


def test_an_other_candidate_is_what_the_mention_alone_would_be(linker):
    """Among the candidates, the share of each is that of the title if it is given."""
    text = "Mercury"
    (mention,) = linker(text, mentions=[(0, 7)]).mentions
    assert mention.no_mention == 0 and mention.candidates
    assert mention.score + sum(c.score for c in mention.candidates) == pytest.approx(1)
    (open_,) = linker.with_settings(mention_bias=1000.0)(text).mentions
    assert open_.no_mention == pytest.approx(0, abs=1e-6)
    for one, other in zip(open_.candidates, mention.candidates, strict=True):
        assert one.entity == other.entity
        assert one.score == pytest.approx(other.score, abs=1e-6)


def test_links_do_not_change(linker_path, linker):
    plain = Linker.from_pretrained(linker_path, system="insgenel", **DOUBT)(TEXT)
    few = linker.with_settings(other_candidates=2)(TEXT)
    for bare, two, many in zip(
        plain.mentions, few.mentions, linker(TEXT).mentions, strict=True
    ):
        assert bare.candidates == () and bare.no_mention is None
        assert two.candidates == many.candidates[:2]
        for mention in (two, many):
            assert dataclasses.replace(
                mention, candidates=(), no_mention=None, score=None
            ) == dataclasses.replace(bare, score=None)
            assert mention.score == pytest.approx(bare.score, abs=1e-5)


def test_a_calibrated_score_leaves_the_rest_in_proportion(linker):
    mention = Mention(0, 1, "a", None, 0.5, (Candidate("b", 0.3),), 0.2)
    expected = Mention(0, 1, "a", None, 0.8, (Candidate("b", 0.12),), 0.08)
    found = rescore(mention, 0.8)
    assert found.candidates[0].score == pytest.approx(expected.candidates[0].score)
    assert found.no_mention == pytest.approx(expected.no_mention)
    assert rescore(Mention(0, 1, "a", None, 1.0, (), 0.0), 0.75).no_mention == 0.25
    assert rescore(Mention(0, 1, "a", None, 0.5), 0.75) == Mention(
        0, 1, "a", None, 0.75
    )
    calibrated = linker.with_settings()
    calibrated.calibrator = Calibrator({}, 0.0)
    for found in calibrated(TEXT).mentions:
        total = found.score + sum(c.score for c in found.candidates) + found.no_mention
        assert (found.score, total) == (0.5, pytest.approx(1))


def test_other_decoders_cannot(linker_path):
    with pytest.raises(ValueError, match="'speculative' cannot do other_candidates"):
        Linker.from_pretrained(linker_path, decoder="speculative", other_candidates=3)
    with pytest.raises(ValueError, match="other_candidates: expected at least 0"):
        Linker.from_pretrained(linker_path, other_candidates=-1)
