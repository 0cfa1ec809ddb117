"""Entity linking with instruction-tuned language models, in JAX.

from insgenel_jax import Linker
linker = Linker.from_pretrained("work/linker")
document = linker("Mercury is the smallest planet.")

In the docstrings, (*paper*) refers to arXiv 2311.03250, whose method this is, and
(*release*) to the code that its authors published, where it says more than the paper.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers; at run time __getattr__ imports them
    from insgenel_jax.kb.knowledge_base import KnowledgeBase as KnowledgeBase
    from insgenel_jax.linker.linker import Linker as Linker
    from insgenel_jax.text.document import Document as Document
    from insgenel_jax.text.document import Mention as Mention

__version__ = "0.2.0"  # setup.py reads this line

_PUBLIC = {
    "Linker": "insgenel_jax.linker.linker",
    "Document": "insgenel_jax.text.document",
    "Mention": "insgenel_jax.text.document",
    "KnowledgeBase": "insgenel_jax.kb.knowledge_base",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
