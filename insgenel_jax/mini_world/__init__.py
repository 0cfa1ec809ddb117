"""A small synthetic world: entities with ambiguous names, and labelled paragraphs.

The words near a name tell which of its entities is meant, so a linker that uses context
does far better than one that always takes the most frequent entity.
"""

from insgenel_jax.mini_world.entity import entities
from insgenel_jax.mini_world.paragraph import paragraphs
from insgenel_jax.mini_world.world import write_world

__all__ = ["entities", "paragraphs", "write_world"]
