"""The facts of the mini world in (facts.py); its entities out, as values."""

from __future__ import annotations

import dataclasses
import functools
import re

from insgenel_jax.kb import Entity
from insgenel_jax.mini_world.facts import FACTS


@dataclasses.dataclass(frozen=True)
class WorldEntity:
    """A row for the knowledge base, and what the paragraphs need to know besides.

    forms: the surface forms as they stand in a sentence, the short one first, some of
    them after "the ". aliases: the forms that are not the title, without the article.
    share: how often the short form means this entity, against its other entities.
    cues: words of the entity's own; topic_cues: those of all entities of its topic.
    """

    title: str
    description: str
    external_id: str
    aliases: tuple[str, ...]
    topic: str
    kind: str
    share: int
    forms: tuple[str, ...]
    cues: tuple[str, ...]
    topic_cues: tuple[str, ...]

    @property
    def name(self) -> str:
        """The short form, which other entities may bear as well."""
        return self.forms[0].removeprefix("the ")


def entities() -> list[tuple[Entity, tuple[str, ...]]]:
    """(entity, aliases) of all entities, as `build_from_entities` takes them.

    They are in the order of their ids W1, W2, ...
    """
    return [
        (Entity(e.title, e.description, e.external_id), e.aliases)
        for e in world_entities()
    ]


@functools.cache
def world_entities() -> tuple[WorldEntity, ...]:
    """All entities with their cues, in the order of their ids W1, W2, ..."""
    parsed: list[WorldEntity] = []
    for block in FACTS.strip().split("\n\n"):
        # A description is indented by four spaces, a continued line by two.
        header, *records = re.split(r"\n(?=\S)", block)
        topic, cues = _one_line(header).removeprefix("# ").split(": ")
        for record in records:
            facts, description = record.split("\n    ", 1)
            title, kind, share, joined, own = _one_line(facts).split(" | ")
            forms = tuple(joined.split(" / "))
            bare = (form.removeprefix("the ") for form in forms)
            parsed.append(
                WorldEntity(
                    title=title,
                    description=_one_line(description),
                    external_id=f"W{len(parsed) + 1}",
                    aliases=tuple(form for form in bare if form != title),
                    topic=topic,
                    kind=kind,
                    share=int(share),
                    forms=forms,
                    cues=tuple(own.split(", ")),
                    topic_cues=tuple(cues.split(", ")),
                )
            )
    return tuple(parsed)


def _one_line(text: str) -> str:
    return " ".join(text.split())
