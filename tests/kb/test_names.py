"""Titles to ids and back: from a table, through redirects, from a knowledge base."""

from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.kb.names import first_of, kb_names, read_names
from insgenel_jax.text.formats.names import Names
from insgenel_jax.text.formats.rejects import Rejects


def test_a_table(tmp_path):
    file = tmp_path / "ids.tsv"
    file.write_bytes(
        "\ufeffNew York City\tQ60\r\nBig Apple\tQ60\r\n\r\nBern\r\na\tb\tc\r\n".encode()
    )
    rejects = Rejects()
    redirects = {"NYC": "Gotham", "Gotham": "new_York City", "a": "b", "b": "a"}
    names = read_names(file, rejects, redirects)
    assert names.title_of("Q60") == "New York City" and names.title_of("Q1") is None
    for title in ("New_York_City", "new York City", "Big Apple", "NYC", "gotham"):
        assert names.id_of(title) == "Q60", title
    assert names.id_of("a") is None and names.id_of("Bern") is None
    assert [entry[1] for entry in rejects.entries] == [4, 5]


def test_a_knowledge_base(tmp_path):
    listed = [(Entity("Bern", external_id="Q70"), ["Bärn"]), (Entity("Basel"), [])]
    with Rejects() as rejects:
        build_from_entities(tmp_path / "kb", listed, rejects)
    names = kb_names(KnowledgeBase.open(tmp_path / "kb"))
    assert (names.title_of("Q70"), names.id_of("bern")) == ("Bern", "Q70")
    assert (names.title_of("Q1"), names.id_of("Basel"), names.id_of("x")) == (None,) * 3
    both = first_of(Names(id_of={"Basel": "Q78"}.get), names)
    assert (both.id_of("Basel"), both.id_of("Bern")) == ("Q78", "Q70")
    assert both.title_of("Q70") == "Bern" and first_of().id_of("Bern") is None
