"""The one check of a value against the type hint of a dataclass field."""

from __future__ import annotations

import math
import types
import typing
from typing import Any


def expected_type(value: Any, hint: Any) -> str | None:
    """What `hint` expects in words where `value` does not fit it, else None.

    A hint is a type or a union of types. An int fits a float; a bool fits neither; a
    float must be finite.
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
