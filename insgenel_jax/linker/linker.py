"""Texts in; documents with linked mentions out.

    inputs -> decide -> scores

The texts are checked (inputs), cut into chunks for which the generator decides a path
(decide), and the links on each path become mentions with a score (scores). `linked`
goes this way; the class here holds the open parts and is what callers see.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import jax
from jax.sharding import Mesh

from insgenel_jax import sharding
from insgenel_jax.decoding.continuous import Usage
from insgenel_jax.decoding.mentions import CandidateMention
from insgenel_jax.decoding.path import DecodedPath
from insgenel_jax.decoding.title_trie import TitleTrie
from insgenel_jax.generator import Generator
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.linker import spacing
from insgenel_jax.linker.chunks import ChunkMaker, DocumentChunk, LeftOut
from insgenel_jax.linker.decide import (
    Known,
    Parts,
    decide,
    decode,
    find_chunks,
)
from insgenel_jax.linker.features import ScoredLink
from insgenel_jax.linker.inputs import (
    Text,
    as_documents,
    check_given,
    each_document,
    own_mentions,
    take_group,
)
from insgenel_jax.linker.linked import (
    as_read,
    link_documents,
    places_read,
    score_decided,
    score_documents,
)
from insgenel_jax.linker.opening import open_parts
from insgenel_jax.linker.reasons import WordReason, explain_spans, explain_words
from insgenel_jax.linker.sections import cut_document, group_sections
from insgenel_jax.linker.settings import (
    Settings,
    check_effect,
    expand_preset,
    make_settings,
)
from insgenel_jax.linker.title_tokens import TitleTokens
from insgenel_jax.linker.tuned import (
    Calibration,
    settle,
)
from insgenel_jax.linker.warm_up import make_texts
from insgenel_jax.retrieval.index import Index
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.text.document import Document

Span = tuple[int, int]

FORKED = (
    "this linker was opened in process {}, of which this one is a fork: JAX's threads "
    "are not in it, and linking would wait for them for ever. Open the linker in each "
    'process, and start processes with multiprocessing.get_context("spawn")'
)


class Linker:
    """Links texts against a knowledge base. `Linker.from_pretrained` opens one.

    A text of more than `sections.LONGEST` characters is linked in sections, as if each
    were a document. Where a linker is used in a fork of the process that opened it,
    RuntimeError is raised.

    `stats` counts, since the linker was opened: documents, chunks, calls of the
    generator, tokens run in them, links, and chunks with a decision too close to call
    ("ties"); candidate mentions found or given ("mentions"), and those of them with an
    entity that the generator could choose ("decided"); candidate mentions lost because
    they start or end inside a token ("dropped") or because a chunk has no room for them
    ("cut"); chunks whose beams all ended in dead ends ("dead"); entities left out
    because the tokenizer has no tokens for their titles ("untokenised") or because no
    chunk holds the title after some mention ("overlong").

    `usage` counts how busy the `tree` and `speculative` decoders keep the device, and
    the host's share of the time: see decoding.continuous.Usage.

    `known`: where it is a `decide.Known`, a chunk that was decoded before is not
    decoded again, nor a text searched again, nor by a linker that `with_settings`
    gives. Tuning sets it.
    """

    def __init__(
        self,
        generator: Generator,
        kb: KnowledgeBase,
        retriever: Retriever | None,
        index: Index | None,
        settings: Settings,
        titles: TitleTrie | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        if settings.system == "insgenel-r" and (retriever is None or index is None):
            raise ValueError('system "insgenel-r" needs a retriever and an index')
        if settings.titles == "all" and titles is None:
            raise ValueError('titles = "all" needs the tree of all titles')
        self.generator = generator
        self.kb = kb
        self.retriever = retriever
        self.index = index
        self.settings = settings
        self.titles = titles
        self.calibration = calibration
        self.calibrator = None
        if calibration is not None and not calibration.differences(settings):
            self.calibrator = calibration.calibrator
        self.known: Known | None = None
        self.title_tokens = TitleTokens(kb, generator.tokenizer)
        self.stats: collections.Counter[str] = collections.Counter()
        self.usage = Usage()
        self._left_out = LeftOut()
        self._process = os.getpid()

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        *,
        verify: bool = False,
        mesh: Mesh | None = None,
        calibrated: bool = True,
        **overrides: Any,
    ) -> Linker:
        """Open a linker directory; `overrides` replace its settings.

        path: "nano" is the linker that comes with the package, unless the working
        directory has a folder of that name.
        verify: compare the hash of every file. mesh: shard the generator over several
        devices, see sharding.make_mesh. preset="paper": see settings.expand_preset.
        titles="all" makes the directory's titles/ where there is none. calibrated: use
        the calibrator of a tuned linker; without it the tuned threshold goes too.
        Overrides with which it does not hold give a CalibrationWarning, see
        tuned.settle.

        Raises ArtifactError for a part that is missing, damaged, of another version, or
        not made for the others; ValueError for a setting that is unknown, has a bad
        value, or has no effect beside the others.
        """
        return cls(*open_parts(path, verify, mesh, calibrated, overrides))

    def with_settings(self, **overrides: Any) -> Linker:
        """A linker over the same opened parts with other settings, and its own `stats`.

        Raises ValueError for settings that need a part that is not open, or another
        dtype of the generator. The calibrator: as in opening.
        """
        stored = dataclasses.asdict(self.settings)
        system = {"system": self.settings.system}
        meant = expand_preset(system | overrides)
        settings = make_settings(stored | meant, "with_settings")
        check_effect(overrides, settings)
        for name in ("dtype", "layers", "int8"):
            opened, wanted = getattr(self.settings, name), getattr(settings, name)
            if opened != wanted:
                raise ValueError(
                    f"{name}: the generator is open with {opened!r}, found {wanted!r}; "
                    "open the linker again"
                )
        settings = settle(self.calibration, settings, meant)
        other = type(self)(
            self.generator,
            self.kb,
            self.retriever,
            self.index,
            settings,
            self.titles,
            self.calibration,
        )
        other.known = self.known
        other._process = self._process
        other.title_tokens = dataclasses.replace(self.title_tokens, untokenised=set())
        return other

    @overload  # a str is an iterable of str, too; the first signature goes before
    def __call__(  # type: ignore[overload-overlap]
        self, texts: Text, mentions: Iterable[Span] | None = None
    ) -> Document: ...

    @overload
    def __call__(
        self,
        texts: Iterable[Text],
        mentions: Collection[Iterable[Span]] | None = None,
    ) -> list[Document]: ...

    def __call__(self, texts: Any, mentions: Any = None) -> Document | list[Document]:
        """Link one text or several. The mentions a document already has are ignored.

        A document may also be a dictionary, as in a line of JSON: {"id", "text"}.

        mentions: the spans [start, end) to link in place of the dictionary's; for
        several texts, a sequence of spans for each. Each of them comes back. Its entity
        is None (NIL) where no candidate exists (but see the setting `titles`), where
        the score is below the threshold, where another given span that overlaps it was
        linked (without `rest_of_span`: another one of its decision span), or where it
        cannot be marked: it starts or ends inside a token or with a space, or no chunk
        holds it. A calibrator was fitted on mentions that the dictionary finds; its
        scores of given ones still allow for spans that are no mentions.

        Raises TypeError and ValueError that name the text or the mention at fault.
        """
        if isinstance(texts, str | Document | Mapping):
            return self([texts], None if mentions is None else [mentions])[0]
        documents = as_documents(texts)
        given = None if mentions is None else check_given(documents, mentions)
        return self._link(documents, given)

    def __repr__(self) -> str:
        settings, config = self.settings, self.generator.config
        weights = sum(leaf.size for leaf in jax.tree.leaves(self.generator.params))
        return (
            f"<Linker {settings.system}: {len(self.kb):,} entities, a generator of "
            f"{weights:,} parameters ({config.family}, {settings.dtype}), decoder "
            f"{settings.decoder_name}>"
        )

    def warm_up(self, texts: Sequence[Text] | None = None) -> None:
        """Compile what linking needs, before the first text comes.

        A program is compiled for each length of texts, and for few and many of them.
        texts: like those to come; by default they are made of titles of the knowledge
        base, from short ones to such as fill a chunk. Counts nothing in `stats`.
        """
        before, left_out, usage = self.stats.copy(), self._left_out, self.usage
        self._left_out, self.usage = LeftOut(), Usage()
        for text in make_texts(self) if texts is None else texts:
            for count in {1, self.settings.batch}:
                self([text] * count)
        self.stats, self._left_out, self.usage = before, left_out, usage

    def stream(
        self, documents: Iterable[Text], group: int = 256, *, given: bool = False
    ) -> Iterator[Document]:
        """Link documents as they come, `group` at a time or fewer long ones, in order.

        given: link the mentions that each document has, in place of the dictionary's.
        Raises TypeError and ValueError that name the document at fault by its number,
        and at once where `documents` is a single one or `group` is below 1.
        """
        if group < 1:
            raise ValueError(f"group: expected at least 1, found {group}")
        return self._stream(each_document("document", documents), group, given)

    def _stream(
        self, checked: Iterator[Document], group: int, given: bool
    ) -> Iterator[Document]:
        while batch := take_group(checked, group):
            yield from self._link(batch, own_mentions(batch) if given else None)

    @overload
    def score(  # type: ignore[overload-overlap]
        self,
        texts: Text,
        mentions: Iterable[Span] | None = None,
        *,
        vocabulary_scores: bool = False,
    ) -> list[ScoredLink]: ...

    @overload
    def score(
        self,
        texts: Iterable[Text],
        mentions: Collection[Iterable[Span]] | None = None,
        *,
        vocabulary_scores: bool = False,
    ) -> list[list[ScoredLink]]: ...

    def score(
        self, texts: Any, mentions: Any = None, *, vocabulary_scores: bool = False
    ) -> list[ScoredLink] | list[list[ScoredLink]]:
        """The links that linking a text, or several, scores: taken and passed over.

        For each block: the link taken, and the best link that does not overlap it, in
        order of place, each with the features of its score; no threshold is applied.
        With beam search, and for given mentions with titles="all", only the links taken
        are returned. In all other cases the tree decoder is run, whichever decoder is
        set, because the others give the same answer.

        vocabulary_scores: give the log-probabilities over the whole vocabulary too;
        this takes longer. Beam search always gives them. mentions, errors: as in
        linking; ValueError where the decoder has no vocabulary scores.
        """
        if isinstance(texts, str | Document | Mapping):
            given = None if mentions is None else [mentions]
            return self.score([texts], given, vocabulary_scores=vocabulary_scores)[0]
        documents = as_documents(texts)
        given = None if mentions is None else check_given(documents, mentions)
        settings = self.settings
        any_title = given is not None and settings.titles == "all"
        if not settings.searches and not any_title:
            settings = dataclasses.replace(
                settings, decoder="tree", titles="candidates", consider_unlinked=True
            )
        elif any_title and vocabulary_scores:
            raise ValueError(
                'vocabulary_scores: the setting titles = "all" takes the step decoder '
                'for given mentions, which has none; set titles = "candidates"'
            )
        scored = score_documents(
            self._parts(settings),
            documents,
            given,
            unlinked=True,
            vocabulary=vocabulary_scores,
        )
        for links in scored:
            links.sort(key=lambda link: (link.mention.start, link.mention.end))
        return scored

    def explain(self, text: Text) -> list[WordReason]:
        """For each word of a text, why it was linked, or why not; see `reasons`.

        Raises TypeError and ValueError that say what is wrong with the text, and
        ValueError with punctuation="spaced", where the text that is read is another.
        """
        if self.settings.punctuation != "as_is":
            raise ValueError(
                'explain: expected punctuation="as_is", found '
                f'"{self.settings.punctuation}"; set it to explain'
            )
        (document,) = as_documents([text])
        words: list[WordReason] = []
        for section in cut_document(0, document, None):
            found = self._explain(section.document)
            words += [word.move(section.start) for word in found]
        return words

    def _explain(self, document: Document) -> list[WordReason]:
        settings = dataclasses.replace(self.settings, titles="candidates")
        left_out = LeftOut(stages={})
        parts = dataclasses.replace(
            self._parts(settings), left_out=left_out, stats=collections.Counter()
        )
        decided = decide(parts, [document], None)
        (links,) = score_decided(parts, [document], decided, settings.consider_unlinked)
        whole, stages = document.text, left_out.stages or {}
        spans = explain_spans(self.kb, whole, settings, decided, stages, links)
        return explain_words(whole, spans)

    def candidates(
        self, documents: Iterable[Text], *, given: bool = False
    ) -> list[list[CandidateMention]]:
        """The candidate mentions of each document, in its characters.

        given: of the mentions that it has, in place of the dictionary's.
        """
        documents = as_documents(documents)
        candidates: list[list[CandidateMention]] = [[] for _ in documents]
        own = own_mentions(documents) if given else None
        for group in group_sections(documents, own):
            texts = [section.document for section in group]
            places = places_read(self.settings, texts)
            spans = [section.given or [] for section in group] if given else None
            for chunk in self.chunks(texts, spans):
                section = group[chunk.document]
                for _, _, inside in chunk.chunk.table.mentions:
                    start, end = inside.start + chunk.start, inside.end + chunk.start
                    if places is not None:
                        place = places[chunk.document]
                        start, end = spacing.original(place, start, end)
                    start, end = start + section.start, end + section.start
                    candidates[section.number].append(
                        dataclasses.replace(inside, start=start, end=end)
                    )
        return candidates

    def chunks(
        self,
        documents: Sequence[Document],
        mentions: Sequence[Sequence[Span]] | None = None,
    ) -> list[DocumentChunk]:
        """The chunks that linking documents would decode. mentions: given ones.

        With punctuation="spaced", characters are those of the spaced text.
        """
        documents, mentions = as_read(self.settings, documents, mentions)
        parts = dataclasses.replace(
            self._parts(self.settings),
            left_out=LeftOut(),
            stats=collections.Counter(),
        )
        return find_chunks(parts, documents, mentions)

    def decode(self, chunks: Sequence[DocumentChunk]) -> list[DecodedPath]:
        """The path that the generator decides for each chunk."""
        return decode(self._parts(self.settings), chunks)

    @functools.cached_property
    def _chunk_maker(self) -> ChunkMaker:
        settings = self.settings
        return ChunkMaker(
            self.generator,
            self.title_tokens,
            settings.weights,
            settings.chunk_tokens or self.generator.chunk_tokens,
            self.titles if settings.titles == "all" else None,
        )

    @functools.cached_property
    def _titles_on_device(self) -> TitleTrie | None:
        mesh = self.generator.mesh
        place = None if mesh is None else sharding.replicated(mesh)
        return jax.device_put(self.titles, place)

    def _link(
        self, documents: Sequence[Document], given: list[list[Span]] | None
    ) -> list[Document]:
        settings = self.settings
        if given is None:  # then every candidate mention has candidates
            settings = dataclasses.replace(settings, titles="candidates")
        return link_documents(self._parts(settings), documents, given)

    def _parts(self, settings: Settings) -> Parts:
        """What deciding by these settings needs; they may differ from the linker's.

        Raises RuntimeError in a fork of the process that opened the linker.
        """
        if os.getpid() != self._process:
            raise RuntimeError(FORKED.format(self._process))
        return Parts(
            generator=self.generator,
            kb=self.kb,
            retriever=self.retriever,
            index=self.index,
            titles=self._titles_on_device if settings.titles == "all" else None,
            chunk_maker=self._chunk_maker,
            calibrator=self.calibrator,
            settings=settings,
            known=self.known,
            left_out=self._left_out,
            stats=self.stats,
            usage=self.usage,
        )
