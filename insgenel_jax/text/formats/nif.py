"""NIF 2.0 in Turtle in; Documents out; and back. It needs the extra `nif` (rdflib).

A context is a document. An annotation with an `itsrdf:taIdentRef` is a mention: of the
title that a URI of DBpedia's or of the English Wikipedia has, and with the id of one of
Wikidata's. Any other URI is NIL, and kept as the mention's id. Offsets are code points.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from insgenel_jax.text.document import Document, Mention, check, check_text
from insgenel_jax.text.formats.lines import Place, read_whole
from insgenel_jax.text.formats.names import (
    DBPEDIA,
    Names,
    id_of_uri,
    title_of_uri,
    uri_of_id,
    uri_of_title,
)
from insgenel_jax.text.formats.offsets import find_misplaced
from insgenel_jax.text.formats.rejects import InputError, Rejects

if TYPE_CHECKING:
    from rdflib import Graph
    from rdflib.term import Node

NIF = "http://persistence.uni-leipzig.org/nlp2rdf/ontologies/nif-core#"
ITSRDF = "http://www.w3.org/2005/11/its/rdf#"
DCTERMS = "http://purl.org/dc/terms/"
NOT_IN_WIKI = "http://aksw.org/notInWiki/"  # what GERBIL takes for NIL
_OF_DOCUMENTS = "urn:insgenel:"  # begins the URI of an id that is none
# what rdflib raises for what is no Turtle
_OF_PARSER = (SyntaxError, ValueError, LookupError, AssertionError, RecursionError)
_URI = re.compile(r"[a-z][a-z0-9+.-]*://[!$&'()*+,./0-9:;=?@A-Z_a-z~%-]+")


def read_nif(
    path: str | os.PathLike,
    rejects: Rejects,
    names: Names,
    place: Place | None = None,
) -> Iterator[Document]:
    """Yield the documents of a file, each with its mentions in order.

    names.title_of: the title of a mention that has an id alone. A document whose
    offsets count bytes or UTF-16 code units goes to `rejects`, as does a file that is
    no Turtle. Raises FileNotFoundError for a missing file.
    """
    _import_rdflib()
    text = read_whole(path, rejects, place)
    if text is not None:
        yield from parse_nif(text, str(path), rejects, names)


def parse_nif(
    text: str, source: str, rejects: Rejects, names: Names, *, phrases: bool = False
) -> Iterator[Document]:
    """Yield the documents of a Turtle text, as `read_nif`. source: its name in rejects.

    phrases: a nif:Phrase without an `itsrdf:taIdentRef`, by which GERBIL marks what is
    to be linked, is a mention too.
    """
    rdflib = _import_rdflib()
    graph = rdflib.Graph()
    try:
        graph.parse(data=text, format="turtle")
    except _OF_PARSER as error:
        line = getattr(error, "lines", None)
        what = " ".join(str(error).split())[:200]
        rejects.add(
            source, None if line is None else line + 1, f"not Turtle: {what}", text
        )
        return
    marked = set(graph.subjects(rdflib.URIRef(ITSRDF + "taIdentRef")))
    if phrases:
        marked |= set(graph.subjects(rdflib.RDF.type, rdflib.URIRef(NIF + "Phrase")))
    annotations: dict[Node, set[Node]] = {}
    for node in marked:
        for context in graph.objects(node, rdflib.URIRef(NIF + "referenceContext")):
            annotations.setdefault(context, set()).add(node)
    found = graph.subjects(rdflib.RDF.type, rdflib.URIRef(NIF + "Context"))
    contexts = dict.fromkeys([*found, *annotations])
    if len(graph) and not contexts:
        reason = f"no document: expected a <{NIF}Context>, found none"
        rejects.add(source, None, reason, text)
    for context in contexts:
        try:
            nodes = annotations.get(context, set())
            document, bad = _read_context(graph, context, nodes, names)
        except ValueError as error:
            content = [str(context), *_values(graph, context, NIF + "isString")]
            reason = f"not a NIF document: {error}"
            rejects.add(source, None, reason, "\n".join(content))
            continue
        for node, reason in bad:
            rejects.add(source, None, f"not a mention: {reason}", str(node))
        yield document


def write_nif(documents: Iterable[Document], entities: str = DBPEDIA) -> Iterator[str]:
    """Yield the Turtle of each document. Candidates of mentions are not written.

    entities: what the URIs of entities begin with.
    """
    rdflib = _import_rdflib()
    taken: set[str] = set()
    for document in documents:
        graph = rdflib.Graph()
        for prefix, uri in (("nif", NIF), ("itsrdf", ITSRDF), ("dcterms", DCTERMS)):
            graph.bind(prefix, uri)
        base = _name_document(document.id, taken)
        taken.add(base)
        _add_document(graph, document, base, entities)
        yield graph.serialize(format="turtle")


def _values(graph: Graph, node: Node, uri: str) -> list[str]:
    """The values of a node's property, sorted."""
    from rdflib import URIRef

    return sorted(str(value) for value in graph.objects(node, URIRef(uri)))


def _value(graph: Graph, node: Node, uri: str) -> str | None:
    """The one value; None where there is none. Raises ValueError for several."""
    found = _values(graph, node, uri)
    check(len(found) < 2, re.split("[#/]", uri)[-1], "one value", found)
    return found[0] if found else None


def _offset(graph: Graph, node: Node, name: str) -> int:
    found = _value(graph, node, NIF + name) or ""
    check(found.isascii() and found.isdigit(), name, "a number", found)
    return int(found)


def _read_context(
    graph: Graph, context: Node, nodes: Iterable[Node], names: Names
) -> tuple[Document, list[tuple[Node, str]]]:
    """A document, and its annotations that are no mentions with the reason of each."""
    text = _value(graph, context, NIF + "isString")
    check(text is not None, "isString", "the text of the context", text)
    check_text(text, "isString")
    mentions, surfaces, bad = [], [], []
    for node in nodes:
        try:
            mention, anchor = _read_mention(graph, node, names)
        except ValueError as error:
            bad.append((node, str(error)))
            continue
        start, end = mention.start, mention.end
        mentions.append((mention, node))
        surfaces.append((start, end, text[start:end] if anchor is None else anchor))
    whole = _values(graph, context, NIF + "endIndex")
    if whole and whole[0].isascii() and whole[0].isdigit():
        surfaces.append((0, int(whole[0]), text))
    misplaced = find_misplaced(text, surfaces)
    # the context's own end may be wrong where its mentions are right
    for i in misplaced:
        if i < len(mentions):
            start, end, surface = surfaces[i]
            found = f"{text[start:end]!r} for {surface!r} at [{start}, {end})"
            bad.append(
                (mentions[i][1], f"expected its anchor in the text, found {found}")
            )
    kept = [m for i, (m, _) in enumerate(mentions) if i not in misplaced]
    uri = str(context)
    identifier = _value(graph, context, DCTERMS + "identifier")
    title = _value(graph, context, DCTERMS + "title")
    check_text(identifier or "", "identifier")
    check_text(title or "", "title")
    document = Document(
        id=re.split("#(?:char=|offset_)", uri)[0] if identifier is None else identifier,
        text=text,
        title=title,
        mentions=tuple(sorted(kept, key=lambda m: (m.start, m.end, m.entity or ""))),
    )
    return document, bad


def _read_mention(graph: Graph, node: Node, names: Names) -> tuple[Mention, str | None]:
    """A mention, and the text that is said to stand there."""
    start, end = (_offset(graph, node, name) for name in ("beginIndex", "endIndex"))
    check(start < end, "beginIndex, endIndex", "beginIndex < endIndex", (start, end))
    uris = _values(graph, node, ITSRDF + "taIdentRef")
    titles = [t for uri in uris if (t := title_of_uri(uri)) is not None]
    ids = [i for uri in uris if (i := id_of_uri(uri)) is not None]
    external_id = _value(graph, node, DCTERMS + "identifier") or next(iter(ids), None)
    entity = next(iter(titles), None)
    if entity is None and ids:
        entity = names.title_of(ids[0]) or ids[0]
    if not uris:  # a phrase that is to be linked
        external_id = None
    elif entity is None and external_id is None and not uris[0].startswith(NOT_IN_WIKI):
        external_id = uris[0]
        entity = names.title_of(external_id)
    confidence = _value(graph, node, ITSRDF + "taConfidence")
    anchor = _value(graph, node, NIF + "anchorOf")
    score = None if confidence is None else _number(confidence)
    return Mention(start, end, entity, external_id, score), anchor


def _number(confidence: str) -> float:
    try:
        number = float(confidence)
    except ValueError:
        number = math.nan
    check(math.isfinite(number), "taConfidence", "a number", confidence)
    return number


def _name_document(identifier: str, taken: set[str]) -> str:
    """The URI of a document: its id if it is one, or else one made from it."""
    base = identifier
    if not _URI.fullmatch(identifier):
        base = _OF_DOCUMENTS + quote(identifier, safe="")
    count, name = 1, base
    while name in taken:  # ids need not be unique
        count += 1
        name = f"{base}?{count}"
    return name


def _add_document(graph: Graph, document: Document, base: str, entities: str) -> None:
    from rdflib import RDF, XSD, Literal, URIRef

    text = document.text

    def add(node: URIRef, uri: str, value: Any) -> None:
        graph.add((node, URIRef(uri), value))

    def add_span(node: URIRef, kind: str, start: int, end: int) -> None:
        for name in (kind, "RFC5147String"):
            graph.add((node, RDF.type, URIRef(NIF + name)))
        for name, number in (("beginIndex", start), ("endIndex", end)):
            value = Literal(str(number), datatype=XSD.nonNegativeInteger)
            add(node, NIF + name, value)

    context = URIRef(f"{base}#char=0,{len(text)}")
    add_span(context, "Context", 0, len(text))
    add(context, NIF + "isString", Literal(text))
    if base != document.id:
        add(context, DCTERMS + "identifier", Literal(document.id))
    if document.title is not None:
        add(context, DCTERMS + "title", Literal(document.title))
    for number, mention in enumerate(document.mentions):
        start, end = mention.start, mention.end
        node = URIRef(f"{base}#char={start},{end}")
        if (node, None, None) in graph:  # another mention at the same place
            node = URIRef(f"{node}&mention={number}")
        add_span(node, "Phrase", start, end)
        add(node, NIF + "referenceContext", context)
        add(node, NIF + "anchorOf", Literal(text[start:end]))
        uris, identifier = _refer(mention, text[start:end], entities)
        for uri in uris:
            add(node, ITSRDF + "taIdentRef", URIRef(uri))
        if identifier is not None:
            add(node, DCTERMS + "identifier", Literal(identifier))
        if mention.score is not None:
            # of a double rdflib writes no more than six digits
            digits = format(Decimal(repr(float(mention.score))), "f")
            score = Literal(digits, datatype=XSD.decimal)
            add(node, ITSRDF + "taConfidence", score)


def _refer(
    mention: Mention, surface: str, entities: str
) -> tuple[list[str], str | None]:
    """The URIs that a mention refers to, and its id where none of them says it."""
    entity, external_id = mention.entity, mention.external_id
    if entity is None:
        return [NOT_IN_WIKI + quote(surface, safe="")], external_id
    own = None if external_id is None else uri_of_id(external_id)
    if own is None:
        return [uri_of_title(entity, entities)], external_id
    return [uri_of_title(entity, entities), own], None


def _import_rdflib() -> Any:
    try:
        import rdflib
    except ImportError as error:
        raise InputError(
            "NIF: expected the library rdflib, found none; "
            'pip install "insgenel_jax[nif]"'
        ) from error
    # It warns of each bad URI; unless the caller listens to logs, these warnings would
    # go to the terminal as they are, control characters and all.
    log = logging.getLogger("rdflib")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    return rdflib
