"""A linker in; texts out that make it compile what it needs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from insgenel_jax.linker.linker import Linker

SHORTEST = 8  # words of the shortest text


def make_texts(linker: Linker) -> Iterator[str]:
    """Texts of 8, 16, 32 ... words, up to more than a chunk, with candidate mentions.

    The names in them are titles of the knowledge base; each has a candidate.
    """
    kb = linker.kb
    titles = [kb.title(i) for i in range(min(len(kb), 64))]
    if not titles:
        return
    words = " met ".join(titles).split()
    length = SHORTEST
    while True:
        yield " ".join(itertools.islice(itertools.cycle(words), length)) + "."
        if length > linker.generator.chunk_tokens:
            return
        length *= 2
