"""A character in; its kind out: a space, punctuation, or part of a word."""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import UInt8

from insgenel_jax.kb import folding
from insgenel_jax.text import document

SPACE, PUNCTUATION, WORD = 0, 1, 2


@functools.cache
def kinds() -> UInt8[np.ndarray, " N"]:
    """The kind of every code point; folding a character leaves its kind as it is."""
    text = folding.every_character()
    of_all = np.full(len(text), PUNCTUATION, np.uint8)
    for match in document.WORD.finditer(text):
        of_all[match.start() : match.end()] = WORD
    # no character above U+3000, the ideographic space, is a space
    of_all[[i for i in range(0x3001) if text[i].isspace()]] = SPACE
    return of_all
