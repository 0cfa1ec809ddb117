"""A linker directory in; its knowledge base and a search over its entities out.

For a system that needs these alone: no generator is opened.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from insgenel_jax import artifact
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.linker.bundled import locate
from insgenel_jax.linker.directory import (
    BESIDE,
    VERSION,
    check_parts,
    open_retrieval,
)
from insgenel_jax.retrieval.index import Index
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.retrieval.scope import Retrieved, retrieve


@dataclasses.dataclass(frozen=True)
class Search:
    """Finds the entities of texts, `top_k` for each window."""

    retriever: Retriever
    index: Index

    def __call__(self, texts: Sequence[str], top_k: int) -> list[Retrieved]:
        return retrieve(self.retriever, self.index, texts, top_k=top_k)


def open_search(
    path: str | os.PathLike[str], *, verify: bool = False
) -> tuple[KnowledgeBase, Search]:
    """Open what a linker directory has besides its generator; "nano" as for `Linker`.

    verify: compare the hash of every file. Raises ArtifactError for a part that is
    missing, damaged, of another version, or not made for the others.
    """
    path = locate(path)
    manifest = artifact.check(path, "linker", VERSION, verify=verify, beside=BESIDE)
    check_parts(path, manifest.made_from)
    kb = KnowledgeBase.open(path / "kb", verify=verify)
    return kb, Search(*open_retrieval(path))
