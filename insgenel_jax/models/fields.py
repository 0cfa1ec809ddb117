"""A value against the type hint of a dataclass field."""

from __future__ import annotations

import math
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
