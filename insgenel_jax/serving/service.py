"""Checked requests in; linked documents, explanations and entities out.

All that runs the linker goes through the batcher's one worker thread.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.linker.inputs import as_documents, check_given
from insgenel_jax.linker.linker import Linker
from insgenel_jax.linker.reasons import WordReason
from insgenel_jax.linker.warm_up import make_texts
from insgenel_jax.serving.batcher import Batcher
from insgenel_jax.serving.limits import Limits, Refusal, check_size
from insgenel_jax.serving.metrics import Metrics
from insgenel_jax.serving.variants import Variant, Variants
from insgenel_jax.text.document import Document, Mention, check_text
from insgenel_jax.text.formats.names import DBPEDIA

LOG = logging.getLogger(__name__)
LONGEST_DESCRIPTION = 300  # characters

Spans = Sequence[Sequence[tuple[int, int]]]


class Key(NamedTuple):
    """What the items of a batch have in common. threshold: of explanations alone."""

    task: Literal["link", "given", "explain"]
    variant: Variant
    threshold: float = 0.0


@dataclasses.dataclass(frozen=True)
class Linked:
    """A linked document. taken: with `unlinked`, whether each mention was taken."""

    document: Document
    taken: tuple[bool, ...] | None = None


class Service:
    """A linker that answers many requests. Use it in one event loop.

    name: what the linker is called. entity_uris: what URIs of entities begin with in
    NIF. ready: whether what links are made with has been compiled; failed: why it could
    not be. Run `run` as a task; `close` lets it end when all that waits is done.
    """

    def __init__(
        self,
        linker: Linker,
        name: str,
        limits: Limits,
        metrics: Metrics,
        entity_uris: str = DBPEDIA,
    ) -> None:
        self.variants = Variants(linker)
        self.kb = linker.kb
        self.name = name
        self.limits = limits
        self.metrics = metrics
        self.entity_uris = entity_uris
        self.ready = False
        self.failed: str | None = None
        self.closing = False
        self.batcher = Batcher(self._work, linker.settings.batch, limits, metrics)

    async def run(self, *, warm: bool = True) -> None:
        """Compile what is needed, and link what comes, until closed."""
        batches = asyncio.create_task(self.batcher.run())
        try:
            if warm:
                await self._warm_up()
            self.ready = True
        except Exception as error:  # requests will tell, if they fail as well
            LOG.exception("warming up failed")
            self.failed = f"warming up failed: {error}"
        await batches
        self.batcher.thread.shutdown()

    async def close(self) -> None:
        """Refuse new work; what waits is done."""
        self.closing = True
        await self.batcher.close()

    async def _warm_up(self) -> None:
        """Compile programs for texts of all lengths, one after the other.

        For links alone, and for links with all that the page shows. Requests that come
        meanwhile are answered in between.
        """
        loop = asyncio.get_running_loop()
        for variant in (Variant(), Variant(candidates=True, unlinked=True)):
            try:
                linker = self.variants.open(variant).linker
            except Refusal:  # beam search has no other candidates
                continue
            for text in make_texts(linker):
                if self.closing:
                    return
                await loop.run_in_executor(self.batcher.thread, linker.warm_up, [text])

    async def link(
        self,
        documents: Sequence[Document],
        given: Spans | None,
        variant: Variant,
        threshold: float | None,
    ) -> list[Linked]:
        """Link documents, or the mentions given for them.

        threshold: None takes the linker's own. Raises Refusal.
        """
        opened = self.variants.open(variant)
        check_size(documents, self.limits)
        documents, spans = check_texts(documents, given)
        items = [(d, None) for d in documents]
        if spans is not None:
            items = list(zip(documents, spans, strict=True))
        key = Key("link" if given is None else "given", variant)
        sizes = [len(document.text) for document in documents]
        linked = await self.batcher.compute(key, items, sizes)
        least = opened.threshold if threshold is None else threshold
        kept = [select(one, least, given=given is not None) for one in linked]
        self.metrics.documents.inc(len(kept))
        self.metrics.links.inc(
            sum(m.entity is not None for one in kept for m in one.document.mentions)
        )
        return kept

    async def explain(
        self, text: str, system: str | None, threshold: float | None
    ) -> list[WordReason]:
        """Why each word of a text is linked, or why not. Raises Refusal."""
        variant = Variant(system)
        opened = self.variants.open(variant)
        if opened.linker.settings.punctuation != "as_is":
            raise Refusal(
                422,
                "this linker spaces punctuation, and has no explanations for a text "
                'that it changes; expected one with punctuation="as_is"',
            )
        (document,), _ = check_texts([Document("0", text)], None)
        check_size([document], self.limits)
        least = opened.threshold if threshold is None else threshold
        key = Key("explain", variant, least)
        (words,) = await self.batcher.compute(key, [document], [len(text)])
        return words

    def _work(self, key: Key, items: list[Any]) -> Sequence[Any]:
        """The results of a batch; in the worker thread."""
        linker = self.variants.open(key.variant).linker
        if key.task == "explain":
            explaining = linker.with_settings(threshold=key.threshold)
            return [explaining.explain(document) for document in items]
        documents = [document for document, _ in items]
        if key.task == "given":
            linked = linker(documents, mentions=[spans for _, spans in items])
            return [Linked(document) for document in linked]
        if not key.variant.unlinked:
            return [Linked(document) for document in linker(documents)]
        return [
            Linked(
                dataclasses.replace(d, mentions=tuple(link.mention for link in links)),
                tuple(link.linked for link in links),
            )
            for d, links in zip(documents, linker.score(documents), strict=True)
        ]


def check_texts(
    documents: Sequence[Document], given: Spans | None
) -> tuple[list[Document], list[list[tuple[int, int]]] | None]:
    """Documents and given mentions that can be linked. Raises Refusal."""
    try:
        checked = as_documents(documents)
        for number, document in enumerate(checked):
            check_text(document.id, f"text {number}: id")
            check_text(document.title or "", f"text {number}: title")
        spans = None if given is None else check_given(checked, given)
    except (ValueError, TypeError) as error:
        raise Refusal(422, str(error)) from error
    return checked, spans


def select(linked: Linked, threshold: float, *, given: bool) -> Linked:
    """The links that reach a threshold; given mentions that do not are NIL."""
    mentions = linked.document.mentions
    enough = [(m.score or 0.0) >= threshold for m in mentions]
    if given:
        kept = tuple(
            m if reached else Mention(m.start, m.end, None)
            for m, reached in zip(mentions, enough, strict=True)
        )
        return Linked(dataclasses.replace(linked.document, mentions=kept))
    kept = tuple(m for m, reached in zip(mentions, enough, strict=True) if reached)
    taken = None
    if linked.taken is not None:
        both = zip(linked.taken, enough, strict=True)
        taken = tuple(one for one, reached in both if reached)
    return Linked(dataclasses.replace(linked.document, mentions=kept), taken)


def describe_entity(kb: KnowledgeBase, row: int) -> dict[str, Any]:
    """What is known of an entity, as JSON. Where it has no description, its context."""
    entity = kb.entity(row)
    text = " ".join(kb.entity_text(row).split())
    if len(text) > LONGEST_DESCRIPTION:
        text = text[:LONGEST_DESCRIPTION].rsplit(" ", 1)[0] + " …"
    return {
        "title": entity.title,
        "description": text,
        "external_id": entity.external_id,
        "inlinks": entity.inlinks,
    }


def find_entities(kb: KnowledgeBase, name: str, most: int) -> list[dict[str, Any]]:
    """The entities that a name may mean, at most `most`: the one of that title first,
    then those that links with this name lead to, the most frequent first."""
    form = kb.form(name)
    entities, counts = ([], []) if form is None else kb.candidates(form)
    links = {int(e): float(n) for e, n in zip(entities, counts, strict=True)}
    titled = kb.find(name)
    rows = [*([] if titled is None else [titled]), *links]
    return [
        describe_entity(kb, row) | {"links": links.get(row)}
        for row in list(dict.fromkeys(rows))[:most]
    ]


def describe_systems(service: Service) -> list[str]:
    """The systems that the service's linker can link with, its own first."""
    own = service.variants.linker.settings.system
    able = [own]
    for other in ("insgenel-r", "insgenel"):
        try:
            service.variants.open(Variant(other))
        except Refusal:
            continue
        able.append(other)
    return list(dict.fromkeys(able))
