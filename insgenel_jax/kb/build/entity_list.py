"""A knowledge base of one's own: an entity list (JSONL or CSV), no Wikipedia needed.

Each entity has `title` and, where known, `id`, `description`, `aliases` (in CSV split
at "|"). Labelled documents can add link counts and link probabilities.
"""

from __future__ import annotations

import csv
import functools
import itertools
import json
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from insgenel_jax.kb.build.tables import (
    ENTITIES,
    FORMS,
    build,
    check_name,
    check_text,
    count_documents,
    title_forms,
    unique_titles,
)
from insgenel_jax.kb.knowledge_base import (
    Case,
    Entity,
    form_key,
    title_key,
    title_variants,
)
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.lines import decode_lines
from insgenel_jax.text.formats.rejects import InputError, Rejects

_LONGEST_RECORD = 100  # lines of a CSV
_FIELDS = ("id", "title", "description", "aliases")


def read_entities(
    path: str | os.PathLike, rejects: Rejects
) -> Iterator[tuple[Entity, tuple[str, ...], int]]:
    """(entity, aliases, line) of a list, by its ending: .csv with a header, else JSONL.

    What is wrong goes to `rejects`, an entity whole, an alias alone. Raises InputError
    for a CSV without a `title` column and FileNotFoundError for a missing file.
    """
    name = Path(path).name.removesuffix(".bz2").removesuffix(".gz")
    records = _csv_records if name.endswith(".csv") else _json_records
    ids: set[str] = set()
    for line, record, raw in records(path, rejects):
        try:
            entity, aliases = _entity(record)
        except ValueError as error:
            rejects.add(str(path), line, str(error), raw)
            continue
        if entity.external_id in ids:
            rejects.add(str(path), line, "id taken by an earlier entity", raw)
            continue
        if entity.external_id is not None:
            ids.add(entity.external_id)
        good = []
        for alias in aliases:
            wrong = check_name(alias)
            if wrong:
                rejects.add(str(path), line, f"alias left out: {wrong}", alias)
            else:
                good.append(alias)
        yield entity, tuple(good), line


def build_from_entities(
    path: str | os.PathLike,
    entities: Iterable[tuple[Entity, Sequence[str]]],
    rejects: Rejects,
    *,
    documents: Sequence[Document] = (),
    redirects: Mapping[str, str] | None = None,
    case: Case = "any",
    source: str = "entities",
    lines: Sequence[int] = (),
) -> dict[str, int]:
    """Write a knowledge base of (entity, aliases); returns its counts.

    documents: labelled ones; their links to titles of these entities are counted, and
    add forms.
    redirects: other titles (old titles, ids of another list) -> title.
    source, lines: where the entities stand, for `rejects`.
    """
    entities = list(entities)
    unique = unique_titles((entity for entity, _ in entities), rejects, source, lines)
    names = [
        _forms(given.title, *title_forms(given.title), *others)
        for given, others in entities
    ]
    counts = Counter(
        (form, entity.title) for entity, forms in zip(unique, names) for form in forms
    )
    inlinks: Counter[str] = Counter()
    titles = {title_key(entity.title): entity.title for entity in unique}
    for old, target in (redirects or {}).items():
        title = _find(titles, target)
        if title is not None and check_name(old) is None:
            counts.update((form, title) for form in _forms(old))
    for document in documents:
        for mention in document.mentions:
            title = _find(titles, mention.entity or "")
            form = form_key(document.text[mention.start : mention.end])
            if title is not None and form and check_name(form) is None:
                counts[form, title] += 1
                inlinks[title] += 1
    rows = sorted(counts.items())
    return build(
        path,
        pa.table(
            {
                "title": [entity.title for entity in unique],
                "description": [entity.description for entity in unique],
                "external_id": [entity.external_id for entity in unique],
                "inlinks": [e.inlinks + inlinks[e.title] for e in unique],
            },
            schema=ENTITIES,
        ),
        pa.table(
            {
                "form": [form for (form, _), _ in rows],
                "title": [title for (_, title), _ in rows],
                "count": [count for _, count in rows],
            },
            schema=FORMS,
        ),
        None
        if redirects is None
        else pa.table({"source": list(redirects), "title": list(redirects.values())}),
        case=case,
        count_documents=functools.partial(_count, documents, case),
    )


def _forms(*names: str) -> set[str]:
    """Keys of the names as written, and with spaces for the underscores of titles."""
    spellings = (*names, *(name.replace("_", " ") for name in names))
    return {form_key(name) for name in spellings} - {""}


def _find(titles: Mapping[str, str], title: str) -> str | None:
    first, second = title_variants(title)
    return titles.get(first) or titles.get(second)


def _count(documents, case, matcher, _):
    return count_documents(matcher, documents, case)


def _entity(record: Any) -> tuple[Entity, list[str]]:
    """Read one record; ValueError names the field, what was expected and found."""
    _check(isinstance(record, dict), "entity", "an object", record)
    title = record.get("title")
    _check(isinstance(title, str), "title", "a string", title)
    description = record.get("description") or ""
    _check(isinstance(description, str), "description", "a string", description)
    external_id = record.get("id")
    external_id = str(external_id) if type(external_id) is int else external_id
    _check(isinstance(external_id, str | None), "id", "a string", external_id)
    aliases = record.get("aliases") or []
    _check(
        isinstance(aliases, list) and all(isinstance(a, str) for a in aliases),
        "aliases",
        "a list of strings",
        aliases,
    )
    wrong = check_name(title) or (check_name(external_id) if external_id else None)
    if wrong:
        raise ValueError(wrong)
    if not check_text(description):
        raise ValueError("lone surrogate in a description")
    return Entity(title.strip(), description.strip(), external_id or None), aliases


def _check(holds: bool, field: str, expected: str, found: Any) -> None:
    if not holds:
        raise ValueError(f"bad {field}: expected {expected}, found {found!r:.80}")


def _json_records(path, rejects: Rejects) -> Iterator[tuple[int, Any, str]]:
    for number, raw in decode_lines(path, rejects):
        if raw.strip():
            try:
                yield number, json.loads(raw), raw
            except (ValueError, RecursionError) as error:
                rejects.add(str(path), number, f"not JSON: {error}", raw)


def _csv_records(path, rejects: Rejects) -> Iterator[tuple[int, Any, str]]:
    """(line, record, raw) of a CSV, whose open quotes never swallow the rows behind.

    Of a broken record the first line alone is rejected, and reading goes on at the next.
    A quoted field may hold line breaks in a record of at most `_LONGEST_RECORD` lines
    with every field of the header, but not in a name.
    """
    lines = decode_lines(path, rejects)
    ahead: deque[tuple[int, str]] = deque()  # lines read that no record has taken yet

    def next_lines() -> Iterator[str]:
        for i in range(_LONGEST_RECORD):
            if i == len(ahead):
                ahead.extend(itertools.islice(lines, 1))
            if i == len(ahead):
                return
            yield ahead[i][1] + "\n"

    def take(count: int) -> list[str]:
        return [ahead.popleft()[1] for _ in range(count)]

    header = _read_header(path, next_lines())
    take(min(1, len(ahead)))
    while any(next_lines()):
        number = ahead[0][0]
        reader = csv.reader(next_lines(), strict=True)
        try:
            row = next(reader)
            raw = "\n".join(ahead[i][1] for i in range(reader.line_num))
            _check_row(row, raw, header)
        except (csv.Error, ValueError) as error:
            known = isinstance(error, ValueError)
            reason = str(error) if known else f"not CSV: {error}"
            rejects.add(str(path), number, reason, *take(1))
            continue
        take(reader.line_num)
        if row:
            record: dict[str, Any] = dict(zip(header, row))
            aliases = record.get("aliases", "").split("|")
            record["aliases"] = [alias for alias in aliases if alias.strip()]
            yield number, record, raw


def _read_header(path, lines: Iterator[str]) -> list[str]:
    """The names of the columns, from the first line alone."""
    try:
        row = next(csv.reader(itertools.islice(lines, 1), strict=True), [])
    except csv.Error as error:
        row = [f"not CSV: {error}"]
    header = [name.strip().lower() for name in row]
    if "title" not in header or len(set(header)) < len(header):
        raise InputError(
            f"{path}: line 1: expected a header with the columns "
            f"{', '.join(_FIELDS)} (title is needed), each once, found {header}; add "
            "it as the first line"
        )
    return header


def _check_row(row: list[str], raw: str, header: list[str]) -> None:
    """Refuse what csv reads and CSV does not allow, and line breaks out of place."""
    found = f"{len(row)} for {len(header)}"
    if len(row) > len(header):
        raise ValueError(f"more fields than the header: {found}")
    if raw.count('"') % 2:  # what an open quote of a line before has left
        raise ValueError("quote out of place: an odd number of them")
    if "\n" in raw and len(row) < len(header):
        raise ValueError(f"quote left open: fewer fields than the header, {found}")
    for name, field in zip(header, row):
        if name in ("id", "title", "aliases") and "\n" in field:
            raise ValueError(f"quote left open: line break in the {name}")
