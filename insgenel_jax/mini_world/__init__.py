"""A small synthetic world: entities with ambiguous names, and labelled paragraphs."""

from insgenel_jax.mini_world.world import aliases, entities, paragraphs

__all__ = ["aliases", "entities", "paragraphs"]
