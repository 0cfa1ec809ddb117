"""Every page of the real dumps in the data folder, against counts that the tests make
from the XML themselves."""

import bz2
import re
from collections import Counter
from xml.etree import ElementTree

import pytest

from insgenel_jax.kb.build.dump.parts import parse_dump, read_part
from insgenel_jax.kb.build.training_documents import read_training_documents
from insgenel_jax.kb.build.wikipedia import build_from_wikipedia
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import Rejects
from tests.helpers import wikitext as oracle

pytestmark = pytest.mark.slow

MARKUP = re.compile(
    r"\[\[|\]\]|\{\{|\}\}|\{\||\|\}|''|\[https?:|^==|^[*#:;] |^\||\n|\|\||&nbsp;|&lt;"
    r"|</?(?:ref|br|div|span|small|sup|sub|table|tr|td|p|i|b|center|nowiki|math|gallery"
    r"|references|font|includeonly|noinclude|blockquote|!--)\b|__[A-Z]{3,}__|<!--|-->"
    r"|\b(?:style|colspan|rowspan|bgcolor|valign|cellpadding)\s*=",
)
ENGLISH = (
    "media special talk user wikipedia image file mediawiki template help category"
)
# What marks redirects and disambiguation pages in these dumps.
REDIRECT = re.compile(r"\s*#redirect\s*:?\s*\[\[", re.IGNORECASE)
CHOICE = re.compile(
    r"\{\{\s*(?:[^{}|]*disambig(?:uation)?|disambig[^{}|]*|dab|hndis|geodis|nuozeimeibys)"
    r"\s*(?:\||\}\})",
    re.IGNORECASE,
)


def dumps(data):
    return sorted((data / "wiki/xml").glob("*.xml.bz2"))


def read_xml(file):
    """The folded names of namespaces, and (title, redirect, text) of each article."""
    with bz2.open(file) as stream:
        root = ElementTree.parse(stream).getroot()
    for element in root.iter():
        element.tag = element.tag.partition("}")[2]
    names = {n.text.casefold() for n in root.iter("namespace") if n.text}
    names |= set(ENGLISH.split()) | {f"{name} talk" for name in ENGLISH.split()}
    names |= {"portal", "portal talk", "project", "wp", "module", "draft", "book"}
    version = int(root.get("version").split(".")[1])
    pages = []
    for page in root.iter("page"):
        title, text = page.findtext("title"), page.findtext("revision/text") or ""
        mark = page.find("redirect")
        is_redirect = mark is not None or (version < 4 and bool(REDIRECT.match(text)))
        if title.partition(":")[0].casefold() not in names or ":" not in title:
            pages.append((title, is_redirect, text))
    return names, pages


def expected_links(text, namespaces):
    """Titles of the links that are shown, without those in headings."""
    titles = Counter()
    for target, _, _, line in oracle.links(text):
        is_heading = line.startswith("=") and line.rstrip().endswith("=")
        if not is_heading and not set(target) & set("\n{}<>[]"):
            title = oracle.title(target, namespaces)
            if title and len(title) <= 200 and "(disambiguation)" not in title:
                titles[title] += 1
    return titles


def test_pages_redirects_and_links_are_those_of_the_xml(data, tmp_path):
    links = 0
    for file in dumps(data):
        namespaces, pages = read_xml(file)
        parsed = parse_dump([file], tmp_path / file.name, Rejects())
        counts = parsed.counts
        redirects = [title for title, is_redirect, _ in pages if is_redirect]
        assert counts["redirect pages"] == len(redirects), file.name
        lost = counts["redirects of no article"]
        assert len(redirects) - len(parsed.redirects) - lost <= len(parsed.choices)
        articles = {
            title: text
            for title, is_redirect, text in pages
            if not is_redirect
            and not CHOICE.search(oracle.blank(text))
            and not title.endswith("(disambiguation)")
        }
        found = [p for part in parsed.files for p in read_part(part, Rejects())]
        assert [page.title for page in found] == list(articles), file.name
        dropped = set(parsed.choices)
        for page in found:
            expected = expected_links(articles[page.title], namespaces)
            mine = Counter(m.entity for p in page.paragraphs for m in p.mentions)
            for title in expected.keys() - mine.keys():  # to disambiguation pages
                if title in dropped or title in redirects:
                    del expected[title]
            assert mine == expected, f"{file.name}: {page.title}"
            links += mine.total()
    assert links > 50_000


def test_no_markup_is_left_and_documents_agree_with_their_mentions(data, tmp_path):
    rejects = Rejects()
    parsed = parse_dump(dumps(data), tmp_path / "pages", rejects)
    for part in parsed.files:
        for page in read_part(part, rejects):
            for paragraph in page.paragraphs:
                text = paragraph.text
                assert not MARKUP.search(text), f"{page.title}: {text}"
                assert text == text.strip()
                for mention in paragraph.mentions:
                    anchor = text[mention.start : mention.end]
                    assert anchor
                    assert anchor == anchor.strip()
    build_from_wikipedia(parsed, tmp_path, rejects, dev_share=0.1)
    documents = list(read_training_documents(tmp_path / "train"))
    documents += read_documents(tmp_path / "dev.jsonl", rejects)
    assert len(documents) > 5_000
    for document in documents:
        places = [(mention.start, mention.end) for mention in document.mentions]
        assert places == sorted(places)
        for start, end in places:
            anchor = document.text[start:end]
            assert anchor
            assert anchor == anchor.strip()
    assert not rejects.by_reason["page is not XML"]
