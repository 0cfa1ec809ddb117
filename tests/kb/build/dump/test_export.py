"""Pages cut out of export XML, block by block."""

import pytest

from insgenel_jax.kb.build.dump import export
from insgenel_jax.kb.build.dump.export import Broken, RawPage, cut_pages, parse_page

PAGE = (
    "<page><title>A/B &quot;C&quot; 😀</title><ns>0</ns><id>7</id>"
    '<redirect title="D" /><revision><id>1</id><text>old</text></revision>'
    "<revision><id>2</id><text>&lt;page&gt; x</text></revision></page>"
).encode()


def blocks(xml: bytes, size: int):
    return [xml[i : i + size] for i in range(0, len(xml), size)]


@pytest.mark.parametrize("size", [1, 2, 7, 50, 10_000])
def test_pages_are_cut_wherever_blocks_end(size):
    cut = PAGE[: len(PAGE) // 2]
    xml = b"<mediawiki>\n" + PAGE + b"\n" + cut + PAGE + b"</mediawiki>" + cut
    found = list(cut_pages(blocks(xml, size)))
    assert [page for page in found if isinstance(page, bytes)] == [PAGE, PAGE]
    assert [p.reason for p in found if isinstance(p, Broken)] == [
        "page is never closed"
    ] * 2


@pytest.mark.parametrize("size", [1, 5, 10_000])
@pytest.mark.parametrize("cut", range(0, 3 * len(PAGE), 13))
def test_two_pieces_have_each_page_once(cut, size):
    xml = PAGE * 3
    first = cut_pages(blocks(xml[:cut], size), blocks(xml[cut:], size))
    second = cut_pages(blocks(xml[cut:], size))
    assert [*first, *second] == [PAGE] * 3


def test_a_page_that_is_too_long_is_passed_over(monkeypatch):
    monkeypatch.setattr(export, "LONGEST_PAGE", 1000)
    long = b"<page><title>Long</title>" + b"x" * 5000 + b"</page>"
    for size in (1, 100, 10_000):
        found = list(cut_pages(blocks(PAGE + long + PAGE, size)))
        assert [found[0], found[2]] == [PAGE, PAGE]
        assert found[1].reason.startswith("page over ")
        assert "<title>Long</title>" in found[1].beginning


def test_a_page_is_parsed():
    page = RawPage("7", 'A/B "C" 😀', 0, "D", "<page> x")
    assert parse_page(PAGE) == page
    assert parse_page(b"<page></page>") == RawPage("", "", None, None, "")
    assert parse_page(b"<page><redirect/></page>").redirect == ""


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        (b"<page>\xff</page>", "page is not UTF-8: byte 6 of it"),
        (b"<page>&nbsp;</page>", "page is not XML"),
        (b"<page><a></b></page>", "page is not XML"),
        (b"<page>\x01</page>", "page is not XML"),
    ],
)
def test_a_bad_page_says_what_is_wrong(xml, reason):
    page = parse_page(xml)
    assert page.reason.startswith(reason)
    assert page.beginning.startswith("<page>")
