"""Wikitext to text and links, by the scanner and by the parser of leads."""

import time

import pytest

from insgenel_jax.kb.build.dump import lead, wikitext
from insgenel_jax.kb.build.dump.site import Words, read_site

SITE = read_site(b"", Words())

# wikitext -> paragraphs, where [text](Title) is a link
CASES = [
    ("A [[cat]]s [[Dog|big]]'s [[ox]]Ä.", ["A [cats](Cat) [big](Dog)'s [ox](Ox)Ä."]),
    ("'''Bold''' ''it'' ''''x' '''''both'''''", ["Bold it 'x' both"]),
    ("a<!-- [[no]] -->b <ref>[[no]]</ref><ref name=x />c", ["ab c"]),
    ("a {{x|{{y|[[no]]}}|z={|t|} }} b, {{c}}.", ["a b,."]),
    ("[[File:A b.jpg|thumb|a [[no]] [http://x y] z]]Text", ["Text"]),
    ("[[Category:X]][[de:Y]]Z [[:Category:X|cat]] [[wikt:w|word]]", ["Z cat word"]),
    ("[[a#b]] [[#c|see c]] [[A (b)|]]", ["[a#b](A) see c [A](A (b))"]),
    ("[[a_b]] [[ :a|b]]", ["[a b](A b) [b](A)"]),
    ("[[a|[b] {c}]] [[A%20B&amp;C|x]]", ["[[b] {c}](A) [x](A B&C)"]),
    ("one\ntwo\n\n3\n== Head ==\nfour\n----\nfive", ["one two", "3", "four five"]),
    ("* a [[b]]\n** c\n# d\n:e\n;f", ["a [b](B)", "c", "d", "e", "f"]),
    (
        '{| class="x"\n|+ [[cap]]\n! a !! b\n|-\n| style="y" | [[c|d]] || colspan=2 | '
        + "e\n* f\n{|\n| in\n|}\n|}\nafter",
        ["[cap](Cap); a; b", "[d](C); e f", "in", "after"],
    ),
    ("{| x\n| open\n== Head ==\nafter", ["open", "after"]),
    ("[http://x.org label [[a]]] [//y z] [https://q]", ["label [a](A) z"]),
    ("<nowiki>[[no]] ''x''</nowiki> <math>a_{b}</math>y<br/>z<p>p", ["no x y z", "p"]),
    ("a &lt;ref&gt; &amp;nbsp;&nbsp;b &#91;&#91;c&#93;&#93; x < y", ["a b c x < y"]),
    ("({{lang}}; ) a  b\tc __NOTOC____INHALT__", ["a b c"]),
    ("{{open [[a]] }} b {{ [[c]]", ["b [c](C)"]),
    ("[[c|d\ne]]", ["[d e](C)"]),
    ("[[x|'''a''' ]]b [[y| ]]c", ["[a b](X) [yc](Y)"]),
    ("[[" + "q" * 201 + "|long]] [[a|" + "w" * 201 + "]]", ["long " + "w" * 201]),
]  # fmt: skip


def show(paragraph):
    """The text with its links in brackets."""
    text, parts, place = paragraph.text, [], 0
    for start, end, title in paragraph.links:
        parts += [text[place:start], f"[{text[start:end]}]({title})"]
        place = end
    return "".join([*parts, text[place:]])


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_scanner_and_parser_of_leads_agree(text, expected):
    assert [show(p) for p in wikitext.scan(text, SITE)] == expected
    reduced = lead.reduce(wikitext.drop_elements(text), SITE)
    assert [show(p) for p in wikitext.read_paragraphs(reduced, SITE)] == expected


def test_a_bad_link_is_reported():
    (paragraph,) = wikitext.scan("[[" + "q" * 201 + "|long]]", SITE)
    assert paragraph.problems == [
        "link refused: over-long name: 201 characters, at most 200"
    ]


def test_the_lead_ends_at_the_first_heading():
    assert lead.split("a\n= b = c\n== h ==\nd") == ("a\n= b = c\n", "== h ==\nd")
    assert lead.split("no heading") == ("no heading", "")


def test_without_the_parser_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(lead, "mwparserfromhell", None)
    with pytest.raises(ImportError, match=r'pip install "insgenel_jax\[wikipedia\]"'):
        lead.check_parser()


UNITS = (
    "{{",
    "[[",
    "<b>",
    "<ref>",
    "<!--",
    "{|\n",
    "{{{",
    "[//a ",
    "<nowiki>",
    "]]",
    "'",
)
UNITS += (
    "}}",
    "[[File:a|[[b]]",
    "[[a|b\n",
    "{ {{a ",
    "{{a|[[b|<c ",
    "\n| a ",
    "* a\n",
    "|a=b=",
    "| a=b",
)


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS)
def test_no_input_takes_more_than_linear_time(unit):
    """Eight times the text takes no twenty times as long; a quadratic step would."""

    def seconds(length):
        text = unit * (length // len(unit))
        times = []
        for _ in range(2):
            begin = time.process_time()
            list(wikitext.scan(text, SITE))
            times.append(time.process_time() - begin)
        return min(times)

    assert seconds(60_000) < 20 * (seconds(7_500) + 0.002)
