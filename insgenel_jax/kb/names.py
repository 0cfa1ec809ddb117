"""A knowledge base, or a table of titles and ids, in; what maps ids to titles and
titles to ids out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from insgenel_jax.kb.folding import fold_title
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.formats.lines import decode_lines
from insgenel_jax.text.formats.names import Names
from insgenel_jax.text.formats.rejects import Rejects


def kb_names(kb: KnowledgeBase) -> Names:
    """The titles and external ids of a knowledge base; redirects lead to a title."""

    def title_of(identifier: str) -> str | None:
        row = kb.find_external(identifier)
        return None if row is None else kb.title(row)

    def id_of(title: str) -> str | None:
        row = kb.find(title)
        return None if row is None else kb.external_id(row)

    return Names(title_of, id_of)


def read_pairs(path: str | os.PathLike, rejects: Rejects) -> Iterator[tuple[str, str]]:
    """Yield the two columns of each line of a TSV; other lines go to `rejects`."""
    for number, line in decode_lines(path, rejects):
        first, _, second = (part.strip() for part in line.partition("\t"))
        if first and second and "\t" not in second:
            yield first, second
        elif line.strip():
            rejects.add(str(path), number, "not two columns with a tab between", line)


def read_names(
    path: str | os.PathLike,
    rejects: Rejects,
    redirects: Mapping[str, str] | None = None,
) -> Names:
    """The titles and ids of a file with lines "title<TAB>id"; others go to `rejects`.

    Of several titles of one id, the first is the id's. redirects: alias -> title, which
    titles that have no id of their own follow to their end.
    """
    ids: dict[str, str] = {}
    titles: dict[str, str] = {}
    for title, identifier in read_pairs(path, rejects):
        ids.setdefault(fold_title(title), identifier)
        titles.setdefault(identifier, title)
    targets = {fold_title(a): fold_title(b) for a, b in (redirects or {}).items()}

    def id_of(title: str) -> str | None:
        at, seen = fold_title(title), set()
        while at not in ids and at in targets and at not in seen:
            seen.add(at)
            at = targets[at]
        return ids.get(at)

    return Names(titles.get, id_of)


def first_of(*several: Names) -> Names:
    """Names that ask each of several in turn."""

    def title_of(identifier: str) -> str | None:
        titles = (names.title_of(identifier) for names in several)
        return next((title for title in titles if title is not None), None)

    def id_of(title: str) -> str | None:
        ids = (names.id_of(title) for names in several)
        return next((identifier for identifier in ids if identifier is not None), None)

    return Names(title_of, id_of)
