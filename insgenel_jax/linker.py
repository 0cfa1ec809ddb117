"""Texts in, documents with linked mentions out.

retrieve -> candidate mentions -> transition tables -> decode -> mentions, for a whole
group of documents at a time.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from insgenel_jax import artifact, chunking
from insgenel_jax.decoding import decisions, spans, step
from insgenel_jax.document import Document, Mention
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.kb.occurrences import find_occurrences, passes
from insgenel_jax.linked_text import encode_prompt, encode_source, encode_titles
from insgenel_jax.linker_directory import (
    VERSION,
    Generator,
    Settings,
    assemble,
    check_index,
    load_generator,
    read_settings,
)
from insgenel_jax.retrieval.embed import Retriever
from insgenel_jax.retrieval.index import Index, open_index
from insgenel_jax.retrieval.scope import retrieve

__all__ = ["Linker", "Settings", "assemble"]

Span = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A chunk of document number `document`, ready to decode.

    start: its first character; candidates and table are in the chunk's characters.
    """

    document: int
    start: int
    prompt: list[int]
    table: decisions.Table


class Linker:
    """Links texts against a knowledge base. Made by `Linker.from_pretrained`.

    `stats` counts documents, chunks, generator calls, tokens, links and candidate
    mentions dropped since the linker was opened.
    """

    def __init__(
        self,
        generator: Generator,
        kb: KnowledgeBase,
        retriever: Retriever | None,
        index: Index | None,
        settings: Settings,
    ):
        if settings.system == "insgenel-r" and (retriever is None or index is None):
            raise ValueError('system "insgenel-r" needs a retriever and an index')
        self.generator = generator
        self.kb = kb
        self.retriever = retriever
        self.index = index
        self.settings = settings
        self.stats: collections.Counter[str] = collections.Counter()
        self._title_ids: dict[int, list[int]] = {}

    @classmethod
    def from_pretrained(
        cls, path: str | os.PathLike, *, verify: bool = False, **overrides: Any
    ) -> Linker:
        """Open a linker directory; `overrides` replace its settings.

        Raises ArtifactError for a part that is missing, damaged, of another version, or
        not made for the others; `verify` checks every hash.
        """
        path = Path(path)
        artifact.check(path, "linker", VERSION, verify=verify)
        settings = read_settings(path, **overrides)
        kb = KnowledgeBase.open(path / "kb", verify=verify)
        retriever = index = None
        if settings.system == "insgenel-r":
            for part in ("retriever", "index"):
                if not (path / part).is_dir():
                    raise artifact.ArtifactError(
                        f'{path}: system "insgenel-r" expects {part}/, found none; '
                        'set system="insgenel" or put the linker together with one'
                    )
            check_index(path)
            retriever = Retriever.load(path / "retriever")
            index = open_index(path / "index")
        return cls(load_generator(path / "generator"), kb, retriever, index, settings)

    def __call__(
        self,
        texts: str | Document | Sequence[str | Document],
        mentions: Sequence[Span] | Sequence[Sequence[Span]] | None = None,
    ) -> Document | list[Document]:
        """Link one text or several; a document's own mentions are not looked at.

        mentions: the spans [start, end) to link (for several texts, a sequence for
        each) in place of the dictionary's. Each of them comes back, with entity None
        (NIL) where no candidate is found, the score is below the threshold, or another
        given span that overlaps it was linked.
        """
        if isinstance(texts, str | Document):
            return self([texts], None if mentions is None else [mentions])[0]
        documents = [
            text if isinstance(text, Document) else Document(id=str(i), text=text)
            for i, text in enumerate(texts)
        ]
        if mentions is not None and len(mentions) != len(documents):
            raise ValueError(
                f"mentions: expected a sequence of spans for each of {len(documents)} "
                f"texts, found {len(mentions)}"
            )
        return self._link(documents, mentions)

    def stream(
        self, documents: Iterable[Document], group: int = 256
    ) -> Iterator[Document]:
        """Link documents as they come, `group` at a time, in order."""
        documents = iter(documents)
        while batch := list(itertools.islice(documents, group)):
            yield from self._link(batch, None)

    def candidates(
        self, documents: Sequence[Document]
    ) -> list[list[spans.CandidateMention]]:
        """The candidate mentions of each document, in its characters."""
        found: list[list[spans.CandidateMention]] = [[] for _ in documents]
        for chunk in self._chunks(documents, None):
            for _, _, c in chunk.table.mentions:
                moved = c.start + chunk.start, c.end + chunk.start
                found[chunk.document].append(
                    dataclasses.replace(c, start=moved[0], end=moved[1])
                )
        return found

    def _link(self, documents, given) -> list[Document]:
        chunks = self._chunks(documents, given)
        order = sorted(range(len(chunks)), key=lambda i: len(chunks[i].prompt))
        found: list[list[Mention]] = [[] for _ in documents]
        for first in range(0, len(order), self.settings.batch):
            group = [chunks[i] for i in order[first : first + self.settings.batch]]
            paths = step.decode(
                self.generator.model,
                self.generator.params,
                [chunk.prompt for chunk in group],
                [chunk.table for chunk in group],
                batch=min(self.settings.batch, step.bucket(len(group), 1)),
                block=self.settings.block,
            )
            for chunk, path in zip(group, paths, strict=True):
                found[chunk.document] += self._mentions(chunk, path)
                self.stats["calls"] += path.calls
                self.stats["tokens"] += path.tokens
                self.stats["dropped"] += chunk.table.dropped
        self.stats["documents"] += len(documents)
        self.stats["chunks"] += len(chunks)
        linked = []
        for number, (document, mentions) in enumerate(
            zip(documents, found, strict=True)
        ):
            self.stats["links"] += len(mentions)
            if given is not None:
                spanned = {(m.start, m.end): m for m in mentions}
                mentions = [
                    spanned.get(tuple(span), Mention(*span, entity=None))
                    for span in given[number]
                ]
            mentions.sort(key=lambda m: (m.start, m.end))
            linked.append(dataclasses.replace(document, mentions=tuple(mentions)))
        return linked

    def _mentions(self, chunk: Chunk, path: step.Path) -> list[Mention]:
        links = decisions.read_links(chunk.table, path.edges, path.log_probs)
        return [
            Mention(
                start=chunk.start + mention.start,
                end=chunk.start + mention.end,
                entity=self.kb.title(entity),
                external_id=self.kb.external_id(entity),
                score=math.exp(log_prob),
            )
            for mention, entity, log_prob in links
            if math.exp(log_prob) >= self.settings.threshold
        ]

    def _chunks(self, documents, given) -> list[Chunk]:
        """Cut documents into chunks that have something to decide, with tables."""
        kept = []  # (document number, span, [(start, end, form or None)])
        for number, document in enumerate(documents):
            matches = self._matches(document.text, given and given[number])
            if not matches:
                continue
            firsts = [match[0] for match in matches]
            tokens = encode_source(self.generator.tokenizer, document.text)
            for start, end in chunking.chunks(
                document.text,
                tokens.starts,
                np.ones(len(tokens)),
                self.settings.chunk_tokens,
                joined=[match[:2] for match in matches],
            ):
                i, j = (bisect.bisect_left(firsts, edge) for edge in (start, end))
                inside = [match for match in matches[i:j] if match[1] <= end]
                if inside:
                    kept.append((number, (start, end), inside))
        retrieved = self._retrieve(documents, [chunk[:2] for chunk in kept])
        allowed = []
        for (_, _, matches), lookup in zip(kept, retrieved, strict=True):
            candidates = [
                self._allow(match, lookup, given is None) for match in matches
            ]
            allowed.append([c for c in candidates if c is not None])
        self._encode_titles(allowed)
        chunks = []
        for (number, (start, end), _), candidates in zip(kept, allowed, strict=True):
            if not candidates:
                continue
            text = documents[number].text[start:end]
            candidates = [
                dataclasses.replace(c, start=c.start - start, end=c.end - start)
                for c in candidates
            ]
            table = decisions.build_table(
                self.generator.tokenizer,
                encode_source(self.generator.tokenizer, text),
                candidates,
                self._title_ids.__getitem__,
                self.settings.weights,
            )
            prompt = encode_prompt(
                self.generator.tokenizer, self.generator.instruction, text
            )
            chunks.append(Chunk(number, start, prompt, table))
        return chunks

    def _matches(self, text: str, given) -> list[tuple[int, int, int | None]]:
        if given is not None:
            for start, end in given:
                if not 0 <= start < end <= len(text):
                    raise ValueError(
                        f"mention [{start}, {end}): expected 0 <= start < end <= "
                        f"{len(text)}, the length of the text"
                    )
            return [(*s, self.kb.form(text[slice(*s)])) for s in sorted(set(given))]
        found = find_occurrences(self.kb, text)
        settings = self.settings
        keep = passes(found, settings.case, settings.min_link_probability)
        return list(zip(*(column[keep].tolist() for column in found[:3]), strict=True))

    def _retrieve(self, documents, places) -> list[Callable]:
        if self.settings.system == "insgenel":
            return [lambda start, end: None] * len(places)
        return retrieve(
            self.retriever,
            self.index,
            [document.text for document in documents],
            places,
            top_k=self.settings.top_k,
            scope=self.settings.scope,
        )

    def _allow(self, match, lookup, optional) -> spans.CandidateMention | None:
        start, end, form = match
        retrieved = lookup(start, end)
        if form is not None:
            candidate = spans.allow(self.kb, form, start, end, retrieved)
        elif retrieved:
            candidate = spans.allow_all(start, end, retrieved)
        else:
            candidate = None
        if candidate is None or optional:
            return candidate
        return dataclasses.replace(candidate, optional=False)

    def _encode_titles(self, allowed) -> None:
        if len(self._title_ids) > 500_000:
            self._title_ids.clear()
        wanted = {e for group in allowed for c in group for e in c.entities.tolist()}
        missing = sorted(wanted - self._title_ids.keys())
        titles = [self.kb.title(entity) for entity in missing]
        ids = encode_titles(self.generator.tokenizer, titles)
        self._title_ids.update(zip(missing, ids, strict=True))
