"""Keys of surface forms and titles."""

from insgenel_jax.kb.folding import fold, fold_title, form_key, title_key
from insgenel_jax.text.document import normalise


def test_fold_is_one_character_for_one_everywhere():
    everything = [chr(i) for i in range(0x110000)]
    folded = fold("".join(everything))
    assert len(folded) == len(everything)
    expected = []
    for plain in map(normalise, everything):
        lower = plain.lower()
        expected.append(lower if len(lower) == 1 else plain)
    expected[0xD800:0xE000] = "\ufffd" * 0x800
    assert [hex(i) for i in range(0x110000) if expected[i] != folded[i]] == []
    assert fold("ΟΔΟΣ [x]\t") == "οδοσ (x) "
    assert fold("ABC") == fold("abc") == "abc"


def test_keys():
    assert form_key(" New\xa0YORK ") == "new york"
    assert title_key(" new_York [city] ") == "new York (city)"


def test_titles_begin_with_a_capital():
    assert fold_title("new_York") == "New York"
    assert fold_title("éa") == "Éa"
    assert fold_title("ßa") == "ßa"  # its upper case would be two letters
    assert fold_title("") == ""
