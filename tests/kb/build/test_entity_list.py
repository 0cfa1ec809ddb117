"""Entity lists, and the knowledge bases made of them."""

import json

import pytest

from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import (
    build_from_entities,
    build_from_entity_list,
    read_entities,
)
from insgenel_jax.text.formats.rejects import Rejects


def read(path):
    rejects = Rejects()
    listed = [(entity, aliases) for entity, aliases, _ in read_entities(path, rejects)]
    return listed, rejects


def test_jsonl(tmp_path):
    path = tmp_path / "list.jsonl"
    rows = [
        {"id": 7, "title": " Ada ", "description": "d\n", "aliases": ["Countess"]},
        {"title": "Bo", "id": "", "aliases": None},
    ]
    path.write_text("\n\n".join(map(json.dumps, rows)))
    listed, rejects = read(path)
    assert listed == [
        (Entity("Ada", "d", "7"), ("Countess",)),
        (Entity("Bo", "", None), ()),
    ]
    assert rejects.count == 0


def test_csv(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(
        "\ufeffTitle,id,aliases,description,colour\n"
        '"Ada, Countess",1,"Ada|A. L.||",,red\n'
        'Cy,2,,"""two""\n\nlines","b\nlue"\n'
        "\n"
        "too,3,many,fields,here,now\n"
        ",4,empty,\n"
        "Bo,5,,\n"
    )
    listed, rejects = read(path)
    assert listed == [
        (Entity("Ada, Countess", "", "1"), ("Ada", "A. L.")),
        (Entity("Cy", '"two"\n\nlines', "2"), ()),
        (Entity("Bo", "", "5"), ()),
    ]
    assert [(line, reason) for _, line, reason, _ in rejects.entries] == [
        (8, "more fields than the header: 6 for 5"),
        (9, "empty name"),
    ]


BAD = {
    "{": "not JSON",
    "[]": "bad entity",
    '{"id": 1}': "bad title",
    '{"title": 3}': "bad title",
    '{"title": "\\t"}': "empty name",
    json.dumps({"title": "x" * 201}): "over-long name",
    '{"title": "A\\u0000B"}': "NUL in a name",
    '{"title": "A", "id": "1\\u0000"}': "NUL in a name",
    '{"title": "\\ud800"}': "lone surrogate in a name",
    '{"title": "A", "description": "\\udc00"}': "lone surrogate in a description",
    '{"title": "A", "description": 1}': "bad description",
    '{"title": "A", "id": 1.5}': "bad id",
    '{"title": "A", "aliases": "A|B"}': "bad aliases",
    '{"title": "A", "aliases": [1]}': "bad aliases",
    '{"title": "A", "id": "1"}': "id taken by an earlier entity",
}


def test_bad_rows_are_rejected_and_the_rest_is_read(tmp_path):
    path = tmp_path / "list.jsonl"
    good = '{"title": "Ada", "id": 1, "aliases": ["", "A"]}'
    path.write_text("\n".join([good, *BAD, '{"title": "Bo"}']))
    listed, rejects = read(path)
    assert [entity.title for entity, _ in listed] == ["Ada", "Bo"]
    assert listed[0][1] == ("A",)
    assert [(line, reason.split(":")[0]) for _, line, reason, _ in rejects.entries] == [
        (1, "alias left out"),
        *enumerate(BAD.values(), 2),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.jsonl", '{"title": "Ada"}\n\n{"title": "Bo"}\n{"title": "Ada"}'),
        ("list.csv", "title\nBo\nAda\nAda"),
    ],
)
def test_a_title_taken_is_reported_with_its_place(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    rejects = Rejects()
    build_from_entity_list(tmp_path / "kb", path, rejects)
    assert rejects.entries == [(str(path), 4, "title taken: made 'Ada (2)'", "Ada")]


def test_a_list_with_labelled_documents(tmp_path):
    source, documents = tmp_path / "list.csv", tmp_path / "labelled.jsonl"
    source.write_text("title,aliases\nAda,Countess|Lady\n")
    mention = {"start": 4, "end": 8, "entity": "Ada"}
    record = {"id": 1, "text": "The lady.", "mentions": [mention]}
    documents.write_text(json.dumps(record))
    build_from_entity_list(tmp_path / "kb", source, Rejects(), documents=documents)
    kb = KnowledgeBase.open(tmp_path / "kb")
    assert kb.candidates(kb.form("Lady"))[1].tolist() == [2]
    assert kb.entity(0).inlinks == 1


def test_entities_of_one_title_share_their_form(tmp_path):
    pair = [(Entity("Ada", "one"), ()), (Entity("Ada", "two"), ())]
    build_from_entities(tmp_path / "kb", pair, Rejects())
    kb = KnowledgeBase.open(tmp_path / "kb")
    assert [kb.description(kb.find(title)) for title in ("Ada", "Ada (2)")] == [
        "one",
        "two",
    ]
    assert kb.candidates(kb.form("Ada"))[0].tolist() == [0, 1]
    assert kb.form("Ada (2)") is None


def test_underscores_of_names_are_spaces_in_texts(tmp_path):
    entities = [(Entity("New_York_City"), ("Big_Apple",)), (Entity("_"), ("_",))]
    redirects = {"Old_York": "New York City", "__": "_"}
    build_from_entities(tmp_path / "kb", entities, Rejects(), redirects=redirects)
    kb = KnowledgeBase.open(tmp_path / "kb")
    names = ("New York City", "New_York_City", "Big Apple", "Big_Apple", "Old York")
    for name in names:  # an identifier may stand in a text as it is written
        matches = kb.matches(f"In {name}.")
        assert (matches.starts.tolist(), matches.ends.tolist()) == (
            [3],
            [3 + len(name)],
        )
        assert kb.candidates(kb.form(name))[0].tolist() == [0]
    assert kb.form("") is None


def test_redirects_are_followed_to_the_end(tmp_path):
    redirects = {
        "c": "a",
        "a": "b",
        "b": "Ada",
        "x": "y",
        "y": "x",
        "Bo": "Ada",
        "z": "x",
    }
    entities = [(Entity("Ada"), ()), (Entity("Bo"), ())]
    build_from_entities(tmp_path / "kb", entities, Rejects(), redirects=redirects)
    kb = KnowledgeBase.open(tmp_path / "kb")
    rows = {title: kb.find(title) for title in ("c", "a", "b", "B", "Bo", "x", "z")}
    assert rows == {
        "c": 0,
        "a": 0,
        "b": 0,
        "B": 0,
        "Bo": 1,
        "x": None,
        "z": None,
    }


def test_the_same_input_gives_the_same_bytes(tmp_path):
    entities = [(Entity(f"E {i} (x)", "", str(i)), (f"a{i % 7}",)) for i in range(300)]
    for name in ("one", "two"):
        build_from_entities(tmp_path / name, entities, Rejects())
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
