"""Knowledge bases: entities, their surface forms, and how they are made. No jax."""

from insgenel_jax.kb.knowledge_base import Entity, KnowledgeBase
from insgenel_jax.kb.matcher import Matches

__all__ = ["Entity", "KnowledgeBase", "Matches"]
