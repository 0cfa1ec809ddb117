"""WikiExtractor `--links` output in; pages of linked paragraphs out.

One file (plain, .bz2, .gz) holds pages between `<doc id= url= title=>` and `</doc>`; a
line is a paragraph; links are `<a href="percent-encoded title">anchor</a>`.
"""

from __future__ import annotations

import dataclasses
import html
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import regex

from insgenel_jax.kb.build.tables import check_name
from insgenel_jax.kb.knowledge_base import title_key
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.lines import decode_lines
from insgenel_jax.text.formats.rejects import Rejects

_OPENING = regex.compile(r'<doc id="([^"]*)"(?: url="[^"]*")? title="(.*)">\s*')
_LINK_TAG = regex.compile(r'<a href="([^"]*)">|(</a>)')
_BAD_PERCENT = regex.compile(r"%(?![0-9A-Fa-f]{2})")
_TRAIL = regex.compile(r"\p{Ll}+")
_REFERENCE = regex.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]*);")
# Remains of wikitext and HTML; other angle brackets are text.
_REMAINS = regex.compile(
    r"</?(?:nowiki|ref|br|poem|chem|ce|math|gallery|blockquote|section)\b[^<>]*>"
)
_NAMESPACES = frozenset(
    [
        "category",
        "file",
        "help",
        "image",
        "media",
        "mediawiki",
        "module",
        "portal",
        "special",
        "talk",
        "template",
        "user",
        "wikipedia",
        "wp",
        "draft",
        "book",
        "timedtext",
        "project",
    ]
)
# Other wikis and the most common language editions; only in lower case, since titles
# begin with a capital.
_PREFIXES = frozenset(
    [
        "http",
        "https",
        "ftp",
        "mailto",
        "news",
        "irc",
        "wikt",
        "wiktionary",
        "w",
        "wikisource",
        "s",
        "wikiquote",
        "q",
        "b",
        "wikibooks",
        "n",
        "wikinews",
        "v",
        "wikiversity",
        "voy",
        "wikivoyage",
        "wikispecies",
        "species",
        "c",
        "commons",
        "d",
        "m",
        "meta",
        "mw",
        "doi",
        "hdl",
        "arxiv",
        "isbn",
        "iarchive",
        "google",
        "phab",
        "mail",
        "gutenberg",
        "imdbname",
        "bugzilla",
        "ar",
        "bg",
        "bn",
        "ca",
        "cs",
        "cy",
        "da",
        "de",
        "el",
        "en",
        "eo",
        "es",
        "et",
        "eu",
        "fa",
        "fi",
        "fr",
        "ga",
        "gl",
        "he",
        "hi",
        "hr",
        "hu",
        "hy",
        "id",
        "is",
        "it",
        "ja",
        "ka",
        "kk",
        "ko",
        "la",
        "lt",
        "lv",
        "mk",
        "ms",
        "nl",
        "nn",
        "no",
        "pl",
        "pt",
        "ro",
        "ru",
        "simple",
        "sk",
        "sl",
        "sq",
        "sr",
        "sv",
        "ta",
        "th",
        "tr",
        "uk",
        "ur",
        "uz",
        "vi",
        "zh",
    ]
)


@dataclasses.dataclass(frozen=True)
class Page:
    """A page: its paragraphs are Documents with the id "<page id>:<paragraph>"."""

    id: str
    title: str
    paragraphs: tuple[Document, ...]
    line: int  # of its header

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


def find_files(path: str | os.PathLike) -> list[Path]:
    """The files of a dump, sorted: the path itself or all files below it.

    Raises FileNotFoundError where there is none.
    """
    path = Path(path)
    files = (
        [path] if path.is_file() else sorted(p for p in path.rglob("*") if _is_data(p))
    )
    if not files:
        raise FileNotFoundError(
            f"{path}: expected WikiExtractor's output (a file, or a folder of files), "
            "found none; check the path"
        )
    return files


def read_pages(path: str | os.PathLike, rejects: Rejects) -> Iterator[Page]:
    """The articles of one file; broken pages and links go to `rejects`.

    A page without id or title, or that is never closed, is left out; a link that cannot
    be read leaves its text. Pages of other namespaces and disambiguation pages are left
    out without a word.
    """
    source = str(path)
    header: tuple[int, str, str] | None = None  # line, page id, title
    skipping = False  # inside a page whose header cannot be read
    lines: list[tuple[int, str]] = []
    number = 0
    for number, line in decode_lines(path, rejects):
        opening = _OPENING.fullmatch(line)
        # within a page, what is no whole header is the page's text
        if opening or (header is None and line.startswith("<doc ")):
            if header is not None:
                rejects.add(source, header[0], "page is never closed", header[2])
            title = article_title(html.unescape(opening[2])) if opening else ""
            page_id = opening[1].strip() if opening else ""
            wrong = "no id or title"
            if page_id:
                wrong = check_name(title or opening[2])
            if wrong:
                rejects.add(source, number, f"page left out: {wrong}", line)
            header = None if wrong else (number, page_id, title)
            skipping = wrong is not None
            lines = []
        elif line.startswith("</doc>"):
            if header is not None and header[2]:
                yield _parse_page(*header, lines, source, rejects)
            elif header is None and not skipping:
                rejects.add(source, number, "end of a page that never began", line)
            header, skipping = None, False
        elif header is not None:
            if line.strip():
                lines.append((number, line))
        elif not skipping and line.strip():
            rejects.add(source, number, "text outside of a page", line)
    if header is not None:
        rejects.add(source, header[0], "page is never closed", header[2])


def parse_paragraph(line: str) -> tuple[str, list[Mention], list[str]]:
    """The text of a line, its links with offsets into that text, what was wrong."""
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
    good = []
    for mention in mentions:
        anchor = text[mention.start : mention.end]
        wrong = check_name(anchor)
        if wrong:
            problems.append(f"anchor refused: {wrong}")
        else:
            start = mention.start + len(anchor) - len(anchor.lstrip())
            end = mention.end - len(anchor) + len(anchor.rstrip())
            good.append(dataclasses.replace(mention, start=start, end=end))
    return text, good, problems


def link_target(href: str) -> str:
    """The title that a link leads to; empty where that is not an article.

    Raises ValueError for bad percent-encoding and for an over-long title.
    """
    if _BAD_PERCENT.search(href):
        raise ValueError("link refused: bad percent-encoding")
    try:
        title = unquote(href, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("link refused: percent-encoding is not UTF-8") from None
    title = article_title(html.unescape(title).split("#")[0])
    wrong = check_name(title) if title else None
    if wrong:
        raise ValueError(f"link refused: {wrong}")
    return title


def article_title(name: str) -> str:
    """The title in its one spelling; empty for other namespaces and disambiguations."""
    title = " ".join(title_key(name).removeprefix(":").split())
    prefix, colon, _ = title.partition(":")
    space = prefix.strip().lower().removesuffix(" talk")
    if colon and (space in _NAMESPACES or prefix.strip() in _PREFIXES):
        return ""
    if title.endswith("(disambiguation)"):
        return ""
    first = title[:1].upper()
    return first + title[1:] if len(first) == 1 else title


def _parse_page(
    line: int,
    page_id: str,
    title: str,
    lines: list[tuple[int, str]],
    source: str,
    rejects: Rejects,
) -> Page:
    if lines and article_title(html.unescape(lines[0][1])) == title:
        lines = lines[1:]  # the page's heading
    paragraphs = []
    for number, raw in lines:
        text, mentions, problems = parse_paragraph(raw)
        for problem in problems:
            rejects.add(source, number, problem, raw)
        if text.strip():
            name = f"{page_id}:{len(paragraphs)}"
            paragraphs.append(Document(name, text, title, tuple(mentions)))
    return Page(page_id, title, tuple(paragraphs), line)


def _plain(piece: str) -> str:
    """A piece of a line without remains of markup and character references."""
    if "<" in piece:
        piece = _REMAINS.sub("", piece)
    if "&" in piece:
        piece = _REFERENCE.sub(lambda reference: html.unescape(reference[0]), piece)
    return piece


def _is_data(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")
