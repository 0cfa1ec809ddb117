"""The entities of the mini world in; labelled paragraphs about them out.

A paragraph is a few sentences. Each is a frame (frames.py) whose slots are filled with
the names of entities and with cues, the words that tell which entity a name means. All
choices are drawn from a random generator seeded with the paragraph's id and the seed.
"""

from __future__ import annotations

import functools
import itertools
import random
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from insgenel_jax.mini_world import frames
from insgenel_jax.mini_world.entity import WorldEntity, world_entities
from insgenel_jax.text.document import WORD, Document, Mention

Split = Literal["train", "dev", "heldout"]

Frames = Mapping[str, tuple[str, ...]]  # group -> frames
FRAMES: Mapping[Split, Frames] = {
    "train": frames.TRAIN,
    "dev": frames.DEV,
    "heldout": frames.HELDOUT,
}
# The frames that may follow another: those that begin with a word, not with a slot. So
# any four words across the joint of two sentences include a word of a frame.
LATER_FRAMES: Mapping[Split, Frames] = {
    split: {
        group: tuple(frame for frame in some if not frame.startswith("{"))
        for group, some in groups.items()
    }
    for split, groups in FRAMES.items()
}

Subjects = tuple[WorldEntity, ...]  # what a sentence is about: one, two or none


class Link(NamedTuple):
    """A mention in a sentence: the span [start, end) and its entity."""

    start: int
    end: int
    entity: WorldEntity


class Sentence(NamedTuple):
    """A sentence and its mentions."""

    text: str
    links: list[Link]


class Filler(NamedTuple):
    """The words for a slot, and the entity that they mention, if any."""

    words: str
    entity: WorldEntity | None = None


class Plan(NamedTuple):
    """A name for sentences about nobody, and the subjects of each sentence."""

    name: str
    sentences: list[Subjects]


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
    """The text and the mentions of a paragraph, of whatever length."""
    plan = _plan(rng)
    text = ""
    mentions: list[Mention] = []
    used: set[str] = set()  # frames, cues and entity ids of this paragraph
    for subjects in plan.sentences:
        some = LATER_FRAMES[split] if text else FRAMES[split]
        if subjects:
            sentence = _about(rng, some, subjects, used)
        else:
            sentence = _about_nobody(rng, some, plan.name, used)
        text += " " if text else ""
        mentions += [
            Mention(
                len(text) + start, len(text) + end, entity.title, entity.external_id
            )
            for start, end, entity in sentence.links
        ]
        text += sentence.text
    return text, mentions


def _plan(rng: random.Random) -> Plan:
    """Draw what the sentences are about.

    A paragraph has one topic, two topics, or one name in two meanings; seldom it is
    about nothing at all.
    """
    first = second = _draw(rng)
    theme = rng.choices(("topic", "topics", "name", "nothing"), (47, 22, 28, 3))[0]
    if theme == "nothing":
        return Plan(first.name, [(), ()])
    if theme == "topics":
        while second.topic == first.topic:
            second = _draw(rng)
    elif theme == "name":
        second = rng.choice(_namesakes(first) or [first])
    count = rng.choices((1, 2, 3, 4), (12, 40, 32, 16))[0]
    sentences: list[Subjects] = []
    for main in [first] * (count - count // 2) + [second] * (count // 2):
        group = _of_topic(main.topic)
        # The main entity is the first subject where it is new. Later on, another of its
        # topic may be.
        new = all(main not in subjects for subjects in sentences)
        subject = main if new or rng.random() < 0.5 else rng.choice(group)
        others = [e for e in group if e != subject]
        beside = [rng.choice(others)] if others and rng.random() < 0.25 else []
        sentences.append((subject, *beside))
    if rng.random() < 0.12:
        sentences.insert(rng.randint(0, len(sentences)), ())
    return Plan(first.name, sentences)


@functools.cache
def _of_topic(topic: str) -> list[WorldEntity]:
    return [e for e in world_entities() if e.topic == topic]


def _draw(rng: random.Random) -> WorldEntity:
    """Draw an entity by its share of its name.

    All ambiguous names are equally likely, and each other name 0.3 times as likely.
    """
    return rng.choices(world_entities(), cum_weights=_cumulative_weights())[0]


@functools.cache
def _cumulative_weights() -> list[float]:
    names = Counter(e.name for e in world_entities())
    shares: Counter[str] = Counter()
    for e in world_entities():
        shares[e.name] += e.share
    return list(
        itertools.accumulate(
            e.share / shares[e.name] * (1 if names[e.name] > 1 else 0.3)
            for e in world_entities()
        )
    )


@functools.cache
def _namesakes(entity: WorldEntity) -> list[WorldEntity]:
    """The other entities whose title has a word of this one's name: also Victoria Falls
    beside Victoria."""
    words = set(WORD.findall(entity.name))
    return [
        e for e in world_entities() if words & {*WORD.findall(e.title)} and e != entity
    ]


def _about(
    rng: random.Random, some: Frames, subjects: Subjects, used: set[str]
) -> Sentence:
    """A sentence that mentions its subjects, each beside cues of its own."""
    group = "any" if len(subjects) == 1 else "pair"
    of_kind = some[subjects[0].kind]
    if group == "any" and rng.random() < 0.2 and not used.issuperset(of_kind):
        group = subjects[0].kind
    frame = _choose(rng, some[group], used)
    fillers = [_name_or_cue(rng, slot, subjects, used) for slot in _slots(frame)]
    return _fill(frame, fillers)


def _name_or_cue(
    rng: random.Random, slot: str, subjects: Subjects, used: set[str]
) -> Filler:
    """What fills a slot of a sentence about its subjects.

    {m} and {c} are a form and a cue of the first subject, {n} and {d} of the last.
    """
    entity = subjects[0] if slot in "mc" else subjects[-1]
    if slot in "mn":
        return Filler(_form(rng, entity, used), entity)
    pool = entity.topic_cues
    if rng.random() < 0.5 and not used.issuperset(entity.cues):
        pool = entity.cues
    return Filler(_choose(rng, pool, used))


def _form(rng: random.Random, entity: WorldEntity, used: set[str]) -> str:
    """A surface form; a long one seldom, and only where the entity is new."""
    short, *longer = entity.forms
    if longer and entity.external_id not in used and rng.random() < 0.35:
        short = rng.choice(longer)
    used.add(entity.external_id)
    return short


def _about_nobody(
    rng: random.Random, some: Frames, name: str, used: set[str]
) -> Sentence:
    """A sentence that has a surface form, perhaps this name, and no mention."""
    frame = _choose(rng, some["nobody"], used)
    fillers = [_household_word(rng, slot, name, used) for slot in _slots(frame)]
    return _fill(frame, fillers)


def _household_word(rng: random.Random, slot: str, name: str, used: set[str]) -> Filler:
    """What fills a slot of a sentence about nobody: often with this name, if it can."""
    pool = {
        "f": frames.PRIVATE_NAMES,
        "k": frames.BEARERS,
        "h": frames.HOUSEHOLD,
        "x": frames.ORDINARY,
    }[slot]
    same = [form for form in pool if form.split()[0].lower() == name.lower()]
    return Filler(_choose(rng, same if same and rng.random() < 0.6 else pool, used))


def _choose(rng: random.Random, pool: Sequence[str], used: set[str]) -> str:
    """One of the pool that the paragraph has not used yet, while there is any."""
    chosen = rng.choice([item for item in pool if item not in used] or list(pool))
    used.add(chosen)
    return chosen


def _slots(frame: str) -> list[str]:
    """The slots of a frame, in order."""
    return [slot for _, slot, _, _ in string.Formatter().parse(frame) if slot]


def _fill(frame: str, fillers: Sequence[Filler]) -> Sentence:
    """The frame with its slots filled, and the mentions in it.

    A possessive "'s" loses its "s" after a name that ends in "s". The article of a
    surface form is no part of the mention.
    """
    text = ""
    links: list[Link] = []
    remaining = iter(fillers)
    for literal, slot, _, _ in string.Formatter().parse(frame):
        if text.endswith("s") and literal.startswith("'s"):
            literal = literal.replace("'s", "'", 1)
        text += literal
        if slot is None:
            continue
        words, entity = next(remaining)
        if entity is not None:
            start = len(text) + len(words) - len(words.removeprefix("the "))
            links.append(Link(start, len(text) + len(words), entity))
        text += words
    return Sentence(text[0].upper() + text[1:], links)
