"""A knowledge base of one's own: a list of entities in, no Wikipedia needed.

It is JSONL, CSV or Parquet. Each entity has `title` and, where known, `id`,
`description`, `aliases` (in CSV split at "|"). Labelled documents can add link counts
and link probabilities.
"""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from insgenel_jax.kb.build.csv_records import read_csv
from insgenel_jax.kb.build.document_counts import DocumentCounts, count_documents
from insgenel_jax.kb.build.name_rules import FormRule
from insgenel_jax.kb.build.names import (
    has_surrogate,
    name_problem,
    title_forms,
    unique_titles,
)
from insgenel_jax.kb.build.parquet_records import read_parquet
from insgenel_jax.kb.build.tables import ENTITIES, FORMS, REDIRECTS, build_from_tables
from insgenel_jax.kb.folding import form_key, title_key, title_variants
from insgenel_jax.kb.knowledge_base import Case, Entity
from insgenel_jax.kb.matcher import Matcher
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.lines import decode_lines, unpacked_name
from insgenel_jax.text.formats.rejects import Rejects


class ListedEntity(NamedTuple):
    """An entity of a list, its aliases, and the line where it stands."""

    entity: Entity
    aliases: tuple[str, ...]
    line: int


def build_from_entity_list(
    path: str | os.PathLike,
    source: str | os.PathLike,
    rejects: Rejects,
    *,
    documents: str | os.PathLike | None = None,
    form_rules: Sequence[FormRule] = (),
    case: Case = "any",
) -> dict[str, int]:
    """Write a knowledge base of the entity list in a file; return its counts.

    documents: a file of labelled documents whose links are counted. form_rules: see
    `build_from_tables`. What cannot be read in either file goes to `rejects`.
    Raises as `read_entities` and `build_from_tables`.
    """
    labelled = [] if documents is None else list(read_documents(documents, rejects))
    listed = list(read_entities(source, rejects))
    return build_from_entities(
        path,
        [(entity, aliases) for entity, aliases, _ in listed],
        rejects,
        documents=labelled,
        form_rules=form_rules,
        case=case,
        source=str(source),
        lines=[line for _, _, line in listed],
    )


def read_entities(path: str | os.PathLike, rejects: Rejects) -> Iterator[ListedEntity]:
    """The entities of a list: a .csv file with a header, .parquet, or else JSONL.

    A bad entity goes to `rejects` whole; a bad alias goes there alone. `line` is the
    row in a Parquet file. Raises InputError for a CSV or Parquet file without a
    `title` column and FileNotFoundError for a missing file.
    """
    ending = Path(unpacked_name(path)).suffix
    readers = {".csv": _csv_records, ".parquet": read_parquet}
    records = readers.get(ending, _json_records)
    ids: set[str] = set()
    for line, record, raw in records(path, rejects):
        try:
            entity, aliases = _parse_entity(record)
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
            problem = name_problem(alias)
            if problem:
                rejects.add(str(path), line, f"alias left out: {problem}", alias)
            else:
                good.append(alias)
        yield ListedEntity(entity, tuple(good), line)


def build_from_entities(
    path: str | os.PathLike,
    entities: Iterable[tuple[Entity, Sequence[str]]],
    rejects: Rejects,
    *,
    documents: Sequence[Document] = (),
    redirects: Mapping[str, str] | None = None,
    form_rules: Sequence[FormRule] = (),
    case: Case = "any",
    source: str = "entities",
    lines: Sequence[int] = (),
    is_taken: Callable[[str], bool] = lambda key: False,
) -> dict[str, int]:
    """Write a knowledge base of (entity, aliases) pairs; return its counts.

    documents: labelled ones. Their links to titles of these entities are counted, and
    the linked strings become surface forms.
    redirects: another title (an old one, or an id of another list) -> the title.
    form_rules: see `build_from_tables`.
    source, lines: the file of the entities and the line of each, for `rejects`.
    is_taken: see `unique_titles`.
    """
    entities = list(entities)
    bare = (entity for entity, _ in entities)
    unique = unique_titles(bare, rejects, source, lines, is_taken)
    counts = _count_names(entities, unique)
    inlinks: Counter[str] = Counter()
    led: Counter[str] = Counter()  # redirects to a title
    titles = {title_key(entity.title): entity.title for entity in unique}
    for other, target in (redirects or {}).items():
        title = _find(titles, target)
        if title is not None and name_problem(other) is None:
            led[title] += 1
            counts.update((form, title) for form in _form_keys(other))
    for document in documents:
        for mention in document.mentions:
            title = _find(titles, mention.entity or "")
            form = form_key(document.text[mention.start : mention.end])
            if title is not None and form and name_problem(form) is None:
                counts[form, title] += 1
                inlinks[title] += 1
    return build_from_tables(
        path,
        _entity_table(unique, inlinks, led),
        form_table(counts),
        None if redirects is None else redirect_table(redirects),
        form_rules=form_rules,
        case=case,
        count_documents=functools.partial(_count_documents, documents, case),
    )


def form_table(counts: Counter[tuple[str, str]]) -> pa.Table:
    """The FORMS table of counts of (form, title), sorted."""
    rows = sorted(counts.items())
    return pa.table(
        {
            "form": [form for (form, _), _ in rows],
            "title": [title for (_, title), _ in rows],
            "count": [count for _, count in rows],
        },
        schema=FORMS,
    )


def _count_names(
    listed: Iterable[tuple[Entity, Sequence[str]]], unique: Iterable[Entity]
) -> Counter[tuple[str, str]]:
    """One count for each form of an entity's own names. unique: the same entities after
    `unique_titles`; the " (2)" of a title made unique is no part of a form."""
    return Counter(
        (form, entity.title)
        for (given, aliases), entity in zip(listed, unique, strict=True)
        for form in _form_keys(given.title, *title_forms(given.title), *aliases)
    )


def _form_keys(*names: str) -> set[str]:
    """Keys of the names as written, and with spaces in place of underscores."""
    spellings = (*names, *(name.replace("_", " ") for name in names))
    return {form_key(name) for name in spellings} - {""}


def _find(titles: Mapping[str, str], title: str) -> str | None:
    """An entity's title, from a title as a user wrote it. titles: by `title_key`."""
    first, second = title_variants(title)
    return titles.get(first) or titles.get(second)


def _entity_table(
    entities: Sequence[Entity], inlinks: Counter[str], redirects: Counter[str]
) -> pa.Table:
    return pa.table(
        {
            "title": [entity.title for entity in entities],
            "description": [entity.description for entity in entities],
            "external_id": [entity.external_id for entity in entities],
            "inlinks": [e.inlinks + inlinks[e.title] for e in entities],
            "redirects": [redirects[entity.title] for entity in entities],
        },
        schema=ENTITIES,
    )


def redirect_table(redirects: Mapping[str, str]) -> pa.Table:
    """The REDIRECTS table of redirects, source -> title."""
    return pa.table(
        {"source": list(redirects), "title": list(redirects.values())},
        schema=REDIRECTS,
    )


def _count_documents(
    documents: Sequence[Document], case: Case, matcher: Matcher, _: Path
) -> DocumentCounts:
    """`count_documents` with the arguments that `build_from_tables` gives last."""
    return count_documents(matcher, documents, case)


def _parse_entity(record: Any) -> tuple[Entity, list[str]]:
    """The entity and the aliases of one record.

    Raises ValueError that names the field, what was expected and what was found.
    """
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
    problem = name_problem(title) or (external_id and name_problem(external_id))
    if problem:
        raise ValueError(problem)
    if has_surrogate(description):
        raise ValueError("lone surrogate in a description")
    return Entity(title.strip(), description.strip(), external_id or None), aliases


def _check(holds: bool, field: str, expected: str, value: Any) -> None:
    if not holds:
        raise ValueError(f"bad {field}: expected {expected}, found {value!r:.80}")


def _json_records(
    path: str | os.PathLike, rejects: Rejects
) -> Iterator[tuple[int, Any, str]]:
    """(line, value, line as it stands) of a JSONL file."""
    for number, raw in decode_lines(path, rejects):
        if raw.strip():
            try:
                yield number, json.loads(raw), raw
            except (ValueError, RecursionError) as error:
                rejects.add(str(path), number, f"not JSON: {error}", raw)


def _csv_records(
    path: str | os.PathLike, rejects: Rejects
) -> Iterator[tuple[int, dict[str, Any], str]]:
    """(first line, record, lines as they stand) of a CSV file, with aliases split."""
    for number, record, raw in read_csv(path, rejects):
        aliases = record.get("aliases", "").split("|")
        yield number, record | {"aliases": [a for a in aliases if a.strip()]}, raw
