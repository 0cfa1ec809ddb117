"""A field of a dataclass: a value against its type hint, its meaning in words."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import types
import typing
from typing import Any


def expected_type(value: Any, hint: Any) -> str | None:
    """None if `value` fits `hint`, else what `hint` expects, in words.

    hint: a type, or a union of types. An int fits a float; a bool fits neither of them;
    a float must be finite.
    """
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    fits = type(value) in allowed or (float in allowed and type(value) is int)
    if fits and isinstance(value, int | float):
        fits = math.isfinite(value)
    if value is None:
        fits = types.NoneType in allowed
    if fits:
        return None
    return " or ".join(
        "None" if kind is types.NoneType else getattr(kind, "__name__", str(kind))
        for kind in allowed
    )


def meanings(cls: type) -> dict[str, str]:
    """Field -> what the docstring of a dataclass says of it, in one line.

    The docstring says it after the field's name and a colon, or after the names of
    several fields; a remark in parentheses may stand before the colon.
    """
    names = "|".join(field.name for field in dataclasses.fields(cls))
    head = re.compile(rf"(?<!\S)((?:{names})(?:,\s(?:{names}))*)((?:\s\([^)]*\))?):\s")
    text = inspect.cleandoc(cls.__doc__ or "")
    found = list(head.finditer(text))
    told = {}
    for match, after in zip(found, [*found[1:], None], strict=True):
        end = len(text) if after is None else after.start()
        # a paragraph without a name at its beginning is about no field
        meaning = text[match.end() : end].split("\n\n")[0]
        meaning = " ".join(f"{match[2]} {meaning}".split())
        told.update(dict.fromkeys(re.split(r",\s", match[1]), meaning))
    return told
