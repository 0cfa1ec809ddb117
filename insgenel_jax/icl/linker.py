"""Texts in; documents with the mentions that a general language model names out.

    retrieve -> prompt -> answers -> parse

A text is cut into parts. For each part, the model gets the best entities of the windows
that overlap it.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import os
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, NamedTuple, overload

import numpy as np

from insgenel_jax.icl.answers import Answer, Cache, Source, answer_prompts
from insgenel_jax.icl.parse import Link, parse
from insgenel_jax.icl.prompt import cut, introduce, make_prompt, show
from insgenel_jax.icl.settings import IclSettings
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.linker.inputs import Text, as_documents, each_document
from insgenel_jax.text.document import Document, Mention

LEAST_ROOM = 64  # tokens of a prompt for a part of a text and its entities


class Part(NamedTuple):
    """The characters [start, end) of a document that one prompt is about.

    document: its number. entities: those that the prompt lists.
    """

    document: int
    start: int
    end: int
    entities: list[int]
    prompt: str


class IclLinker:
    """Links texts by asking a model in context. `IclLinker.from_pretrained` opens one.

    `stats` counts documents, parts, links, and entities that were left out of a prompt
    for want of room ("no room"); the answers that were "asked" for and that were "from
    cache", "prompt tokens" and "answer tokens"; and of an endpoint "requests" and
    those "repeated". `failures` counts what became no link, by kind: see `icl.parse`,
    and "no answer" for a part whose prompt got none. `unanswered` has the document's
    id and the reason for each of these.
    """

    def __init__(
        self,
        kb: KnowledgeBase,
        source: Source,
        search: Callable[[Sequence[str], int], list] | None = None,
        settings: IclSettings | None = None,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        """search: finds the entities of texts, see linker.search; without it, each
        call has to give them. cache: the JSONL file that answers are kept in.

        Raises ValueError where the prompt has no room for a text.
        """
        self.kb = kb
        self.source = source
        self.search = search
        self.settings = settings or IclSettings()
        self.cache = Cache(cache)
        self.failures: collections.Counter[str] = collections.Counter()
        self.unanswered: list[tuple[str, str]] = []
        self._counts: collections.Counter[str] = collections.Counter()
        self._prompt_tokens, self._room = _find_room(self.settings, source)

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        source: Source,
        *,
        cache: str | os.PathLike[str] | None = None,
        verify: bool = False,
        **settings: Any,
    ) -> IclLinker:
        """Open the knowledge base and the retriever of a linker directory.

        source: what answers, see `endpoint_source` and `generator_source`. settings:
        those of `IclSettings`. Raises ArtifactError as `Linker` does, also where the
        directory has no retriever; ValueError and TypeError for a setting.
        """
        from insgenel_jax.linker.search import open_search  # it loads JAX

        checked = IclSettings(**settings)
        kb, search = open_search(path, verify=verify)
        return cls(kb, source, search, checked, cache)

    @property
    def stats(self) -> collections.Counter[str]:
        """What has been counted since the linker was opened."""
        return self._counts + self.source.stats

    @overload  # a str is an iterable of str, too; the first signature goes before
    def __call__(  # type: ignore[overload-overlap]
        self, texts: Text, entities: Sequence[str] | None = None
    ) -> Document: ...

    @overload
    def __call__(
        self,
        texts: Iterable[Text],
        entities: Collection[Sequence[str]] | None = None,
    ) -> list[Document]: ...

    def __call__(self, texts: Any, entities: Any = None) -> Document | list[Document]:
        """Link one text or several. The mentions a document already has are ignored.

        entities: the titles to choose from, the best first, in place of those that the
        retriever finds; for several texts, a sequence for each. A title that the
        knowledge base does not have is an error.

        A mention has no score. A part of a text without an answer has no mentions, and
        stands in `unanswered`. Raises TypeError and ValueError that name the text or
        the title at fault, EndpointError where the endpoint refuses every request.
        """
        if isinstance(texts, str | Document | Mapping):
            return self([texts], None if entities is None else [entities])[0]
        documents = as_documents(texts)
        given = None if entities is None else self._find_given(documents, entities)
        return self._link(documents, given)

    def stream(self, documents: Iterable[Text], group: int = 64) -> Iterator[Document]:
        """Link documents as they come, `group` at a time, in order.

        Raises TypeError and ValueError at once where `documents` is a single one or
        `group` is below 1.
        """
        if group < 1:
            raise ValueError(f"group: expected at least 1, found {group}")
        return self._stream(each_document("document", documents), group)

    def _stream(self, checked: Iterator[Document], group: int) -> Iterator[Document]:
        while batch := list(itertools.islice(checked, group)):
            yield from self._link(batch, None)

    def parts(
        self, documents: Sequence[Document], given: Sequence[list[int]] | None = None
    ) -> list[Part]:
        """The prompts that linking documents would ask. given: entities of each."""
        found: Sequence[Any] = [None] * len(documents)
        if given is None:
            if self.search is None:
                raise ValueError(
                    "entities: expected titles for each text, found none; this linker "
                    "has no retriever"
                )
            texts = [document.text for document in documents]
            found = self.search(texts, self.settings.k)
        parts = []
        for number, document in enumerate(documents):
            count = self.source.count_tokens
            for span in cut(document.text, self.settings, self._room, count):
                if given is None:
                    entities = best(*found[number].touching(*span), self.settings.k)
                else:
                    entities = given[number][: self.settings.k]
                parts.append(self._make_part(number, document.text, span, entities))
        return parts

    def _make_part(
        self, number: int, text: str, span: tuple[int, int], entities: list[int]
    ) -> Part:
        described = [(self.kb.title(e), self.kb.description(e)) for e in entities]
        prompt, listed = make_prompt(
            text[slice(*span)],
            described,
            self.settings,
            self._prompt_tokens,
            self.source.count_tokens,
        )
        self._counts["no room"] += len(entities) - listed
        return Part(number, *span, entities[:listed], prompt)

    def _link(
        self, documents: Sequence[Document], given: Sequence[list[int]] | None
    ) -> list[Document]:
        parts = self.parts(documents, given)
        asked = [part for part in parts if part.entities]
        answers = answer_prompts(
            self.source,
            self.cache,
            [part.prompt for part in asked],
            self.settings.max_new_tokens,
        )
        mentions: list[list[Mention]] = [[] for _ in documents]
        for part, answer in zip(asked, answers, strict=True):
            document = documents[part.document]
            mentions[part.document] += [
                Mention(
                    part.start + link.start,
                    part.start + link.end,
                    self.kb.title(link.entity),
                    external_id=self.kb.external_id(link.entity),
                )
                for link in self._read(document, part, answer)
            ]
        self._counts["documents"] += len(documents)
        self._counts["parts"] += len(parts)
        self._counts["links"] += sum(map(len, mentions))
        return [
            dataclasses.replace(document, mentions=tuple(of_document))
            for document, of_document in zip(documents, mentions, strict=True)
        ]

    def _read(self, document: Document, part: Part, answer: Answer) -> list[Link]:
        """The links of an answer, in characters of its part; failures are counted."""
        if answer.error is not None:
            self.failures["no answer"] += 1
            self.unanswered.append((document.id, answer.error))
            return []
        links, failures = parse(
            answer.text,
            document.text[part.start : part.end],
            set(part.entities),
            self.kb.find,
            contexts=self.settings.contexts,
            cut_off=answer.cut_off,
        )
        self.failures.update(failures)
        return links

    def _find_given(
        self, documents: Sequence[Document], entities: Any
    ) -> list[list[int]]:
        """The entities of given titles, each once. Raises ValueError, TypeError."""
        if not isinstance(entities, Collection) or len(entities) != len(documents):
            raise ValueError(
                f"entities: expected a sequence of titles for each of {len(documents)} "
                f"texts, found {entities!r:.200}"
            )
        given = []
        for number, titles in enumerate(entities):
            if isinstance(titles, str):
                raise TypeError(f"text {number}: expected titles, found one string")
            rows = {title: self.kb.find(title) for title in titles}
            if unknown := [title for title, row in rows.items() if row is None]:
                raise ValueError(
                    f"text {number}: expected titles of the knowledge base, found "
                    f"{unknown[0]!r}; leave it out"
                )
            given.append([r for r in dict.fromkeys(rows.values()) if r is not None])
        return given


def best(entities: Any, scores: Any, k: int) -> list[int]:
    """The `k` entities of highest score, the best first."""
    order = np.argsort(-scores, kind="stable")
    return entities[order[:k]].tolist()


def _find_room(settings: IclSettings, source: Source) -> tuple[int, int]:
    """The most tokens of a prompt, and those of a part of a text in it.

    A text takes at most half of what the fixed words of a prompt leave; the entities
    get the rest. Raises ValueError where too little is left.
    """
    most, limit = settings.prompt_tokens, "prompt_tokens"
    if source.positions is not None:
        positions = source.positions - settings.max_new_tokens
        if positions < most:
            most, limit = positions, "positions of the model, less max_new_tokens"
    fixed = source.count_tokens(introduce(settings) + show((), "", settings))
    if most - fixed < LEAST_ROOM:
        raise ValueError(
            f"{limit}: expected at least {fixed + LEAST_ROOM}, since the fixed words "
            f"of a prompt take {fixed}, found {most}; leave out bad_cases or contexts, "
            "or take a model with more positions"
        )
    return most, (most - fixed) // 2
