"""Texts in, documents with linked mentions out.

retrieve -> candidate mentions -> transition tables -> decode -> mentions, for a whole
group of documents at a time.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
import operator
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from insgenel_jax import artifact, sharding
from insgenel_jax.decoding import mentions as spans
from insgenel_jax.decoding.path import Path as DecodedPath
from insgenel_jax.decoding.title_trie import TitleTrie
from insgenel_jax.generator import Generator, load_generator
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.linker.batches import choose_decoder
from insgenel_jax.linker.chunks import Chunk, Parts, add_name_parts, make_chunks
from insgenel_jax.linker.directory import (
    VERSION,
    Settings,
    assemble,
    check_parts,
    read_settings,
)
from insgenel_jax.linker.scores import Features, ScoredLink, score_links
from insgenel_jax.linker.titles import open_titles
from insgenel_jax.retrieval.index import Index, open_index
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.text.document import Document, Mention, check_text
from insgenel_jax.tokenizer.padding import next_power

__all__ = ["Features", "Linker", "ScoredLink", "Settings", "assemble"]

Span = tuple[int, int]
Decided = tuple[Chunk, DecodedPath]

TIE = 1e-4  # a decision as close as this may fall either way on another machine


class Linker:
    """Links texts against a knowledge base. Made by `Linker.from_pretrained`.

    `stats` counts documents, chunks, generator calls, tokens, links, chunks with a
    decision too close to call ("ties"), and the candidate mentions lost inside a token
    ("dropped") or for lack of room in a chunk ("cut") since the linker was opened; the
    chunks whose beams all ended in dead ends ("dead"); and the entities left out because
    the tokenizer has no tokens for their titles ("untokenised"), or the model no room
    for one behind some mention ("overlong").
    """

    def __init__(
        self,
        generator: Generator,
        kb: KnowledgeBase,
        retriever: Retriever | None,
        index: Index | None,
        settings: Settings,
        titles: TitleTrie | None = None,
    ):
        if settings.system == "insgenel-r" and (retriever is None or index is None):
            raise ValueError('system "insgenel-r" needs a retriever and an index')
        if settings.titles == "all" and titles is None:
            raise ValueError('titles = "all" needs the tree of all titles')
        self.generator = generator
        self.kb = kb
        self.settings = settings
        self.stats: collections.Counter[str] = collections.Counter()
        self._parts = Parts(generator, kb, retriever, index, settings, titles)
        mesh = generator.mesh
        place = None if mesh is None else sharding.replicated(mesh)
        self._titles = jax.device_put(titles, place)

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike,
        *,
        verify: bool = False,
        mesh: Mesh | None = None,
        **overrides: Any,
    ) -> Linker:
        """Open a linker directory; `overrides` replace its settings.

        mesh: shard the generator over several devices (see sharding.make_mesh).
        preset="paper": see linker_directory.expand_preset. titles="all" makes the
        directory's titles/ where there is none. Raises ArtifactError for a
        part that is missing, damaged, of another version, or not made for the others;
        `verify` checks every hash.
        """
        path = Path(path)
        manifest = artifact.check(path, "linker", VERSION, verify=verify)
        check_parts(path, manifest.made_from)
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
            retriever = Retriever.load(path / "retriever")
            index = open_index(path / "index")
        generator = load_generator(path / "generator", mesh, settings.dtype)
        titles = None
        if settings.titles == "all":
            titles = open_titles(path, manifest.made_from, kb, generator)
        return cls(generator, kb, retriever, index, settings, titles)

    def __call__(
        self,
        texts: str | Document | Sequence[str | Document],
        mentions: Sequence[Span] | Sequence[Sequence[Span]] | None = None,
    ) -> Document | list[Document]:
        """Link one text or several; a document's own mentions are not looked at.

        mentions: the spans [start, end) to link (for several texts, a sequence for
        each) in place of the dictionary's. Each of them comes back, with entity None
        (NIL) where no candidate is found (but see the setting `titles`), the score is
        below the threshold, another given span that overlaps it was linked (without
        `rest_of_span`: one of its decision span), or it cannot be marked: it starts or
        ends inside a token or with a space, or no chunk holds it.
        Raises TypeError and ValueError that name the text, or the mention, at fault.
        """
        if isinstance(texts, str | Document):
            return self([texts], None if mentions is None else [mentions])[0]
        documents = _as_documents(texts)
        return self._link(documents, _check_given(documents, mentions))

    def explain(
        self,
        texts: str | Document | Sequence[str | Document],
        mentions: Sequence[Span] | Sequence[Sequence[Span]] | None = None,
    ) -> list[ScoredLink] | list[list[ScoredLink]]:
        """What linking a text, or several, scores: links taken and passed over.

        Of each block the link taken and the best that does not overlap it, in order of
        their place, each with the features of its score; the threshold leaves none out.
        Beam search gives none that was passed over, nor does titles="all" for given
        mentions; for the other decoders, which give one answer, the tree decoder is
        asked. mentions, errors: as in linking.
        """
        if isinstance(texts, str | Document):
            return self.explain([texts], None if mentions is None else [mentions])[0]
        documents = _as_documents(texts)
        decided = self._decide(
            documents, _check_given(documents, mentions), scored=True
        )
        scored: list[list[ScoredLink]] = [[] for _ in documents]
        for chunk, path in decided:
            scored[chunk.document] += score_links(self.kb, chunk, path)
        for links in scored:
            links.sort(key=lambda link: (link.mention.start, link.mention.end))
        return scored

    def stream(
        self, documents: Iterable[Document], group: int = 256
    ) -> Iterator[Document]:
        """Link documents as they come, `group` at a time, in order.

        Raises TypeError and ValueError that name the document at fault, by its number.
        """
        documents = (_as_document(f"document {i}", x) for i, x in enumerate(documents))
        while batch := list(itertools.islice(documents, group)):
            yield from self._link(batch, None)

    def candidates(
        self, documents: Sequence[Document]
    ) -> list[list[spans.CandidateMention]]:
        """The candidate mentions of each document, in its characters."""
        found: list[list[spans.CandidateMention]] = [[] for _ in documents]
        for chunk in make_chunks(self._parts, documents, None):
            for _, _, c in chunk.table.mentions:
                moved = c.start + chunk.start, c.end + chunk.start
                found[chunk.document].append(
                    dataclasses.replace(c, start=moved[0], end=moved[1])
                )
        return found

    def _link(self, documents, given) -> list[Document]:
        found = self._collect(documents, self._decide(documents, given))
        linked = []
        for number, (document, mentions) in enumerate(
            zip(documents, found, strict=True)
        ):
            self.stats["links"] += len(mentions)
            if given is not None:
                spanned = {(m.start, m.end): m for m in mentions}
                mentions = [
                    spanned.get(span, Mention(*span, entity=None))
                    for span in given[number]
                ]
            mentions.sort(key=lambda m: (m.start, m.end))
            linked.append(dataclasses.replace(document, mentions=tuple(mentions)))
        return linked

    def _decide(self, documents, given, *, scored=False) -> list[Decided]:
        """The chunks of documents and what was decided for them, in order.

        scored: the links passed over are wanted, too.
        """
        settings = self.settings
        if given is None:  # then every mention has candidates
            settings = dataclasses.replace(settings, titles="candidates")
        if scored and settings.decoder != "beam" and settings.titles != "all":
            settings = dataclasses.replace(
                settings, decoder="tree", consider_unlinked=True
            )
        chunks = make_chunks(self._parts, documents, given, self.stats)
        decided = list(zip(chunks, self._decode(chunks, settings), strict=True))
        if settings.name_parts and given is None:
            found = self._collect(documents, decided)
            again = add_name_parts(self._parts, documents, chunks, found, self.stats)
            paths = self._decode(list(again.values()), settings)
            for (i, chunk), path in zip(again.items(), paths, strict=True):
                decided[i] = chunk, path
        self.stats["documents"] += len(documents)
        for chunk, path in decided:
            self.stats["chunks"] += bool(chunk.table.mentions)
            self.stats["dropped"] += chunk.table.dropped
            self.stats["ties"] += path.margin < TIE
            self.stats["dead"] += path.score == -math.inf
        for name in ("untokenised", "overlong"):
            self.stats[name] = len(getattr(self._parts, name))
        return decided

    def _decode(self, chunks: Sequence[Chunk], settings: Settings) -> list[DecodedPath]:
        """Decode chunks in batches of one static shape each; in order on output."""
        paths = [DecodedPath.begin() for _ in chunks]
        shape, decode = choose_decoder(settings, self.generator, self._titles)
        shapes = {i: shape(c) for i, c in enumerate(chunks) if c.table.mentions}
        # a batch runs until its last row ends: those that end together go together
        order = sorted(shapes, key=lambda i: (shapes[i], chunks[i].table.spans, i))
        for (slots, *_), alike in itertools.groupby(order, key=shapes.__getitem__):
            most = min(settings.batch, max(settings.batch_tokens // slots, 1))
            while group := list(itertools.islice(alike, most)):
                batch = min(most, next_power(len(group), 1))
                found = decode([chunks[i] for i in group], batch)
                for i, path in zip(group, found, strict=True):
                    _check_finite(chunks[i], path)
                    paths[i] = path
                    self.stats["calls"] += path.calls
                    self.stats["tokens"] += path.tokens
        return paths

    def _collect(self, documents, decided: list[Decided]) -> list[list[Mention]]:
        """The mentions of each document that the settings let through."""
        settings = self.settings
        found: list[list[Mention]] = [[] for _ in documents]
        for chunk, path in decided:
            links = score_links(
                self.kb, chunk, path, unlinked=settings.consider_unlinked
            )
            found[chunk.document] += [
                link.mention
                for link in links
                if link.mention.score >= settings.threshold
            ]
        return found


def _as_documents(texts: Iterable[str | Document]) -> list[Document]:
    if not isinstance(texts, Iterable):
        raise TypeError(
            "texts: expected a string, a Document or a sequence of them, found "
            f"{type(texts).__name__}"
        )
    return [_as_document(f"text {i}", text) for i, text in enumerate(texts)]


def _as_document(name: str, text: str | Document) -> Document:
    """name: what errors call it; its last word is the id of a text without one."""
    number = name.rpartition(" ")[2]
    document = text if isinstance(text, Document) else Document(number, text)
    if not isinstance(document.text, str):
        raise TypeError(
            f"{name}: expected a string or a Document, found "
            f"{type(document.text).__name__}"
        )
    check_text(document.text, name)
    return document


def _check_finite(chunk: Chunk, path: DecodedPath) -> None:
    if math.isnan(path.score or 0.0) or not math.isfinite(sum(path.log_probs)):
        raise FloatingPointError(
            f"the generator's logits are not finite for characters [{chunk.start}, "
            f"{chunk.end}) of document {chunk.document} of the group: its weights are "
            "damaged, or too large for the setting dtype"
        )


def _check_given(documents: Sequence[Document], mentions) -> list[list[Span]] | None:
    """Given spans as pairs of integers within their texts."""
    if mentions is None:
        return None
    if not isinstance(mentions, Collection):
        raise TypeError(
            "mentions: expected a sequence of spans for each text, found "
            f"{type(mentions).__name__}"
        )
    if len(mentions) != len(documents):
        raise ValueError(
            f"mentions: expected a sequence of spans for each of {len(documents)} "
            f"texts, found {len(mentions)}"
        )
    checked: list[list[Span]] = []
    for i, (document, found) in enumerate(zip(documents, mentions, strict=True)):
        if not isinstance(found, Iterable):
            raise TypeError(
                f"text {i}: expected mentions as a sequence of spans, found {found!r}"
            )
        spans_of_text = []
        for span in found:
            try:
                start, end = map(operator.index, span)
            except (TypeError, ValueError):
                raise ValueError(
                    f"text {i}: expected a mention as (start, end), two integers, "
                    f"found {span!r}"
                ) from None
            if not 0 <= start < end <= len(document.text):
                raise ValueError(
                    f"text {i}: mention [{start}, {end}): expected 0 <= start < end <= "
                    f"{len(document.text)}, the length of the text"
                )
            spans_of_text.append((start, end))
        checked.append(spans_of_text)
    return checked
