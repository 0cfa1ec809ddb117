"""Dictionary matches against brute force over all substrings."""

import unicodedata

import marisa_trie
from hypothesis import given, settings
from hypothesis import strategies as st

from insgenel_jax.kb.folding import fold
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
        assert all(
            trie.restore_key(i) in keys(surface)
            for i, (_, _, surface) in zip(matches.forms.tolist(), rows, strict=True)
        )


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
