"""The page of linked documents, read back by an HTML parser."""

from __future__ import annotations

from html.parser import HTMLParser

from insgenel_jax.text.document import Candidate, Document, Mention
from insgenel_jax.text.formats.documents import read_documents, write_documents
from insgenel_jax.text.formats.html import render, write_html

EVIL = '<script>alert(1)</script>"&\0'


class Reader(HTMLParser):
    """Tags with their attributes, and the text of what is in <p>, less <b>."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        self.open.remove(tag)

    def handle_data(self, data):
        if "p" in self.open and "b" not in self.open:
            self.text.append(data)

    def find(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def test_text_and_marks():
    mentions = (
        Mention(0, 3, "Ann <Lee>", "Q3", 0.914, (Candidate('"Ann"', 0.05),)),
        Mention(8, 11, None),
    )
    page = render(Document("1", "Ann met Bob.\n<b>So</b>", "A & B", mentions))
    reader = Reader(page)
    assert "".join(reader.text) == "Ann met Bob.\n<b>So</b>"
    assert reader.find("mark") == [{"title": '"Ann" 0.05'}, {"class": "nil"}]
    assert "<b>Ann &lt;Lee&gt; Q3 0.91</b>" in page and "<b>NIL</b>" in page
    assert "<h2>A &amp; B</h2>" in page


def test_mentions_that_overlap_are_listed():
    mentions = (Mention(0, 8, "New York"), Mention(4, 8, "York", None, 0.5))
    page = render(Document("1", "New York", None, mentions))
    assert len(Reader(page).find("mark")) == 1
    assert "<li>York: York 0.50</li>" in page


def test_nothing_in_it_can_act():
    mention = Mention(0, len(EVIL), EVIL, EVIL, 0.5, (Candidate(EVIL, 0.1),))
    page = "".join(write_html([Document(EVIL, EVIL, None, (mention,))]))
    reader = Reader(page)
    assert not reader.find("script") and "\0" not in page
    assert not {"src", "href", "onerror"} & {k for _, a in reader.tags for k in a}
    assert "".join(reader.text) == EVIL.replace("\0", "\ufffd")


def test_the_ending_of_a_file_says_so(tmp_path):
    documents = [Document(str(i), "Ann") for i in range(3)]
    path = tmp_path / "out.html"
    assert write_documents(path, documents) == 3  # documents, not lines
    assert path.read_text().count("<article>") == 3
    assert write_documents(tmp_path / "no.html", []) == 0
    for format in ("html", "x"):
        try:
            list(read_documents(path, None, format=format))
        except ValueError as error:
            assert "expected one of" in str(error)
        else:
            raise AssertionError(format)
