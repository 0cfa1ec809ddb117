"""Titles and surface forms in; the keys under which they are compared and stored out.

A surface form is folded (normalised and lowercased) one character for one, so that
offsets in the folded text are offsets in the text. A title keeps its letter case. Only
the case of its first letter is not significant, as in Wikipedia.
"""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import UInt32

from insgenel_jax.text.document import normalise


def fold(text: str) -> str:
    """Normalise and lowercase a text without changing its length.

    A character whose lower case has several characters stays as it is. A lone surrogate
    becomes U+FFFD.
    """
    if text.isascii():
        return normalise(text).lower()
    return from_code_points(fold_codes(code_points(text)))


def form_key(surface: str) -> str:
    """The key of a surface form: folded, without spaces at its ends."""
    return fold(surface).strip()


def title_key(title: str) -> str:
    """The key of a title: normalised, spaces for underscores, no spaces at its ends."""
    return normalise(title).replace("_", " ").strip()


def title_variants(title: str) -> tuple[str, str]:
    """The two keys to look a title up by: as given, then with its first letter's case
    swapped."""
    key = title_key(title)
    return key, key[:1].swapcase() + key[1:]


def fold_title(title: str) -> str:
    """The form in which titles of Wikipedia are compared: a key that begins with a
    capital letter."""
    return capitalise(title_key(title))


def capitalise(title: str) -> str:
    """A title with its first letter in upper case.

    Left alone is a letter whose upper case has several characters, such as "ß".
    """
    first = title[:1].upper()
    return first + title[1:] if len(first) == 1 else title


def code_points(text: str) -> UInt32[np.ndarray, " N"]:
    """The code points of a text; lone surrogates are allowed."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def from_code_points(codes: UInt32[np.ndarray, " N"]) -> str:
    """The text of code points, without lone surrogates."""
    return codes.tobytes().decode("utf-32-le")


def fold_codes(codes: UInt32[np.ndarray, " N"]) -> UInt32[np.ndarray, " N"]:
    """What `fold` does, on code points."""
    return _fold_table()[codes]


def every_character() -> str:
    """All code points in order; U+FFFD stands for each surrogate."""
    codes = np.arange(0x110000, dtype=np.uint32)
    codes[0xD800:0xE000] = 0xFFFD
    return from_code_points(codes)


@functools.cache
def _fold_table() -> UInt32[np.ndarray, " N"]:
    """The fold of every code point.

    Lowercasing the string of all characters would be wrong at two of them: U+0130
    becomes two characters, and a capital sigma's lower case depends on what follows.
    """
    text = normalise(every_character())
    lower = "\u0130".join(part.lower() for part in text.split("\u0130"))
    table = code_points(lower).copy()
    table[0x03A3] = 0x03C3
    return table
