"""Spans with the surface that a file gives each in; those that are misplaced out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Surface = tuple[int, int, str]  # characters [start, end), and what stands there

# What offsets may count other than code points -> the text between two of them, None
# where they lie beyond its end.
_UNITS: dict[str, Callable[[str, int, int], str | None]] = {
    "UTF-16 code units": lambda text, start, end: _cut(text, start, end, "utf-16-le"),
    "bytes of UTF-8": lambda text, start, end: _cut(text, start, end, "utf-8"),
    "a CR LF as one character": lambda text, start, end: _cut(
        text.replace("\r\n", "\n"), start, end
    ),
    "a line break as two characters": lambda text, start, end: _cut(
        text.replace("\n", "\r\n"), start, end
    ),
}


def find_misplaced(text: str, surfaces: Sequence[Surface]) -> list[int]:
    """The numbers of the spans where something other than their surface stands.

    Raises ValueError where some are misplaced because offsets count bytes, UTF-16 code
    units or line breaks otherwise: then no offset of the text can be trusted.
    """
    misplaced = [
        i
        for i, (start, end, surface) in enumerate(surfaces)
        if end > len(text) or text[start:end] != surface
    ]
    for unit, cut in _UNITS.items() if misplaced else ():
        if all(_alike(cut(text, a, b), surface) for a, b, surface in surfaces):
            raise ValueError(
                "offsets: expected code points of the text, found that they count "
                f"{unit}; convert them, or write the file anew"
            )
    return misplaced


def _alike(one: str | None, other: str) -> bool:
    return one is not None and (
        one.replace("\r\n", "\n") == other.replace("\r\n", "\n")
    )


def _cut(text: str, start: int, end: int, encoding: str | None = None) -> str | None:
    """What stands between two characters, or two units of an encoding."""
    if encoding is None:
        return text[start:end] if end <= len(text) else None
    size, units = (2 if encoding == "utf-16-le" else 1), text.encode(encoding)
    if end * size > len(units):
        return None
    return units[start * size : end * size].decode(encoding, "replace")
