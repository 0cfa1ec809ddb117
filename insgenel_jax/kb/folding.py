"""Titles and surface forms in; the keys under which they are compared and stored out.

A surface form is folded (normalised and lowercased) one character for one, so that
offsets in the folded text are offsets in the text. Where letters and their marks are
composed (NFC), a map leads back to the text's own offsets. A title keeps its letter
case. Only the case of its first letter is not significant, as in Wikipedia.
"""

from __future__ import annotations

import array
import functools
import unicodedata
from typing import NamedTuple

import numpy as np
import regex
from jaxtyping import Int32, UInt32

from insgenel_jax.text.document import normalise

# Runs of ASCII and grapheme clusters: no character composes with one of another part.
_PART = regex.compile(r"[ -~]+(?=[ -~]|$)|\X")


def fold(text: str) -> str:
    """Normalise and lowercase a text without changing its length.

    A character whose lower case has several characters stays as it is. A lone surrogate
    becomes U+FFFD.
    """
    if text.isascii():
        return normalise(text).lower()
    return from_code_points(fold_codes(code_points(text)))


def form_key(surface: str) -> str:
    """The key of a surface form: composed (NFC), folded, without spaces at its ends."""
    return fold(unicodedata.normalize("NFC", surface)).strip()


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


class Composed(NamedTuple):
    """A text in NFC, and where each of its N characters lies in the text it is of."""

    text: str
    starts: Int32[np.ndarray, " N"]
    ends: Int32[np.ndarray, " N"]


def compose(text: str) -> Composed | None:
    """A text in NFC; None where it is in NFC already.

    "e" with a mark becomes one letter, for example. A lone surrogate stays.
    """
    if text.isascii() or unicodedata.is_normalized("NFC", text):
        return None
    pieces: list[str] = []
    starts, ends = array.array("i"), array.array("i")
    for match in _PART.finditer(text):
        start, end = match.span()
        piece = unicodedata.normalize("NFC", match[0])
        if piece == match[0]:
            starts.extend(range(start, end))
            ends.extend(range(start + 1, end + 1))
        else:
            starts.extend([start] * len(piece))
            ends.extend([end] * len(piece))
        pieces.append(piece)
    return Composed("".join(pieces), *(np.array(c, np.int32) for c in (starts, ends)))
