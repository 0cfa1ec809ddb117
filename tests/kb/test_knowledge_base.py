"""A knowledge base against small dict oracles; damaged ones are refused."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insgenel_jax import artifact
from insgenel_jax.artifact import ArtifactError
from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.rejects import Rejects

PLANETS = [
    (Entity("Mercury (planet)", "The first planet.", "Q308"), ["Hermes"]),
    (Entity("Mercury (element)", "A metal.", "Q925"), ["Quicksilver", "Hg"]),
    (Entity("Paris, Texas", "A town."), ["Paris"]),
    (Entity("Paris", "", "Q90"), []),
    (Entity(".NET", "", "Q5289"), []),
    (Entity("Yahoo!", "", "Q37093"), []),
]
TEXT = "Hermes or mercury? Paris; PARIS, Texas."
LABELLED = [
    Document("1", TEXT, None, (Mention(10, 17, "Mercury (planet)"),)),
    Document("2", "Mercury, Mercury.", None, (Mention(0, 7, "mercury_(planet)"),)),
    Document("3", "mercury", None, (Mention(0, 7, None),)),
    Document("4", "The Red One", None, (Mention(4, 11, "Mercury (planet)"),)),
    Document("6", "hermes\0x", None, (Mention(0, 8, "Mercury (planet)"),)),
    Document("5", "Nobody", None, (Mention(0, 6, "Nobody in particular"),)),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("kb") / "kb"
    redirects = {"Hydrargyrum": "Mercury (element)", "Lost": "Nowhere"}
    build_from_entities(
        path, PLANETS, Rejects(), documents=LABELLED, redirects=redirects
    )
    return path


@pytest.fixture(scope="module")
def kb(path):
    return KnowledgeBase.open(path, verify=True)


def test_entities(kb):
    assert len(kb) == 6
    assert kb.entity(0) == Entity("Mercury (planet)", "The first planet.", "Q308", 3)
    assert kb.entity(3) == Entity("Paris", "", "Q90", 0)
    assert (kb.title(2), kb.description(2), kb.external_id(2)) == (
        "Paris, Texas",
        "A town.",
        None,
    )


def drop_columns(path, *names):
    """Leave out columns of the entities of a knowledge base."""
    file = path / "entities.arrow"
    with pa.ipc.open_file(file) as reader:
        table = reader.read_all().drop(names)
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    made = artifact.read(path)
    artifact.write_manifest(path, made.kind, made.version, made.counts, made.made_from)


def test_popularity_counts_links_and_redirects(tmp_path):
    documents = [Document("1", "Ada", None, (Mention(0, 3, "Ada"),))]
    build_from_entities(
        tmp_path / "new",
        [(Entity("Ada"), []), (Entity("Bo"), []), (Entity("Cy"), [])],
        Rejects(),
        documents=documents,
        redirects={"Countess": "Ada", "Lady": "Ada", "Bob": "Bo"},
    )
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    drop_columns(tmp_path / "old", "redirects", "context")  # as version 0.1 wrote it
    for name, expected in (("new", [3, 1, 0]), ("old", [1, 0, 0])):
        kb = KnowledgeBase.open(tmp_path / name, verify=True)
        assert [kb.popularity(kb.find(t)) for t in ("Ada", "Bo", "Cy")] == expected


def test_the_text_of_an_entity(kb, path, tmp_path):
    assert [kb.entity_text(i) for i in (0, 2, 3)] == [
        "The first planet.",
        "A town.",
        "",
    ]
    shutil.copytree(path, tmp_path / "old")  # as older versions wrote it
    drop_columns(tmp_path / "old", "context")
    old = KnowledgeBase.open(tmp_path / "old")
    assert [old.entity_text(i) for i in (0, 3)] == ["The first planet.", ""]


@pytest.mark.parametrize(
    ("title", "entity"),
    [
        ("Mercury (planet)", 0),
        ("mercury_[planet]", 0),
        ("\xa0Mercury\u202f(planet) ", 0),
        ("MERCURY (planet)", None),
        ("Hydrargyrum", 1),
        ("hydrargyrum", 1),
        ("Lost", None),
        ("Nowhere", None),
        ("Hermes", None),
        ("", None),
        ("\ud800", None),
        ("Paris\0", None),
        ("Paris\0, Texas", None),
        ("\0", None),
    ],
)
def test_find(kb, title, entity):
    assert kb.find(title) == entity


def test_find_external(kb):
    assert [kb.find_external(i) for i in ("Q308", "Q90", "Q1", "\ud800", "Q90\0")] == [
        0,
        3,
        None,
        None,
        None,
    ]


def names(kb, surface):
    form = kb.form(surface)
    if form is None:
        return None
    entities, counts = kb.candidates(form)
    assert (entities.dtype, counts.dtype) == (np.int32, np.float64)
    return list(zip(map(kb.title, entities.tolist()), counts.tolist(), strict=True))


def test_candidates_highest_count_first_then_by_entity(kb):
    assert names(kb, "MERCURY ") == [("Mercury (planet)", 3), ("Mercury (element)", 1)]
    assert names(kb, "paris") == [("Paris, Texas", 1), ("Paris", 1)]
    assert names(kb, "Hydrargyrum") == [("Mercury (element)", 1)]
    assert names(kb, "red one") == [("Mercury (planet)", 1)]
    assert names(kb, "nobody") is None
    assert names(kb, "paris\0") is None


def test_link_probability_counts_documents(kb):
    surfaces = ["mercury", "hermes", "red one", "Quicksilver"]
    probability = kb.link_probability([kb.form(surface) for surface in surfaces])
    assert probability.dtype == np.float32
    assert probability == pytest.approx([2 / 3, 0, 1, 1])
    assert kb.link_probability(np.zeros(0, np.int32)).shape == (0,)
    linked, seen = kb.document_counts([kb.form(surface) for surface in surfaces])
    assert (linked.tolist(), seen.tolist()) == ([2, 0, 1, 0], [3, 2, 1, 0])


def test_capitalised_counts_leave_out_lower_case(tmp_path):
    build_from_entities(
        tmp_path / "kb", PLANETS, Rejects(), documents=LABELLED, case="capitalised"
    )
    kb = KnowledgeBase.open(tmp_path / "kb")
    assert kb.settings.case == "capitalised"
    # linked in documents 1 and 2, and seen there alone
    assert kb.link_probability([kb.form("mercury")]) == [1]


def spans(kb, text):
    matches = kb.matches(text)
    assert all(column.dtype == np.int32 for column in matches)
    rows = list(zip(*(column.tolist() for column in matches), strict=True))
    for start, end, form in rows:
        assert kb.form(text[start:end]) == form
    return [text[start:end] for start, end, _ in rows]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("Hg", ["Hg"]),
        ("PARIS, texas", ["PARIS", "PARIS, texas"]),
        ("Paris\ntexas", ["Paris"]),
        ("Parisian, le-paris", ["paris"]),
        ("{Mercury\xa0[element]}", ["Mercury", "Mercury\xa0[element]"]),
        ("Use .NET (.net), ASP.NET", [".NET", ".net"]),
        ("Yahoo! yahoo!s yahoo", ["Yahoo!", "yahoo!"]),
        ("hgs", []),
        ("hg\0s \0hg paris\0, texas paris,\0texas", ["hg", "hg", "paris", "paris"]),
    ],
)
def test_matches(kb, text, expected):
    assert spans(kb, text) == expected


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["A", "B", "C"]), st.sampled_from(["x", "y", "X", "c"])
        ),
        max_size=12,
    )
)
def test_candidates_against_a_counter(tmp_path_factory, links):
    path = tmp_path_factory.mktemp("kb") / "kb"
    text = "x"
    documents = [
        Document(str(i), surface, None, (Mention(0, len(text), title),))
        for i, (title, surface) in enumerate(links)
    ]
    entities = [(Entity(title), ()) for title in "ABC"]
    build_from_entities(path, entities, Rejects(), documents=documents)
    kb = KnowledgeBase.open(path)
    counts = {}
    for title, surface in [*links, *((title, title) for title in "ABC")]:
        row = counts.setdefault(surface.lower(), {})
        row[title] = row.get(title, 0) + 1
    for surface, row in counts.items():
        expected = sorted(row.items(), key=lambda item: (-item[1], item[0]))
        assert names(kb, surface) == expected
    assert {kb.entity(i).inlinks for i in range(3)} == {
        sum(title == name for title, _ in links) for name in "ABC"
    }
    shutil.rmtree(path)


FILES = [
    "entities.arrow",
    "titles.marisa",
    "surface_forms.marisa",
    "form_counts.npy",
    "settings.json",
]


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(path, tmp_path, name):
    shutil.copytree(path, tmp_path / "kb")
    file = tmp_path / "kb" / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")):
        KnowledgeBase.open(tmp_path / "kb")


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_right_size_but_wrong_content_is_refused(path, tmp_path, name):
    shutil.copytree(path, tmp_path / "kb")
    file = tmp_path / "kb" / name
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(ArtifactError, match="cannot be read"):
        KnowledgeBase.open(tmp_path / "kb")
    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")):
        KnowledgeBase.open(tmp_path / "kb", verify=True)


def test_an_array_with_a_damaged_header_is_refused(path, tmp_path):
    """numpy parses the header as Python, whose tokenizer has errors of its own."""
    shutil.copytree(path, tmp_path / "kb")
    file = tmp_path / "kb" / "form_counts.npy"
    file.write_bytes(file.read_bytes().replace(b"}", b"(", 1))
    with pytest.raises(ArtifactError, match="cannot be read"):
        KnowledgeBase.open(tmp_path / "kb")


def test_files_that_do_not_fit_each_other_are_refused(path, tmp_path):
    shutil.copytree(path, tmp_path / "kb")
    manifest = tmp_path / "kb" / "manifest.json"
    record = json.loads(manifest.read_text())
    record["counts"]["entities"] += 1
    manifest.write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match="do not fit"):
        KnowledgeBase.open(tmp_path / "kb")


def test_another_version_or_kind_is_refused(path, tmp_path):
    for field, value in (("version", 99), ("kind", "index")):
        target = tmp_path / field
        shutil.copytree(path, target)
        record = json.loads((target / "manifest.json").read_text())
        (target / "manifest.json").write_text(json.dumps(record | {field: value}))
        with pytest.raises(ArtifactError, match=str(value)):
            KnowledgeBase.open(target)
    with pytest.raises(ArtifactError, match="none"):
        KnowledgeBase.open(tmp_path / "none")


def test_importing_the_knowledge_base_loads_no_jax():
    code = (
        "import sys, insgenel_jax.kb, insgenel_jax.kb.build.wikipedia,"
        "insgenel_jax.mini_world; sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
