"""Keys of surface forms and titles."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insgenel_jax.kb.folding import compose, fold, fold_title, form_key, title_key
from insgenel_jax.text.document import normalise
from tests.helpers.marks import slow


# letters with two cases lie in the first two planes
@pytest.mark.parametrize("count", [0x20000, slow(0x110000)])
def test_fold_is_one_character_for_one_everywhere(count):
    everything = [chr(i) for i in range(count)]
    folded = fold("".join(everything))
    assert len(folded) == len(everything)
    expected = []
    for plain in map(normalise, everything):
        lower = plain.lower()
        expected.append(lower if len(lower) == 1 else plain)
    expected[0xD800:0xE000] = "\ufffd" * 0x800
    assert [hex(i) for i in range(count) if expected[i] != folded[i]] == []
    assert fold("ΟΔΟΣ [x]\t") == "οδοσ (x) "
    assert fold("ABC") == fold("abc") == "abc"


LETTERS = "ab \u00e9e\u0301\u0323\u0308\u1100\u1161\u11a8\u212b\u0958\n"


@given(st.text(st.sampled_from(LETTERS)))
def test_a_map_leads_from_composed_letters_to_the_text(text):
    composed = compose(text)
    if composed is None:
        assert unicodedata.is_normalized("NFC", text)
        return
    assert composed.text == unicodedata.normalize("NFC", text)
    for i in range(len(composed.text)):
        start, end = composed.starts[i], composed.ends[i]
        assert composed.text[i] in unicodedata.normalize("NFC", text[start:end])
    assert composed.starts[0] == 0 and composed.ends[-1] == len(text)
    assert (composed.starts[1:] <= composed.ends[:-1]).all()


def test_keys():
    assert form_key("Zoe\u0308") == form_key("Zo\u00eb") == "zo\u00eb"
    assert form_key(" New\xa0YORK ") == "new york"
    assert title_key(" new_York [city] ") == "new York (city)"


def test_titles_begin_with_a_capital():
    assert fold_title("new_York") == "New York"
    assert fold_title("éa") == "Éa"
    assert fold_title("ßa") == "ßa"  # its upper case would be two letters
    assert fold_title("") == ""
