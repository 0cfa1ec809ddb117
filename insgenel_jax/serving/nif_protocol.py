"""NIF in Turtle, as GERBIL sends it to annotators, in; the same with links out."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query

from insgenel_jax.serving.limits import Refusal
from insgenel_jax.serving.service import Service
from insgenel_jax.serving.variants import Variant
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.names import Names
from insgenel_jax.text.formats.nif import parse_nif, write_nif
from insgenel_jax.text.formats.rejects import InputError, Rejects

TURTLE = "application/x-turtle"  # the name that GERBIL asks for
_CONTENT = {"schema": {"type": "string"}}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The documents, linked.", "content": {TURTLE: _CONTENT}}
}
OPENAPI: dict[str, Any] = {
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {TURTLE: _CONTENT, "text/turtle": _CONTENT},
        }
    }
}
Threshold = Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)]


async def annotate(
    service: Service, body: bytes, threshold: float | None, *, scores: bool
) -> str:
    """The Turtle of the linked documents of a NIF file.

    Where a document has phrases, these are linked: each keeps its place, and is NIL
    where no entity is found. scores: say how sure each link is; GERBIL then chooses the
    best threshold on the very documents it scores. Raises Refusal for what is no NIF.
    """
    documents = await asyncio.to_thread(_parse, body)
    linked: list[Document] = [Document("", "")] * len(documents)
    for given in (False, True):
        numbers = [i for i, d in enumerate(documents) if bool(d.mentions) == given]
        group = [documents[i] for i in numbers]
        spans = [
            list(dict.fromkeys((m.start, m.end) for m in document.mentions))
            for document in group
        ]
        found = []
        if group:
            found = await service.link(
                group, spans if given else None, Variant(), threshold
            )
        for i, one in zip(numbers, found, strict=True):
            linked[i] = one.document
    return await asyncio.to_thread(_write, linked, service.entity_uris, scores)


def _parse(body: bytes) -> list[Document]:
    """The documents of a request. Raises Refusal."""
    rejects = Rejects()
    try:
        text = body.decode("utf-8-sig")
        documents = list(parse_nif(text, "request", rejects, Names(), phrases=True))
    except UnicodeDecodeError as error:
        raise Refusal(400, f"expected UTF-8, found other bytes: {error}") from error
    except InputError as error:  # the service has no rdflib
        raise Refusal(501, str(error)) from error
    if rejects.entries:
        _, line, reason, _ = rejects.entries[0]
        where = "" if line is None else f"line {line}: "
        raise Refusal(400, where + reason)
    if not documents:
        raise Refusal(
            400,
            "expected a nif:Context with its nif:isString, found none; send NIF 2.0",
        )
    return documents


def _write(documents: Sequence[Document], entities: str, scores: bool) -> str:
    """The Turtle of linked documents, in one graph."""
    if not scores:
        documents = [
            dataclasses.replace(
                document,
                mentions=tuple(
                    dataclasses.replace(mention, score=None)
                    for mention in document.mentions
                ),
            )
            for document in documents
        ]
    return "\n".join(write_nif(documents, entities))
