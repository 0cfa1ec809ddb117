"""Which paragraphs become training documents, and what pages held back give."""

import pytest

from insgenel_jax.kb.build.extract import (
    extract_file,
    is_held_back,
    is_training_document,
)
from insgenel_jax.text.document import Document, Mention

TEN_WORDS = "a b c d e f g h i jklmnopqrstu."  # 31 characters


@pytest.mark.parametrize(
    ("text", "spans", "kept"),
    [
        (TEN_WORDS, [(0, 1)], True),
        (TEN_WORDS, [], False),
        (TEN_WORDS[2:], [(0, 1)], False),  # nine words
        (TEN_WORDS, [(0, 18), (19, 25)], True),  # 24 of 31 characters
        (TEN_WORDS, [(0, 18), (19, 26)], False),  # 25 of 31 characters
        ("", [], False),
    ],
)
def test_which_paragraphs_are_training_documents(text, spans, kept):
    mentions = tuple(Mention(start, end, "E") for start, end in spans)
    assert is_training_document(Document("1:0", text, "T", mentions)) == kept


def test_the_share_held_back_follows_the_page_id_alone():
    ids = [str(i) for i in range(10_000)]
    tenth = [i for i in ids if is_held_back(i, 0.1)]
    assert 900 < len(tenth) < 1100
    assert set(tenth) <= {i for i in ids if is_held_back(i, 0.2)}
    assert not any(is_held_back(i, 0) for i in ids)
    assert all(is_held_back(i, 1) for i in ids)


@pytest.mark.parametrize("share", [0, 1])
def test_no_sentence_is_taken_from_a_page_held_back(tmp_path, share):
    page = 'A\n\nThe <a href="B">bee</a> sang.\n\n</doc>\n'
    (tmp_path / "wiki").write_text(f'<doc id="1" url="u" title="A">\n{page}')
    extracted = extract_file(tmp_path / "wiki", share)
    expected = [] if share else [{"title": "B", "sentence": "The bee sang."}]
    assert extracted.sentences.to_pylist() == expected
