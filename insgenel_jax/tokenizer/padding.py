"""The static lengths that token sequences are padded to, so that few programs compile.

16, 24, 32, 48, 64, 96, 128, 192 ...     powers of two and the sums of two neighbours
"""

from __future__ import annotations

SMALLEST = 16


def padded_length(size: int) -> int:
    """The smallest length of the series that holds `size` tokens."""
    length = next_power(size, SMALLEST)
    between = length * 3 // 4
    return between if SMALLEST < length and size <= between else length


def padded_lengths(longest: int) -> list[int]:
    """The lengths of the series below `longest`, then `longest` itself."""
    lengths, size = [], 1
    while (length := padded_length(size)) < longest:
        lengths.append(length)
        size = length + 1
    return [*lengths, longest]


def next_power(size: int, smallest: int, factor: int = 2) -> int:
    """`smallest` times the smallest power of `factor` that reaches `size`."""
    while smallest < size:
        smallest *= factor
    return smallest
