"""Titles and surface forms of a knowledge base in the making: which are allowed, which
forms a title gives, and how titles become unique."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator

import regex

from insgenel_jax.kb.folding import title_key
from insgenel_jax.kb.knowledge_base import Entity
from insgenel_jax.text.formats.rejects import Rejects

LONGEST = 200  # characters of a title or surface form
_SURROGATE = regex.compile("[\ud800-\udfff]")


def name_problem(name: str) -> str | None:
    """What is wrong with a title, surface form or external id; None if nothing is."""
    if not name.strip():
        return "empty name"
    if len(name) > LONGEST:
        return f"over-long name: {len(name)} characters, at most {LONGEST}"
    if "\0" in name:
        return f"NUL in a name: character {name.index(chr(0))}"
    return "lone surrogate in a name" if has_surrogate(name) else None


def has_surrogate(text: str) -> bool:
    """Whether a text has a lone surrogate, which UTF-8 cannot hold."""
    return _SURROGATE.search(text) is not None


def title_forms(title: str) -> Iterator[str]:
    """The surface forms that a title gives: the whole title, and the title without its
    parenthesis and without what follows a comma.

    Underscores become spaces, as in `title_key`, because texts have spaces there.
    """
    title = title.replace("_", " ")
    yield title
    short = title
    if short.endswith(")") and " (" in short:
        short = short[: short.rindex(" (")]
        if short.strip():
            yield short
    if ", " in short and short.split(", ")[0].strip():
        yield short.split(", ")[0]


def unique_titles(
    entities: Iterable[Entity],
    rejects: Rejects,
    source: str,
    lines: Iterable[int] = (),
    is_taken: Callable[[str], bool] = lambda key: False,
) -> list[Entity]:
    """Make titles unique by `title_key`: a later entity gets " (2)", " (3)" ...

    No entity is left out; each changed title is reported to `rejects`. is_taken:
    whether an entity that comes before all of these has the title of a key.
    source, lines: the file of the entities and the line of each, for these reports.
    Lines may be left out.
    """
    entities = list(entities)
    taken = {title_key(entity.title) for entity in entities}
    used: set[str] = set()
    unique = []
    for entity, line in itertools.zip_longest(entities, lines):
        title, number = entity.title, 2
        if title_key(title) in used or is_taken(title_key(title)):
            title = f"{entity.title} ({number})"
            while title_key(title) in taken or is_taken(title_key(title)):
                number += 1
                title = f"{entity.title} ({number})"
            taken.add(title_key(title))
            rejects.add(source, line, f"title taken: made {title!r}", entity.title)
        used.add(title_key(title))
        unique.append(dataclasses.replace(entity, title=title))
    return unique
