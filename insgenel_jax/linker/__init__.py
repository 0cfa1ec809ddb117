"""The linker: texts in, documents with linked mentions out."""

from insgenel_jax.linker.directory import assemble
from insgenel_jax.linker.linker import Linker
from insgenel_jax.linker.scores import Features, ScoredLink
from insgenel_jax.linker.settings import Settings

__all__ = ["Features", "Linker", "ScoredLink", "Settings", "assemble"]
