"""Surface forms in; a small table out that says of most strings that they are no form.

It is a Bloom filter in blocks of 64 bits. It holds every form, and every beginning of a
longer form that ends where a match may end. So the matches of a text are found by
numpy, word after word for all places at once, and only what passes is looked up in the
trie. A string that passes may still be none of them; one of them always passes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, Int64, UInt32, UInt64

from insgenel_jax.kb import folding
from insgenel_jax.kb.characters import SPACE, WORD, kinds

FILE = "form_filter.npy"
_BITS = 10  # of the filter for each string in it; 4 of them are set
_BATCH = 100_000  # forms that are hashed at a time
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_MIX = 0xBF58476D1CE4E5B9  # odd
# what the hash of a whole form is multiplied by, and that of a beginning
_KINDS = np.array([[0xD1B54A32D192ED03], [1]], np.uint64)


class FormFilter:
    """The filter in an array of blocks.

    longest: characters of the longest form. together: places of a text whose matches
    are found at a time.
    """

    def __init__(
        self, blocks: UInt64[np.ndarray, " B"], longest: int, together: int = 32_768
    ):
        self._blocks = blocks
        self._longest = longest
        self._together = together

    def find(
        self, folded: UInt32[np.ndarray, " N"], starts: Int[np.ndarray, " S"]
    ) -> tuple[Int64[np.ndarray, " M"], Int64[np.ndarray, " M"]]:
        """Starts and ends of all that may be a form, by (start, end).

        folded: the characters of a text, folded. starts: where a match may start.
        """
        places, last, reach = [np.zeros(0, np.int64)], len(folded), self._longest
        shift = last.bit_length()
        for first in range(0, last, self._together):
            rows = slice(*np.searchsorted(starts, [first, first + self._together]))
            # one character more, which tells whether a word goes on
            text = folded[first : first + self._together + reach + 1]
            for start, end in self._levels(text, starts[rows] - first):
                places.append((start + first) << shift | end + first)
        found = np.sort(np.concatenate(places))
        return found >> shift, found & ((1 << shift) - 1)

    def _levels(
        self, text: UInt32[np.ndarray, " N"], starts: Int64[np.ndarray, " S"]
    ) -> Iterator[tuple[Int64[np.ndarray, " M"], Int64[np.ndarray, " M"]]]:
        """Starts and ends of what may be a form: of the first word or sign at each
        start, then of that and the next, as long as there may be forms that go on."""
        sums, inverse = _sums(text), _powers(len(text))[1]
        ends = find_ends(text)
        following = ends.searchsorted(starts, side="right")
        bound = ends.searchsorted(starts + self._longest, side="right")
        places = np.stack([starts, following, bound])
        factors = np.stack([sums[starts], inverse[starts]])
        live = (following < bound).nonzero()[0]
        while len(live):
            # few calls of numpy, as their number is what takes time here
            places, factors = places[:, live], factors[:, live]
            end = ends[places[1]]
            hashes = (sums[end] - factors[0]) * factors[1]
            forms, beginnings = passes(self._blocks, _KINDS * hashes)
            forms = forms.nonzero()[0]
            yield places[0, forms], end[forms]
            places[1] += 1
            live = (beginnings & (places[1] < places[2])).nonzero()[0]


def write_filter(path: Path, forms: Iterable[str], count: int) -> None:
    """Write the filter of `count` forms, a part of them at a time."""
    hashes = [_hash_batch(batch) for batch in _batches(forms)]
    whole = [forms for forms, _ in hashes]
    beginnings = np.unique(
        np.concatenate([np.zeros(0, np.uint64), *(b for _, b in hashes)])
    )
    del hashes
    size = max(1, (count + len(beginnings)) * _BITS // 64)
    blocks = np.zeros(size, np.uint64)
    for part in (beginnings, *whole):
        at, mask = _places(part, size)
        np.bitwise_or.at(blocks, at, mask)
    np.save(path / FILE, blocks)


def passes(
    blocks: UInt64[np.ndarray, " B"], hashes: UInt64[np.ndarray, "*N"]
) -> Bool[np.ndarray, "*N"]:
    """Which hashes may be among those that the blocks were made of."""
    at, mask = _places(hashes, len(blocks))
    return (blocks[at] & mask) == mask


def find_ends(text: UInt32[np.ndarray, " N"]) -> Int64[np.ndarray, " M"]:
    """Where a form may end: neither inside a word nor after a space."""
    kind = kinds()[text]
    word = kind == WORD
    may_end = kind != SPACE
    may_end[:-1] &= ~(word[:-1] & word[1:])
    return np.flatnonzero(may_end) + 1


def _places(
    hashes: UInt64[np.ndarray, "*N"], size: int
) -> tuple[UInt64[np.ndarray, "*N"], UInt64[np.ndarray, "*N"]]:
    """The block of each hash, and its bits there."""
    mixed = hashes * np.uint64(_MIX)
    high = mixed >> np.uint64(32)
    low = (mixed ^ high) & np.uint64(0xFFFF)
    return (high * np.uint64(size)) >> np.uint64(32), _masks()[low]


def _sums(text: UInt32[np.ndarray, " N"]) -> UInt64[np.ndarray, " N1"]:
    """Sums of the characters, each times a power of _BASE, before each place.

    The hash of a string, whatever stands before it, is the difference of the sums at
    its end and start, times the inverse of the power at its start.
    """
    powers, _ = _powers(len(text))
    sums = np.zeros(len(text) + 1, np.uint64)
    np.cumsum(
        (text.astype(np.uint64) + np.uint64(1)) * powers[: len(text)], out=sums[1:]
    )
    return sums


_Powers = tuple[UInt64[np.ndarray, " N"], UInt64[np.ndarray, " N"]]


def _powers(count: int) -> _Powers:
    """At least `count` + 1 powers of _BASE and of its inverse, modulo 2**64."""
    return _powers_of_size(1 << max(count + 1, 4096).bit_length())


@functools.lru_cache(maxsize=3)
def _powers_of_size(size: int) -> _Powers:
    inverse = pow(_BASE, -1, 1 << 64)
    powers = [np.full(size, base, np.uint64) for base in (_BASE, inverse)]
    for power in powers:
        power[0] = 1
        np.cumprod(power, out=power)
    return powers[0], powers[1]


@functools.cache
def _masks() -> UInt64[np.ndarray, " N"]:
    """Words of 64 bits, 4 of them set at most."""
    bits = np.random.default_rng(0).integers(0, 64, (1 << 16, 4), np.uint64)
    return np.bitwise_or.reduce(np.uint64(1) << bits, axis=1)


def _batches(forms: Iterable[str]) -> Iterator[list[str]]:
    batch = []
    for form in forms:
        batch.append(form)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _hash_batch(
    forms: list[str],
) -> tuple[UInt64[np.ndarray, " F"], UInt64[np.ndarray, " B"]]:
    """The hashes of forms, and those of their beginnings, each once."""
    lengths = np.fromiter(map(len, forms), np.int64, len(forms))
    # a space after each, so that no word goes on in the next form
    text = folding.code_points(" ".join(forms) + " ")
    last = np.cumsum(lengths + 1) - 1
    first = last - lengths
    sums, inverse = _sums(text), _powers(len(text))[1]
    whole = (sums[last] - sums[first]) * inverse[first] * _KINDS[0]
    ends = find_ends(text)
    form = np.searchsorted(last, ends)
    shorter = ends < last[form]
    ends, start = ends[shorter], first[form[shorter]]
    beginnings = (sums[ends] - sums[start]) * inverse[start]
    return whole, np.unique(beginnings)
