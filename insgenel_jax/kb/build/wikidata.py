"""A `page_props` SQL dump, or a table title -> id, in; Wikidata's ids of pages out.

`page_props` also says which pages are disambiguation pages, in every language.
"""

from __future__ import annotations

import dataclasses
import os
import re
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from insgenel_jax.kb.build.dictionaries import parse_title, read_columns
from insgenel_jax.text.formats.lines import read_lines
from insgenel_jax.text.formats.rejects import InputError, Rejects

_INSERT = b"INSERT INTO `page_props` VALUES"
# (page, property, value, ...: quotes in values are escaped, so no value looks like this
_ROW = re.compile(
    rb"\((\d{1,15}),'(wikibase_item|disambiguation)','((?:[^'\\]|\\.)*+)'"
)
_ITEM = re.compile("Q[1-9][0-9]{0,14}")


def _none() -> Int64[np.ndarray, " N"]:
    return np.empty(0, np.int64)


@dataclasses.dataclass(frozen=True)
class WikidataIds:
    """Wikidata's ids of N pages by page id, and others by title.

    pages: ids of pages, ascending. items: the number of each one's id, without the Q.
    disambiguation: ids of disambiguation pages, ascending.
    """

    pages: Int64[np.ndarray, " N"] = dataclasses.field(default_factory=_none)
    items: Int64[np.ndarray, " N"] = dataclasses.field(default_factory=_none)
    disambiguation: Int64[np.ndarray, " M"] = dataclasses.field(default_factory=_none)
    titles: dict[str, str] = dataclasses.field(default_factory=dict)

    def of(
        self, titles: Sequence[str], pages: Sequence[str | None]
    ) -> list[str | None]:
        """The id of each title, by its page's id or by itself; None where unknown."""
        found = [self.titles.get(title) for title in titles]
        if not len(self.pages):
            return found
        numbers = np.array(
            [
                int(page) if page and page.isdecimal() and len(page) < 16 else -1
                for page in pages
            ],
            np.int64,
        )
        place = np.searchsorted(self.pages, numbers).clip(max=len(self.pages) - 1)
        for row in np.flatnonzero(self.pages[place] == numbers).tolist():
            found[row] = f"Q{self.items[place[row]]}"
        return found


NO_IDS = WikidataIds()


def read_wikidata_ids(
    page_props: str | os.PathLike | None,
    table: str | os.PathLike | None,
    rejects: Rejects,
) -> WikidataIds:
    """The ids of a `page_props` SQL dump and of a table, each of which may be missing.

    Both may be packed. table: lines `title <TAB> id`.
    """
    titles = {} if table is None else _read_table(table, rejects)
    if page_props is None:
        return WikidataIds(titles=titles)
    ids = _read_page_props(page_props, rejects)
    return dataclasses.replace(ids, titles=titles)


def _read_table(path: str | os.PathLike, rejects: Rejects) -> dict[str, str]:
    """title -> id; the first of a title counts."""
    ids: dict[str, str] = {}
    for line, (name, item), raw in read_columns(path, rejects, 2, 2):
        try:
            title = parse_title(name)
            if not _ITEM.fullmatch(item):
                raise ValueError("not the id of an item: expected Q and digits")
        except ValueError as error:
            rejects.add(str(path), line, str(error), raw)
            continue
        if ids.setdefault(title, item) != item:
            rejects.add(str(path), line, "title given before with another id", raw)
    return ids


def _read_page_props(path: str | os.PathLike, rejects: Rejects) -> WikidataIds:
    """Raises InputError for a file without any row of `page_props`."""
    pages, items, disambiguation, number = [_none()], [_none()], [_none()], 0
    try:
        for line_number, line in read_lines(path):
            number = line_number
            if line.startswith(_INSERT):
                rows = _ROW.findall(line)
                chosen = [p for p, name, _ in rows if name == b"disambiguation"]
                disambiguation.append(np.array(chosen, np.int64))
                rows = [
                    (page, value[1:])
                    for page, name, value in rows
                    if name == b"wikibase_item" and _ITEM.fullmatch(value.decode())
                ]
                both = np.array(rows, np.int64).reshape(-1, 2)
                pages.append(both[:, 0])
                items.append(both[:, 1])
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, FileNotFoundError):
            raise
        rejects.add(str(path), number + 1, f"file cut short or damaged: {error}", "")
    page, first = np.unique(np.concatenate(pages), return_index=True)
    chosen = np.unique(np.concatenate(disambiguation))
    if not len(page) and not len(chosen):
        raise InputError(
            f"{path}: expected rows of `page_props` with wikibase_item or "
            "disambiguation, found none; give the file *-page_props.sql.gz of the dump"
        )
    return WikidataIds(page, np.concatenate(items)[first], chosen)
