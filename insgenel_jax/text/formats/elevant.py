"""ELEVANT's JSONL files in (benchmarks, `*.linked_articles.jsonl`); Articles out; back.

The two files are one format: linked articles also have `entity_mentions`, what a linker
found. Entities are Wikidata ids; what maps ids to titles comes in as a function.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from insgenel_jax.text.document import Document, Mention, check, check_string
from insgenel_jax.text.formats.lines import (
    Place,
    decode_lines,
    unpacked_name,
    write_lines,
)
from insgenel_jax.text.formats.names import Names
from insgenel_jax.text.formats.rejects import Rejects

LINKED = ".linked_articles.jsonl"  # how the names of linked articles end
NIL = "<NIL>"
UNKNOWN = frozenset((NIL, "<NO_MAPPING>"))  # ids that name no entity
_VALUES = frozenset(("QUANTITY", "DATETIME"))  # labels of numbers and dates


@dataclasses.dataclass(frozen=True)
class Label:
    """A gold mention [start, end) of an article.

    optional: a linker need not find it (ELEVANT's flags `optional` and `desc`, numbers
    and dates). coref: whether it is a coreference; None where the benchmark does not
    say. children: ids of the labels nested in it. other: further fields of the file.
    """

    id: int
    start: int
    end: int
    entity_id: str
    optional: bool = False
    coref: bool | None = None
    parent: int | None = None
    children: tuple[int, ...] = ()
    other: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether the label names an entity: whether it is not NIL."""
        return self.entity_id not in UNKNOWN


@dataclasses.dataclass(frozen=True)
class Link:
    """A mention [start, end) that a linker found.

    entity_id: a Wikidata id, NIL, or None where the file has null or nothing. Linkers
    do give empty spans, which are read and scored like others.
    """

    start: int
    end: int
    entity_id: str | None
    other: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Article:
    """A text with labels and links; `evaluation_span` is the part that is labelled."""

    id: str
    text: str
    evaluation_span: tuple[int, int]
    labels: tuple[Label, ...] = ()
    links: tuple[Link, ...] = ()
    title: str | None = None
    other: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read_articles(
    path: str | os.PathLike, rejects: Rejects, place: Place | None = None
) -> Iterator[Article]:
    """Yield the articles of a file in order; what cannot be read goes to `rejects`.

    Raises FileNotFoundError for a missing file.
    """
    for number, line in decode_lines(path, rejects, place):
        if not line.strip():
            continue
        try:
            yield article_from_json(json.loads(line))
        except json.JSONDecodeError as error:
            rejects.add(str(path), number, f"not JSON: {error}", line)
        except ValueError as error:
            rejects.add(str(path), number, f"not an article: {error}", line)
        except RecursionError:
            rejects.add(str(path), number, "not an article: nested too deep", line)


def write_articles(path: str | os.PathLike, articles: Iterable[Article]) -> int:
    """Write linked articles as ELEVANT reads them and return how many."""
    records = map(article_to_json, articles)
    return write_lines(path, (json.dumps(r, ensure_ascii=False) for r in records))


def to_document(
    article: Article, title_of: Callable[[str], str | None] | None = None
) -> Document:
    """The article with its labels as mentions, each with its id as `external_id`.

    Optional and nested labels are left out: a Document cannot say what they mean.
    title_of: Wikidata id -> title. Where that is missing or gives None, the entity is
    the label's own name, else its id.
    """
    mentions = []
    for label in article.labels:
        if label.optional or label.parent is not None:
            continue
        entity = None
        if label.known:
            title = title_of(label.entity_id) if title_of else None
            entity = title or str(label.other.get("name") or label.entity_id)
        external_id = label.entity_id if label.known else None
        mentions.append(Mention(label.start, label.end, entity, external_id))
    return Document(article.id, article.text, article.title, tuple(mentions))


def with_links(
    article: Article,
    mentions: Sequence[Mention],
    linker: str,
    id_of: Callable[[str], str | None] | None = None,
) -> Article:
    """The article with a linker's mentions as its links.

    A link's id is the mention's `external_id`, else what `id_of` (title -> Wikidata id)
    gives for its entity, else NIL. linker: the name that the links bear.
    """
    links = []
    for mention in mentions:
        entity_id = mention.external_id
        if entity_id is None and id_of is not None and mention.entity is not None:
            entity_id = id_of(mention.entity)
        if mention.entity is None:
            entity_id = None
        names = {"recognized_by": linker, "linked_by": linker}
        candidates = [] if entity_id is None else [entity_id]
        links.append(
            Link(
                mention.start,
                mention.end,
                entity_id or NIL,
                names | {"candidates": candidates},
            )
        )
    return dataclasses.replace(article, links=tuple(links))


def read_elevant(
    path: str | os.PathLike,
    rejects: Rejects,
    names: Names,
    place: Place | None = None,
) -> Iterator[Document]:
    """Yield the articles of a file as documents: with their links where the file has
    any or is named as linked articles are, else with their labels as `to_document`
    takes them.

    A link whose id is null or NIL is NIL. names.title_of: Wikidata id -> title; else
    the entity is the id. Raises FileNotFoundError for a missing file.
    """
    articles = list(read_articles(path, rejects, place))
    linked = unpacked_name(path).endswith(LINKED)  # which may have found nothing
    if not linked and not any(article.links for article in articles):
        yield from (to_document(article, names.title_of) for article in articles)
        return
    for article in articles:
        mentions = [
            Mention(link.start, link.end, None)
            if link.entity_id is None or link.entity_id in UNKNOWN
            else Mention(
                link.start,
                link.end,
                names.title_of(link.entity_id) or link.entity_id,
                link.entity_id,
            )
            for link in article.links
            if link.start < link.end
        ]
        yield Document(article.id, article.text, article.title, tuple(mentions))


def write_elevant(documents: Iterable[Document]) -> Iterator[str]:
    """Yield the linked article of each document, a line each.

    A mention without an `external_id` is NIL there; see `with_links`.
    """
    for document in documents:
        whole = (0, len(document.text))
        article = Article(document.id, document.text, whole, title=document.title)
        linked = with_links(article, document.mentions, "insgenel")
        yield json.dumps(article_to_json(linked), ensure_ascii=False)


def article_to_json(article: Article) -> dict[str, Any]:
    """The JSON object of an article, as in a file of linked articles."""
    number = article.id.isdecimal() and str(int(article.id)) == article.id
    record: dict[str, Any] = {"id": int(article.id) if number else article.id}
    if article.title is not None:
        record["title"] = article.title
    record |= {"text": article.text, **article.other}
    record["evaluation_span"] = list(article.evaluation_span)
    record["labels"] = [_label_to_json(label) for label in article.labels]
    record["entity_mentions"] = [
        {"span": [link.start, link.end], "id": link.entity_id, **link.other}
        for link in article.links
    ]
    return record


def article_from_json(record: Any) -> Article:
    """The article of a JSON object.

    Raises ValueError that names the field, what was expected and what was found.
    """
    check(isinstance(record, dict), "article", "an object", record)
    record = dict(record)
    identifier, text = record.pop("id", None), record.pop("text", None)
    if type(identifier) is int:
        identifier = str(identifier)
    check_string(identifier, "id")
    check_string(text, "text")
    title = record.pop("title", None)
    if title is not None:
        check_string(title, "title")
    span = record.pop("evaluation_span", None)
    whole = (0, len(text))
    labels = _pop_list(record, "labels", "labels")
    links = _pop_list(record, "entity_mentions", "entity_mentions")
    article = Article(
        id=identifier,
        text=text,
        evaluation_span=whole if span is None else _span(span, "evaluation_span", text),
        labels=tuple(
            _label_from_json(label, f"labels[{i}]", text)
            for i, label in enumerate(labels)
        ),
        links=tuple(
            _link_from_json(link, f"entity_mentions[{i}]", text)
            for i, link in enumerate(links)
        ),
        title=title,
        other=record,
    )
    _check_nesting(article.labels)
    return article


def _label_from_json(record: Any, where: str, text: str) -> Label:
    check(isinstance(record, dict), where, "an object", record)
    other = dict(record)
    identifier = other.pop("id", None)
    check(type(identifier) is int, f"{where}.id", "an integer", identifier)
    start, end = _span(other.pop("span", None), f"{where}.span", text, empty=False)
    entity_id = other.pop("entity_id", None)
    check_string(entity_id, f"{where}.entity_id")
    for flag in ("coref", "optional", "desc"):
        found = record.get(flag)
        check(found in (None, True, False), f"{where}.{flag}", "true or false", found)
    coref, parent = other.pop("coref", None), other.pop("parent", None)
    children = _pop_list(other, "children", f"{where}.children")
    for related in (*children, *([] if parent is None else [parent])):
        check(type(related) is int, f"{where}.parent, .children", "ids", related)
    flagged = bool(record.get("optional") or record.get("desc"))
    return Label(
        id=identifier,
        start=start,
        end=end,
        entity_id=entity_id,
        optional=flagged or entity_id in _VALUES or record.get("type") in _VALUES,
        coref=None if coref is None else bool(coref),
        parent=parent,
        children=tuple(children),
        other=other,
    )


def _label_to_json(label: Label) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": label.id,
        "span": [label.start, label.end],
        "entity_id": label.entity_id,
        **label.other,
    }
    said = label.other.get("optional") or label.other.get("desc")
    value = {label.entity_id, label.other.get("type")} & _VALUES
    if label.optional and not said and not value:
        record["optional"] = True
    if label.parent is not None:
        record["parent"] = label.parent
    if label.children:
        record["children"] = list(label.children)
    if label.coref is not None:
        record["coref"] = label.coref
    return record


def _link_from_json(record: Any, where: str, text: str) -> Link:
    check(isinstance(record, dict), where, "an object", record)
    other = dict(record)
    start, end = _span(other.pop("span", None), f"{where}.span", text)
    entity_id = other.pop("id", None)
    if entity_id is not None:
        check_string(entity_id, f"{where}.id")
    return Link(start, end, entity_id, other)


def _check_nesting(labels: Sequence[Label]) -> None:
    """Refuse labels whose ids are not unique, unknown, or nested in a circle."""
    by_id = {label.id: label for label in labels}
    ids = [label.id for label in labels]
    check(len(by_id) == len(ids), "labels", "ids that are unique", ids)
    for number, label in enumerate(labels):
        for related in (*label.children, label.parent):
            where = f"labels[{number}].parent, .children"
            check(related is None or related in by_id, where, "ids of labels", related)
    # Take away labels without open children, then those without an open parent: what
    # is left after both is a circle.
    for field in ("children", "parent"):
        open_ids = dict.fromkeys(by_id)
        while True:
            done = [
                i for i in open_ids if not open_ids.keys() & _related(by_id[i], field)
            ]
            if not done:
                break
            for i in done:
                del open_ids[i]
        check(not open_ids, f"labels.{field}", "no circle", sorted(open_ids))


def _related(label: Label, field: str) -> set[int]:
    if field == "children":
        return set(label.children)
    return set() if label.parent is None else {label.parent}


def _span(found: Any, where: str, text: str, *, empty: bool = True) -> tuple[int, int]:
    holds = isinstance(found, list) and [type(x) for x in found] == [int, int]
    less = "<=" if empty else "<"
    expected = f"[start, end] with 0 <= start {less} end <= {len(text)}, the text's end"
    holds = holds and 0 <= found[0] <= found[1] <= len(text)
    check(holds and (empty or found[0] < found[1]), where, expected, found)
    return found[0], found[1]


def _pop_list(record: dict[str, Any], field: str, where: str) -> list[Any]:
    found = record.pop(field, None)
    found = [] if found is None else found
    check(isinstance(found, list), where, "a list", found)
    return found
