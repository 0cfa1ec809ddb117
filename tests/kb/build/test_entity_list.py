import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import (
    _csv_records,
    build_from_entities,
    read_entities,
)
from insgenel_jax.kb.build.tables import (
    ENTITIES,
    FORMS,
    build,
    title_forms,
    unique_titles,
)
from insgenel_jax.text.formats.rejects import InputError, Rejects


def read(path):
    rejects = Rejects()
    return [found[:2] for found in read_entities(path, rejects)], rejects


def test_jsonl(tmp_path):
    path = tmp_path / "list.jsonl"
    rows = [
        {"id": 7, "title": " Ada ", "description": "d\n", "aliases": ["Countess"]},
        {"title": "Bo", "id": "", "aliases": None},
    ]
    path.write_text("\n\n".join(map(json.dumps, rows)))
    found, rejects = read(path)
    assert found == [
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
    found, rejects = read(path)
    assert found == [
        (Entity("Ada, Countess", "", "1"), ("Ada", "A. L.")),
        (Entity("Cy", '"two"\n\nlines', "2"), ()),
        (Entity("Bo", "", "5"), ()),
    ]
    assert [(line, reason) for _, line, reason, _ in rejects.entries] == [
        (8, "more fields than the header: 6 for 5"),
        (9, "empty name"),
    ]


HEADER = "id,title,description,colour"
OPEN_QUOTES = {
    # an open quote that closes where the next one opens
    '2,"Bo,d\n3,Cy,d\n4,"Di, Jr",d': ([2], ["Cy", "Di, Jr"]),
    # one that never closes, one that closes far behind
    '2,Bo,"d\n3,Cy,""\n4,Di,d': ([2], ["Cy", "Di"]),
    '2,Bo,"d\n' + "3,Cy,d\n" * 100 + '"': ([2, 103], ["Cy"] * 100),
    # two wrong quotes that make a field together
    '2,"Bo\n3,Cy,d\n4,Di",d': ([2, 4], ["Cy"]),
    '2,"Bo\n3,Cy\n4,Di"': ([2, 4], ["Cy"]),
    '2,Bo,"d\n3,Cy,d\n4,Di"': ([2, 4], ["Cy"]),
    '"': ([2], []),
}


@pytest.mark.parametrize("rows", OPEN_QUOTES)
def test_an_open_quote_loses_its_own_line_alone(tmp_path, rows):
    path = tmp_path / "list.csv"
    path.write_text(f"{HEADER}\n{rows}\n5,Last,d\n".replace("3,Cy", ",Cy"))
    found, rejects = read(path)
    lines, titles = OPEN_QUOTES[rows]
    assert [entity.title for entity, _ in found] == [*titles, "Last"]
    assert [line for _, line, _, _ in rejects.entries] == lines
    broken = rejects.entries[0]
    assert broken[3] == rows.split("\n")[0] and "\n" not in broken[3]


@given(st.text('a,"\n', max_size=60))
def test_every_line_of_a_csv_is_in_an_entity_or_rejected(tmp_path_factory, body):
    """One by one: lines taken by good records and rejected lines are all there are."""
    path = tmp_path_factory.mktemp("csv") / "list.csv"
    path.write_text(f"title,description\n{body}")
    rejects = Rejects()
    seen = [line for line, _, _ in _csv_records(path, rejects)]
    spans = [raw.count("\n") + 1 for _, _, raw in _csv_records(path, Rejects())]
    taken = {n for line, size in zip(seen, spans) for n in range(line, line + size)}
    rejected = {line for _, line, _, _ in rejects.entries}
    lines = dict(enumerate(body.split("\n"), 2))
    empty = {number for number, line in lines.items() if not line}
    assert not taken & rejected
    assert taken | rejected | empty == set(lines)


def test_a_header_is_one_line_with_each_column_once(tmp_path):
    path = tmp_path / "list.csv"
    for header in ('title,"id\n"', "title,title", '"title', "\0"):
        path.write_text(f"{header}\nAda,1\n")
        with pytest.raises(InputError, match="line 1: expected a header"):
            read(path)


def test_bad_csv(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("name,id\nAda,1\n")
    with pytest.raises(ValueError, match=r"line 1.*title.*\['name', 'id'\]"):
        read(path)
    path.write_text("")
    with pytest.raises(ValueError, match="line 1"):
        read(path)
    path.write_bytes(b'title\nAda\n"a" b\n\xff\nBo\n')
    found, rejects = read(path)
    assert [entity.title for entity, _ in found] == ["Ada", "Bo"]
    assert [line for _, line, _, _ in rejects.entries] == [3, 4]
    assert set(rejects.by_reason) == {"not CSV", "not UTF-8"}


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
    found, rejects = read(path)
    assert [entity.title for entity, _ in found] == ["Ada", "Bo"]
    assert found[0][1] == ("A",)
    assert [(line, reason.split(":")[0]) for _, line, reason, _ in rejects.entries] == [
        (1, "alias left out"),
        *enumerate(BAD.values(), 2),
    ]


def test_titles_are_made_unique():
    rejects = Rejects()
    titles = ["Ada", "Bo", "Ada (2)", "Ada", "A[x]", "A(x)", "B_o", "B o", "Ada"]
    found = unique_titles(map(Entity, titles), rejects, "here")
    assert [entity.title for entity in found] == [
        "Ada",
        "Bo",
        "Ada (2)",
        "Ada (3)",
        "A[x]",
        "A(x) (2)",
        "B_o",
        "B o (2)",
        "Ada (4)",
    ]
    assert rejects.by_reason == {"title taken": 4}


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
    *entities, lines = zip(*read_entities(path, rejects))
    build_from_entities(
        tmp_path / "kb", zip(*entities), rejects, source=str(path), lines=lines
    )
    assert rejects.entries == [(str(path), 4, "title taken: made 'Ada (2)'", "Ada")]


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


@pytest.mark.parametrize(
    ("title", "forms"),
    [
        ("Ada", ["Ada"]),
        ("Ada (film)", ["Ada (film)", "Ada"]),
        ("Bo, Ada", ["Bo, Ada", "Bo"]),
        ("Bo, Ada (film)", ["Bo, Ada (film)", "Bo, Ada", "Bo"]),
        ("(What) Bo", ["(What) Bo"]),
        ("Bo(x)", ["Bo(x)"]),
        (" (x)", [" (x)"]),
        (", x", [", x"]),
        ("New_York_City", ["New York City"]),
        ("Bo,_Ada_(film)", ["Bo, Ada (film)", "Bo, Ada", "Bo"]),
    ],
)
def test_forms_of_a_title(title, forms):
    assert list(title_forms(title)) == forms


def test_underscores_of_names_are_spaces_in_texts(tmp_path):
    entities = [(Entity("New_York_City"), ("Big_Apple",)), (Entity("_"), ("_",))]
    redirects = {"Old_York": "New York City", "__": "_"}
    build_from_entities(tmp_path / "kb", entities, Rejects(), redirects=redirects)
    kb = KnowledgeBase.open(tmp_path / "kb")
    names = ("New York City", "New_York_City", "Big Apple", "Big_Apple", "Old York")
    for name in names:  # an identifier may stand in a text as it is written
        found = kb.matches(f"In {name}.")
        assert (found.starts.tolist(), found.ends.tolist()) == ([3], [3 + len(name)])
        assert kb.candidates(kb.form(name))[0].tolist() == [0]
    assert kb.form("") is None


def test_build_refuses_nothing_and_twins(tmp_path):
    with pytest.raises(ValueError, match="expected an entity"):
        build_from_entities(tmp_path / "kb", [], Rejects())
    twins = ENTITIES.empty_table().to_pylist() + [
        {"title": title, "description": "", "external_id": None, "inlinks": 0}
        for title in ("A b", "A_b")
    ]
    table = type(ENTITIES.empty_table()).from_pylist(twins, schema=ENTITIES)
    with pytest.raises(ValueError, match="unique_titles"):
        build(tmp_path / "kb", table, FORMS.empty_table())
    assert list(tmp_path.iterdir()) == []


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
    assert [kb.find(title) for title in ("c", "a", "b", "B", "Bo", "x", "z")] == [
        0,
        0,
        0,
        0,
        1,
        None,
        None,
    ]


def test_the_same_input_gives_the_same_bytes(tmp_path):
    entities = [(Entity(f"E {i} (x)", "", str(i)), (f"a{i % 7}",)) for i in range(300)]
    for name in ("one", "two"):
        build_from_entities(tmp_path / name, entities, Rejects())
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
