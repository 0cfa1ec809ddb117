"""AIDA-CoNLL: the text and the mentions of its tokens; lines that are wrong."""

import pytest

from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.names import Names
from insgenel_jax.text.formats.rejects import Rejects

FILE = (
    "-DOCSTART- (1 One)\n"
    "Ann\tB\tAnn Lee\tAnn_Lee_(singer)\n"
    "Lee\tI\tAnn Lee\tAnn_Lee_(singer)\n"
    "met\n"
    "Zo\u00eb\tB\tZo\u00eb\tZo\\u00eb\thttp://en.wikipedia.org/wiki/Zo%C3%AB\t7\t/m/x\n"
    "Bob\tB\tBob\t--NME--\n"
    ".\n"
    "\n"
    "😀\n"
    "Bern\tB\tBern\tZ\\u00fcrich\n"
    "\n"
    "-DOCSTART- (2 Two)\n"
    "-DOCSTART-\n"
    "Bern\n"
)
FIRST = Document(
    "1 One",
    "Ann Lee met Zoë Bob .\n😀 Bern",
    None,
    (
        Mention(0, 7, "Ann Lee (singer)"),
        Mention(12, 15, "Zoë"),
        Mention(16, 19, None),
        Mention(24, 28, "Zürich"),
    ),
)


def read(path, content, names=None):
    path.write_bytes(content.encode())
    rejects = Rejects()
    documents = list(read_documents(path, rejects, names=names))
    return documents, [(line, reason) for _, line, reason, _ in rejects.entries]


def test_documents(tmp_path):
    path = tmp_path / "test.conll"
    rest = [Document("2 Two", ""), Document("line 13", "Bern")]
    assert read(path, FILE) == ([FIRST, *rest], [])
    with_breaks = "\ufeff" + FILE.replace("\n", "\r\n")
    assert read(path, with_breaks) == ([FIRST, *rest], [])
    (first, *_), _ = read(path, FILE, Names(id_of={"Zoë": "Q7"}.get))
    assert [m.external_id for m in first.mentions] == [None, "Q7", None, None]


def test_wrong_lines_keep_their_tokens(tmp_path):
    lines = (
        "a\n-DOCSTART- (1)\nb\tX\tb\tB\nc\tI\tc\tC\nd\tB\td\n\tB\tx\tX\ne\tB\te\tE\n"
    )
    (document,), reasons = read(tmp_path / "bad.conll", lines)
    assert document == Document("1", "b c d e", None, (Mention(6, 7, "E"),))
    assert [line for line, _ in reasons] == [1, 3, 4, 5, 6]
    assert reasons[0][1] == "before the first -DOCSTART-"
    assert "expected B or I in the second column, found 'X'" in reasons[1][1]
    assert "expected B for the first token" in reasons[2][1]
    assert "expected an entity in the fourth column" in reasons[3][1]
    assert "expected a token in the first column" in reasons[4][1]


def test_escaped_pairs_of_surrogates_are_one_character(tmp_path):
    content = "-DOCSTART- (1)\na\tB\ta\tX\\ud83d\\ude00\nb\tB\tb\tY\\ud83d\n"
    (document,), _ = read(tmp_path / "a.conll", content)
    assert [m.entity for m in document.mentions] == ["X\U0001f600", "Y\ufffd"]


@pytest.mark.slow
def test_long_documents_and_long_lines_take_no_longer_than_others(tmp_path):
    """The time was once the square of the length: here some minutes."""
    tokens = "word\n" * 300_000
    (document,), _ = read(tmp_path / "long.conll", f"-DOCSTART- (1)\n{tokens}")
    assert len(document.text) == len(tokens) - 1
    spaces = "-DOCSTART-" + " " * 300_000 + "x"
    assert [line for line, _ in read(tmp_path / "line.conll", spaces)[1]] == [1]
