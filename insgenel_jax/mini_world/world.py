"""The mini world: about sixty entities with ambiguous names, and labelled paragraphs.

`entities()` is the knowledge base, `paragraphs(split, count, seed)` a corpus in which
the words near a name tell which of its entities is meant. The facts are in
world_facts.py, the sentences in world_frames.py; here they are put together.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from insgenel_jax.mini_world import frames as world_frames
from insgenel_jax.mini_world.facts import FACTS
from insgenel_jax.text.document import WORD, Document, Mention

Split = Literal["train", "dev", "heldout"]

Frames = Mapping[str, tuple[str, ...]]
FRAMES: Mapping[Split, Frames] = {
    "train": world_frames.TRAIN,
    "dev": world_frames.DEV,
    "heldout": world_frames.HELDOUT,
}
# The frames that may follow another: those that begin with a word, not with a slot. So
# four words over the joint of two sentences always hold a word of a frame.
LATER_FRAMES: Mapping[Split, Frames] = {
    split: {
        group: tuple(frame for frame in some if not frame.startswith("{"))
        for group, some in frames.items()
    }
    for split, frames in FRAMES.items()
}


@dataclasses.dataclass(frozen=True)
class WorldEntity:
    """A row for the knowledge base, and what the paragraphs need to know besides.

    `forms` are the surface forms as they stand in a sentence, the short one first, some
    after "the "; `aliases` those that are not the title, without the article. The cues
    are the entity's own, `topic_cues` those of all entities of its topic.
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
    inlinks: int = 0

    @property
    def name(self) -> str:
        """The short form, which other entities may bear as well."""
        return self.forms[0].removeprefix("the ")


Subjects = tuple[WorldEntity, ...]
Sentence = tuple[str, list[tuple[int, int, WorldEntity]]]


@functools.cache
def entities() -> tuple[WorldEntity, ...]:
    """All entities, in the order of their ids W1, W2, ..."""
    found: list[WorldEntity] = []
    for block in FACTS.strip().split("\n\n"):
        # A description is indented by four spaces, a continued line by two.
        header, *records = re.split(r"\n(?=\S)", block)
        topic, cues = _one_line(header).removeprefix("# ").split(": ")
        for record in records:
            facts, description = record.split("\n    ", 1)
            title, kind, share, forms, own = _one_line(facts).split(" | ")
            forms = tuple(forms.split(" / "))
            bare = (form.removeprefix("the ") for form in forms)
            found.append(
                WorldEntity(
                    title=title,
                    description=_one_line(description),
                    external_id=f"W{len(found) + 1}",
                    aliases=tuple(form for form in bare if form != title),
                    topic=topic,
                    kind=kind,
                    share=int(share),
                    forms=forms,
                    cues=tuple(own.split(", ")),
                    topic_cues=tuple(cues.split(", ")),
                )
            )
    return tuple(found)


def aliases() -> dict[str, tuple[str, ...]]:
    """The surface forms of each title besides itself."""
    return {entity.title: entity.aliases for entity in entities()}


def paragraphs(split: Split, count: int, seed: int = 0) -> list[Document]:
    """The first `count` labelled paragraphs of a split; a larger count adds to them."""
    return [_paragraph(split, f"{split}:{i}", seed) for i in range(count)]


def _paragraph(split: Split, id: str, seed: int) -> Document:
    rng = random.Random(f"{id} {seed}")
    while True:
        text, mentions = _write(rng, split)
        if 18 <= len(WORD.findall(text)) <= 72:
            break
    ends_in_mention = mentions and mentions[-1].end == len(text) - 1
    if ends_in_mention and text.endswith(".") and rng.random() < 0.4:
        text = text[:-1]
    return Document(id=id, text=text, mentions=tuple(mentions))


def _write(rng: random.Random, split: Split) -> tuple[str, list[Mention]]:
    """A paragraph: text and mentions."""
    name, plan = _plan(rng)
    text, mentions, used = "", [], set()
    for subjects in plan:
        frames = LATER_FRAMES[split] if text else FRAMES[split]
        if subjects:
            sentence, links = _about(rng, frames, subjects, used)
        else:
            sentence, links = _about_nobody(rng, frames, name, used)
        text += " " if text else ""
        mentions += [
            Mention(
                len(text) + start, len(text) + end, entity.title, entity.external_id
            )
            for start, end, entity in links
        ]
        text += sentence
    return text, mentions


def _plan(rng: random.Random) -> tuple[str, list[Subjects]]:
    """A name, and the entities that each sentence is about: one, two or none.

    One topic, two topics, or one name in two meanings; seldom nothing at all.
    """
    first = second = _draw(rng)
    shape = rng.choices(("topic", "topics", "name", "nothing"), (47, 22, 28, 3))[0]
    if shape == "nothing":
        return first.name, [(), ()]
    if shape == "topics":
        while second.topic == first.topic:
            second = _draw(rng)
    elif shape == "name":
        second = rng.choice(_namesakes(first) or [first])
    count = rng.choices((1, 2, 3, 4), (12, 40, 32, 16))[0]
    plan: list[Subjects] = []
    for lead in [first] * (count - count // 2) + [second] * (count // 2):
        group = _of_topic(lead.topic)
        # The lead has the word where it is new, the others of its topic later on.
        new = all(lead not in subjects for subjects in plan)
        speaker = lead if new or rng.random() < 0.5 else rng.choice(group)
        others = [e for e in group if e != speaker]
        beside = [rng.choice(others)] if others and rng.random() < 0.25 else []
        plan.append((speaker, *beside))
    if rng.random() < 0.12:
        plan.insert(rng.randint(0, len(plan)), ())
    return first.name, plan


@functools.cache
def _of_topic(topic: str) -> list[WorldEntity]:
    return [e for e in entities() if e.topic == topic]


def _draw(rng: random.Random) -> WorldEntity:
    """An entity by its share of its name; every ambiguous name is as likely."""
    return rng.choices(entities(), cum_weights=_cumulative_weights())[0]


@functools.cache
def _cumulative_weights() -> list[float]:
    names = Counter(e.name for e in entities())
    shares = Counter()
    for e in entities():
        shares[e.name] += e.share
    return list(
        itertools.accumulate(
            e.share / shares[e.name] * (1 if names[e.name] > 1 else 0.3)
            for e in entities()
        )
    )


@functools.cache
def _namesakes(entity: WorldEntity) -> list[WorldEntity]:
    """The others with a word of its name: also Victoria Falls beside Victoria."""
    words = set(WORD.findall(entity.name))
    return [e for e in entities() if words & {*WORD.findall(e.title)} and e != entity]


def _about(
    rng: random.Random, frames: Frames, subjects: Subjects, used: set[str]
) -> Sentence:
    """A sentence that mentions its subjects, each beside cues of its own."""
    group = "any" if len(subjects) == 1 else "pair"
    of_kind = frames[subjects[0].kind]
    if group == "any" and rng.random() < 0.2 and not used.issuperset(of_kind):
        group = subjects[0].kind
    entity_of = {
        "m": subjects[0],
        "c": subjects[0],
        "n": subjects[-1],
        "d": subjects[-1],
    }

    def fill(slot: str) -> tuple[str, WorldEntity | None]:
        entity = entity_of[slot]
        if slot in "mn":
            return _form(rng, entity, used), entity
        pool = entity.topic_cues
        if rng.random() < 0.5 and not used.issuperset(entity.cues):
            pool = entity.cues
        return _choose(rng, pool, used), None

    return _fill(_choose(rng, frames[group], used), fill)


def _form(rng: random.Random, entity: WorldEntity, used: set[str]) -> str:
    """A surface form; a long one seldom, and only where the entity is new."""
    short, *longer = entity.forms
    if longer and entity.external_id not in used and rng.random() < 0.35:
        short = rng.choice(longer)
    used.add(entity.external_id)
    return short


def _about_nobody(
    rng: random.Random, frames: Frames, name: str, used: set[str]
) -> Sentence:
    """A sentence that holds a surface form, perhaps of this name, and no mention."""

    def fill(slot: str) -> tuple[str, None]:
        pool = {
            "f": world_frames.PRIVATE_NAMES,
            "k": world_frames.BEARERS,
            "h": world_frames.HOUSEHOLD,
            "x": world_frames.ORDINARY,
        }[slot]
        same = [form for form in pool if form.split()[0].lower() == name.lower()]
        return _choose(rng, same if same and rng.random() < 0.6 else pool, used), None

    return _fill(_choose(rng, frames["nobody"], used), fill)


def _choose(rng: random.Random, pool: Sequence[str], used: set[str]) -> str:
    """One of the pool that the paragraph has not used yet, while there is any."""
    chosen = rng.choice([item for item in pool if item not in used] or list(pool))
    used.add(chosen)
    return chosen


def _fill(
    frame: str, fill: Callable[[str], tuple[str, WorldEntity | None]]
) -> Sentence:
    """The frame with its slots filled, and where it mentions which entity."""
    text, links = "", []
    for literal, slot, _, _ in string.Formatter().parse(frame):
        if text.endswith("s") and literal.startswith("'s"):
            literal = literal.replace("'s", "'", 1)
        text += literal
        if slot is None:
            continue
        words, entity = fill(slot)
        if entity is not None:
            start = len(text) + len(words) - len(words.removeprefix("the "))
            links.append((start, len(text) + len(words), entity))
        text += words
    return text[0].upper() + text[1:], links


def _one_line(text: str) -> str:
    return " ".join(text.split())
