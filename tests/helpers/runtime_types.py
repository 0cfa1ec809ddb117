"""The type checker that tests/conftest.py gives to jaxtyping's import hook."""

from collections.abc import Callable
from typing import Any

import beartype
import typer
from beartype import BeartypeConf, FrozenDict
from flax.linen.linear import PromoteDtypeFn

# These check what callers pass, and raise errors of their own for what is of a wrong
# type. Tests call them with such values, so they are left to themselves.
CHECK_THEIR_INPUT = {
    "insgenel_jax.icl.settings.IclSettings.__init__",
    "insgenel_jax.linker.inputs.as_document",
    "insgenel_jax.linker.inputs.as_documents",
    "insgenel_jax.linker.settings.Settings.__init__",
    "insgenel_jax.text.formats.documents.read_documents",
}

_check = beartype.beartype(
    conf=BeartypeConf(
        # flax annotates a field of its modules with a protocol that cannot be checked;
        # typer passes a context that is not of the class that it asks to be annotated
        hint_overrides=FrozenDict({PromoteDtypeFn: object, typer.Context: object}),
        # where a float is expected an int will do, as for every type checker
        is_pep484_tower=True,
    )
)


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with arguments and result checked against its annotations."""
    name = f"{function.__module__}.{function.__qualname__}"
    return function if name in CHECK_THEIR_INPUT else _check(function)
