"""Documents and their candidate mentions in; chunks that fit the generator out.

A chunk has a prompt, its source tokens, and a transition table over the candidate
mentions inside it. All that is tokenised here is tokenised once: a document's source, a
chunk's prompt, an entity's title.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from insgenel_jax.decoding.build import build_table
from insgenel_jax.decoding.chunk import Chunk
from insgenel_jax.decoding.mentions import CandidateMention
from insgenel_jax.decoding.table import Table, Weights
from insgenel_jax.decoding.title_trie import TitleTrie
from insgenel_jax.generator import Generator
from insgenel_jax.linker.mentions import DocumentMentions, leave_out
from insgenel_jax.linker.title_tokens import TitleTokens
from insgenel_jax.text import chunking
from insgenel_jax.text.linked_text import (
    Tokens,
    encode_prompt,
    encode_source,
    slice_source,
)
from insgenel_jax.tokenizer.tokenizer import BOUNDARIES_OF_A_LINK

Span = tuple[int, int]
# Stages that leave out candidate mentions: titles that cannot be written, the border of
# a chunk, no retrieved entity in its scope, a chunk without room.
Stage = Literal["titles", "border", "scope", "room"]

MARGIN = 16  # tokens that a prompt may have more than the source tokens of its text


@dataclasses.dataclass(frozen=True)
class DocumentChunk:
    """A chunk at its place: characters [start, end) of document number `document`.

    candidates: the candidate mentions, in the document's characters. tokens: the source
    tokens, in the chunk's characters. chunk: what the decoders take.
    """

    document: int
    start: int
    end: int
    candidates: list[CandidateMention]
    tokens: Tokens
    chunk: Chunk


@dataclasses.dataclass
class LeftOut:
    """What could not be linked.

    cut: candidate mentions that the border of a chunk cuts, or that a chunk has no room
    for. overlong: entities with a title so long that no chunk holds it after some
    mention. stages: the stage that left out each candidate mention, by the number of
    its document and its place; None notes none.
    """

    cut: int = 0
    overlong: set[int] = dataclasses.field(default_factory=set)
    stages: dict[tuple[int, int, int], Stage] | None = None

    def note(
        self,
        document: int,
        stage: Stage,
        before: Iterable[CandidateMention],
        after: Iterable[CandidateMention],
    ) -> None:
        """Note the stage for the candidate mentions that are only there before it."""
        if self.stages is not None:
            kept = {(c.start, c.end) for c in after}
            places = {(c.start, c.end) for c in before} - kept
            self.stages.update(((document, *place), stage) for place in places)


@dataclasses.dataclass(frozen=True)
class ChunkMaker:
    """What chunks are made with.

    chunk_tokens: the most source tokens of a chunk. titles: the tree of all titles,
    where given mentions may take any.
    """

    generator: Generator
    title_tokens: TitleTokens
    weights: Weights
    chunk_tokens: int
    titles: TitleTrie | None = None

    @functools.cached_property
    def room(self) -> int:
        """Positions that the instruction leaves for a chunk's prompt and target."""
        generator = self.generator
        taken = len(encode_prompt(generator.tokenizer, generator.instruction, ""))
        return generator.max_positions - taken - MARGIN

    @functools.cached_property
    def empty_table(self) -> Table:
        """The transition table of a chunk in which nothing is to be decided."""
        nothing = encode_source(self.generator.tokenizer, "")
        return make_table(self, nothing, 0, [])


def make_chunks(
    maker: ChunkMaker,
    texts: Sequence[str],
    mentions: Sequence[DocumentMentions],
    left_out: LeftOut,
    *,
    keep_empty: bool = False,
    first: int = 0,
) -> list[DocumentChunk]:
    """Cut texts into chunks that have something to decide.

    keep_empty: keep those without a candidate mention too, for parts of names that may
    be found in them later. first: the number of the first text's document.
    """
    maker.title_tokens.forget()
    maker.title_tokens.encode(
        entity
        for found in mentions
        for candidate in found.candidates
        for entity in candidate.entities.tolist()
    )
    return [
        chunk
        for number, (text, found) in enumerate(zip(texts, mentions, strict=True), first)
        for chunk in chunk_document(maker, number, text, found, left_out, keep_empty)
    ]


def chunk_document(
    maker: ChunkMaker,
    number: int,
    text: str,
    mentions: DocumentMentions,
    left_out: LeftOut,
    keep_empty: bool,
) -> list[DocumentChunk]:
    """The chunks of one text, document number `number`."""
    if not mentions.candidates:
        return []
    tokens = encode_source(maker.generator.tokenizer, text)
    candidates = drop_unfit(maker, tokens, mentions.candidates, left_out)
    left_out.note(number, "titles", mentions.candidates, candidates)
    if not candidates:
        return []
    firsts = [candidate.start for candidate in candidates]
    chunks = []
    for start, end in cut(maker, text, tokens, candidates):
        i, j = (bisect.bisect_left(firsts, edge) for edge in (start, end))
        inside = [candidate for candidate in candidates[i:j] if candidate.end <= end]
        left_out.cut += j - i - len(inside)
        left_out.note(number, "border", candidates[i:j], inside)
        allowed = mentions.allowed_in((start, end), inside)
        left_out.note(number, "scope", inside, allowed)
        if allowed or keep_empty:
            empty = empty_chunk(maker, number, text, tokens, (start, end))
            fitting = add_candidates(maker, empty, allowed, left_out)
            if fitting is not None or keep_empty:
                chunks.append(fitting or empty)
    return chunks


def empty_chunk(
    maker: ChunkMaker, number: int, text: str, tokens: Tokens, span: Span
) -> DocumentChunk:
    """A chunk without candidate mentions.

    tokens: the source tokens of the whole text. The chunk takes a slice of them where
    that equals its own encoding.
    """
    start, end = span
    tokenizer = maker.generator.tokenizer
    own = slice_source(tokens, start, end)
    if own is None:
        own = encode_source(tokenizer, text[start:end])
    shown = text[start:end] if maker.generator.prompt_text else ""
    prompt = encode_prompt(tokenizer, maker.generator.instruction, shown)
    source = [*own.ids.tolist(), tokenizer.eos]
    chunk = Chunk(prompt, source, maker.empty_table)
    return DocumentChunk(number, start, end, [], own, chunk)


def make_table(
    maker: ChunkMaker,
    tokens: Tokens,
    start: int,
    candidates: Sequence[CandidateMention],
) -> Table:
    """The transition table of a chunk that starts at character `start`."""
    inside = [
        dataclasses.replace(c, start=c.start - start, end=c.end - start)
        for c in candidates
    ]
    return build_table(
        maker.generator.tokenizer,
        tokens,
        inside,
        maker.title_tokens.__getitem__,
        maker.weights,
        maker.titles,
    )


def add_candidates(
    maker: ChunkMaker,
    chunk: DocumentChunk,
    candidates: Sequence[CandidateMention],
    left_out: LeftOut,
) -> DocumentChunk | None:
    """A chunk with further candidate mentions, as many as fit the model's positions.

    They replace those that stand at the same place. None where none of them fits. Those
    that do not fit are counted.
    """
    kept = list(candidates)
    while kept:
        placed = {(c.start, c.end): c for c in (*chunk.candidates, *kept)}
        together = [placed[span] for span in sorted(placed)]
        table = make_table(maker, chunk.tokens, chunk.start, together)
        if len(chunk.chunk.prompt) + table.longest <= maker.generator.max_positions:
            break
        kept = kept[: len(kept) * 7 // 8]
    left_out.cut += len(candidates) - len(kept)
    left_out.note(chunk.document, "room", candidates, kept)
    if not kept:
        return None
    decodable = dataclasses.replace(chunk.chunk, table=table)
    return dataclasses.replace(chunk, candidates=together, chunk=decodable)


def add_name_parts(
    maker: ChunkMaker,
    chunks: Sequence[DocumentChunk],
    parts: Mapping[int, Sequence[CandidateMention]],
    left_out: LeftOut,
) -> dict[int, DocumentChunk]:
    """The chunks that hold parts of names, with these: number of the chunk -> chunk.

    parts: the candidate mentions of each document, see mentions.find_name_parts.
    """
    changed = {}
    for i, chunk in enumerate(chunks):
        inside = [
            part
            for part in parts.get(chunk.document, ())
            if chunk.start <= part.start and part.end <= chunk.end
        ]
        maker.title_tokens.encode(
            entity
            for candidate in (*inside, *chunk.candidates)
            for entity in candidate.entities.tolist()
        )
        longer = add_candidates(maker, chunk, inside, left_out) if inside else None
        if longer is not None:
            changed[i] = longer
    return changed


def cut(
    maker: ChunkMaker,
    text: str,
    tokens: Tokens,
    candidates: Sequence[CandidateMention],
) -> list[Span]:
    """Cut a text into spans that keep to two limits.

    A span has at most `chunk_tokens` source tokens, and its prompt and target together
    fit the generator's positions. Each source token counts twice for the second limit,
    because it stands in the prompt and in the target. The links of a target add to
    that: at most as many tokens as the path that adds most, where each linked mention
    adds the boundary tokens and its longest title.
    """
    first, last = token_spans(tokens, candidates)
    at, most = [0], [0]  # most[k]: what the links that end by token at[k] can add
    for k in np.argsort(last, kind="stable").tolist():
        before = most[bisect.bisect_right(at, first[k]) - 1]
        title = longest_title(maker, candidates[k])
        added = max(most[-1], before + BOUNDARIES_OF_A_LINK + title)
        if last[k] > at[-1]:
            at.append(int(last[k]))
            most.append(added)
        most[-1] = added
    growth = np.zeros(len(tokens))
    growth[np.array(at[1:], int) - 1] = np.diff(most)
    # The cost of a token is the fraction of a limit that it uses up. There are two
    # limits, source tokens and positions; the larger of the two fractions counts.
    costs = np.maximum(1 / maker.chunk_tokens, (2 + growth) / max(maker.room, 1))
    spans = [(c.start, c.end) for c in candidates]
    return chunking.chunks(text, tokens.starts, costs, 1 + 1e-9, spans)


def longest_title(maker: ChunkMaker, candidate: CandidateMention) -> int:
    """Tokens of the longest title that a chunk may allow for a candidate mention."""
    lengths = [maker.title_tokens.length(e) for e in candidate.entities.tolist()]
    if maker.titles is not None and not candidate.optional:
        # a chunk may allow it none of its entities, and then any title; the tree counts
        # END, which is one of the boundary tokens
        lengths.append(maker.titles.longest - 1)
    return max(lengths)


def token_spans(
    tokens: Tokens, candidates: Sequence[CandidateMention]
) -> tuple[np.ndarray, np.ndarray]:
    """The tokens [first, last) that each candidate mention takes, at least one."""
    starts, ends = np.array([(c.start, c.end) for c in candidates]).reshape(-1, 2).T
    first = np.searchsorted(tokens.starts, starts, side="left")
    first = np.minimum(first, len(tokens) - 1)
    last = np.searchsorted(tokens.ends, ends, side="right")
    return first, np.maximum(last, first + 1)


def drop_unfit(
    maker: ChunkMaker,
    tokens: Tokens,
    candidates: Sequence[CandidateMention],
    left_out: LeftOut,
) -> list[CandidateMention]:
    """Candidate mentions without the entities whose titles cannot be written.

    The tokenizer has no tokens for such a title, or the generator has no positions for
    the mention and the title alone in a text. A candidate mention with no other entity
    is dropped.
    """
    first, last = token_spans(tokens, candidates)
    rooms = (maker.room - BOUNDARIES_OF_A_LINK - 2 * (last - first)).tolist()
    kept = []
    for candidate, room in zip(candidates, rooms, strict=True):
        lengths = {e: maker.title_tokens.length(e) for e in candidate.entities.tolist()}
        overlong = {e for e, length in lengths.items() if length > max(room, 0)}
        left_out.overlong |= overlong
        unfit = overlong | {e for e, length in lengths.items() if not length}
        fit = leave_out(candidate, unfit) if unfit else candidate
        if fit is not None:
            kept.append(fit)
    return kept
