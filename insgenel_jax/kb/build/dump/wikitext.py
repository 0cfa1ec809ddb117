"""Wikitext in; paragraphs of plain text with their links out.

Two steps. `reduce` takes away what a reader does not see or what is no running text:
comments, references, templates, files, HTML tags, bold and italics. What is left is
reduced wikitext: text, links, lists, tables and headings. `read_paragraphs` makes
paragraphs of that. Each step is a few passes of compiled expressions over the whole
page, because a dump has a hundred gigabytes of it; none takes more than linear time.
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple
from urllib.parse import unquote

from insgenel_jax.kb.build.dump.site import (
    CATEGORY,
    FILE,
    Site,
    is_language,
    is_other_wiki,
)
from insgenel_jax.kb.build.names import name_problem

Link = tuple[int, int, str]  # start and end in the text, title
Kind = Literal["text", "item", "row"]  # of a list, of a table

_DEEPEST = 40  # templates in templates, as MediaWiki's own limit on the stack

# Elements whose content is no running text. That of the last two is taken literally.
HIDDEN = [
    "ref",
    "references",
    "math",
    "chem",
    "ce",
    "gallery",
    "timeline",
    "syntaxhighlight",
    "source",
    "score",
    "imagemap",
    "hiero",
    "templatedata",
    "graph",
    "mapframe",
    "maplink",
    "inputbox",
    "categorytree",
    "templatestyles",
    "includeonly",
    "section",
]
LITERAL = ("nowiki", "pre")
_ELEMENT = re.compile(
    rf"<!--|<({'|'.join((*HIDDEN, *LITERAL))})\b[^<>]*?(/?)>", re.IGNORECASE
)
_TEMPLATE = re.compile(
    r"\{\{([^{}]*+(?:(?:\{(?!\{)|\}(?!\}))[^{}]*+)*+)\}\}", re.DOTALL
)
_TEMPLATE_NAME = re.compile(r"\{\{\s*([^{}|\n]+)")
_INLINE = (
    "a abbr b bdi bdo big br cite code data del dfn em font i ins kbd mark noinclude "
    "nobr onlyinclude q rb rp rt ruby s samp small span strike strong sub sup time tt "
    "u var wbr poem"
)
BLOCK = (
    "blockquote caption center col dd div dl dt h1 h2 h3 h4 h5 h6 hr li ol p table "
    "tbody td th thead tr ul"
)
_TAG = re.compile(
    rf"</?(?:({'|'.join(BLOCK.split())})|{'|'.join((*_INLINE.split(), *HIDDEN))}"
    rf"|{'|'.join(LITERAL)})\b[^<>]*>",
    re.IGNORECASE,
)
_SWITCH = re.compile(r"__[^\W\d_]+__")  # __NOTOC__, in any language
_QUOTES = re.compile("'{2,}")
_EXTERNAL = re.compile(
    r"\[(?:(?:https?|ftp|irc|news|gopher):|mailto:|//)[^\s\[\]]*+[ \t]*"
    r"((?:[^\[\]\n]++|\[\[[^\[\]\n]*+\]\])*+)\]",
    re.IGNORECASE,
)
_EMPTY = re.compile(r"\([\s,;:]*+\)")
_BEFORE_POINT = re.compile(r"[ \t]++(?=[,.](?:\s|$))")
_LINK = re.compile(
    r"\[\[([^\[\]|\n{}<>]*+)(?:\|((?:[^\[\]]++|\[(?!\[)|\](?!\]))*+))?\]\]"
)
_HEADING = re.compile(r"={1,6}[^=].*?={1,6}\s*$")
_MARKER = re.compile(r"\s*[*#:;]+\s+")
_RUNS_OF_EQUALS = re.compile("={2,}")
_ATTRIBUTES = re.compile(r"[^\[|]*+\|(?!\|)")
_ATTRIBUTE = r"[\w-]++\s*+=\s*+(?:\"[^\"]*+\"|[^\s\"|]++)"
_ONLY_ATTRIBUTES = re.compile(rf"\s*+{_ATTRIBUTE}(?:[\s|]++{_ATTRIBUTE})*+[\s|]*+")
_SPACES = re.compile(r"\s{2,}|[\t\n\r\f\v\xa0]")
_SUSPECT = re.compile(r"[<\[\]{}&]|''")
_REMAINS = re.compile(r"\[(?:https?:)?//\S*|\[\[|\]\]|\{\{+|\}\}+|\{\||\|\}|''+")


class Paragraph(NamedTuple):
    """Text, its links, and what was wrong with others."""

    kind: Kind
    text: str
    links: list[Link]
    problems: list[str]


def reduce(text: str, site: Site) -> str:
    """Reduced wikitext: text, links to pages, lists, tables, headings."""
    text = drop_templates(drop_elements(text))
    if "[[" in text:
        text = _hidden_links(site).sub("", text)
    if "<" in text:
        text = _TAG.sub(_tag, text)
    if "__" in text:
        text = _SWITCH.sub("", text)
    return _EXTERNAL.sub(r"\1", _QUOTES.sub(_quotes, text))


def template_names(text: str) -> Iterator[str]:
    """The names of the templates in a text without comments and literal text."""
    return (match[1].strip() for match in _TEMPLATE_NAME.finditer(text))


def read_paragraphs(text: str, site: Site) -> Iterator[Paragraph]:
    """The paragraphs of reduced wikitext that have text.

    A list item and a row of a table are paragraphs of their own; headings are none.
    """
    for kind, line in _lines(text):
        paragraph = _read_line(kind, line, site)
        if paragraph.text:
            yield paragraph


def _read_line(kind: Kind, line: str, site: Site) -> Paragraph:
    """The text and the links of one paragraph of reduced wikitext."""
    marker = _MARKER.match(line)  # of a list in a cell, or after a space
    if marker:
        line = line[marker.end() :]
    if "[[" not in line:
        return Paragraph(kind, _plain(line).strip(), [], [])
    parts: list[str] = []
    links: list[Link] = []
    problems: list[str] = []
    length = place = 0

    def add(piece: str) -> None:
        nonlocal length
        if piece[:1] == " " and (not parts or parts[-1][-1:] == " "):
            piece = piece[1:]
        if piece:
            parts.append(piece)
            length += len(piece)

    for match in _LINK.finditer(line):
        add(_plain(line[place : match.start()]))
        place = match.end()
        target, anchor = match[1], match[2]
        if _is_beside_page(target):
            continue
        trail = site.trail.match(line, place)
        if trail:
            place = trail.end()
        shown = _plain(_anchor(target, anchor)) + (trail[0] if trail else "")
        stripped = shown.strip()
        if shown[:1] == " ":
            add(" ")
        start = length
        add(stripped)
        title, problem = _link_title(site, target)
        problem = problem or (name_problem(stripped) if title and stripped else None)
        if problem:
            problems.append(f"link refused: {problem}")
        elif title and stripped:
            links.append((start, length, title))
        if shown[-1:] == " ":
            add(" ")
    add(_plain(line[place:]))
    return Paragraph(kind, "".join(parts).rstrip(), links, problems)


def drop_elements(text: str) -> str:
    """A text without comments and elements that are no running text."""
    parts: list[str] = []
    place = 0
    unclosed: set[str] = set()
    for match in _ELEMENT.finditer(text):
        if match.start() < place:
            continue
        name = (match[1] or "").lower()
        begin, end = match.end(), match.end()
        if match[2] != "/" and name not in unclosed:
            closing = _closing(name).search(text, begin)
            if closing is None:
                unclosed.add(name)
            else:
                end = closing.end()
        parts.append(text[place : match.start()])
        if name in LITERAL and end > begin:
            parts.append(_literal(text[begin:end]))
        place = end
    return "".join(parts) + text[place:] if parts or place else text


@functools.cache
def _closing(element: str) -> re.Pattern:
    """The end of an element, or of a comment, which may end with the page."""
    if not element:
        return re.compile(r"-->|\Z")
    return re.compile(rf"</{element}\s*>", re.IGNORECASE)


def _literal(text: str) -> str:
    """Literal text without the characters that would be read as markup."""
    return _QUOTES.sub("", re.sub(r"</?\w+\s*>|[\[\]{}<>|]|^[*#:;=]+", "", text))


def drop_templates(text: str) -> str:
    """A text without templates, the innermost ones first."""
    for _ in range(_DEEPEST):
        if "{{" not in text:
            break
        text, found = _TEMPLATE.subn("", text)
        if not found:
            break
    return text


@functools.lru_cache(maxsize=8)
def _hidden_links(site: Site) -> re.Pattern:
    """Links that show a file or put the page in a category, with links within."""
    names = map(re.escape, site.names_of(FILE, CATEGORY))
    prefix = "|".join(name.replace(r"\ ", "[ _]+") for name in names)
    inner = r"[^\[\]]++|\[(?!\[)|\](?!\])"
    links = rf"\[\[(?:{inner})*+\]\]"
    return re.compile(
        rf"\[\[\s*(?:{prefix})\s*:(?:{inner}|{links})*+\]\]", re.IGNORECASE
    )


def _tag(match: re.Match) -> str:
    if match[1] is not None:
        return "\n\n"
    return " " if match[0][1:3].lower() == "br" else ""


def _quotes(match: re.Match) -> str:
    """What is left of a run of quotes: two to three and five are bold or italics."""
    length = len(match[0])
    return "'" * (1 if length == 4 else max(0, length - 5))


def _lines(text: str) -> Iterator[tuple[Kind, str]]:
    """Paragraphs, list items, and rows of tables with "; " between their cells."""
    held: list[str] = []  # lines of the paragraph
    cells: list[str] = []  # of the row
    depth = 0  # of tables
    for line in _whole_lines(text):
        start = line.lstrip()
        kind, item = start[:2], ""
        if line[:1] == "=" and _HEADING.match(line):
            depth = 0  # a table that is never closed ends with its section
        elif kind == "{|":
            depth += 1
        elif kind == "|}":
            depth = max(0, depth - 1)
        elif kind == "|-":
            pass
        elif kind[:1] == "|" or (depth and kind[:1] == "!"):
            cells += _cells(start)
            continue
        elif depth or cells:
            if start:
                first, *others = _cells("|" + start.lstrip("*#:; "))
                cells[-1:] = [" ".join([*cells[-1:], first]), *others]
                continue
            if depth:
                continue
        elif line[:1] and line[0] in "*#:;":
            item = line.lstrip("*#:; ")
        elif start:
            if line[:2] == "==":
                line = _RUNS_OF_EQUALS.sub("", line)
            held += [line] if line.strip("- ") else []
            continue
        if held:
            yield "text", " ".join(held)
        if cells:
            yield "row", _row(cells)
        held, cells = [], []
        if item:
            yield "item", item
    yield "text", " ".join(held)
    yield "row", _row(cells)


def _row(cells: list[str]) -> str:
    """The cells that show something, as one line."""
    return "; ".join(
        cell
        for cell in cells
        if "[[" in cell or (_plain(cell) if _SUSPECT.search(cell) else cell).strip()
    )


def _whole_lines(text: str) -> Iterator[str]:
    """The lines of a text, where a link that goes over several is in one."""
    held = ""
    for line in text.split("\n"):
        if held:
            line = f"{held} {line}"
        is_open = line.rfind("[[") > line.rfind("]]") and len(line) < 2000
        held = line if is_open and "|" in line[line.rfind("[[") :] else ""
        if not held:
            yield line
    if held:
        yield held


def _cells(line: str) -> list[str]:
    """The cells in a line of a table, without their attributes."""
    content = line[2:] if line[:2] == "|+" else line[1:]
    if line[0] == "!":
        content = content.replace("!!", "||")
    cells = content.split("||") if "||" in content else [content]
    return [_without_attributes(cell).strip() for cell in cells]


def _without_attributes(cell: str) -> str:
    attributes = _ATTRIBUTES.match(cell)
    if attributes:
        cell = cell[attributes.end() :]
    return "" if _ONLY_ATTRIBUTES.fullmatch(cell) else cell


def _plain(piece: str) -> str:
    """A piece without links: character references read, remains of markup dropped."""
    if _SUSPECT.search(piece):
        for _ in range(2):
            if "&" in piece:
                piece = html.unescape(piece)
        if "<" in piece:
            piece = _TAG.sub(" ", piece)
        piece = _REMAINS.sub("", piece)
    # what dropped markup leaves: empty brackets, and spaces before a point
    if "(" in piece:
        piece = _EMPTY.sub("", piece)
    if " ," in piece or " ." in piece:
        piece = _BEFORE_POINT.sub("", piece)
    return _SPACES.sub(" ", piece)


def _is_beside_page(target: str) -> bool:
    """Whether a link is to the same page in another language: it shows no text here."""
    prefix, colon, _ = target.partition(":")
    return bool(colon) and prefix[:1] not in ("", " ") and is_language(prefix)


def _anchor(target: str, anchor: str | None) -> str:
    """What a link shows."""
    if anchor is None:
        return target.strip().removeprefix(":").replace("_", " ")
    if anchor.strip():
        return anchor
    name = target.strip().removeprefix(":")  # [[Name (kind)|]] shows Name
    if not is_other_wiki(name.partition(":")[0]):
        name = re.sub(r"\s*\([^()]*\)$", "", name)
    return name


@functools.lru_cache(maxsize=200_000)
def _link_title(site: Site, target: str) -> tuple[str, str | None]:
    """The title of the article that a link leads to, and what is wrong with it.

    Empty for a link within the page or to what is no article.
    """
    name = target.partition("#")[0]
    if "&" in name:
        name = html.unescape(name)
    if "%" in name:
        name = _decode_percent(name)
    title = site.article(name) if name.strip() else ""
    problem = name_problem(title) if title else None
    return ("" if problem else title), problem


def _decode_percent(name: str) -> str:
    """A name with the characters for percent-encodings of UTF-8."""
    try:
        return unquote(name, errors="strict")
    except UnicodeDecodeError:
        return name


def scan(text: str, site: Site) -> Iterator[Paragraph]:
    """The paragraphs of wikitext, by the scanner alone."""
    return read_paragraphs(reduce(text, site), site)
