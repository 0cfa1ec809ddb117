"""Dictionary matches against brute force over all substrings."""

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
        if end not in inside and fold(text[start:end]) in forms
    ]


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
        assert [trie.restore_key(i) for i in matches.forms.tolist()] == [
            fold(surface) for _, _, surface in rows
        ]


def test_the_first_words_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr("insgenel_jax.kb.matcher._CACHED_WORDS", 3)
    matcher = Matcher(marisa_trie.Trie(["hermes", "hg"]), 6)
    for _ in range(2):
        matches = matcher.match("one hermes two hg three four hermes")
        assert matches.starts.tolist() == [4, 15, 29]
    assert len(matcher._first_words) <= 3
