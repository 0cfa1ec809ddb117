"""Windows with their golds, and the token ids of all entities."""

import collections
import dataclasses

import numpy as np

from insgenel_jax.text.document import Document, Mention, normalise
from insgenel_jax.training.data.windows import (
    entity_tokens,
    find_confusable,
    retriever_expand,
)


def test_windows_know_their_golds(make_config, wordpiece, kb):
    config = make_config("retriever")
    text = " ".join(["Python"] + ["word"] * 47 + ["Python"])
    titles = [kb.title(int(e)) for e in kb.candidates(kb.form("Python"))[0][:2]]
    document = Document(
        "d",
        text,
        mentions=(
            Mention(0, 6, titles[0]),
            Mention(len(text) - 6, len(text), titles[1]),
            Mention(7, 11, "Nowhere to be found"),
        ),
    )
    counts = collections.Counter()
    found = retriever_expand(wordpiece, kb, config.data)(document, counts)
    golds = [[kb.title(int(e)) for e in window["golds"]] for window in found]
    assert golds == [[titles[0]], [titles[1]]]
    first = "Python" + " word" * 31
    np.testing.assert_array_equal(found[0]["window"], wordpiece.encode([first], 32)[0])
    assert counts["windows without a mention"] == 1  # words 16 to 48 of 49
    assert counts["mentions of no known entity"] == 1


def test_entity_tokens_are_made_once(tmp_path, wordpiece, kb):
    cache = tmp_path / "deep" / "entities.npy"
    table = entity_tokens(wordpiece, kb, 16, cache)
    assert table.shape == (len(kb), 16)
    texts = [normalise(text) for text in (kb.title(5), kb.description(5))]
    expected = wordpiece.encode(texts[:1], 16, texts[1:])
    np.testing.assert_array_equal(table[5:6], expected)
    untouched = dataclasses.replace(wordpiece, encode=lambda *_: 1 / 0)
    again = entity_tokens(untouched, kb, 16, cache)
    np.testing.assert_array_equal(table, again)


def test_windows_know_what_may_be_confused_with_their_golds(make_config, wordpiece, kb):
    entities = kb.candidates(kb.form("Python"))[0].tolist()
    assert len(entities) > 2
    settings = make_config("retriever", {"data.confusable_per_window": 2}).data
    document = Document(
        "d", "Python word", mentions=(Mention(0, 6, kb.title(entities[1])),)
    )
    expand = retriever_expand(wordpiece, kb, settings)
    (found,) = expand(document, collections.Counter())
    assert found["confusable"].tolist() == [entities[0], *entities[2:3]]


def test_what_forms_name_most_comes_first_in_turns(kb):
    python, mercury = (kb.form(name) for name in ("Python", "Mercury"))
    first, second = (kb.candidates(form)[0].tolist() for form in (python, mercury))
    both = sorted([(python, first), (mercury, second)])
    turns = [rows[place] for place in (0, 1) for _, rows in both]
    found = find_confusable(kb, [turns[1]], {python, mercury, None}, 3)
    assert found[:3] == [turns[0], turns[2], turns[3]]
