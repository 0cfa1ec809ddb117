"""Windows cover every word; chunks keep to the budget, sentences and joined spans."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insgenel_jax.text.chunking import chunks, sentences, windows
from tests.helpers.marks import slow

texts = st.text(st.sampled_from("ab. !?\nC'"), max_size=60)


def words(text):
    """Where tokens start: each word is cut into tokens of three characters."""
    starts = []
    for i, c in enumerate(text):
        if not c.isspace() and (i == 0 or text[i - 1].isspace()):
            run = len(text[i:].split()[0])
            starts += range(i, i + run, 3)
    return starts


@given(st.integers(0, 120), st.integers(1, 40), st.integers(1, 40))
def test_windows_cover_every_word(count, length, stride):
    stride = min(stride, length)
    text = " ".join(f"w{i}" for i in range(count))
    found = [text[a:b].split() for a, b in windows(text, length, stride)]
    assert {word for window in found for word in window} == set(text.split())
    assert all(len(window) <= length for window in found)
    assert [w[0] for w in found] == [f"w{stride * i}" for i in range(len(found))]
    assert len(found) <= 1 or found[-2][-1] != f"w{count - 1}"


def test_a_stride_that_leaves_words_out_is_refused():
    with pytest.raises(ValueError, match="stride: expected 1 <= stride <= length = 4"):
        windows("a b c d e f", 4, 5)


@given(texts)
def test_sentences_tile_the_text(text):
    found = sentences(text)
    assert "".join(text[a:b] for a, b in found) == text
    assert all(a < b for a, b in found)


@pytest.mark.parametrize("text", ["." * 200_000, "\n" * 200_000, ".\n" * 100_000])
def test_hostile_texts_take_no_longer_than_others(text):
    """The time is linear: two hundred thousand marks take well under a second."""
    began = time.process_time()
    assert "".join(text[a:b] for a, b in sentences(text)) == text
    assert time.process_time() - began < 5


def test_sentences():
    text = "Dr. Smith of St. Louis met J. K. Rowling at 5 p.m. today! He left. why?\nX"
    assert [text[a:b].strip() for a, b in sentences(text)] == [
        "Dr. Smith of St. Louis met J. K. Rowling at 5 p.m. today!",
        "He left. why?",
        "X",
    ]


@settings(max_examples=300)
@given(texts, st.integers(1, 8), st.data())
def test_chunks(text, budget, data):
    starts = words(text)
    costs = np.ones(len(starts))
    joined = []
    if len(starts) > 3:
        i = data.draw(st.integers(0, len(starts) - 2))
        joined = [(starts[i], starts[i + 1] + 1)]
    found = chunks(text, starts, costs, budget, joined)
    covered = [any(a <= s < b for a, b in found) for s in starts]
    assert all(covered)
    assert all(b <= c for (_, b), (c, _) in itertools.pairwise(found))
    for a, b in found:
        assert text[a:b] == text[a:b].strip() != ""
        inside = sum(a <= s < b for s in starts)
        assert inside <= budget
    if budget >= 2:
        assert all(any(a <= s and e <= b for a, b in found) for s, e in joined)


@pytest.mark.parametrize("space", [" ", slow("\t"), slow("\n")])
def test_a_run_of_spaces_is_passed_over_once(space):
    """The time is linear: half a million tokens, each a space, take seconds."""
    text = space * 500_000 + "Paris"
    began = time.process_time()
    found = chunks(text, range(len(text)), np.ones(len(text)), 4)
    assert time.process_time() - began < 20
    assert "".join(text[a:b] for a, b in found) == "Paris"


def test_chunks_are_whole_sentences_where_they_fit():
    text = "One two. Three four five. Six seven eight nine ten eleven."
    starts = words(text)
    starts = [i for i in starts if i == 0 or text[i - 1] == " "]
    found = [text[a:b] for a, b in chunks(text, starts, [1] * len(starts), 5)]
    assert found == [
        "One two. Three four five.",
        "Six seven eight nine ten",
        "eleven.",
    ]


def test_no_tokens_no_chunks():
    assert chunks("", [], [], 5) == []
    assert windows(" \n") == []
