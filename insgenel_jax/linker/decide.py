"""Documents in; their chunks, with the path that is decided for each, out.

    candidate mentions -> chunks -> paths

With the setting `name_parts`, the chunks that hold a part of a name linked so far are
made and decoded once more, with that part as a mention.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from insgenel_jax.decoding.continuous import Usage
from insgenel_jax.decoding.options import Options
from insgenel_jax.decoding.path import DecodedPath
from insgenel_jax.decoding.title_trie import TitleTrie
from insgenel_jax.generator import Generator
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.linker.batches import decode_chunks, decode_new_chunks
from insgenel_jax.linker.calibrator import Calibrator
from insgenel_jax.linker.chunks import (
    ChunkMaker,
    DocumentChunk,
    LeftOut,
    add_name_parts,
    make_chunks,
)
from insgenel_jax.linker.mentions import find_mentions, find_name_parts
from insgenel_jax.linker.scores import score_links
from insgenel_jax.linker.settings import DECODERS, Settings
from insgenel_jax.retrieval.index import Index
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.retrieval.scope import Retrieved
from insgenel_jax.text.document import Document, Mention

Span = tuple[int, int]
AHEAD = 16  # documents whose chunks are made together, at least


class Decided(NamedTuple):
    """A chunk, and the path that was decided for it."""

    chunk: DocumentChunk
    path: DecodedPath


@dataclasses.dataclass(frozen=True)
class Known:
    """What a linker remembers of the texts it has seen.

    paths: of chunks, by what decides them. retrieved: of texts, with their `top_k`.
    """

    paths: dict[bytes, DecodedPath] = dataclasses.field(default_factory=dict)
    retrieved: dict[tuple[str, int], Retrieved] = dataclasses.field(
        default_factory=dict
    )


@dataclasses.dataclass(frozen=True)
class Parts:
    """The open parts of a linker, the settings to decide by, and what is counted.

    titles: on the device; None unless `settings` ask for all titles. calibrator: None
    scores a link by the product over its edges. known: see `Linker`. left_out, stats,
    usage: what is left out, candidate mentions, the generator's calls and tokens, and
    how busy it keeps the device are added to them.
    """

    generator: Generator
    kb: KnowledgeBase
    retriever: Retriever | None
    index: Index | None
    titles: TitleTrie | None
    chunk_maker: ChunkMaker
    calibrator: Calibrator | None
    settings: Settings
    known: Known | None
    left_out: LeftOut
    stats: collections.Counter[str]
    usage: Usage


def decide(
    parts: Parts,
    documents: Sequence[Document],
    given: Sequence[Sequence[Span]] | None,
    vocabulary: bool = False,
) -> list[Decided]:
    """The chunks of documents, and what was decided for them, in order.

    given: the mentions to decide, in place of those that the dictionary finds.
    vocabulary: score over the whole vocabulary too.
    """
    chunks: list[DocumentChunk] = []

    def coming() -> Iterator[DocumentChunk]:
        together = max(parts.settings.batch, AHEAD)
        for chunk in find_each_chunk(parts, documents, given, together):
            chunks.append(chunk)
            yield chunk

    paths = decode(parts, coming(), vocabulary)
    if parts.settings.name_parts != "off" and given is None:
        decided = list(map(Decided, chunks, paths))
        changed = _add_name_parts(parts, documents, decided)
        again = decode(parts, list(changed.values()), vocabulary)
        for (i, chunk), path in zip(changed.items(), again, strict=True):
            chunks[i], paths[i] = chunk, path
    return list(map(Decided, chunks, paths))


def find_chunks(
    parts: Parts,
    documents: Sequence[Document],
    given: Sequence[Sequence[Span]] | None,
) -> list[DocumentChunk]:
    """The chunks of documents, with their candidate mentions or the given ones."""
    return list(find_each_chunk(parts, documents, given, max(len(documents), 1)))


def find_each_chunk(
    parts: Parts,
    documents: Sequence[Document],
    given: Sequence[Sequence[Span]] | None,
    together: int,
) -> Iterator[DocumentChunk]:
    """As `find_chunks`, but `together` documents at a time, when they are asked for."""
    settings = parts.settings
    known = None if parts.known is None else parts.known.retrieved
    keep_empty = settings.name_parts != "off" and given is None
    for first in range(0, len(documents), together):
        group = slice(first, first + together)
        texts = [document.text for document in documents[group]]
        spans = None if given is None else given[group]
        mentions = find_mentions(
            parts.kb, parts.retriever, parts.index, texts, spans, settings, known
        )
        parts.stats["mentions"] += sum(found.count for found in mentions)
        yield from make_chunks(
            parts.chunk_maker,
            texts,
            mentions,
            parts.left_out,
            keep_empty=keep_empty,
            first=first,
        )


def decode(
    parts: Parts, chunks: Iterable[DocumentChunk], vocabulary: bool = False
) -> list[DecodedPath]:
    """The path that the generator decides for each chunk."""
    settings = parts.settings
    options = Options(
        selection=settings.selection,
        unlinked=settings.consider_unlinked,
        vocabulary=vocabulary,
        titles_scored=settings.other_candidates > 0,
        beams=settings.beams,
        openings=settings.openings,
        early_stopping=settings.early_stopping,
        titles=parts.titles,
    )
    decode_them = decode_chunks
    if parts.known is not None and options.titles is None:
        decode_them = functools.partial(decode_new_chunks, known=parts.known.paths)
    paths = decode_them(
        parts.generator,
        chunks,
        DECODERS[settings.decoder_name],
        options,
        batch=settings.batch,
        batch_tokens=settings.batch_tokens,
        usage=parts.usage,
    )
    for path in paths:
        parts.stats["calls"] += path.calls
        parts.stats["tokens"] += path.tokens
    return paths


def _add_name_parts(
    parts: Parts, documents: Sequence[Document], decided: list[Decided]
) -> dict[int, DocumentChunk]:
    """The chunks that hold parts of the names linked so far: number -> chunk.

    A name lends its parts whatever its score: `Linker.score`, on whose links a
    threshold is chosen, knows none.
    """
    chunks = [chunk for chunk, _ in decided]
    taken: list[list[Span]] = [[] for _ in documents]
    for chunk in chunks:
        taken[chunk.document] += [(c.start, c.end) for c in chunk.candidates]
    linked: list[list[Mention]] = [[] for _ in documents]
    for chunk, path in decided:
        links = score_links(parts.kb, chunk, path, unlinked=False)
        linked[chunk.document] += [link.mention for link in links]
    found = {
        number: find_name_parts(
            parts.kb, document.text, linked[number], spans, parts.settings
        )
        for number, (document, spans) in enumerate(zip(documents, taken, strict=True))
    }
    return add_name_parts(parts.chunk_maker, chunks, found, parts.left_out)
