"""A text in; every match of a dictionary of surface forms in it out.

The dictionary is a marisa trie over folded surface forms (kb/folding.py). The number of
a form is its id in the trie. With a filter (kb/form_filter.py) the trie is only asked
for what is probably a form; directories of older versions have none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import marisa_trie
import numpy as np
from jaxtyping import Bool, Int32, Int64

from insgenel_jax.kb import folding
from insgenel_jax.kb.characters import PUNCTUATION, SPACE, WORD, kinds
from insgenel_jax.kb.form_filter import FormFilter

_CACHED_WORDS = 100_000
_LOOK_FURTHER = -2  # a longer form may start with this word


class Matches(NamedTuple):
    """The N dictionary matches of a text, sorted by (start, end)."""

    starts: Int32[np.ndarray, " N"]
    ends: Int32[np.ndarray, " N"]
    forms: Int32[np.ndarray, " N"]


def trie_id(trie: marisa_trie.Trie, key: str) -> int | None:
    """The id of a key, or None where the trie does not have it."""
    if "\0" in key:  # no key has a NUL; marisa would look up what stands before it
        return None
    try:
        return trie.get(key)
    except UnicodeEncodeError:  # no key has a lone surrogate
        return None


def _also_composed(match: Callable[[str], Matches], text: str) -> Matches:
    """What `match` finds in a text, and in its NFC at the text's own offsets."""
    matches = match(text)
    composed = folding.compose(text)
    if composed is None:
        return matches
    more = match(composed.text)
    starts, ends = composed.starts[more.starts], composed.ends[more.ends - 1]
    columns = zip(matches, (starts, ends, more.forms), strict=True)
    both = Matches(*(np.concatenate(pair) for pair in columns))
    _, first = np.unique(np.stack(both[:2]), axis=1, return_index=True)
    return Matches(*(column[first] for column in both))


class Matcher:
    """Finds the surface forms of one trie in texts.

    longest: characters of the longest form in the trie. filter: of its forms.
    """

    def __init__(
        self, trie: marisa_trie.Trie, longest: int, filter: FormFilter | None = None
    ):
        self._trie = trie
        self.longest = longest
        self._filter = filter
        # What a first word, with the character after it, can lead to: a form's id, -1
        # for nothing, or _LOOK_FURTHER. With a filter: the id of a string, or -1.
        self._first_words: dict[str, int] = {}

    def match_substrings(self, text: str) -> Matches:
        """Find every form in a text, inside words too, whatever its case (*release*).

        A match neither starts nor ends with a space. NFD: as `match`.
        """
        return _also_composed(self._match_substrings, text)

    def match(self, text: str) -> Matches:
        """Find every form in a text, whatever its case.

        A match starts where a word starts, or at punctuation that follows a space, an
        opening bracket or nothing. It does not end inside a word. A text whose letters
        and marks are apart (NFD) is also matched in NFC, as most forms are; the offsets
        are its own.
        """
        return _also_composed(self._match, text)

    def _match_substrings(self, text: str) -> Matches:
        """`match_substrings`, of the text's characters as they are."""
        codes = folding.code_points(text)
        folded = folding.from_code_points(folding.fold_codes(codes))
        walk = self._trie.iter_prefixes_with_ids
        matches = [
            (start, start + len(prefix), form)
            for start, character in enumerate(folded)
            if not character.isspace()
            for prefix, form in walk(folded[start : start + self.longest])
            if not prefix[-1:].isspace()
        ]
        table = np.array(matches, np.int32).reshape(-1, 3)
        return Matches(table[:, 0], table[:, 1], table[:, 2])

    def _match(self, text: str) -> Matches:
        """`match`, of the text's characters as they are."""
        codes = folding.code_points(text)
        folded_codes = folding.fold_codes(codes)
        # The space at the end has every word followed by a character.
        folded = folding.from_code_points(folded_codes) + " "
        kind = kinds()[codes]
        n = len(codes)

        word = np.zeros(n + 2, bool)  # word[i + 1]: character i belongs to a word
        word[1:-1] = kind == WORD
        open_left = np.ones(n + 1, bool)  # [n + 1] whether punctuation may start there
        open_left[1:] = (kind == SPACE) | (folded_codes == ord("("))
        starts = np.flatnonzero(
            (word[1:-1] & ~word[:-2]) | ((kind == PUNCTUATION) & open_left[:-1])
        )
        if self._filter is not None:
            return self._check(folded, *self._filter.find(folded_codes, starts))
        # firsts: the end of the first word at each start, plus one character. Where the
        # start is punctuation, that character alone is taken.
        word_ends = np.flatnonzero(word[1:-1] & ~word[2:]) + 1
        firsts = starts + 1
        firsts[word[starts + 1]] = word_ends + 1
        inside = word[:-1] & word[1:]  # [n + 1] whether a place is inside a word
        return self._look_up(folded, inside.tobytes(), starts.tolist(), firsts.tolist())

    def form(self, key: str) -> int | None:
        """The id of a folded form, or None."""
        return trie_id(self._trie, key)

    def _check(
        self,
        folded: str,
        starts: Int64[np.ndarray, " M"],
        ends: Int64[np.ndarray, " M"],
    ) -> Matches:
        """The matches among the places that passed the filter."""
        known, get = self._first_words, self._trie.get
        if len(known) >= _CACHED_WORDS:
            known.clear()
        spans = zip(starts.tolist(), ends.tolist(), strict=True)
        keys = [folded[start:end] for start, end in spans]
        forms = list(map(known.get, keys))
        if None in forms:
            for key, form in zip(keys, forms, strict=True):
                if form is None:
                    known[key] = -1 if "\0" in key else get(key, -1)
            forms = list(map(known.__getitem__, keys))
        found = np.array(forms, np.int32)
        kept = found >= 0
        table = np.stack([starts, ends]).astype(np.int32)[:, kept]
        return Matches(table[0], table[1], found[kept])

    def _look_up(
        self, folded: str, inside: bytes, starts: list[int], firsts: list[int]
    ) -> Matches:
        """Look up the first word at each start; walk down the trie only where a longer
        form may follow.

        Most words begin no longer form. What a first word can lead to is remembered, so
        the trie is asked once for each such word.
        """
        known, longest = self._first_words, self.longest
        walk = self._trie.iter_prefixes_with_ids
        matches: list[int] = []  # start, end, form, start, end, form ...
        for start, first in zip(starts, firsts, strict=True):
            head = folded[start:first]
            form = known.get(head)
            if form is None:
                form = self._remember(head)
            if form >= 0:
                matches += start, first - 1, form
            elif form == _LOOK_FURTHER:
                for prefix, form in walk(folded[start : start + longest]):
                    end = start + len(prefix)
                    if not inside[end]:
                        matches += start, end, form
        table = np.array(matches, np.int32).reshape(-1, 3)
        return Matches(table[:, 0], table[:, 1], table[:, 2])

    def _remember(self, head: str) -> int:
        """Ask the trie what a first word can lead to, and remember the answer."""
        if len(self._first_words) >= _CACHED_WORDS:
            self._first_words.clear()
        form = _LOOK_FURTHER
        if next(self._trie.iterkeys(head), None) is None:
            form = self._trie.get(head[:-1], -1)
        self._first_words[head] = form
        return form


def starts_lower(text: str, starts: Int32[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    """Whether the text is in lower case at each start."""
    return np.array([text[start].islower() for start in starts.tolist()], bool)
