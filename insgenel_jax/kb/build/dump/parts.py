"""Pieces of a dump in; files of parsed pages, redirects and disambiguation pages out.

One piece makes one file, written aside and moved into place, by a pure function that
runs in any process. A file that is there and whole is not made again, so a job that was
stopped goes on where it was. A line of it is its kind, a tab, and JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gzip
import io
import json
import os
import resource
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import marisa_trie
import numpy as np
import regex

from insgenel_jax import aside
from insgenel_jax.kb.build.dump import export, lead, wikitext
from insgenel_jax.kb.build.dump.pieces import Piece, cut_file, read_header, read_piece
from insgenel_jax.kb.build.dump.site import NO_WORDS, Site, Words, read_site
from insgenel_jax.kb.build.names import name_problem
from insgenel_jax.kb.build.processes import Workers, ordered_map
from insgenel_jax.kb.build.tables import follow_redirects
from insgenel_jax.kb.build.wikiextractor import Page
from insgenel_jax.kb.folding import title_key
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.rejects import Rejects

ENDING = ".pages.gz"
_DISAMBIGUATION = "disambiguation.npy"  # ids of pages, beside the parts
_DROPPED = "dropped.marisa"  # titles whose links are none, beside the parts
_ABOUT = "dump.json"  # what the parts of a folder were made from
_VERSION = 1
_PAGE, _REDIRECT, _CHOICE, _REJECT, _END = "page", "redirect", "choice", "reject", "end"
_REDIRECT_TEXT = regex.compile(r"\s*#\s*(\S+?)\s*:?\s*\[\[([^\[\]|\n]+)")


@dataclasses.dataclass
class Part:
    """What a file of parsed pages holds beside the pages."""

    file: Path
    bytes: int = 0  # of the source, roughly
    memory: int = 0  # bytes that the process which made it has held at most
    redirects: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    choices: list[tuple[str, list[str]]] = dataclasses.field(default_factory=list)
    rejected: list[tuple[str, int | None, str, str]] = dataclasses.field(
        default_factory=list
    )
    counts: Counter[str] = dataclasses.field(default_factory=Counter)


class Dump(NamedTuple):
    """A dump that has been parsed.

    redirects: alias -> title. choices: the title of a disambiguation page -> the
    articles that it lists.
    """

    files: list[Path]
    redirects: dict[str, str]
    choices: dict[str, list[str]]
    counts: Counter[str]


def parse_dump(
    files: Sequence[Path],
    folder: Path,
    rejects: Rejects,
    *,
    words: Words = NO_WORDS,
    disambiguation: np.ndarray | None = None,
    workers: Workers = 1,
    tell: Callable[[Part], None] = lambda part: None,
) -> Dump:
    """Parse the files of a dump into `folder`, but for the parts that are there.

    disambiguation: sorted ids of disambiguation pages, where they are known. tell:
    called with each part that is done. Parts of another dump in `folder` are removed.
    """
    lead.check_parser()
    _begin(files, folder, words, disambiguation)
    site_words = functools.partial(read_site, words=words)

    def pieces() -> Iterator[tuple[Piece, Site, Path]]:
        for number, file in enumerate(files):
            site = site_words(read_header(file))
            for piece in cut_file(file, rejects):
                name = f"{number:04}-{piece.number:05}{ENDING}"
                yield piece, site, folder / name

    dump = Dump([], {}, {}, Counter())
    for part in ordered_map(parse_piece, pieces(), workers):
        dump.files.append(part.file)
        for alias, title in part.redirects:
            dump.redirects.setdefault(alias, title)
        dump.choices.update(part.choices)
        dump.counts.update(part.counts)
        for entry in part.rejected:
            rejects.add(*entry)
        tell(part)
    _drop_disambiguation(dump, folder)
    return dump


def _drop_disambiguation(dump: Dump, folder: Path) -> None:
    """Write the titles of disambiguation pages, whose links `read_part` leaves out, and
    of the redirects to them, which go out of `dump.redirects`."""
    dropped = set(map(title_key, dump.choices))
    redirects = {
        alias: follow_redirects(title, dump.redirects, dropped)
        for alias, title in dump.redirects.items()
    }
    for alias, end in redirects.items():
        if end in dropped:
            dropped.add(alias)
            del dump.redirects[alias]
    with aside.file(folder / _DROPPED) as temporary:  # the old one may be mapped
        marisa_trie.Trie(dropped).save(str(temporary))
        os.replace(temporary, folder / _DROPPED)


def parse_piece(work: tuple[Piece, Site, Path]) -> Part:
    """Write the part of a piece, or read it where it is there and whole."""
    piece, site, file = work
    if file.exists():
        part = _read_rest(file)
        if part is not None:
            part.counts["parts kept"] += 1
            return dataclasses.replace(part, bytes=piece.end - piece.begin)
    part, rejects = Part(file, piece.end - piece.begin), Rejects()
    with aside.file(file) as temporary:
        with _create(temporary) as stream:
            _write_pages(piece, site, stream, part, rejects)
            part.rejected = rejects.entries
            for redirect in part.redirects:
                _write(stream, _REDIRECT, redirect)
            for choice in part.choices:
                _write(stream, _CHOICE, choice)
            for entry in part.rejected:
                _write(stream, _REJECT, entry)
            _write(stream, _END, part.counts)
        os.replace(temporary, file)
    part.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return part


def parse_text(raw: export.RawPage, site: Site) -> Iterator[tuple[bool, Any]]:
    """(whether it is of the lead, paragraph) of each paragraph of a page."""
    before, after = lead.split(wikitext.drop_elements(raw.text))
    for is_lead, text in (
        (True, lead.reduce(before, site)),
        (False, wikitext.reduce(after, site)),
    ):
        for paragraph in wikitext.read_paragraphs(text, site):
            yield is_lead, paragraph


def read_part(file: Path, rejects: Rejects) -> Iterator[Page]:
    """The pages of a part. A damaged part goes to `rejects` from there on."""
    try:
        beside = file.parent / _DROPPED
        dropped = _open_dropped(beside, beside.stat().st_mtime_ns)
        for number, (kind, text) in enumerate(_read_lines(file), 1):
            if kind == _PAGE:
                yield _read_page(json.loads(text), number, dropped)
    except (EOFError, OSError, zlib.error, ValueError) as error:
        reason = f"part damaged: {error}; delete it and start again"
        rejects.add(str(file), None, reason, "")


def _begin(
    files: Sequence[Path],
    folder: Path,
    words: Words,
    disambiguation: np.ndarray | None,
) -> None:
    """Make the folder of the parts, without parts of another dump or other words."""
    ids = np.empty(0, np.int64) if disambiguation is None else disambiguation
    stats = [(str(file), file.stat()) for file in files]
    about = {
        "version": _VERSION,
        "files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats],
        "words": dataclasses.asdict(words),
        "disambiguation pages": [len(ids), zlib.crc32(ids.tobytes())],
    }
    text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
    note = folder / _ABOUT
    if folder.exists() and not (note.exists() and note.read_text("utf-8") == text):
        for old in folder.glob(f"*{ENDING}"):
            old.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / _DISAMBIGUATION, ids)
    note.write_text(text, "utf-8")


def remove_parts(folder: Path) -> None:
    """Remove the folder of the parts."""
    shutil.rmtree(folder, ignore_errors=True)


@functools.lru_cache(maxsize=1)
def _open_ids(file: Path, changed: int) -> np.ndarray:
    """changed: when the file was; another one is not taken for it."""
    return np.load(file)


@functools.lru_cache(maxsize=1)
def _open_dropped(file: Path, changed: int) -> marisa_trie.Trie:
    """changed: as in `_open_ids`."""
    titles = marisa_trie.Trie()
    titles.mmap(str(file))
    return titles


def _write_pages(
    piece: Piece, site: Site, stream: io.TextIOBase, part: Part, rejects: Rejects
) -> None:
    """Parse the pages of a piece into `stream` and `part`."""
    source, counts = str(piece.file), part.counts
    beside = part.file.parent / _DISAMBIGUATION
    ids = _open_ids(beside, beside.stat().st_mtime_ns)
    for xml in export.cut_pages(*read_piece(piece, rejects)):
        raw = export.parse_page(xml) if isinstance(xml, bytes) else xml
        if isinstance(raw, export.Broken):
            rejects.add(source, None, raw.reason, raw.beginning)
            continue
        number = raw.namespace
        if (site.namespace(raw.title) if number is None else number) != 0:
            counts["pages of other namespaces"] += 1
            continue
        counts["characters of wikitext"] += len(raw.text)
        target = redirect_target(raw, site)
        title = site.article(raw.title)
        problem = name_problem(title or raw.title) or ("" if raw.id else "no page id")
        if problem:
            rejects.add(source, None, f"page left out: {problem}", raw.title)
        elif target is not None:
            counts["redirect pages"] += 1
            _add_redirect(raw.title, target, site, part)
        elif not title or _is_disambiguation(raw, site, ids):
            counts["disambiguation pages"] += 1
            part.choices.append((raw.title, list(_choices(raw, site))))
        else:
            counts["pages"] += 1
            _write(stream, _PAGE, _page(raw, title, site, source, counts, rejects))


def redirect_target(raw: export.RawPage, site: Site) -> str | None:
    """To which page a page redirects; None for a page that is no redirect."""
    if raw.redirect:
        return raw.redirect
    if raw.redirect is None and site.marks_redirects:
        return None
    match = _REDIRECT_TEXT.match(raw.text)
    if match and match[1].casefold() in site.redirect_words:
        return match[2]
    return None


def _add_redirect(alias: str, target: str, site: Site, part: Part) -> None:
    alias, title = site.article(alias), site.article(target.partition("#")[0])
    if alias and title and alias != title and not name_problem(title):
        part.redirects.append((alias, title))
    else:
        part.counts["redirects of no article"] += 1


def _is_disambiguation(raw: export.RawPage, site: Site, ids: np.ndarray) -> bool:
    if raw.id.isdecimal() and len(raw.id) < 16 and len(ids):
        number = int(raw.id)
        place = np.searchsorted(ids, number)
        if place < len(ids) and ids[place] == number:
            return True
    text = wikitext.drop_elements(raw.text)
    return any(map(site.is_disambiguation, wikitext.template_names(text)))


def _choices(raw: export.RawPage, site: Site) -> Iterator[str]:
    """The articles that a disambiguation page lists: the first link of each item."""
    for _, paragraph in parse_text(raw, site):
        if paragraph.kind == "item" and paragraph.links:
            yield paragraph.links[0][2]


def _page(
    raw: export.RawPage,
    title: str,
    site: Site,
    source: str,
    counts: Counter[str],
    rejects: Rejects,
) -> list:
    """What a part keeps of a page: id, title, lead, how many paragraphs are of it, and
    all paragraphs."""
    paragraphs, description, in_lead = [], "", 0
    for is_lead, paragraph in parse_text(raw, site):
        if is_lead:
            in_lead += 1
            if not description and paragraph.kind == "text":
                description = paragraph.text
        for problem in paragraph.problems:
            rejects.add(source, None, problem, f"{title}: {paragraph.text:.200}")
        counts["links"] += len(paragraph.links)
        paragraphs.append([paragraph.text, paragraph.links])
    return [raw.id, title, description, in_lead, paragraphs]


def _read_page(record: list, line: int, dropped: Container[str]) -> Page:
    identifier, title, description, in_lead, paragraphs = record
    documents = []
    for number, (text, links) in enumerate(paragraphs):
        mentions = tuple(
            Mention(start, end, name)
            for start, end, name in links
            if name not in dropped
        )
        documents.append(Document(f"{identifier}:{number}", text, title, mentions))
    return Page(identifier, title, tuple(documents), line, description, in_lead)


def _read_rest(file: Path) -> Part | None:
    """What a part holds beside pages; None where it is not whole."""
    part, is_whole = Part(file), False
    try:
        for kind, text in _read_lines(file):
            if kind == _REDIRECT:
                alias, title = json.loads(text)
                part.redirects.append((alias, title))
            elif kind == _CHOICE:
                title, titles = json.loads(text)
                part.choices.append((title, titles))
            elif kind == _REJECT:
                source, line, reason, content = json.loads(text)
                part.rejected.append((source, line, reason, content))
            elif kind == _END:
                part.counts, is_whole = Counter(json.loads(text)), True
    except (EOFError, OSError, zlib.error, ValueError):
        return None
    return part if is_whole else None


@contextlib.contextmanager
def _create(file: Path) -> Iterator[io.TextIOBase]:
    """A packed file to write, without name and time: the same bytes each time."""
    with (
        file.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as stream,
    ):
        yield stream


def _read_lines(file: Path) -> Iterator[tuple[str, str]]:
    with gzip.open(file, "rt", encoding="utf-8", newline="\n") as stream:
        for line in stream:
            kind, _, text = line.partition("\t")
            yield kind, text


def _write(stream: io.TextIOBase, kind: str, record: Any) -> None:
    stream.write(f"{kind}\t{json.dumps(record, ensure_ascii=True)}\n")
