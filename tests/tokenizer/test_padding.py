"""The series of lengths 16, 24, 32, 48 ... against a list of them."""

import pytest

from insgenel_jax.tokenizer.padding import next_power, padded_length, padded_lengths

SERIES = [16, 24, 32, 48, 64, 96, 128, 192, 256]


@pytest.mark.parametrize("size", range(1, 257))
def test_padded_length(size):
    assert padded_length(size) == min(length for length in SERIES if length >= size)


@pytest.mark.parametrize("longest", [1, 16, 17, 24, 100, 128])
def test_padded_lengths(longest):
    assert padded_lengths(longest) == [n for n in SERIES if n < longest] + [longest]


def test_next_power():
    assert [next_power(n, 8, 4) for n in (0, 8, 9, 32, 33)] == [8, 8, 32, 32, 128]
