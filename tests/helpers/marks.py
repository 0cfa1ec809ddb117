"""Marks and texts that tests of several packages share."""

import pytest

TEXTS = [
    "Mercury is the smallest planet, and the closest to the Sun.",
    "The singer (Freddie Mercury) was born in Stone Town; he led Queen.",
    "New York City's mayor flew from New York to York in 1999 - twice!",
    "York's mayor's speech... -- it's (...) ?!",
    "Ångström and 東京 met naïve café-goers: “why not?”",
]


def slow(*values):
    """Parameters of a test that only the slow run takes."""
    return pytest.param(*values, marks=pytest.mark.slow)
