"""Texts in; links that a general language model names in context out (INSGENEL-ICL).

    retrieve -> prompt -> answers -> parse

The model gets the entities that the linker's retriever finds and the text, and answers
lines of mention, entity and context. It is behind an OpenAI-compatible endpoint
(client) or one of our own generators (local). (*paper*, 4.4 and appendix A. The paper's
wording of the prompt is unpublished: ours is our own.)

What is named here is imported when it is first used, so that asking an endpoint needs
no JAX until entities are retrieved.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers; at run time __getattr__ imports them
    from insgenel_jax.icl.client import Endpoint as Endpoint
    from insgenel_jax.icl.client import endpoint_source as endpoint_source
    from insgenel_jax.icl.linker import IclLinker as IclLinker
    from insgenel_jax.icl.local import generator_source as generator_source
    from insgenel_jax.icl.settings import IclSettings as IclSettings

_PUBLIC = {
    "Endpoint": "insgenel_jax.icl.client",
    "IclLinker": "insgenel_jax.icl.linker",
    "IclSettings": "insgenel_jax.icl.settings",
    "endpoint_source": "insgenel_jax.icl.client",
    "generator_source": "insgenel_jax.icl.local",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
