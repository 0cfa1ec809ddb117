"""Lines and files of WikiExtractor's output, whole and broken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insgenel_jax.kb.build.wikiextractor import (
    find_files,
    link_target,
    parse_paragraph,
    read_pages,
)
from insgenel_jax.text.document import Mention
from insgenel_jax.text.formats.rejects import Rejects


def links(line):
    text, mentions, problems = parse_paragraph(line)
    return [(text[m.start : m.end], m.entity) for m in mentions], problems


@pytest.mark.parametrize(
    ("line", "text", "expected"),
    [
        ("No link.", "No link.", []),
        (
            '<a href="Ada%20%28film%29">Ada</a> &amp; <a href="bo">Bo</a>',
            "Ada & Bo",
            [("Ada", "Ada (film)"), ("Bo", "Bo")],
        ),
        (
            'two <a href="dog">dog</a>s, <a href="X">x</a>Y',
            "two dogs, xY",
            [
                ("dogs", "Dog"),
                ("x", "X"),
            ],
        ),
        (
            'R&amp;B &lt;b&gt; <a href="Rhythm%20%26%20blues">R&amp;B</a>!',
            "R&B <b> R&B!",
            [("R&B", "Rhythm & blues")],
        ),
        ('a<a href="B"> b </a>c', "a b c", [("b c", "B")]),
        ('a <a href="B"> b </a> c', "a  b  c", [("b", "B")]),
        ('<a href="File%3AX.png">x</a> <a href="wikt:y">y</a>', "x y", []),
        (
            '<a href="A_b%23Part">c</a><a href="D"><nowiki>d</nowiki></a>',
            "cd",
            [
                ("c", "A b"),
                ("d", "D"),
            ],
        ),
        ('<a href="E">é\u0301&#x1F600;</a>', "é\u0301😀", [("é\u0301😀", "E")]),
        (
            "a < b > c <br/>&nbsp;d &copy e &unknown;",
            "a < b > c \xa0d &copy e &unknown;",
            [],
        ),
    ],
)
def test_a_paragraph(line, text, expected):
    assert parse_paragraph(line)[0] == text
    assert links(line) == (expected, [])


@pytest.mark.parametrize(
    ("line", "text", "expected", "problem"),
    [
        ('a <a href="B">b', "a b", [], "link is never closed"),
        (
            '<a href="A">a <a href="B">b</a>',
            "a b",
            [("b", "B")],
            "link is never closed",
        ),
        ("a</a> b", "a b", [], "end of a link that never began"),
        ('<a href="50%">half</a>', "half", [], "link refused: bad percent-encoding"),
        ('<a href="%FF">x</a>', "x", [], "link refused: percent-encoding is not UTF-8"),
        ('a <a href="B"></a>.', "a .", [], "anchor refused: empty name"),
        ('a <a href="B">&nbsp;</a>.', "a \xa0.", [], "anchor refused: empty name"),
        (
            f'<a href="B">{"x" * 201}</a>',
            "x" * 201,
            [],
            "anchor refused: over-long name: 201 characters, at most 200",
        ),
        (
            f'<a href="{"x" * 201}">b</a>',
            "b",
            [],
            "link refused: over-long name: 201 characters, at most 200",
        ),
    ],
)
def test_bad_links_leave_their_text(line, text, expected, problem):
    assert parse_paragraph(line)[0] == text
    assert links(line) == (expected, [problem])


PIECES = st.text(st.sampled_from("ab é😀.&;#<>\xa0[]{}\u0301"), max_size=6)


@given(st.lists(st.tuples(PIECES, PIECES, PIECES), max_size=5))
def test_offsets_of_any_links(pieces):
    """Text and anchors are escaped, so that only the links are markup."""

    def escape(text):
        return "".join(f"&#{ord(c)};" if c in "&<" else c for c in text)

    line = "".join(
        f'{escape(before)}<a href="T{i}">{escape(anchor)}</a>.{escape(after)}'
        for i, (before, anchor, after) in enumerate(pieces)
    )
    text, mentions, problems = parse_paragraph(line)
    assert text == "".join(f"{b}{anchor}.{after}" for b, anchor, after in pieces)
    assert [(m.entity, text[m.start : m.end]) for m in mentions] == [
        (f"T{i}", anchor.strip())
        for i, (_, anchor, _) in enumerate(pieces)
        if anchor.strip()
    ]
    assert len(problems) == sum(not anchor.strip() for _, anchor, _ in pieces)


@given(st.text())
def test_any_line_is_read(line):
    text, mentions, _ = parse_paragraph(
        line + '<a href="' + line + '">' + line + "</a>"
    )
    assert all(text[m.start : m.end].strip() for m in mentions)


def test_a_link_within_the_page_leads_nowhere():
    assert link_target("%23Part") == ""


DUMP = """<doc id="12" url="https://x?curid=12" title="Ada &amp; Bo">
Ada &amp; Bo

Ada met <a href="Bo">Bo</a>.
<a href="Ada">Ada</a> &lt;3

</doc>
<doc id="13" url="u" title="Category:Not an article">
Text.
</doc>
<doc id="14" title="Say "hi"">
Hello
</doc>
"""


def test_pages(tmp_path):
    path = tmp_path / "wiki_00"
    path.write_text(DUMP)
    rejects = Rejects()
    first, second = read_pages(path, rejects)
    assert rejects.count == 0
    assert (first.id, first.title) == ("12", "Ada & Bo")
    assert [(p.id, p.title, p.text, p.mentions) for p in first.paragraphs] == [
        ("12:0", "Ada & Bo", "Ada met Bo.", (Mention(8, 10, "Bo"),)),
        ("12:1", "Ada & Bo", "Ada <3", (Mention(0, 3, "Ada"),)),
    ]
    article = first.article()
    assert article.text == "Ada met Bo.\nAda <3"
    assert [article.text[m.start : m.end] for m in article.mentions] == ["Bo", "Ada"]
    assert second.title == 'Say "hi"'


BROKEN = """stray
<doc url="u" title="No id">
inside
</doc>
<doc id="" url="u" title="No id">
</doc>
<doc id="1" url="u" title="">
</doc>
<doc id="2" url="u" title="Cut off">
text
<doc id="3" url="u" title="Whole">
Some <a href="Bad">link
</doc>
</doc>
<doc id="4" url="u" title="{long}">
</doc>
<doc id="5" url="u" title="Last">
text
"""


def test_broken_pages_are_rejected_with_their_place(tmp_path):
    path = tmp_path / "wiki_00"
    path.write_text(BROKEN.replace("{long}", "x" * 201))
    rejects = Rejects()
    pages = list(read_pages(path, rejects))
    assert [page.title for page in pages] == ["Whole"]
    assert pages[0].paragraphs[0].text == "Some link"
    assert [(line, reason) for _, line, reason, _ in rejects.entries] == [
        (1, "text outside of a page"),
        (2, "page left out: no id or title"),
        (5, "page left out: no id or title"),
        (7, "page left out: empty name"),
        (9, "page is never closed"),
        (12, "link is never closed"),
        (14, "end of a page that never began"),
        (15, "page left out: over-long name: 201 characters, at most 200"),
        (17, "page is never closed"),
    ]
    assert {source for source, _, _, _ in rejects.entries} == {str(path)}


def test_a_line_that_only_looks_like_a_header_is_text(tmp_path):
    path = tmp_path / "wiki_00"
    path.write_text(
        '<doc id="1" url="u" title="Tags">\none\n<doc > and <doc id="2">\n</doc>\n'
        '<doc id="3">\n<doc >\n</doc>\n'
    )
    rejects = Rejects()
    (page,) = read_pages(path, rejects)
    texts = [paragraph.text for paragraph in page.paragraphs]
    assert texts == ["one", '<doc > and <doc id="2">']
    assert [entry[1:3] for entry in rejects.entries] == [
        (5, "page left out: no id or title"),
        (6, "page left out: no id or title"),
    ]


def test_files_of_a_dump(tmp_path):
    for name in ("b/wiki_00", "a/wiki_01.bz2", "a/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    expected = [tmp_path / "a/wiki_01.bz2", tmp_path / "b/wiki_00"]
    assert find_files(tmp_path) == expected
    assert find_files(expected[0]) == expected[:1]
    with pytest.raises(FileNotFoundError, match="WikiExtractor"):
        find_files(tmp_path / "none")
