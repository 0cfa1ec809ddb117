"""NIF: round trips, what rdflib sees in ours, other tools' files, and wrong ones."""

import logging

import pytest
import rdflib
from hypothesis import given, settings
from hypothesis import strategies as st

from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.documents import read_documents, write_documents
from insgenel_jax.text.formats.names import Names
from insgenel_jax.text.formats.nif import ITSRDF, NIF, write_nif
from insgenel_jax.text.formats.rejects import Rejects

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
DOCUMENTS = [
    Document(
        "http://ex.org/a",
        "Ann 👩‍🚀 met \r\nBob in São Paulo.",
        "A title",
        (
            Mention(0, 3, "Ann (band)", "Q12", 0.25),
            Mention(14, 17, None),
            Mention(21, 30, "São Paulo", None, 1.0),
            Mention(21, 30, "Paulo_of 100%"),
        ),
    ),
    Document("7", ""),
    Document("7", "same id", None, (Mention(0, 4, "D 1", "MESH:D01"),)),
    Document("an id", "Bob", None, (Mention(0, 3, None, "http://ex.org/Bob"),)),
]


def read(path, names=None):
    rejects = Rejects()
    documents = list(read_documents(path, rejects, format="nif", names=names))
    return documents, [reason for _, _, reason, _ in rejects.entries]


def test_documents_come_back_as_written(tmp_path):
    path = tmp_path / "documents.ttl"
    assert write_documents(path, DOCUMENTS) == 4
    documents, reasons = read(path)
    first, *others = documents
    assert not reasons and others == DOCUMENTS[1:]
    assert set(first.mentions) == set(DOCUMENTS[0].mentions)
    assert first.text == DOCUMENTS[0].text and first.title == "A title"


@st.composite
def documents(draw):
    text, spans = draw(TEXTS), set()
    for _ in range(draw(st.integers(0, 3)) if text else 0):
        start = draw(st.integers(0, len(text) - 1))
        spans.add((start, draw(st.integers(start + 1, len(text)))))
    ids = st.none() | st.sampled_from(["Q1", "D01", "http://ex.org/x y"])
    mentions = [
        Mention(
            *span,
            draw(st.none() | TEXTS),
            draw(ids),
            draw(st.none() | st.floats(0, 1)),
        )
        for span in sorted(spans)
    ]
    return Document(draw(TEXTS), text, draw(st.none() | TEXTS), tuple(mentions))


@settings(max_examples=60, deadline=None)
@given(documents())
def test_any_document_comes_back(tmp_path_factory, document):
    path = tmp_path_factory.getbasetemp() / "any.ttl"
    write_documents(path, [document])
    assert read(path) == ([document], [])


def test_rdflib_sees_the_same_mentions():
    """By a query over the graph, without our reader."""
    graph = rdflib.Graph()
    for turtle in write_nif(DOCUMENTS):
        graph.parse(data=turtle, format="turtle")
    rows = graph.query(
        """SELECT ?text ?begin ?end ?anchor ?ref WHERE {
            ?m nif:referenceContext ?c; nif:beginIndex ?begin; nif:endIndex ?end;
               nif:anchorOf ?anchor; itsrdf:taIdentRef ?ref.
            ?c a nif:Context; nif:isString ?text. }""",
        initNs={"nif": NIF, "itsrdf": ITSRDF},
    )
    found = set()
    for text, begin, end, anchor, ref in rows:
        assert str(text)[int(begin) : int(end)] == str(anchor)
        found.add((str(text), int(begin), int(end), str(ref)))
    first = DOCUMENTS[0].text
    assert {row for row in found if row[0] == first} == {
        (first, 0, 3, "http://dbpedia.org/resource/Ann_(band)"),
        (first, 0, 3, "http://www.wikidata.org/entity/Q12"),
        (first, 14, 17, "http://aksw.org/notInWiki/Bob"),
        (first, 21, 30, "http://dbpedia.org/resource/São_Paulo"),
        (first, 21, 30, "http://dbpedia.org/resource/Paulo%5Fof_100%25"),
    }
    assert len(found) == 7


HEAD = f"@prefix nif: <{NIF}> .\n@prefix itsrdf: <{ITSRDF}> .\n"
TEXT = "Ann 😀 met Bob."


def turtle(
    text, begin, end, anchor="Bob", ref="<http://dbpedia.org/resource/Bob_Dole>"
):
    """A file as another tool may write it."""
    return (
        HEAD
        + f'<http://ex.org/d#char=0,9> a nif:Context; nif:isString """{text}""" .\n'
        + f"<http://ex.org/d#char={begin},{end}> a nif:String; nif:anchorOf '{anchor}';"
        + f" nif:beginIndex {begin}; nif:endIndex '{end}'; itsrdf:taIdentRef {ref};"
        + " nif:referenceContext <http://ex.org/d#char=0,9> .\n"
    )


def test_other_tools_files(tmp_path):
    """A BOM and CRLF of the file's own lines; an id alone; a title of another wiki."""
    path = tmp_path / "other.ttl"
    bob = "http://www.wikidata.org/entity/Q9"
    file = turtle(TEXT, 10, 13, ref=f"<{bob}>").replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + file.encode())
    (document,), reasons = read(path)
    assert (document.id, document.text, reasons) == ("http://ex.org/d", TEXT, [])
    assert document.mentions == (Mention(10, 13, "Q9", "Q9"),)
    (document,), _ = read(path, Names({"Q9": "Bob Dole"}.get))
    assert document.mentions == (Mention(10, 13, "Bob Dole", "Q9"),)
    other = "http://de.dbpedia.org/resource/Bob"
    path.write_text(turtle(TEXT, 10, 13, ref=f"<{other}>"))
    assert read(path)[0][0].mentions == (Mention(10, 13, None, other),)
    (document,), _ = read(path, Names({other: "Bob Dole"}.get))
    assert document.mentions == (Mention(10, 13, "Bob Dole", other),)


@pytest.mark.parametrize(
    ("text", "begin", "end", "unit"),
    [
        (TEXT, 11, 14, "UTF-16 code units"),
        (TEXT, 13, 16, "bytes of UTF-8"),
        ("Ann\r\nmet Bob.", 8, 11, "a CR LF as one character"),
        ("Ann\nmet Bob.", 9, 12, "a line break as two characters"),
    ],
)
def test_other_offsets_are_refused_with_the_reason(tmp_path, text, begin, end, unit):
    path = tmp_path / "other.ttl"
    path.write_bytes(turtle(text, begin, end).encode())
    documents, (reason,) = read(path)
    assert documents == [] and f"found that they count {unit}" in reason


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (
            turtle(TEXT, 1, 2),
            "not a mention: expected its anchor in the text, found 'n'",
        ),
        (turtle(TEXT, 10, 99), "not a mention: expected its anchor"),
        (turtle(TEXT, 10, 99, "Bob."), "not a mention: expected its anchor"),
        (turtle(TEXT, 5, 5), "not a mention: beginIndex, endIndex: expected"),
        (turtle(TEXT, "'x'", 5).replace("char='x'", "char=x"), "beginIndex: expected"),
        (HEAD + "<urn:a> a nif:Context .", "not a NIF document: isString"),
        (
            HEAD + "<urn:a> a nif:Context ; nif:isString 'a', 'b' .",
            "isString: expected",
        ),
        (HEAD + "<urn:a>\n a .", "not Turtle: at line 4"),
        (HEAD + "<urn:a> a nif:Phrase .", "no document: expected a <http"),
        (b"\xff\xfe\x00", "not UTF-8: byte 0"),
    ],
)
def test_bad_files(tmp_path, file, reason):
    path = tmp_path / "bad.ttl"
    path.write_bytes(file if isinstance(file, bytes) else file.encode())
    documents, (found,) = read(path)
    assert reason in found
    assert all(document.mentions == () for document in documents)


def test_a_bad_uri_does_not_steer_the_terminal(tmp_path, monkeypatch, capsys):
    """rdflib warns of it, and Python prints warnings that nobody listens to."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest listens
    path = tmp_path / "a.ttl"
    path.write_text(turtle(TEXT, 10, 13).replace("Bob_Dole", "Bob \x1b[2J"))
    assert read(path)[0][0].mentions[0].entity == "Bob \x1b[2J"
    assert capsys.readouterr().err == ""


def test_ids_of_titles_are_written(tmp_path):
    path = tmp_path / "ids.ttl"
    document = Document("d", "Bob", None, (Mention(0, 3, "Bob Dole"),))
    write_documents(path, [document], names=Names(id_of={"Bob Dole": "Q9"}.get))
    assert read(path)[0][0].mentions == (Mention(0, 3, "Bob Dole", "Q9"),)


def test_what_is_refused_is_kept(tmp_path):
    path, rejects = tmp_path / "a.ttl", Rejects()
    path.write_text("no turtle { text")
    assert list(read_documents(path, rejects)) == []
    surrogate = '<urn:a> a nif:Context ; nif:isString "a text" ; '
    surrogate += '<http://purl.org/dc/terms/title> "t\\uD800" .'
    path.write_text(HEAD + surrogate)
    assert list(read_documents(path, rejects)) == []
    assert rejects.entries[0][3] == "no turtle { text"
    assert "a text" in rejects.entries[1][3]
