"""Knowledge bases: entities and the surface forms that name them. Loads no jax.

`KnowledgeBase.open` reads the directories that the functions in `kb.build` write.
"""

from insgenel_jax.kb.knowledge_base import Entity, KnowledgeBase
from insgenel_jax.kb.matcher import Matches

__all__ = ["Entity", "KnowledgeBase", "Matches"]
