"""How entities are called outside: ids and URIs to titles, and titles to ids and URIs.

What maps ids comes in as functions, since only a knowledge base or a table knows them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from urllib.parse import quote, unquote

from insgenel_jax.text.document import Document

_OF_TITLES = re.compile(
    r"https?://(?:(?:en\.)?dbpedia\.org/(?:resource|page)"
    r"|(?:en|www|en\.m)\.wikipedia\.org/wiki)/(?P<title>[^#]*)"
)
_OF_WIKIDATA = re.compile(r"https?://www\.wikidata\.org/(?:entity|wiki)/(?P<id>Q\d+)")
_QID = re.compile(r"Q\d+")
DBPEDIA = "http://dbpedia.org/resource/"  # begins its URIs of entities
_SAFE = "!$&'()*+,-./:;=@~"  # what DBpedia leaves as it is, besides letters and digits


@dataclasses.dataclass(frozen=True)
class Names:
    """What reading and writing a format may ask about entities.

    title_of: id -> title, or None where it has none. id_of: title -> id, or None.
    """

    title_of: Callable[[str], str | None] = lambda identifier: None
    id_of: Callable[[str], str | None] = lambda title: None


def add_ids(document: Document, names: Names) -> Document:
    """A document with the ids of mentions that have an entity and no id."""
    mentions = tuple(
        dataclasses.replace(m, external_id=names.id_of(m.entity))
        if m.external_id is None and m.entity is not None
        else m
        for m in document.mentions
    )
    return dataclasses.replace(document, mentions=mentions)


def title_of_uri(uri: str) -> str | None:
    """The title in a URI of DBpedia's or of the English Wikipedia; None in others.

    Underscores stand for spaces, and %.. for bytes of UTF-8.
    """
    found = _OF_TITLES.fullmatch(uri.split("#")[0])
    return None if found is None else decode_title(found["title"])


def decode_title(name: str) -> str:
    """A title as it stands in URLs, with underscores and %.., as a title."""
    spaced = name.replace("_", " ")
    try:
        return unquote(spaced, errors="strict")
    except UnicodeDecodeError:  # a title with a % of its own
        return spaced


def uri_of_title(title: str, begin: str = DBPEDIA) -> str:
    """The URI of DBpedia for a title, from which `title_of_uri` makes the same title.

    begin: what it begins with, for entities that are not DBpedia's. An underscore of
    the title's own is written %5F.
    """
    encoded = (
        "_"
        if c == " "
        else "%5F"
        if c == "_"
        else c
        if c.isalnum()
        else quote(c, _SAFE)
        for c in title
    )
    return begin + "".join(encoded)


def id_of_uri(uri: str) -> str | None:
    """The Wikidata id in a URI; None in others."""
    found = _OF_WIKIDATA.fullmatch(uri)
    return None if found is None else found["id"]


def uri_of_id(identifier: str) -> str | None:
    """The URI of a Wikidata id; None of another id."""
    if not _QID.fullmatch(identifier):
        return None
    return f"http://www.wikidata.org/entity/{identifier}"
