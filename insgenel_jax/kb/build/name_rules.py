"""A title in; the surface forms that rules make of it out, one function a rule.

A rule raises the share of mentions that find their entity, and the number of entities
that a mention may name. `insgenel study surface-forms` reports both.
"""

from __future__ import annotations

import functools
import importlib.resources
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, get_args

import regex

from insgenel_jax.kb.build.names import LONGEST
from insgenel_jax.kb.folding import form_key, title_key
from insgenel_jax.kb.occurrences import is_stop_word
from insgenel_jax.text.document import WORD

FormRule = Literal[
    "first_word",
    "last_word",
    "words",
    "acronym",
    "demonym",
    "roles",
    "title_inside",
    "ascii",
]
FORM_RULES: tuple[FormRule, ...] = get_args(FormRule)

_MOST_WORDS = 6  # of several words of a title: longer parts are hardly ever written
_LEAD = 200  # characters of a description that are searched for a role
_PARENTHESIS = regex.compile(r"\([^()]*\)")
_ENDS = ",;:–—-"  # punctuation at the ends of a word that is no part of a name
_QUOTES = '"“”'
_NO_QUOTES = str.maketrans("", "", _QUOTES)
_NO_NAME = regex.compile(  # numbers, Roman ones too, and initials: "13", "II", "J.R.R."
    r"[\p{N}\p{P}\p{S}]*|[IVX]+|[ivx]+|\p{L}|(?:\p{L}\.-?)+"
)
_SUFFIX = regex.compile(r"[JjSs]r\.?|[IVX]+|[ivx]+")
_REGNAL = regex.compile(r"(\p{Lu}\p{L}+) [IVX]+(?= of |$)")
_LONE_LETTERS = regex.compile(r"(?<=\b\p{L}) (?=\p{L}\b)")
# Letters that do not decompose into an ASCII letter, and the punctuation of print.
_LETTERS = str.maketrans(
    dict(zip("ßæœþøđðłıħŋə", ["ss", "ae", "oe", "th", *"oddlihne"], strict=True))
    | dict.fromkeys("‘’ʻʼ", "'")
    | dict.fromkeys("“”", '"')
    | dict.fromkeys("–—‐−", "-")
)
_SPELLING = str.maketrans(
    {"-": " ", "/": " ", "&": " and ", **dict.fromkeys('.,:;!?"')}
)
_RULERS = ("king", "queen", "emperor", "pope", "prince", "tsar")


class Name(NamedTuple):
    """A title, as the rules read it.

    title: its key. whole: the title without what stands in parentheses. words: of
    `whole` up to its first comma. description: of the entity.
    """

    title: str
    whole: str
    words: tuple[str, ...]
    description: str


def read_name(title: str, description: str = "") -> Name:
    """What the rules read of a title."""
    whole = key = title_key(title)
    if "(" in whole:
        whole = " ".join(_PARENTHESIS.sub(" ", whole).split())
    words = (word.strip(_ENDS) for word in whole.split(", ")[0].split())
    return Name(key, whole, tuple(word for word in words if word), description)


def rule_keys(name: Name, rules: Collection[FormRule]) -> set[str]:
    """The keys of all forms that some rules make of a title.

    Where `ascii` is among the rules, the forms of the others are spelled in ASCII too.
    A title without a letter or digit has no forms.
    """
    if not any(map(str.isalnum, name.whole)):
        return set()
    forms = [form for rule in rules for form in _FUNCTIONS[rule](name)]
    if "ascii" in rules and len(rules) > 1:
        forms += [other for form in forms for other in ascii_spellings(form)]
    return {form_key(form) for form in forms if len(form) <= LONGEST} - {""}


def first_word(name: Name) -> Iterator[str]:
    """ "Steve" of "Steve Jobs"."""
    if len(name.words) > 1:
        word = name.words[0].strip(_QUOTES)
        if _is_name(word):
            yield word


def last_word(name: Name) -> Iterator[str]:
    """ "Jobs" of "Steve Jobs", "Davis" of "Sammy Davis Jr."."""
    words = list(name.words)
    if len(words) > 1:
        while len(words) > 1 and _SUFFIX.fullmatch(words[-1]):
            words.pop()
        word = words[-1].strip(_QUOTES)
        if _is_name(word):
            yield word


def several_words(name: Name) -> Iterator[str]:
    """ "Jobs Foundation" and "Steve Jobs" of "Steve Jobs Foundation".

    They begin or end the title, begin with a word that can name something, and end
    neither with a stop word nor with an initial.
    """
    words = name.whole.split(", ")[0].split()
    for length in range(2, min(len(words), _MOST_WORDS + 1)):
        for part in (words[:length], words[-length:]):
            first, last = (part[end].strip(_ENDS + _QUOTES) for end in (0, -1))
            if _is_name(first) and (_is_name(last) or _ends_name(last)):
                form = " ".join(part).strip(_ENDS + _QUOTES)
                # A quotation that the part cuts in two leaves one mark inside.
                cut = sum(map(form.count, _QUOTES)) % 2
                yield form.translate(_NO_QUOTES) if cut else form


def acronym(name: Name) -> Iterator[str]:
    """ "DE" and "DoE" of "Department of Energy".

    In a title without any capital all words but stop words count as capitalised.
    """
    words = [word for word in name.whole.replace("-", " ").split() if word[0].isalpha()]
    cased = any(word[0].isupper() for word in words)
    large = [w[0] for w in words if w[0].isupper() or not (cased or is_stop_word(w))]
    if len(words) > 1 and len(large) > 1:
        yield "".join(large)
        yield "".join(word[0] for word in words)


def demonym(name: Name) -> Iterable[str]:
    """ "Spanish", "Spaniard" and "Spaniards" of "Spain"."""
    return _demonyms().get(form_key(name.title), ())


def ascii_forms(name: Name) -> Iterator[str]:
    """The title, with and without what follows a comma, spelled in ASCII."""
    yield from ascii_spellings(name.whole)
    if ", " in name.whole:
        yield from ascii_spellings(name.whole.split(", ")[0])


def ascii_spellings(form: str) -> Iterator[str]:
    """ "Godel" of "Gödel", "Spider Man Homecoming" of "Spider-Man: Homecoming", "JD
    Salinger" of "J. D. Salinger"; nothing where letters are left that ASCII lacks."""
    plain = form
    if not form.isascii():
        parts = unicodedata.normalize("NFKD", form.lower().translate(_LETTERS))
        plain = "".join(c for c in parts if not unicodedata.combining(c))
        if not plain.isascii():
            return
        yield plain
    spelled = " ".join(plain.translate(_SPELLING).split())
    if spelled != plain:
        yield spelled
        yield _LONE_LETTERS.sub("", spelled)


def roles(name: Name) -> Iterator[str]:
    """ "king Philip" of "Philip II of Macedon"; "president Obama" of "Barack Obama" if
    the beginning of the description has the role."""
    regnal = _REGNAL.match(name.whole)
    for role in _RULERS if regnal else ():
        yield f"{role} {regnal[0]}"
        yield f"{role} {regnal[1]}"
    if name.description and 0 < len(name.words) < 5 and not regnal:
        lead = name.description[:_LEAD].lower()
        for role in _roles().intersection(WORD.findall(lead)):
            for form in {" ".join(name.words), *last_word(name)}:
                yield f"{role} {form}"


def title_inside(name: Name) -> Iterator[str]:
    """ "the United Nations" of "United Nations", "Obama's" of "Obama"."""
    if name.whole:
        if not name.whole.lower().startswith("the "):
            yield f"the {name.whole}"
        yield name.whole + ("'" if name.whole.endswith("s") else "'s")


_FUNCTIONS: Mapping[FormRule, Callable[[Name], Iterable[str]]] = {
    "first_word": first_word,
    "last_word": last_word,
    "words": several_words,
    "acronym": acronym,
    "demonym": demonym,
    "roles": roles,
    "title_inside": title_inside,
    "ascii": ascii_forms,
}


@functools.lru_cache(maxsize=500_000)
def _is_name(word: str) -> bool:
    """Whether a word can stand for a name: no stop word, number or initial."""
    return not (is_stop_word(word) or _NO_NAME.fullmatch(word))


def _ends_name(word: str) -> bool:
    """Whether a word that is no name may end one: "13" of "Apollo 13", "II", "Jr."."""
    return word[:1].isdigit() or _SUFFIX.fullmatch(word) is not None


@functools.cache
def _roles() -> frozenset[str]:
    """Words that stand before the names of persons."""
    return frozenset(_read_asset("roles.txt"))


@functools.cache
def _demonyms() -> dict[str, tuple[str, ...]]:
    """The key of a country's title -> the adjective and the names of its people."""
    rows = (line.split("\t") for line in _read_asset("demonyms.tsv"))
    return {form_key(title): tuple(forms.split("|")) for title, forms in rows}


def _read_asset(name: str) -> list[str]:
    file = importlib.resources.files("insgenel_jax") / "assets" / name
    return file.read_text(encoding="utf-8").splitlines()
