"""Folded keys, and every match of a dictionary of surface forms in a text.

A dictionary is a marisa trie over folded surface forms; the id of a form is its id in
the trie. Folding is one character for one, so offsets in the folded text are offsets in
the text.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import marisa_trie
import numpy as np

from insgenel_jax.text.document import WORD, normalise

_SPACE, _PUNCTUATION, _WORD = 0, 1, 2
_CHARACTERS = 0x110000
_CACHED_WORDS = 100_000
_LOOK_FURTHER = -2  # a longer form may start with this word


class Matches(NamedTuple):
    """Dictionary matches of a text, sorted by (start, end). All int32 [N]."""

    starts: np.ndarray
    ends: np.ndarray
    forms: np.ndarray


def fold(text: str) -> str:
    """The key of a surface form: normalised, lower case, of the same length.

    A character whose lower case is longer than one character stays as it is; a lone
    surrogate becomes U+FFFD.
    """
    if text.isascii():
        return normalise(text).lower()
    return _decode(_tables()[0][_codes(text)])


def trie_id(trie: marisa_trie.Trie, key: str) -> int | None:
    """The id of a key, None where the trie does not have it."""
    if "\0" in key:  # in no key, but marisa would look up what stands before it
        return None
    try:
        return trie.get(key)
    except UnicodeEncodeError:  # a lone surrogate is in no key
        return None


class Matcher:
    """Finds the forms of one trie in texts. longest: length of the longest form."""

    def __init__(self, trie: marisa_trie.Trie, longest: int):
        self._trie = trie
        self.longest = longest
        self._first_words: dict[str, int] = {}

    def match(self, text: str) -> Matches:
        """Every form that starts where a word starts, or at punctuation after a space,
        an opening bracket or nothing, and does not end inside a word."""
        folds, kinds = _tables()
        codes = _codes(text)
        folded_codes = folds[codes]
        folded = _decode(folded_codes) + " "  # so that every word is followed by one
        kind = kinds[codes]
        n = len(codes)

        word = np.zeros(n + 2, bool)  # word[i + 1]: character i belongs to a word
        word[1:-1] = kind == _WORD
        inside = word[:-1] & word[1:]  # [n + 1] places inside a word
        open_left = np.ones(n + 1, bool)  # [n + 1] places where punctuation may start
        open_left[1:] = (kind == _SPACE) | (folded_codes == ord("("))
        starts = np.flatnonzero(
            (word[1:-1] & ~word[:-2]) | ((kind == _PUNCTUATION) & open_left[:-1])
        )
        # The first word of each start, and one character more (none for punctuation:
        # the character itself is that one more).
        word_ends = np.flatnonzero(word[1:-1] & ~word[2:]) + 1
        firsts = starts + 1
        firsts[word[starts + 1]] = word_ends + 1
        return self._look_up(folded, inside.tobytes(), starts.tolist(), firsts.tolist())

    def form(self, key: str) -> int | None:
        """The id of a folded form."""
        return trie_id(self._trie, key)

    def _look_up(
        self, folded: str, inside: bytes, starts: list[int], firsts: list[int]
    ) -> Matches:
        """One dictionary lookup a start, and a walk down the trie where one may pay.

        Most words begin no longer form. What a first word (with the one character after
        it) can lead to is remembered, so the trie is asked once for each such word.
        """
        known, longest = self._first_words, self.longest
        walk = self._trie.iter_prefixes_with_ids
        found: list[int] = []  # start, end, form, start, end, form ...
        for start, first in zip(starts, firsts):
            head = folded[start:first]
            form = known.get(head)
            if form is None:
                form = self._remember(head)
            if form >= 0:
                found += start, first - 1, form
            elif form == _LOOK_FURTHER:
                for prefix, form in walk(folded[start : start + longest]):
                    end = start + len(prefix)
                    if not inside[end]:
                        found += start, end, form
        table = np.array(found, np.int32).reshape(-1, 3)
        return Matches(table[:, 0], table[:, 1], table[:, 2])

    def _remember(self, head: str) -> int:
        if len(self._first_words) >= _CACHED_WORDS:
            self._first_words.clear()
        form = _LOOK_FURTHER
        if next(self._trie.iterkeys(head), None) is None:
            form = self._trie.get(head[:-1], -1)
        self._first_words[head] = form
        return form


def _codes(text: str) -> np.ndarray:
    """The code points of a text, uint32 [characters]."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _decode(codes: np.ndarray) -> str:
    return codes.tobytes().decode("utf-32-le")


@functools.cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """For every code point: its fold, uint32, and its kind, uint8."""
    codes = np.arange(_CHARACTERS, dtype=np.uint32)
    codes[0xD800:0xE000] = 0xFFFD
    text = normalise(_decode(codes))
    kinds = np.full(_CHARACTERS, _PUNCTUATION, np.uint8)
    for match in WORD.finditer(text):
        kinds[match.start() : match.end()] = _WORD
    kinds[[i for i in range(0x3001) if text[i].isspace()]] = _SPACE
    # U+0130 has a longer lower case; that of a capital sigma depends on what follows
    lower = "\u0130".join(part.lower() for part in text.split("\u0130"))
    folds = _codes(lower).copy()
    folds[0x03A3] = 0x03C3
    return folds, kinds
