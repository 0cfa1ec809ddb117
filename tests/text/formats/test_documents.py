"""Documents come back as written; a bad line is rejected and the others are read."""

import io
import json
import sys
from types import SimpleNamespace

import pytest

from insgenel_jax.text.document import Document, Mention, dumps
from insgenel_jax.text.formats.documents import read_documents, write_documents
from insgenel_jax.text.formats.rejects import Rejects

DOCUMENTS = [
    Document(
        "a", "Ada met Bo.\tÄ€ 😀", None, (Mention(0, 3, "Ada"), Mention(8, 10, None))
    ),
    Document("b", "", "Nothing"),
    Document("b", "the same id again \u2028 is fine"),
]


def test_documents_come_back_as_written(tmp_path):
    path = tmp_path / "new" / "documents.jsonl"
    assert write_documents(path, DOCUMENTS) == 3
    rejects = Rejects()
    assert list(read_documents(path, rejects)) == DOCUMENTS
    assert rejects.count == 0
    assert [file.name for file in path.parent.iterdir()] == ["documents.jsonl"]


def test_a_file_appears_only_when_complete(tmp_path):
    path = tmp_path / "documents.jsonl"
    path.write_text("before")

    def broken():
        yield DOCUMENTS[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_documents(path, broken())
    assert path.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_stays_and_leads_to_what_is_new(tmp_path):
    (tmp_path / "disk").mkdir()
    link = tmp_path / "documents.jsonl"
    link.symlink_to(tmp_path / "disk" / "new.jsonl")
    for count in (1, 2):  # first it leads nowhere
        write_documents(link, DOCUMENTS[:count])
        assert link.is_symlink() and link.resolve().read_text().count("\n") == count
    assert len(list((tmp_path / "disk").iterdir())) == 1


BAD_LINES = {
    b'{"id": "x", "text": "a": 1}': "not JSON",
    b'{"id": "x"}': "not a document",
    b'{"id": "x", "text": "ab", "mentions": [{"start": 1, "end": 9, "entity": "E"}]}': (
        "not a document"
    ),
    b'{"id": "x", "text": "\\ud800"}': "not a document",
    b'{"id": "x", "text": "\xff"}': "not UTF-8",
    b"[" * 100_000: "not a document",
}


def test_bad_lines_are_rejected_and_the_rest_is_read(tmp_path):
    path = tmp_path / "documents.jsonl"
    good = dumps(DOCUMENTS[0]).encode()
    path.write_bytes(b"\n".join([good, *BAD_LINES, b"", good]) + b"\r\n")
    with Rejects(tmp_path / "out" / "rejects.jsonl") as rejects:
        assert list(read_documents(path, rejects)) == [DOCUMENTS[0]] * 2
    rows = [json.loads(line) for line in rejects.path.read_text().splitlines()]
    assert [row["line"] for row in rows] == [2, 3, 4, 5, 6, 7]
    assert [row["reason"].split(":")[0] for row in rows] == list(BAD_LINES.values())
    assert {row["source"] for row in rows} == {str(path)}
    assert rows[0]["content"] == next(iter(BAD_LINES)).decode()
    assert max(len(row["content"]) for row in rows) == 100_000
    assert rejects.count == 6
    assert rejects.by_reason == {"not JSON": 1, "not a document": 4, "not UTF-8": 1}


def test_paragraphs_of_a_text_file_are_documents(tmp_path):
    path = tmp_path / "story.txt"
    path.write_bytes("\ufeffOne\r\ntwo\n \n\n\nThree\n".encode())
    found = list(read_documents(path, Rejects()))
    assert found == [Document("story:1", "One\ntwo"), Document("story:2", "Three")]
    as_lines = Rejects()
    assert list(read_documents(path, as_lines, format="jsonl")) == []
    assert as_lines.count == 3


def test_errors_by_name(tmp_path):
    for path in (tmp_path, tmp_path / "no.jsonl"):
        with pytest.raises(FileNotFoundError, match=str(path)):
            list(read_documents(path, Rejects()))
    with pytest.raises(ValueError, match="format"):
        list(read_documents(tmp_path, Rejects(), format="csv"))


def test_standard_streams(monkeypatch, capsys):
    line = dumps(DOCUMENTS[0]).encode()
    stdin = SimpleNamespace(buffer=io.BytesIO(line))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert list(read_documents("-", Rejects())) == DOCUMENTS[:1]
    write_documents("-", DOCUMENTS[:1])
    assert capsys.readouterr().out.encode() == line + b"\n"
    stdin.buffer = io.BytesIO(b"One\n\nTwo\n\n")
    found = list(read_documents("-", Rejects(), format="text"))
    assert found == [Document("1", "One"), Document("2", "Two")]
