"""Names in lower-case ASCII and texts in; the names with their letter case out.

A name that the texts know as a title takes that title's spelling, and one that stands
in running text its most frequent spelling there. For the others a small logistic model
decides for each word after the first whether it begins with a capital letter.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import marisa_trie
import numpy as np
import regex
from jaxtyping import Float

from insgenel_jax.kb.build.wikiextractor import read_pages
from insgenel_jax.kb.folding import capitalise
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.rejects import Rejects

LONGEST_PHRASE = 3  # words of a name that is looked for in running text

# Words that the titles of works and institutions have in lower case.
_SMALL = frozenset(
    regex.findall(
        "[a-z]+",
        "a an and as at but by de del der des di du et for from in into la le nor of "
        "on or per the to und van von vs with y",
    )
)
# What Unicode does not take apart.
_ASCII = str.maketrans("łŁøØđĐðÐı–−’‘ʼʻ", "lLoOdDdDi--''''") | {
    ord(letter): letters
    for letter, letters in zip(
        "þÞæÆœŒß—", ("th", "Th", "ae", "Ae", "oe", "Oe", "ss", "--"), strict=True
    )
}
_PART = regex.compile(r"[A-Za-z0-9]+(?:'[st](?![A-Za-z0-9]))?")
_UNSAYABLE = regex.compile(r"(?=.*[a-z])(?:[^aeiouy]{2,5}|[a-z]{1,3}[0-9]+)")
_SENTENCE_END = (".", "?", "!", ":", ";", '"', "”", "(")
_EDGES = ".,;:!?()[]\"“”'‘’—–"
_GUESS = 2.0  # how many sightings the guess before any sighting weighs
_CAPITALS = 0.7  # the share of words in titles, after the first, with a capital


@dataclasses.dataclass
class TextCounts:
    """How the texts spell things: each a count of spellings."""

    pages: set[str] = dataclasses.field(default_factory=set)  # titles
    links: Counter[str] = dataclasses.field(default_factory=Counter)  # to a title
    words: Counter[str] = dataclasses.field(default_factory=Counter)
    phrases: Counter[str] = dataclasses.field(default_factory=Counter)
    # Phrases that are anchors of titles which `is_held_out`.
    held_out: Counter[str] = dataclasses.field(default_factory=Counter)

    def add(self, other: TextCounts) -> None:
        """Add the counts of another text."""
        self.pages |= other.pages
        self.links.update(other.links)
        self.words.update(other.words)
        self.phrases.update(other.phrases)
        self.held_out.update(other.held_out)

    def titles(self) -> Counter[str]:
        """Every title, and how often it is that of a page or the target of a link."""
        return self.links + Counter(self.pages)


@dataclasses.dataclass(frozen=True)
class WordCounts:
    """For each word in lower case how often it has (a capital letter, none)."""

    titles: Mapping[str, tuple[int, int]]  # after the first word
    texts: Mapping[str, tuple[int, int]]  # not at the beginning of a sentence
    endings: Mapping[str, tuple[int, int]]  # words of titles, by three last letters
    capitals: Mapping[str, str]  # the most frequent spelling with a capital letter


@dataclasses.dataclass(frozen=True)
class CaseModel:
    """What the case of names is restored by."""

    titles: Mapping[str, str]  # `ascii_key` -> title
    phrases: Mapping[str, str]  # `ascii_key` -> spelling
    words: WordCounts
    weights: Float[np.ndarray, " F"]  # of `_features`
    scores: dict[str, tuple[float, float, float]]  # by word; filled when asked for


def ascii_key(name: str) -> str:
    """A name in lower-case ASCII as far as that is possible, words apart by a space."""
    return " ".join(to_ascii(name).lower().split())


def to_ascii(text: str) -> str:
    """A text without accents, and with ASCII letters for those that have no parts."""
    if text.isascii():
        return text
    letters = unicodedata.normalize("NFKD", text.translate(_ASCII))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def is_held_out(title: str) -> bool:
    """Whether a title is one of the half that the restored case is measured on."""
    digest = hashlib.blake2b(ascii_key(title).encode(), digest_size=1).digest()
    return digest[0] < 128


def count_file(
    file: Path, names: str
) -> tuple[TextCounts, list[tuple[str, int | None, str, str]]]:
    """How the pages of a file spell titles, words, and those phrases that are names;
    and the arguments of Rejects.add for what is bad in the file.

    names: the file of a trie of names.
    """
    rejects = Rejects()
    counts = TextCounts()
    tokens: Counter[str] = Counter()
    trie = _open_trie(names)
    for page in read_pages(file, rejects):
        counts.pages.add(page.title)
        for paragraph in page.paragraphs:
            _count_links(paragraph, trie, counts)
            for line in _between_links(paragraph):
                _count_line(line, trie, tokens, counts.phrases)
    for token, count in tokens.items():
        for word in _PART.findall(to_ascii(token)):
            counts.words[word] += count
    return counts, rejects.entries


def fit(
    titles: Mapping[str, int], words: Mapping[str, int], phrases: Mapping[str, int]
) -> CaseModel:
    """A model from counts of the spellings of titles, of words and of phrases."""
    counted = _count_words(titles, words)
    rows, capital = [], []
    for title in titles:
        spelled = _PART.findall(to_ascii(title))
        parts = [word.lower() for word in spelled]
        if "(" in title or len(parts) < 2:
            continue
        # A word's own sighting in this title must not tell its case.
        own = [int(a != b) for a, b in zip(spelled, parts, strict=True)]
        scores = [
            _word_score(counted, word, mine)
            for word, mine in zip(parts, own, strict=True)
        ]
        for place in range(1, len(parts)):
            if parts[place] not in _SMALL:
                rows.append(_features(parts, scores, place))
                capital.append(own[place])
    weights = _fit_logistic(
        np.array(rows or np.zeros((1, 9)), float), np.array(capital or [1], float)
    )
    return CaseModel(
        _most_frequent(titles), _most_frequent(phrases), counted, weights, {}
    )


def restore(name: str, model: CaseModel) -> str:
    """A name, in lower-case ASCII, as the title of an article."""
    key = ascii_key(name)
    if key in model.titles:
        return model.titles[key]
    # Within a sentence the article of a title is in lower case.
    if key in model.phrases and not key.startswith("the "):
        return capitalise(model.phrases[key])
    places = list(_PART.finditer(key))
    parts = [place[0] for place in places]
    scores = [_cached_score(model, word) for word in parts]
    pieces, end = [], 0
    for i, (place, word) in enumerate(zip(places, parts, strict=True)):
        pieces.append(key[end : place.start()])
        end = place.end()
        large = i == 0
        initial = len(word) == 1 and key.startswith(".", end)
        if i > 0 and (word not in _SMALL or initial):
            features = _features(parts, scores, i)
            total = sum(map(float.__mul__, features, model.weights.tolist()))
            large = initial or total > 0
        pieces.append(_capital(word, model.words) if large else word)
    return capitalise("".join(pieces) + key[end:])


def restore_by_rule(name: str) -> str:
    """A name with a capital letter for each word, except small words after the
    first."""
    words = ascii_key(name).split()
    return " ".join(
        word if place and word in _SMALL else capitalise(word)
        for place, word in enumerate(words)
    )


def measure(counts: TextCounts) -> dict[str, float]:
    """The share of the held-out titles whose case is restored, in percent.

    These are targets of links of at most three words. Nothing that is fitted sees them
    or their anchors. "letters" compares without accents, which the names have lost.
    """
    model = fit(
        {t: n for t, n in counts.titles().items() if not is_held_out(t)},
        counts.words,
        counts.phrases,
    )
    titles = [
        title
        for title in sorted(counts.links)
        if is_held_out(title) and "(" not in title and len(title.split()) <= 3
    ]
    shares = {}
    for way, function in (
        ("by rule", restore_by_rule),
        ("with texts", functools.partial(restore, model=model)),
    ):
        restored = [function(ascii_key(title)) for title in titles]
        pairs = list(zip(restored, titles, strict=True))
        exact = sum(a == b for a, b in pairs)
        letters = sum(to_ascii(a) == to_ascii(b) for a, b in pairs)
        shares[f"case right {way}"] = 100 * letters / max(1, len(titles))
        shares[f"case and accents right {way}"] = 100 * exact / max(1, len(titles))
    return shares


@functools.lru_cache(maxsize=1)
def _open_trie(file: str) -> marisa_trie.Trie:
    trie = marisa_trie.Trie()
    trie.mmap(file)
    return trie


def _count_links(
    paragraph: Document, names: marisa_trie.Trie, counts: TextCounts
) -> None:
    """Count the targets of a paragraph's links, and the anchors that are names."""
    for mention in paragraph.mentions:
        if mention.entity is None:
            continue
        counts.links[mention.entity] += 1
        anchor = paragraph.text[mention.start : mention.end]
        if " " in anchor and ascii_key(anchor) in names:
            held_out = is_held_out(mention.entity)
            (counts.held_out if held_out else counts.phrases)[anchor] += 1


def _between_links(paragraph: Document) -> Iterator[str]:
    """The pieces of a paragraph's text that are not linked."""
    start = 0
    for mention in paragraph.mentions:
        yield paragraph.text[start : mention.start]
        start = mention.end
    yield paragraph.text[start:]


def _count_line(
    line: str, names: marisa_trie.Trie, tokens: Counter[str], phrases: Counter[str]
) -> None:
    """Count the words of a line, and the phrases that are names.

    Left out are those with which a sentence may begin.
    """
    words = line.split()
    keys = to_ascii(line).lower().split()
    if len(keys) != len(words):  # accents that stand alone
        return
    inside = [False, *(not word.endswith(_SENTENCE_END) for word in words[:-1])]
    tokens.update(itertools.compress(words, inside))
    left = [key.lstrip(_EDGES) for key in keys]
    right = [key.rstrip(_EDGES) for key in keys]
    for i in itertools.compress(range(len(words)), inside):
        start = left[i]
        for end in range(i + 1, min(i + LONGEST_PHRASE, len(words))):
            if f"{start} {right[end]}" in names:
                phrases[" ".join(words[i : end + 1]).strip(_EDGES)] += 1
            start = f"{start} {keys[end]}"


def _most_frequent(spellings: Mapping[str, int]) -> dict[str, str]:
    """ascii_key -> its most frequent spelling; of equals the first in order."""
    best: dict[str, str] = {}
    for spelling in sorted(spellings, key=lambda name: (-spellings[name], name)):
        best.setdefault(ascii_key(spelling), spelling)
    return best


def _count_words(titles: Iterable[str], texts: Mapping[str, int]) -> WordCounts:
    """Count the words of titles and of texts."""
    in_titles: Counter[str] = Counter()
    for title in titles:
        if "(" not in title:
            in_titles.update(_PART.findall(to_ascii(title))[1:])
    by_title, by_text = _capital_counts(in_titles), _capital_counts(texts)
    endings: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for word, (large, small) in by_title.items():
        endings[word[-3:]][large <= small] += 1
    capitals = {
        word: spelling
        for word, spelling in _best_capitals(in_titles + Counter(texts)).items()
        if spelling != capitalise(word)
    }
    return WordCounts(
        by_title, by_text, {e: (a, b) for e, (a, b) in endings.items()}, capitals
    )


def _capital_counts(words: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """word in lower case -> how often it has (a capital letter, none)."""
    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for word, count in words.items():
        counts[word.lower()][word == word.lower()] += count
    return {word: (large, small) for word, (large, small) in counts.items()}


def _best_capitals(words: Mapping[str, int]) -> dict[str, str]:
    """word in lower case -> its most frequent spelling that has a capital letter."""
    best: dict[str, str] = {}
    for word in sorted(words, key=lambda word: (-words[word], word)):
        if word != word.lower():
            best.setdefault(word.lower(), word)
    return best


def _capital(word: str, words: WordCounts) -> str:
    """A word with its capital letters: as seen, else as an acronym or a name has
    them."""
    if word in words.capitals:
        return words.capitals[word]
    known = word in words.texts or word in words.titles
    if not known and _UNSAYABLE.fullmatch(word):
        return word.upper()
    return capitalise(word)


def _word_score(
    words: WordCounts, word: str, own: int | None = None
) -> tuple[float, float, float]:
    """The log-odds of a capital letter for a word in titles, and in texts, and whether
    it is small (1) or not.

    Each count is smoothed by the next coarser one: titles by texts, texts by the
    word's ending. own: what to leave out of the counts of titles, 1 for one with a
    capital letter, 0 for one without.
    """

    def smooth(counts: tuple[int, int], guess: float) -> float:
        return (counts[0] + _GUESS * guess) / (sum(counts) + _GUESS)

    ending = smooth(words.endings.get(word[-3:], (0, 0)), _CAPITALS)
    text = smooth(words.texts.get(word, (0, 0)), ending)
    large, small = words.titles.get(word, (0, 0))
    if own is not None and large + small:
        large, small = max(large - own, 0), max(small - 1 + own, 0)
    title = smooth((large, small), text)
    return _logit(title), _logit(text), float(word in _SMALL)


def _cached_score(model: CaseModel, word: str) -> tuple[float, float, float]:
    if word not in model.scores:
        model.scores[word] = _word_score(model.words, word)
    return model.scores[word]


def _features(
    parts: list[str], scores: list[tuple[float, float, float]], place: int
) -> list[float]:
    """What is known of the word at `place` of a name, as far as its case goes."""
    title, text, _ = scores[place]
    _, first, first_small = scores[0]
    others = [
        scores[i][0] for i in range(1, len(parts)) if i != place and not scores[i][2]
    ]
    mean = sum(others) / len(others) if others else 0.0
    squashed, squashed_first = math.tanh(title / 2), math.tanh(first / 2)
    return [
        *(1.0, title, squashed, math.tanh(text / 2)),
        *(first, squashed_first, first_small),
        *(mean, float(parts[place][0].isdigit())),
    ]


def _fit_logistic(
    rows: Float[np.ndarray, "N F"], labels: Float[np.ndarray, " N"]
) -> Float[np.ndarray, " F"]:
    """The weights of a logistic regression, by Newton's method."""
    weights = np.zeros(rows.shape[1])
    ridge = 0.1 * np.eye(len(weights))
    for _ in range(10):
        p = 1 / (1 + np.exp(-np.clip(rows @ weights, -30, 30)))
        gradient = rows.T @ (p - labels) + ridge @ weights
        hessian = (rows * (p * (1 - p))[:, None]).T @ rows + ridge
        weights -= np.linalg.solve(hessian, gradient)
    return weights


def _logit(p: float) -> float:
    p = min(max(p, 1e-4), 1 - 1e-4)
    return math.log(p / (1 - p))
