"""WikiExtractor `--links` output in; pages of linked paragraphs out.

One file (plain, .bz2, .gz) holds pages between `<doc id= url= title=>` and `</doc>`; a
line is a paragraph; links are `<a href="percent-encoded title">anchor</a>`.
"""

from __future__ import annotations

import dataclasses
import html
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import regex

from insgenel_jax.kb.build.article_titles import article_title
from insgenel_jax.kb.build.names import name_problem
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.lines import decode_lines
from insgenel_jax.text.formats.rejects import Rejects

_OPENING = regex.compile(r'<doc id="([^"]*)"(?: url="[^"]*")? title="(.*)">\s*')
_LINK_TAG = regex.compile(r'<a href="([^"]*)">|(</a>)')
_BAD_PERCENT = regex.compile(r"%(?![0-9A-Fa-f]{2})")
_TRAIL = regex.compile(r"\p{Ll}+")
_REFERENCE = regex.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]*);")
# Remains of wikitext and HTML. Other angle brackets belong to the text.
_REMAINS = regex.compile(
    r"</?(?:nowiki|ref|br|poem|chem|ce|math|gallery|blockquote|section)\b[^<>]*>"
)


@dataclasses.dataclass(frozen=True)
class Page:
    """A page. Its paragraphs are Documents with the id "<page id>:<paragraph>"."""

    id: str
    title: str
    paragraphs: tuple[Document, ...]
    line: int  # of its header
    description: str | None = None  # where it is known not to be the first paragraph
    in_lead: int = 1  # paragraphs that are part of the lead, as far as is known

    @property
    def lead(self) -> str:
        """What describes the page's entity: the description, or the first paragraph."""
        if self.description is not None:
            return self.description
        return self.paragraphs[0].text if self.paragraphs else ""

    def article(self) -> Document:
        """The page as one document, a paragraph a line."""
        mentions, start = [], 0
        for paragraph in self.paragraphs:
            mentions += [
                dataclasses.replace(m, start=m.start + start, end=m.end + start)
                for m in paragraph.mentions
            ]
            start += len(paragraph.text) + 1
        text = "\n".join(paragraph.text for paragraph in self.paragraphs)
        return Document(self.id, text, self.title, tuple(mentions))


class Paragraph(NamedTuple):
    """What a line says: its text, the links with offsets into that text, and what was
    wrong with other links."""

    text: str
    mentions: list[Mention]
    problems: list[str]


class _Header(NamedTuple):
    """The opening line of a page, as far as it could be read."""

    line: int
    id: str
    title: str
    problem: str | None  # why the page is left out


def find_files(path: str | os.PathLike) -> list[Path]:
    """The files of a dump, sorted: the path itself, or all files below it.

    Names that begin with a dot are left out. Raises FileNotFoundError where there is no
    file.
    """
    path = Path(path)
    files = [path]
    if not path.is_file():
        files = sorted(
            p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")
        )
    if not files:
        raise FileNotFoundError(
            f"{path}: expected WikiExtractor's output (a file, or a folder of files), "
            "found none; check the path"
        )
    return files


def read_pages(path: str | os.PathLike, rejects: Rejects) -> Iterator[Page]:
    """The articles of one file; broken pages and links go to `rejects`.

    A page without id or title, or that is never closed, is left out. A link that cannot
    be read leaves its text. Pages of other namespaces and disambiguation pages are left
    out and not reported.
    """
    source = str(path)
    header: _Header | None = None  # of the page that is open
    lines: list[tuple[int, str]] = []  # of that page
    for number, line in decode_lines(path, rejects):
        opened = _read_header(number, line, header)
        if opened is not None:
            _reject_open_page(header, source, rejects)
            if opened.problem:
                rejects.add(source, number, f"page left out: {opened.problem}", line)
            header, lines = opened, []
        elif line.startswith("</doc>"):
            if header is None:
                rejects.add(source, number, "end of a page that never began", line)
            elif header.title and not header.problem:
                yield _parse_page(header, lines, source, rejects)
            header = None
        elif not line.strip():
            continue
        elif header is None:
            rejects.add(source, number, "text outside of a page", line)
        elif not header.problem:
            lines.append((number, line))
    _reject_open_page(header, source, rejects)


def parse_paragraph(line: str) -> Paragraph:
    """Read the text and the links of one line.

    Lower-case letters right after a link belong to its anchor, as in Wikipedia.
    """
    parts: list[str] = []
    length = 0  # of the text so far
    mentions: list[Mention] = []
    problems: list[str] = []
    target: str | None = None  # of the open link
    start = place = 0
    for tag in _LINK_TAG.finditer(line):
        piece = _plain(line[place : tag.start()])
        place = tag.end()
        parts.append(piece)
        length += len(piece)
        if tag[2] is None:
            if target is not None:
                problems.append("link is never closed")
            target, start = tag[1], length
        elif target is None:
            problems.append("end of a link that never began")
        else:
            trail = _TRAIL.match(line, place)
            if trail:
                place = trail.end()
                parts.append(trail[0])
                length += len(trail[0])
            try:
                title = link_target(target)
            except ValueError as error:
                problems.append(str(error))
                title = ""
            if title:
                mentions.append(Mention(start, length, title))
            target = None
    if target is not None:
        problems.append("link is never closed")
    parts.append(_plain(line[place:]))
    text = "".join(parts)
    return Paragraph(text, _trim_anchors(text, mentions, problems), problems)


def link_target(href: str) -> str:
    """The title of the article that a link leads to; empty if that is no article.

    Raises ValueError for bad percent-encoding and for an over-long title.
    """
    if _BAD_PERCENT.search(href):
        raise ValueError("link refused: bad percent-encoding")
    try:
        title = unquote(href, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("link refused: percent-encoding is not UTF-8") from None
    title = article_title(html.unescape(title).split("#")[0])
    problem = name_problem(title) if title else None
    if problem:
        raise ValueError(f"link refused: {problem}")
    return title


def _read_header(number: int, line: str, current: _Header | None) -> _Header | None:
    """The header in a line, or None for a line that is no header.

    Within a page that is read (`current`), a line that only looks like one is text.
    """
    opening = _OPENING.fullmatch(line)
    if opening is None:
        in_page = current is not None and not current.problem
        if in_page or not line.startswith("<doc "):
            return None
        return _Header(number, "", "", "no id or title")
    page_id, title = opening[1].strip(), article_title(html.unescape(opening[2]))
    problem = name_problem(title or opening[2]) if page_id else "no id or title"
    return _Header(number, page_id, title, problem)


def _reject_open_page(header: _Header | None, source: str, rejects: Rejects) -> None:
    """Report a page that should be closed by now; one left out is reported already."""
    if header is not None and not header.problem:
        rejects.add(source, header.line, "page is never closed", header.title)


def _parse_page(
    header: _Header, lines: list[tuple[int, str]], source: str, rejects: Rejects
) -> Page:
    """The page of a header and its lines that are not blank, with their numbers."""
    if lines and article_title(html.unescape(lines[0][1])) == header.title:
        lines = lines[1:]  # the page's heading
    paragraphs: list[Document] = []
    for number, raw in lines:
        text, mentions, problems = parse_paragraph(raw)
        for problem in problems:
            rejects.add(source, number, problem, raw)
        if text.strip():
            name = f"{header.id}:{len(paragraphs)}"
            paragraphs.append(Document(name, text, header.title, tuple(mentions)))
    return Page(header.id, header.title, tuple(paragraphs), header.line)


def _trim_anchors(
    text: str, mentions: Iterable[Mention], problems: list[str]
) -> list[Mention]:
    """The mentions without spaces at their ends. Bad anchors go to `problems`."""
    good = []
    for mention in mentions:
        anchor = text[mention.start : mention.end]
        problem = name_problem(anchor)
        if problem:
            problems.append(f"anchor refused: {problem}")
        else:
            start = mention.start + len(anchor) - len(anchor.lstrip())
            end = mention.end - len(anchor) + len(anchor.rstrip())
            good.append(dataclasses.replace(mention, start=start, end=end))
    return good


def _plain(piece: str) -> str:
    """A piece of a line: remains of markup go, character references are read."""
    if "<" in piece:
        piece = _REMAINS.sub("", piece)
    if "&" in piece:
        piece = _REFERENCE.sub(lambda reference: html.unescape(reference[0]), piece)
    return piece
