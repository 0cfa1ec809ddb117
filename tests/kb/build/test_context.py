"""The context of entities without a description: other names, and sentences."""

import pytest

from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build import context
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.rejects import Rejects


def linked(text, *names):
    """A document whose mentions are the first occurrences of names, in order."""
    places = [(text.index(name), name) for name in names]
    mentions = tuple(
        Mention(start, start + len(name), f"T {name}") for start, name in places
    )
    return Document("d", text, mentions=mentions)


def test_two_sentences_of_each_title_in_the_order_read():
    found: dict[str, list[str]] = {}
    text = "Ann met Bo. Dr. Cy, who knew St. Bo, left! Nobody came.\nThen Ann slept."
    context.add_sentences(linked(text, "Ann", "Bo", "Cy"), found)
    context.add_sentences(linked("No links here."), found)
    context.add_sentences(linked("Ann met Bo. Bo saw Cy.", "Bo"), found)  # known
    context.add_sentences(linked("Bo sang.", "Bo"), found)
    context.add_sentences(linked("Bo won.", "Bo"), found)  # one too many
    expected = {
        "T Ann": ["Ann met Bo."],
        "T Bo": ["Ann met Bo.", "Bo sang."],
        "T Cy": ["Dr. Cy, who knew St. Bo, left!"],
    }
    assert found == expected
    table = context.sentence_table(found)
    assert table.schema == context.SENTENCES and len(table) == 4
    assert context.sentence_table({}).schema == context.SENTENCES


@pytest.mark.parametrize("place", [0, 1, 30, 60, 61])
def test_of_a_long_sentence_the_words_around_the_mention_stay(place):
    words = [f"w{i:04}" for i in range(60)]
    words.insert(place, "HERE")
    found: dict[str, list[str]] = {}
    context.add_sentences(linked(" ".join(words) + ".", "HERE"), found)
    ((sentence,),) = found.values()
    assert 180 < len(sentence) <= context.LONGEST_SENTENCE
    kept = sentence.removesuffix(".").split(" ")
    assert "HERE" in kept
    first = words.index(kept[0])
    assert kept == words[first : first + len(kept)]


def test_a_sentence_without_spaces_is_cut_too():
    found: dict[str, list[str]] = {}
    context.add_sentences(linked("x" * 300 + "HERE" + "x" * 300, "HERE"), found)
    assert all(len(t) <= context.LONGEST_SENTENCE for t in found["T HERE"])


def test_tables_are_joined_in_order_and_redirects_followed():
    one = context.sentence_table({"A": ["1"], "Old": ["2"]})
    two = context.sentence_table({"Old": ["1", "3"], "New": ["4"], "A": ["5", "6"]})
    joined = context.first_sentences([one, two], {"Old": "New"})
    expected = {"A": ["1", "5"], "New": ["2", "1"]}
    assert joined.equals(context.sentence_table(expected))
    assert context.first_sentences([joined]).equals(joined)
    whole = context.first_sentences([context.first_sentences([one]), two], {})
    assert whole.equals(context.first_sentences([one, two]))


def test_other_names_of_entities_without_a_description(tmp_path):
    entities = [
        (Entity("Mercury (planet)", ""), ["Hermes", "The Swift", "mercury"]),
        (Entity("Venus", "A planet."), ["Morning Star"]),
        (Entity("Mars", ""), []),
        (Entity("Many", ""), [f"name {i}" for i in range(9)]),
    ]
    text = "The swift one, the swift one."
    documents = [Document("1", text, None, (Mention(0, 9, "Mercury (planet)"),))]
    build_from_entities(tmp_path, entities, Rejects(), documents=documents)
    kb = KnowledgeBase.open(tmp_path)
    texts = [kb.entity_text(i) for i in range(4)]
    assert texts[:3] == ["the swift, hermes.", "A planet.", ""]
    assert texts[3].count("name") == 5
    assert [kb.description(i) for i in range(4)] == ["", "A planet.", "", ""]
