"""The linker: texts in, documents with linked mentions out.

What is named here is imported when it is first used, so that `features` and
`calibrator`, which the prior-only baseline needs too, load no JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers; at run time __getattr__ imports them
    from insgenel_jax.linker.directory import assemble as assemble
    from insgenel_jax.linker.features import Features as Features
    from insgenel_jax.linker.features import ScoredLink as ScoredLink
    from insgenel_jax.linker.linker import Linker as Linker
    from insgenel_jax.linker.reasons import SpanReason as SpanReason
    from insgenel_jax.linker.reasons import WordReason as WordReason
    from insgenel_jax.linker.settings import Settings as Settings

_PUBLIC = {
    "Features": "insgenel_jax.linker.features",
    "Linker": "insgenel_jax.linker.linker",
    "ScoredLink": "insgenel_jax.linker.features",
    "SpanReason": "insgenel_jax.linker.reasons",
    "WordReason": "insgenel_jax.linker.reasons",
    "Settings": "insgenel_jax.linker.settings",
    "assemble": "insgenel_jax.linker.directory",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
