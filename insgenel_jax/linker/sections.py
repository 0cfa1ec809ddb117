"""Documents in; sections of them out, so long that each fits in memory many times.

What is computed for a text (tokens, candidate mentions, chunks, transition tables)
takes some hundred times its size. A long document is therefore linked in sections, one
after the other, as if each were a document.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from insgenel_jax.linker.features import ScoredLink
from insgenel_jax.text import chunking
from insgenel_jax.text.document import Document, Mention

Span = tuple[int, int]

LONGEST = 100_000  # characters of a section
TOGETHER = 1_000_000  # characters of the sections that are linked together


@dataclasses.dataclass(frozen=True)
class Section:
    """The characters of document number `number` from `start` on, as a document.

    given: the given mentions in it, in its own characters; None where the dictionary's
    are linked.
    """

    number: int
    start: int
    document: Document
    given: list[Span] | None

    def place(self, links: Sequence[ScoredLink]) -> list[ScoredLink]:
        """Links of the section at their places in the document."""
        if not self.start:
            return list(links)
        return [
            link._replace(mention=_move(link.mention, self.start)) for link in links
        ]


def group_sections(
    documents: Sequence[Document], given: Sequence[Sequence[Span]] | None
) -> Iterator[list[Section]]:
    """The sections of documents in order, in groups that are linked together.

    given: the mentions of each document to link in place of the dictionary's; none of
    them is cut.
    """
    group: list[Section] = []
    size = 0
    for number, document in enumerate(documents):
        spans = None if given is None else given[number]
        for section in cut_document(number, document, spans):
            if group and size + len(section.document.text) > TOGETHER:
                yield group
                group, size = [], 0
            group.append(section)
            size += len(section.document.text)
    if group:
        yield group


def cut_document(
    number: int, document: Document, given: Sequence[Span] | None
) -> Iterator[Section]:
    """The sections of one document, of at most LONGEST characters.

    One that would end inside of a given mention may be longer.
    """
    text = document.text
    start = 0
    while len(text) - start > LONGEST:
        end = _outside(_find_cut(text, start), start, given or ())
        yield _section(number, document, given, start, end)
        start = end
    if not start:
        yield Section(number, 0, document, None if given is None else list(given))
    elif start < len(text):
        yield _section(number, document, given, start, len(text))


def _section(
    number: int, document: Document, given: Sequence[Span] | None, start: int, end: int
) -> Section:
    part = dataclasses.replace(document, text=document.text[start:end], mentions=())
    spans = None
    if given is not None:
        inside = ((s, e) for s, e in given if start <= s and e <= end)
        spans = [(s - start, e - start) for s, e in inside]
    return Section(number, start, part, spans)


def _find_cut(text: str, start: int) -> int:
    """Where a section from `start` on ends: after a sentence, else at a space."""
    end = start + LONGEST
    tail = end - LONGEST // 4
    (last, _) = chunking.sentences(text[tail:end])[-1]
    if last:
        return tail + last
    space = text.rfind(" ", tail, end)
    return end if space < 0 else space + 1


def _outside(cut: int, start: int, given: Sequence[Span]) -> int:
    """The nearest place in no given mention: at or before `cut`, or else after it."""
    place = cut
    while inside := [s for s, e in given if s < place < e]:
        place = min(inside)
    if place > start:
        return place
    while inside := [e for s, e in given if s < cut < e]:
        cut = max(inside)
    return cut


def _move(mention: Mention, by: int) -> Mention:
    return dataclasses.replace(mention, start=mention.start + by, end=mention.end + by)
