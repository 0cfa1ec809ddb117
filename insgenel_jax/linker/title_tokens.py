"""Entities in; the tokens of their titles out, each title tokenised once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.linked_text import encode_titles
from insgenel_jax.tokenizer import Tokenizer

MOST = 500_000  # titles whose tokens are remembered


@dataclasses.dataclass(frozen=True)
class TitleTokens:
    """The title tokens of a knowledge base's entities, remembered.

    untokenised: the entities met so far for whose titles the tokenizer has no tokens.
    """

    kb: KnowledgeBase
    tokenizer: Tokenizer
    untokenised: set[int] = dataclasses.field(default_factory=set)
    _ids: dict[int, list[int]] = dataclasses.field(default_factory=dict)

    def encode(self, entities: Iterable[int]) -> None:
        """Tokenise the titles of those entities that were not met before."""
        missing = sorted(set(entities) - self._ids.keys() - self.untokenised)
        if not missing:
            return
        titles = [self.kb.title(entity) for entity in missing]
        for entity, ids in zip(
            missing, encode_titles(self.tokenizer, titles), strict=True
        ):
            if ids:
                self._ids[entity] = ids
            else:
                self.untokenised.add(entity)

    def forget(self) -> None:
        """Drop all tokens where more than MOST titles are remembered."""
        if len(self._ids) > MOST:
            self._ids.clear()

    def __getitem__(self, entity: int) -> list[int]:
        """The tokens of an encoded entity's title; KeyError where it has none."""
        if ids := self._find(entity):
            return ids
        raise KeyError(entity)

    def length(self, entity: int) -> int:
        """The number of tokens of an encoded entity's title; 0 where it has none."""
        return len(self._find(entity))

    def _find(self, entity: int) -> list[int]:
        ids = self._ids.get(entity)
        if ids is None and entity not in self.untokenised:
            # Another thread has dropped all tokens since this one encoded its titles.
            (ids,) = encode_titles(self.tokenizer, [self.kb.title(entity)])
        return ids or []
