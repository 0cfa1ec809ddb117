"""A text in; the text with a space before punctuation out, and the way back.

The code that the paper's authors published (*release*) splits punctuation from words
before its model reads a text. Mentions are found in the text that is read, and then
moved back to the characters of the original one.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import regex
from jaxtyping import Int

from insgenel_jax.linker.features import ScoredLink
from insgenel_jax.text.document import Document

Span = tuple[int, int]

# A place before one of the release's punctuation marks, and behind no space. As there,
# the full stops of "U.S." and "U.K." stay.
_BEFORE_MARK = regex.compile(
    r"""(?<=\S)(?=[.,!?;:"`~@#$%^&*()<>])(?<!U(?=\.[SK]\.))(?<!U\.[SK](?=\.))"""
)


def space_punctuation(text: str) -> tuple[str, Int[np.ndarray, " N"]]:
    """The text with a space before each of some punctuation marks that has none.

    Also gives the place in `text` of each of its N characters; an added space has that
    of the mark behind it.
    """
    added = [match.start() for match in _BEFORE_MARK.finditer(text)]
    edges = [0, *added, len(text)]
    pieces = [text[i:j] for i, j in itertools.pairwise(edges)]
    return " ".join(pieces), np.insert(np.arange(len(text)), added, added)


def original(places: Int[np.ndarray, " N"], start: int, end: int) -> Span:
    """The span in the original text of characters [start, end) of the spaced one."""
    return int(places[start]), int(places[end - 1]) + 1


def space_documents(
    documents: Sequence[Document], given: Sequence[Sequence[Span]] | None
) -> tuple[list[Document], list[list[Span]] | None]:
    """Spaced documents without mentions, and the spans that are given for them."""
    spaced = [space_punctuation(document.text) for document in documents]
    bare = [
        dataclasses.replace(document, text=text, mentions=())
        for document, (text, _) in zip(documents, spaced, strict=True)
    ]
    if given is None:
        return bare, None
    # of a character and the space added before it, the character itself
    moved = [
        [
            (
                int(np.searchsorted(places, start, side="right")) - 1,
                int(np.searchsorted(places, end - 1, side="right")),
            )
            for start, end in spans
        ]
        for (_, places), spans in zip(spaced, given, strict=True)
    ]
    return bare, moved


def move_back(link: ScoredLink, places: Int[np.ndarray, " N"]) -> ScoredLink:
    """A link of the spaced text in the original one."""
    mention = link.mention
    start, end = original(places, mention.start, mention.end)
    return link._replace(mention=dataclasses.replace(mention, start=start, end=end))
