"""PubTator: titles, abstracts and mentions; offsets in other units; wrong lines."""

import pytest

from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.names import Names
from insgenel_jax.text.formats.rejects import Rejects

FILE = (
    "12|t|Gout | 😀 today\n"
    "12|a|It is not flu.\n"
    "12\t0\t4\tGout\tDisease\tMESH:D006073\n"
    "12\t25\t28\tflu\tDisease\t-1\n"
    "12\tCID\tD006073\tD007251\n"
    "\n"
    "13|t|Flu\n"
    "13|a|\n"
)
TEXT = "Gout | 😀 today\nIt is not flu."


def read(path, content, names=None):
    path.write_bytes(content.encode())
    rejects = Rejects()
    documents = list(read_documents(path, rejects, names=names))
    return documents, [(line, reason) for _, line, reason, _ in rejects.entries]


def test_documents(tmp_path):
    gout = Mention(0, 4, "MESH:D006073", "MESH:D006073")
    first = Document("12", TEXT, None, (gout, Mention(25, 28, None)))
    path = tmp_path / "a.pubtator"
    assert read(path, FILE) == ([first, Document("13", "Flu\n")], [])
    with_breaks = "\ufeff" + FILE.replace("\n", "\r\n")
    assert read(path, with_breaks) == ([first, Document("13", "Flu\n")], [])
    (named, _), _ = read(path, FILE, Names({"MESH:D006073": "Gout"}.get))
    assert named.mentions[0] == Mention(0, 4, "Gout", "MESH:D006073")


@pytest.mark.parametrize(
    ("start", "unit"), [(26, "UTF-16 code units"), (28, "bytes of UTF-8")]
)
def test_other_offsets_are_refused(tmp_path, start, unit):
    wrong = FILE.replace("12\t25\t28", f"12\t{start}\t{start + 3}")
    (document,), ((line, reason),) = read(tmp_path / "a.pubtator", wrong)
    assert (document.id, line) == ("13", 3)
    assert "not a document: offsets: expected code points of the text, found " in reason
    assert unit in reason


def test_wrong_lines(tmp_path):
    wrong = FILE.replace(
        "\n\n",
        "\n"
        + "".join(
            line + "\n"
            for line in (
                "12\t1\t4\tGout\tDisease\tD1",
                "12\t4\t4\t\tDisease\tD1",
                "12\t0\t4\tGout\tDisease\tD1|D2",
                "12\t0",
                "99\t0\t4\tGout\tDisease\tD1",
            )
        )
        + "\n\nnothing\n",
    )
    (document, _), reasons = read(tmp_path / "a.pubtator", wrong)
    assert len(document.mentions) == 2
    assert sorted(reasons) == [
        (6, "not a mention: expected its surface 'Gout' in the text, found 'out'"),
        (7, "not a mention: expected start < end, found 4 and 4"),
        (8, "not a mention: expected one entity, found several: D1|D2"),
        (9, reasons[2][1]),
        (10, "not a mention: expected the id 12, found '99'"),
        (13, "not in a document"),
    ]


def test_documents_that_share_an_id(tmp_path):
    """Also without a blank line between them."""
    content = "1|t|One\n1|a|B\n1|t|Two\n1|a|D\n1\t0\t3\tTwo\tX\tX1\n"
    (one, two), reasons = read(tmp_path / "a.pubtator", content)
    assert not reasons and (one.text, two.text) == ("One\nB", "Two\nD")
    assert (one.mentions, two.mentions) == ((), (Mention(0, 3, "X1", "X1"),))


def test_what_is_refused_is_kept_whole(tmp_path):
    path, rejects = tmp_path / "a.pubtator", Rejects()
    content = (
        "1|t|\U0001f600 Two\n1\t5\t8\tTwo\tX\tX1\n1\t" + "9" * 5000 + "\t8\tTwo\tX\tX1"
    )
    path.write_text(content, encoding="utf-8")
    assert list(read_documents(path, rejects)) == []
    (_, _, number, last), (_, _, reason, whole) = rejects.entries
    assert "bytes of UTF-8" in reason and whole == content
    assert last == content.split("\n")[-1] and number.startswith("not a mention")
