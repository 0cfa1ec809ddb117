"""A page and its links in; its paragraphs with more labels out (*paper*, section 4.1).

Wikipedia links the first occurrence of a name, and a page never links itself. The rules
add labels where they are safe: they are meant to be right in 95 of 100 cases.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, NamedTuple

import regex

from insgenel_jax.kb.build.names import title_forms
from insgenel_jax.kb.build.wikiextractor import Page
from insgenel_jax.kb.folding import capitalise
from insgenel_jax.kb.occurrences import is_stop_word
from insgenel_jax.text.document import WORD, Document, Mention

LabelRule = Literal["links", "repeats", "title"]  # "links" adds nothing
PAPER: tuple[LabelRule, ...] = ("repeats", "title")

_AMBIGUOUS = "labels left out: ambiguous"
_LONGER = "labels left out: in a longer name"

_LETTERS = regex.compile(r"\p{L}.*\p{L}")
# What makes an occurrence part of a longer name, or may do so: the words beside it.
_LINKING = r"(?:(?:of|de|du|da|di|del|la|le|von|van|der|for|at|the)[ ])*"
_LONGER_AFTER = regex.compile(
    rf"(?:['’]s)?[ ]{_LINKING}[\p{{Lu}}\p{{N}}]"
    r"|[-–/&]\S|[ ]&|,[ ]\p{Lu}[\p{L}\p{M}]*(?:[,.)]|$)"
)
_LONGER_BEFORE = regex.compile(
    r"(?<![\p{L}\p{M}\p{N}.])"
    r"([\p{Lu}\p{N}][\p{L}\p{M}\p{N}]*(?:['’]s)?[\"”:]?|\p{Lu}\p{Ll}{0,3}\.)"
    rf"[ ]{_LINKING}$|\S[-–/&]$|&[ ]$"
)
_QUOTE_AFTER = regex.compile(r"[,.;:!?]?[\"”]|['’]s")
_SENTENCE_START = regex.compile(r"(?:^|[.!?:;][\"”')]*[ ]|[\"“(])$")
_WINDOW = 40  # characters read on either side

# The limits of 1000 keep the time linear in a text without an end of the parenthesis.
_DATES = regex.compile(
    r"^.{3,120}?\([^()]{0,1000}"
    r"(?:\bborn\b|\bdied\b|\d{3,4}[^()]{1,1000}\d{2,4}\b)[^()]{0,1000}\)"
)
_PRONOUNS = ("he", "his", "him", "He", "His", "she", "her", "She", "Her")
_FEWEST_PRONOUNS = 0.01  # of the words of an article on a person
_SUFFIX = regex.compile(r",? (?:[JS]r\.|[JS]r|I{1,3}|IV|VI{0,3}|IX|X[IVX]*)$")
_NUMBERED = regex.compile(r"(\p{Lu}[\p{L}\p{M}-]+) [IVX]+\b")
_PARTICLE_WORDS = "van von de den der du da di del la le ten ter zu"
_HONORIFIC_WORDS = """
    Mr Mrs Ms Dr Sir Lord Lady Dame King Queen Prince Princess President Senator
    Governor General Captain Colonel Major Lieutenant Admiral Commander Sergeant
    Professor Judge Justice Bishop Archbishop Saint St Pope
"""
_PARTICLES = frozenset(_PARTICLE_WORDS.split())
_HONORIFICS = frozenset(_HONORIFIC_WORDS.split())
_MOST_NAMESAKES = 0.05  # of the occurrences of a surname


class Meaning(NamedTuple):
    """What a string stands for in a page, by which rule."""

    rule: LabelRule
    entity: str | None  # None where it is ambiguous
    wary: bool  # not to be trusted where a sentence starts: it is a common word too


def count_names(rules: Collection[LabelRule]) -> list[str]:
    """The names of what `label_paragraph` counts under the given rules."""
    names = ["labels: links", *(f"labels: {rule}" for rule in PAPER if rule in rules)]
    return names + [_AMBIGUOUS, _LONGER] if len(names) > 1 else names


def label_paragraph(
    paragraph: Document,
    meanings: Mapping[str, Meaning],
    resolve: Callable[[str], str],
    counts: Counter[str],
) -> Document:
    """A paragraph with its links and the labels that `meanings` of its page add.

    resolve: as in `find_meanings`. The labels of each rule, and what was left out, are
    added to `counts`.
    """
    links = paragraph.mentions
    counts["labels: links"] += len(links)
    titles = [mention.entity and resolve(mention.entity) for mention in links]
    if titles != [mention.entity for mention in links]:
        links = tuple(map(_with_entity, links, titles))
    added = _find_labels(paragraph.text, links, meanings, counts)
    if added:
        links = tuple(sorted([*links, *added], key=lambda mention: mention.start))
    if links is paragraph.mentions:
        return paragraph
    return dataclasses.replace(paragraph, mentions=links)


def find_meanings(
    page: Page, rules: Collection[LabelRule], resolve: Callable[[str], str]
) -> dict[str, Meaning]:
    """The strings that are to be labelled in a page, or to be left out as ambiguous.

    A string that is linked to two entities is ambiguous. So is one that is not the name
    of its entity where it is part of another's name, and one that is part of the page's
    own title.
    resolve: gives the title at the end of a redirect, and any other title back.
    """
    if not {"repeats", "title"} & set(rules):
        return {}
    text = "\n".join(paragraph.text for paragraph in page.paragraphs)
    words = Counter(WORD.findall(text))
    linked, whole = _linked_strings(page, resolve)
    owners = _word_owners(page, linked, resolve)
    strings: dict[str, tuple[LabelRule, str | None]] = {}
    if "repeats" in rules:
        for string, titles in linked.items():
            (entity, *others) = {resolve(title) for title in titles}
            if _may_repeat(string, words) and _is_name(string, string in whole):
                sharers = _sharers(string, owners) - {entity}
                if string in whole:  # "Luton" may stand for "Luton Town F.C." there
                    sharers &= {page.title} if string[0].isupper() else set()
                unsafe = others or sharers or _is_team_of(string, entity)
                strings[string] = ("repeats", None if unsafe else entity)
    for string, safe in _own_strings(page, text, words, owners).items():
        others = {resolve(title) for title in linked.get(string, ())} - {page.title}
        if "title" in rules:
            strings[string] = ("title", page.title if safe and not others else None)
        elif others and string in strings:
            strings[string] = ("repeats", None)
    return {
        string: Meaning(
            *meaning,
            wary=string.lower() in words and string.lower() not in strings,
        )
        for string, meaning in strings.items()
    }


def _linked_strings(
    page: Page, resolve: Callable[[str], str]
) -> tuple[dict[str, set[str]], set[str]]:
    """The titles that each string is linked to, and those strings that are the name of
    their entity."""
    linked: defaultdict[str, set[str]] = defaultdict(set)
    for paragraph in page.paragraphs:
        for mention in paragraph.mentions:
            if mention.entity is not None:
                string = paragraph.text[mention.start : mention.end]
                linked[string].add(mention.entity)
    whole = set()
    for string, titles in linked.items():
        ends = set(map(resolve, titles))
        if string[0].islower():
            # "flight" is not sure to have the sense of "Flight (military unit)", nor
            # "takes" that of "Take", where "Takes" leads.
            names = ends
        else:
            names = {
                name
                for title in titles | ends
                for name in ([title] if title.endswith(")") else title_forms(title))
            }
        if capitalise(string) in names:
            whole.add(string)
    return linked, whole


def _word_owners(
    page: Page, linked: Mapping[str, set[str]], resolve: Callable[[str], str]
) -> dict[str, set[str]]:
    """The entities in whose titles or anchors each word occurs, the page's own too."""
    (*_, own) = title_forms(page.title)
    names = {(page.title, page.title)}
    for string, titles in linked.items():
        for title in titles:
            entity = resolve(title)
            names.update((entity, name) for name in (string, title, entity))
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for entity, name in names:
        if own not in name or entity == page.title:  # not "Death of John Lennon"
            for word in WORD.findall(name):
                owners[word].add(entity)
    return owners


def _own_strings(
    page: Page, text: str, words: Counter[str], owners: dict[str, set[str]]
) -> dict[str, bool]:
    """The strings that name the page's own entity, and whether they are unambiguous."""
    title, lead = page.title, page.lead
    strings: dict[str, bool] = {}
    for form in title_forms(title):
        if not _is_name(form, True):
            continue
        # "Lions, Tigers and Bears" is not called "Lions".
        rest = title.removeprefix(form)
        if rest.startswith(", ") and lead.find(form) == lead.find(form + rest):
            continue
        lower = form[0].lower() + form[1:]
        if form == title and text.count(lower) > text.count(form):
            strings[lower] = True
        strings[form] = True
    others = {word for word, entities in owners.items() if entities - {title}}
    for part in _person_parts(title, lead, words):
        if _is_name(part, True):
            strings[part] = not others.intersection(
                WORD.findall(part)
            ) and not _has_namesakes(part, title + " " + lead.split("(")[0], text)
    return strings


def _person_parts(title: str, lead: str, words: Counter[str]) -> list[str]:
    """The parts of a person's name that may stand for it; none for other entities."""
    pronouns = sum(words[pronoun] for pronoun in _PRONOUNS)
    if pronouns < _FEWEST_PRONOUNS * words.total() or not _DATES.match(lead):
        return []
    (*_, name) = title_forms(title)
    numbered = _NUMBERED.match(name)
    if numbered:
        return [numbered[1]]
    parts = _SUFFIX.sub("", name).split(" ")
    if not 2 <= len(parts) <= 5:
        return []
    start = len(parts) - 1
    while start > 1 and parts[start - 1] in _PARTICLES:  # "van Gogh"
        start -= 1
    if not all(part[:1].isupper() for part in (*parts[:start], parts[-1])):
        return []  # "Murder of ..."
    return [" ".join(parts[start:])]


def _has_namesakes(part: str, name: str, text: str) -> bool:
    """Whether a page often has a part of a name after a capitalised word that is not of
    the name."""
    before = regex.compile(
        rf"(?:\b(\p{{Lu}}[\p{{L}}\p{{M}}]*|\p{{Lu}}\p{{Ll}}{{0,3}}\.) )?"
        rf"\b{regex.escape(part)}\b"
    )
    found = before.findall(text)
    own = _HONORIFICS.union(WORD.findall(name))
    words = [word.rstrip(".") for word in found]
    others = [w for w in words if len(w) > 1 and w not in own and not is_stop_word(w)]
    return len(others) > _MOST_NAMESAKES * len(found)


def _may_repeat(string: str, words: Counter[str]) -> bool:
    """Whether a string that is linked once may occur again; a cheap test."""
    return all(words[word] > 1 for word in WORD.findall(string))


def _is_name(string: str, whole: bool) -> bool:
    """Whether a string can be told from common words.

    whole: whether it is the name of its entity. Others begin with a capital letter.
    """
    return (
        (whole or not string[0].islower())
        and WORD.match(string) is not None
        and _LETTERS.search(string) is not None
        and not is_stop_word(string)
    )


def _sharers(string: str, owners: Mapping[str, set[str]]) -> set[str]:
    """The entities that have all words of a string in their names."""
    return set.intersection(*(owners.get(w, set()) for w in WORD.findall(string)))


def _is_team_of(string: str, entity: str) -> bool:
    """Whether a string names a place and the entity is its team, as "England" is linked
    to "England cricket team"; elsewhere in the page it may be the place."""
    return entity.startswith(string + " ") and entity.endswith(" team")


def _with_entity(mention: Mention, entity: str | None) -> Mention:
    return dataclasses.replace(mention, entity=entity)


def _find_labels(
    text: str,
    links: Sequence[Mention],
    meanings: Mapping[str, Meaning],
    counts: Counter[str],
) -> list[Mention]:
    """The labels to add to a text with links, which they do not overlap."""
    taken = [(link.start, link.end) for link in links]
    places = []
    for string in meanings:
        start = text.find(string)
        while start >= 0:
            end = start + len(string)
            if _are_whole_words(text, start, end):
                places.append((start, -end, string))
            start = text.find(string, end)
    added = []
    place = i = 0
    for start, minus_end, string in sorted(places):  # of one start, the longest first
        while i < len(taken) and taken[i][1] <= start:
            i += 1
        if start < place or (i < len(taken) and taken[i][0] < -minus_end):
            continue
        place = -minus_end
        rule, entity, wary = meanings[string]
        if entity is None:
            counts[_AMBIGUOUS] += 1
        elif _is_in_longer_name(text, start, place, wary):
            counts[_LONGER] += 1
        else:
            counts[f"labels: {rule}"] += 1
            added.append(Mention(start, place, entity))
    return added


def _are_whole_words(text: str, start: int, end: int) -> bool:
    """Whether no word goes on beyond the ends of a span."""
    before, after = text[start - 1 : start], text[end : end + 1]
    return not (WORD.match(before) or WORD.match(after))


def _is_in_longer_name(text: str, start: int, end: int, wary: bool) -> bool:
    """Whether the words beside an occurrence go on with a name, or may do so."""
    before = text[max(0, start - _WINDOW) : start]
    if wary and _SENTENCE_START.search(before):
        return True
    if text[start:end].islower():
        return before.endswith("-") or text.startswith("-", end)
    if _LONGER_AFTER.match(text, end, end + _WINDOW):
        return True
    if before.endswith(('"', "“")):  # a title in quotation marks may go on, or end
        if not _QUOTE_AFTER.match(text, end):
            return True
    elif text.startswith(('"', "”"), end):
        return True
    found = _LONGER_BEFORE.search(before)
    return found is not None and not (found[1] and is_stop_word(found[1]))
