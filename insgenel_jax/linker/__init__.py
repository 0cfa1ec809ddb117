"""The linker: texts in, documents with linked mentions out."""

from insgenel_jax.linker.directory import Settings, assemble
from insgenel_jax.linker.linker import Linker
from insgenel_jax.linker.scores import Features, ScoredLink

__all__ = ["Features", "Linker", "ScoredLink", "Settings", "assemble"]
