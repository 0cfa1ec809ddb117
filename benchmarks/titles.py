"""A number and a seed in; invented titles of about the shape of Wikipedia's out."""

from __future__ import annotations

import numpy as np


def draw_titles(count: int, seed: int) -> list[str]:
    """Different titles of Zipf-distributed words, in random order.

    The constants are chosen so that the tokens of a title, and the edges that a title
    adds to the prefix tree, come near those of Wikipedia's titles; `trie.py --titles`
    prints both.
    """
    rng = np.random.default_rng(seed)
    words = draw_words(4_000_000, rng)
    word = _zipf(len(words), 0.95, 10)
    # titles of three words or more share beginnings of two words
    beginnings = np.searchsorted(word, rng.random((50_000, 2)))
    beginning = _zipf(len(beginnings), 1.15, 5)
    shares = np.array([0.145, 0.48, 0.2, 0.09, 0.045, 0.025, 0.01, 0.005])  # by words
    titles: dict[str, None] = {}
    while len(titles) < count:
        lengths = 1 + rng.choice(len(shares), count, p=shares / shares.sum())
        flat = np.searchsorted(word, rng.random(lengths.sum()))
        firsts = np.cumsum(lengths) - lengths
        common = firsts[(lengths > 2) & (rng.random(count) < 0.95)]
        drawn = beginnings[np.searchsorted(beginning, rng.random(len(common)))]
        flat[common], flat[common + 1] = drawn.T
        flat = flat.tolist()
        for first, length in zip(firsts.tolist(), lengths.tolist(), strict=True):
            titles[" ".join([words[i] for i in flat[first : first + length]])] = None
    return list(titles)[:count]


def draw_words(count: int, rng: np.random.Generator) -> list[str]:
    """Words of syllables. The first ones are the frequent ones, and short."""
    onsets = [*"bcdfghjklmnprstvwz", "br", "ch", "gr", "st", "sh", "th", ""]
    codas = [*"aeiou", "an", "en", "in", "on", "ar", "er", "or", "al", "el"]
    syllables = [onset + coda for onset in onsets for coda in codas]
    rng.shuffle(syllables)
    mean = np.minimum(0.3 + 0.135 * np.log1p(np.arange(count)), 3.0)
    lengths = 1 + rng.poisson(mean)
    drawn = np.searchsorted(_zipf(len(syllables), 0.7, 1), rng.random(lengths.sum()))
    parts = [syllables[i] for i in drawn.tolist()]
    firsts = np.cumsum(lengths) - lengths
    return [
        "".join(parts[first : first + length]).capitalize()
        for first, length in zip(firsts.tolist(), lengths.tolist(), strict=True)
    ]


def _zipf(count: int, exponent: float, shift: float) -> np.ndarray:
    """The cumulative distribution of ranks, where p ~ (rank + shift) ** -exponent."""
    sums = np.cumsum((np.arange(count) + shift) ** -exponent)
    return sums / sums[-1]
