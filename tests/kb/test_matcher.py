"""Dictionary matches against brute force over all substrings."""

import itertools
import tempfile
import unicodedata
from pathlib import Path

import marisa_trie
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from insgenel_jax.kb.folding import code_points, fold
from insgenel_jax.kb.form_filter import FILE, FormFilter, write_filter
from insgenel_jax.kb.matcher import Matcher
from insgenel_jax.text.document import WORD, normalise

ALPHABET = "\0abAB .!(-'\xa0[é\u0301İΣσ😀\ud8001"
SURFACES = st.text(st.sampled_from("ab .!(-'é\u0301Σ😀1"), min_size=1, max_size=5)


def brute_force(forms, text):
    """Every substring that is a form, between places where matches may lie."""
    words = [match.span() for match in WORD.finditer(text)]
    inside = {place for a, b in words for place in range(a + 1, b)}
    starts = {a for a, _ in words}
    for i, character in enumerate(text):
        is_punctuation = not WORD.match(character) and not character.isspace()
        after = text[i - 1] if i else " "
        if is_punctuation and (after.isspace() or normalise(after) == "("):
            starts.add(i)
    return [
        (start, end, text[start:end])
        for start in sorted(starts)
        for end in range(start + 1, len(text) + 1)
        if end not in inside and keys(text[start:end]) & forms
    ]


def keys(surface):
    """A string as it is, and composed."""
    return {fold(surface), fold(unicodedata.normalize("NFC", surface))}


@settings(max_examples=500, deadline=None)
@given(
    st.lists(SURFACES, min_size=1, max_size=8),
    st.lists(st.text(ALPHABET, max_size=16), min_size=1, max_size=3),
    st.data(),
)
def test_matches_against_brute_force(surfaces, texts, data):
    forms = {fold(surface).strip() for surface in surfaces} - {""}
    trie = marisa_trie.Trie(sorted(forms))
    matcher = Matcher(trie, max(map(len, forms), default=1))
    filtered = with_filter(sorted(forms), data.draw(st.sampled_from([3, 32_768])))
    texts.append(" ".join(data.draw(st.permutations(surfaces))).upper())
    for text in texts:
        matches = matcher.match(text)
        rows = [
            (start, end, text[start:end])
            for start, end in zip(
                matches.starts.tolist(), matches.ends.tolist(), strict=True
            )
        ]
        assert rows == brute_force(forms, text)
        others = filtered.match(text)
        assert [c.tolist() for c in others] == [c.tolist() for c in matches]
        assert [c.dtype for c in others] == [c.dtype for c in matches]
        assert all(
            trie.restore_key(i) in keys(surface)
            for i, (_, _, surface) in zip(matches.forms.tolist(), rows, strict=True)
        )


def with_filter(forms, block):
    """A matcher with a filter that takes so many places of a text at a time."""
    longest = max(map(len, forms), default=1)
    with tempfile.TemporaryDirectory() as folder:
        write_filter(Path(folder), forms, len(forms))
        blocks = np.load(Path(folder) / FILE)
    known = FormFilter(blocks, longest, block)
    return Matcher(marisa_trie.Trie(forms), longest, known)


def test_the_filter_lets_little_else_pass():
    words = [f"w{i * 7919 % 100_003}" for i in range(4000)]
    matcher = with_filter([f"{a} {b}" for a, b in itertools.pairwise(words)], 999)
    folded = code_points(" ".join(reversed(words)) + " ")
    starts = np.flatnonzero(folded == ord("w"))
    found, _ = matcher._filter.find(folded, starts)
    assert len(found) < 400  # of 8000 strings that are no form, half of them beginnings


def test_the_strings_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr("insgenel_jax.kb.matcher._CACHED_WORDS", 2)
    matcher = with_filter(["a", "b", "c d"], 100)
    for _ in range(3):
        assert matcher.match("a b c d").forms.tolist() == [
            matcher.form(form) for form in ("a", "b", "c d")
        ]
    assert len(matcher._first_words) == 3  # as many as one text has


def test_the_first_words_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr("insgenel_jax.kb.matcher._CACHED_WORDS", 3)
    matcher = Matcher(marisa_trie.Trie(["hermes", "hg"]), 6)
    for _ in range(2):
        matches = matcher.match("one hermes two hg three four hermes")
        assert matches.starts.tolist() == [4, 15, 29]
    assert len(matcher._first_words) <= 3


def test_letters_apart_from_their_marks_are_matched_at_their_own_offsets():
    matcher = Matcher(marisa_trie.Trie(["zo\u00eb", "\u1e69", "\uac01 x"]), 4)
    text = "Is Zoe\u0308 (s\u0323\u0307) \u1100\u1161\u11a8 x?"
    matches = matcher.match(text)
    spans = zip(matches.starts.tolist(), matches.ends.tolist(), strict=True)
    found = [text[start:end] for start, end in spans]
    assert found == ["Zoe\u0308", "s\u0323\u0307", "\u1100\u1161\u11a8 x"]
    matches = matcher.match_substrings(f"in{text}")
    spans = zip(matches.starts.tolist(), matches.ends.tolist(), strict=True)
    assert [f"in{text}"[start:end] for start, end in spans] == found
