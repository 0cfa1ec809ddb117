"""The letter case of names, restored from texts."""

import pytest

from insgenel_jax.kb.build.letter_case import (
    ascii_key,
    fit,
    restore,
    restore_by_rule,
)

TITLES = {
    **dict.fromkeys(["Ada Bell", "Bo Bell", "Heinz König", "Tom Reed", "Ada Reed"], 2),
    **dict.fromkeys(["Blue whale", "Grey whale", "Green tea", "Black tea"], 2),
    "Iceland": 3,
    "ICELAND": 1,
}
WORDS = {"Bell": 9, "Reed": 8, "whale": 9, "tea": 9, "blue": 5, "red": 7, "NASA": 5}
WORDS |= {"Mia": 6, "Rita": 4, "Tom": 4, "black": 9, "Ada": 9, "green": 8, "grey": 8}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("heinz konig", "Heinz König"),  # a title
        ("iceland", "Iceland"),  # its most frequent spelling
        ("big red barn", "Big Red barn"),  # a phrase
        ("mia bell", "Mia Bell"),
        ("red whale", "Red whale"),
        ("nasa", "NASA"),
        ("house of reed", "House of Reed"),
        ("a. a. bell", "A. A. Bell"),
        ("hms 7", "HMS 7"),
    ],
)
def test_case_is_restored(name, expected):
    phrases = {"Big Red barn": 2, "big red barn": 1}
    assert restore(name, fit(TITLES, WORDS, phrases)) == expected


def test_case_by_rule():
    assert restore_by_rule("the house of the rose") == "The House of the Rose"


def test_keys_are_lower_case_ascii():
    assert ascii_key("  Łódź–Ærø  Straße’s ") == "lodz-aero strasse's"
    assert ascii_key("東京") == "東京"
