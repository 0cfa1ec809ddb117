"""The JSON of requests and answers: what is accepted and returned, for OpenAPI too."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from insgenel_jax.linker.reasons import WordReason
from insgenel_jax.serving.variants import CANDIDATES
from insgenel_jax.text.document import Document

System = Literal["insgenel-r", "insgenel"]
Decoder = Literal["auto", "tree", "speculative", "step", "beam"]
Span = Annotated[list[int], Field(min_length=2, max_length=2)]


class Strict(BaseModel):
    """A part of a request: no conversion of types, no fields that nobody reads."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class GivenMention(BaseModel):
    """A mention to link; other fields, such as its entity, are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")

    start: Annotated[int, Field(ge=0, description="Its first code point.")]
    end: Annotated[int, Field(ge=1, description="The code point after its last.")]


class GivenDocument(BaseModel):
    """A document to link; fields other than these are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")

    id: str | int | None = None
    text: str
    title: str | None = None
    mentions: list[GivenMention] | None = None


class How(Strict):
    """How texts are linked. What is left out is as the linker is set."""

    system: System | None = None
    decoder: Decoder | None = None
    threshold: Annotated[
        float | None,
        Field(ge=0, le=1, description="Links with a lower score are left out."),
    ] = None
    candidates: Annotated[
        int,
        Field(
            ge=0,
            le=CANDIDATES,
            description="Other candidates of a mention, each with its probability.",
        ),
    ] = 0
    unlinked: Annotated[
        bool,
        Field(description="Give links that were passed over too, marked as such."),
    ] = False
    entities: Annotated[
        bool, Field(description="Give what is known of the entities in the answer.")
    ] = False


class LinkText(How):
    """One text to link."""

    text: str
    mentions: Annotated[
        list[Span] | None,
        Field(description="Spans [start, end) to link in place of those found."),
    ] = None


class LinkDocuments(How):
    """Documents to link."""

    documents: list[GivenDocument]
    given: Annotated[
        bool,
        Field(
            description="Link the mentions of the documents in place of those found."
        ),
    ] = False


def _kind(body: Any) -> str:
    if isinstance(body, LinkDocuments):
        return "documents"
    return "documents" if isinstance(body, dict) and "documents" in body else "text"


LinkRequest = Annotated[
    Annotated[LinkText, Tag("text")] | Annotated[LinkDocuments, Tag("documents")],
    Discriminator(_kind),
]


class ExplainRequest(Strict):
    """A text whose words are explained."""

    text: str
    system: System | None = None
    threshold: Annotated[float | None, Field(ge=0, le=1)] = None


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


class CandidateAnswer(BaseModel):
    entity: str
    score: float


class MentionAnswer(BaseModel):
    """A link. entity: null where a given mention has none (NIL)."""

    start: int
    end: int
    entity: str | None
    external_id: str | None = None
    score: float | None = None
    candidates: list[CandidateAnswer] = []
    no_mention: float | None = None
    linked: Annotated[
        bool | None, Field(description="With `unlinked`: false where passed over.")
    ] = None


class DocumentAnswer(BaseModel):
    id: str | int
    text: str
    title: str | None = None
    mentions: list[MentionAnswer]


class EntityAnswer(BaseModel):
    title: str
    description: str
    external_id: str | None = None
    inlinks: int
    links: Annotated[
        float | None, Field(description="Links to it with the name asked for.")
    ] = None


class LinkAnswer(BaseModel):
    """Linked documents. threshold: the one used; own_threshold: the linker's.

    calibrated: whether scores are.
    """

    system: System
    decoder: str
    threshold: float
    own_threshold: float
    calibrated: bool
    documents: list[DocumentAnswer]
    entities: Annotated[
        dict[str, EntityAnswer], Field(description="By title, where asked for.")
    ] = {}


class SpanAnswer(BaseModel):
    start: int
    end: int
    reason: str
    detail: str
    entity: str | None
    score: float | None
    margin: float | None


class WordAnswer(BaseModel):
    start: int
    end: int
    reason: str
    spans: list[SpanAnswer]


class ExplainAnswer(BaseModel):
    text: str
    words: list[WordAnswer]


class EntitiesAnswer(BaseModel):
    query: str
    entities: list[EntityAnswer]


class About(BaseModel):
    """The linker of the service. systems: those that it can link with.

    threshold: its own. characters: the most of a document. ready: see /ready.
    """

    version: str
    name: str
    system: System
    systems: list[System]
    threshold: float
    entities: int
    characters: int
    ready: bool


class Health(BaseModel):
    status: Literal["ok"]


class Ready(BaseModel):
    status: Literal["ready"]


def read_documents(
    body: LinkText | LinkDocuments,
) -> tuple[list[Document], list[list[tuple[int, int]]] | None]:
    """The documents of a request, and the mentions given for each, if any."""
    if isinstance(body, LinkText):
        given = None
        if body.mentions is not None:
            given = [[(start, end) for start, end in body.mentions]]
        return [Document("0", body.text)], given
    documents = [
        Document(
            id=str(number if record.id is None else record.id),
            text=record.text,
            title=record.title,
            numbered=isinstance(record.id, int),
        )
        for number, record in enumerate(body.documents)
    ]
    if not body.given:
        return documents, None
    return documents, [
        list(dict.fromkeys((m.start, m.end) for m in record.mentions or ()))
        for record in body.documents
    ]


def name_entities(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """The titles of entities and candidates in the JSON of documents, each once."""
    named = [
        title
        for document in documents
        for mention in document["mentions"]
        for title in (
            mention["entity"],
            *(other["entity"] for other in mention.get("candidates", ())),
        )
        if title is not None
    ]
    return list(dict.fromkeys(named))


def word_answer(word: WordReason) -> dict[str, Any]:
    """The JSON of a word's reason."""
    return dataclasses.asdict(word)
