"""Noise changes words between mentions, and nothing else."""

import numpy as np

from insgenel_jax import mini_world
from insgenel_jax.text.document import WORD
from insgenel_jax.training.data.noise import replace_words

WORDS = ["qux", "quuxes"]


def test_mentions_stay_and_words_are_drawn():
    shares = []
    for document in mini_world.paragraphs("train", 200):
        noisy = replace_words(document, 0.3, WORDS)
        assert noisy == replace_words(document, 0.3, WORDS)
        assert len(noisy.mentions) == len(document.mentions)
        for one, other in zip(document.mentions, noisy.mentions, strict=True):
            assert one.entity == other.entity
            before = document.text[one.start : one.end]
            assert noisy.text[other.start : other.end] == before
        pairs = list(
            zip(WORD.findall(document.text), WORD.findall(noisy.text), strict=True)
        )
        assert all(new in (old, *WORDS) for old, new in pairs)
        shares.append(np.mean([old != new for old, new in pairs]))
    assert 0.2 < np.mean(shares) < 0.3  # of all words, those of mentions included
    assert max(shares) > 0.4 and min(shares) < 0.1


def test_no_share_no_change():
    document = mini_world.paragraphs("train", 1)[0]
    assert replace_words(document, 0.0, WORDS) == document
