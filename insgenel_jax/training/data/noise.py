"""Noise: a document in; the same document with words between its mentions replaced out.

A model that is trained from scratch on few texts learns by heart which sentences hold
a link, instead of learning which words around a name tell who is meant. Noise makes the
sentences differ. The paper uses none, and a pretrained model needs none.
"""

from __future__ import annotations

import bisect
import dataclasses
import zlib
from collections.abc import Sequence

import numpy as np

from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.document import WORD, Document

SAMPLE = 10_000  # descriptions that words are taken from


def description_words(kb: KnowledgeBase) -> list[str]:
    """The lower-case words of the knowledge base's descriptions, each once, sorted."""
    words: set[str] = set()
    for i in range(min(len(kb), SAMPLE)):
        in_text = WORD.findall(kb.description(i))
        words |= {word for word in in_text if len(word) > 2 and word.islower()}
    return sorted(words)


def replace_words(document: Document, share: float, words: Sequence[str]) -> Document:
    """Replace about `share` of the words outside of mentions by words drawn evenly.

    The share of a document is itself drawn, between 0 and twice `share`. Draws are a
    function of the document's id, so that a resumed run sees what the first run saw.
    """
    rng = np.random.default_rng(zlib.crc32(document.id.encode()))
    share = rng.uniform(0, 2 * share)
    starts = [mention.start for mention in document.mentions]
    ends = [mention.end for mention in document.mentions]
    parts, moved, reached = [], [], 0
    length = 0
    for match in WORD.finditer(document.text):
        start, end = match.span()
        after = bisect.bisect_right(ends, start)
        inside = after < len(starts) and starts[after] < end
        if inside or rng.random() >= share:
            continue
        word = words[rng.integers(len(words))]
        parts += [document.text[reached:start], word]
        length += start - reached + len(word)
        reached = end
        moved.append((end, length - end))  # by how much characters after `end` move
    parts.append(document.text[reached:])

    def move(place: int) -> int:
        i = bisect.bisect_right(moved, place, key=lambda edit: edit[0])
        return place + moved[i - 1][1] if i else place

    return dataclasses.replace(
        document,
        text="".join(parts),
        mentions=tuple(
            dataclasses.replace(m, start=move(m.start), end=move(m.end))
            for m in document.mentions
        ),
    )
