"""Blocks of MediaWiki's export XML in; its pages out, one at a time.

Text in the XML is escaped, so that `<page>` and `</page>` are always tags. A page is
cut out by them and parsed alone: a broken page spoils no other, and no more than one is
held at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple
from xml.etree import ElementTree

OPEN, CLOSE = b"<page>", b"</page>"
LONGEST_PAGE = 16_000_000  # bytes of XML; MediaWiki takes 2 MB of wikitext


class RawPage(NamedTuple):
    """A page as it stands in the XML, with its last revision's text.

    namespace: None where the XML does not say. redirect: None for a page that the XML
    does not mark as a redirect; "" where it does not say to which title.
    """

    id: str
    title: str
    namespace: int | None
    redirect: str | None
    text: str


class Broken(NamedTuple):
    """A page that could not be read: the reason, and how it begins."""

    reason: str
    beginning: str


def cut_pages(
    blocks: Iterable[bytes], after: Iterable[bytes] = ()
) -> Iterator[bytes | Broken]:
    """The XML of each page in `blocks`, from `<page>` to `</page>`.

    after: what follows, read only to complete the last page that began in `blocks`. A
    page that is never closed, or that is too long to be one, is Broken.
    """
    held = bytearray()  # begins with the tag of the page that is open
    is_open, searched = False, 0
    for block, is_after in _join(blocks, after):
        if is_after and not is_open and not _may_begin(held):
            return
        held += block
        while True:
            tag = held.find(CLOSE if is_open else OPEN, searched)
            if is_open:
                again = held.find(OPEN, max(searched, 1), tag if tag >= 0 else None)
                if again >= 0:
                    yield _never_closed(held[:again])
                    del held[:again]
                    searched = len(OPEN)
                    if is_after:  # the page at `again` is another piece's
                        return
                elif tag >= 0:
                    end = tag + len(CLOSE)
                    xml = held[:end]
                    yield _too_long(xml) if end > LONGEST_PAGE else bytes(xml)
                    del held[:end]
                    is_open, searched = False, 0
                    if is_after:
                        return
                else:
                    searched = max(len(OPEN), len(held) - len(CLOSE))
                    if len(held) > LONGEST_PAGE:  # the rest of it is passed over
                        yield _too_long(held)
                        held, is_open, searched = held[-len(OPEN) :], False, 0
                        if is_after:
                            return
                    break
            elif tag >= 0:
                del held[:tag]
                is_open, searched = True, len(OPEN)
            else:
                del held[: max(0, len(held) - len(OPEN))]
                searched = 0
                break
    if is_open:
        yield _never_closed(held)


def parse_page(xml: bytes) -> RawPage | Broken:
    """A page from its XML. Of several revisions the last one counts."""
    try:
        xml.decode()
    except UnicodeDecodeError as error:
        return Broken(f"page is not UTF-8: byte {error.start} of it", _begin(xml))
    try:
        page = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        return Broken(f"page is not XML: {error}", _begin(xml))
    identifier, title = page.findtext("id") or "", page.findtext("title") or ""
    revision = None
    for revision in page.iterfind("revision"):  # noqa: B007 (the last one counts)
        pass
    text = "" if revision is None else revision.findtext("text") or ""
    number = page.findtext("ns") or ""
    mark = page.find("redirect")
    return RawPage(
        identifier.strip(),
        title,
        int(number) if number.removeprefix("-").isdecimal() else None,
        None if mark is None else mark.get("title", ""),
        text,
    )


def _join(
    blocks: Iterable[bytes], after: Iterable[bytes]
) -> Iterator[tuple[bytes, bool]]:
    for block in blocks:
        yield block, False
    for block in after:
        yield block, True


def _may_begin(held: bytes | bytearray) -> bool:
    """Whether the beginning of `<page>` stands at the end."""
    return any(held.endswith(OPEN[:length]) for length in range(1, len(OPEN)))


def _too_long(xml: bytearray) -> Broken:
    return Broken(f"page over {LONGEST_PAGE // 1_000_000} MB left out", _begin(xml))


def _never_closed(xml: bytearray) -> Broken:
    return Broken("page is never closed", _begin(xml))


def _begin(xml: bytes | bytearray) -> str:
    """How a page begins, with its title."""
    return bytes(xml[:300]).decode("utf-8", "backslashreplace")
