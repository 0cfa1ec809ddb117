"""A knowledge base and labelled documents in; what each rule that makes surface forms
would bring and cost out.

No knowledge base is built for it. One pass over all names makes the forms of every
rule, and keeps those that may occur in the documents.
"""

from __future__ import annotations

import dataclasses
import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import marisa_trie
import numpy as np
from jaxtyping import Int, Int64

from insgenel_jax.evaluation.losses import find_entity
from insgenel_jax.evaluation.scoring import Resolve
from insgenel_jax.kb.build.name_rules import (
    FORM_RULES,
    FormRule,
    Name,
    read_name,
    rule_keys,
)
from insgenel_jax.kb.folding import fold, form_key
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.kb.matcher import Matcher, Matches
from insgenel_jax.kb.occurrences import is_stop_word
from insgenel_jax.text.document import WORD, Document

TOGETHER = "together"

# The entities that a retriever finds for each document.
Retrieve = Callable[[Sequence[Document]], list[Int[np.ndarray, " R"]]]


@dataclasses.dataclass(frozen=True)
class Row:
    """What a dictionary holds of a set of labelled documents, as many as `texts`.

    rules: whose forms the dictionary has beside those of the knowledge base. golds:
    mentions with an entity. known: those whose entity is in the knowledge base; no more
    can be found. found: those whose entity is a candidate. candidates: summed over the
    golds. matches: candidate mentions, summed over the documents.
    kept, kept_candidates: what is left of `found` and `candidates` where the retriever
    has to find an entity for its document; None without a retriever.
    """

    documents: str
    rules: tuple[FormRule, ...]
    texts: int
    golds: int
    known: int
    found: int
    candidates: int
    matches: int
    kept: int | None = None
    kept_candidates: int | None = None


class Addition(NamedTuple):
    """More surface forms beside those of a knowledge base: N pairs of a form's number
    and an entity, sorted and each once; a matcher of the forms."""

    rules: tuple[FormRule, ...]
    forms: Int64[np.ndarray, " N"]
    entities: Int64[np.ndarray, " N"]
    matcher: Matcher

    def candidates(self, form: int | None) -> Int64[np.ndarray, " M"]:
        """The entities that are added for a form; none for None."""
        if form is None:
            return self.entities[:0]
        return self.entities[slice(*np.searchsorted(self.forms, [form, form + 1]))]


class Gold(NamedTuple):
    """A gold mention: the number of its document, its form's key, its entity's row."""

    document: int
    key: str
    entity: int | None


def study_surface_forms(
    kb: KnowledgeBase,
    sets: Mapping[str, Sequence[Document]],
    resolve: Resolve,
    *,
    retrieve: Retrieve | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> list[Row]:
    """For each set, a row for the knowledge base without what its own rules gave, one
    for each rule alone, and one for each rule with all before it in FORM_RULES, the
    last of them for all rules.

    resolve: what a gold's title stands for, see `scoring.make_resolve`.
    """
    documents = itertools.chain.from_iterable(sets.values())
    numbers, additions = _make_additions(kb, _make_filter(documents), progress)
    rows = []
    for name, documents in sets.items():
        progress(f"counting the candidates of {name}")
        found = None if retrieve is None else retrieve(documents)
        golds = [
            Gold(i, form_key(d.text[m.start : m.end]), find_entity(m, kb, resolve))
            for i, d in enumerate(documents)
            for m in d.mentions
            if m.entity is not None
        ]
        spans = [_spans(d.text, _counted_matches(kb, d.text)) for d in documents]
        for added in (None, *additions):
            counts = _count_golds(kb, golds, numbers, added, found)
            matches = sum(
                len(of_kb | _spans(d.text, added.matcher.match(d.text)))
                if added is not None
                else len(of_kb)
                for d, of_kb in zip(documents, spans, strict=True)
            )
            rules = () if added is None else added.rules
            row = Row(
                name, rules, len(documents), len(golds), matches=matches, **counts
            )
            rows.append(row)
    return rows


def _make_filter(documents: Iterable[Document]) -> Callable[[str], bool]:
    """Whether a form may occur in the documents: they have its words, one after the
    other. (What stands between the words is left to a matcher.)"""
    words: set[str] = set()
    pairs: set[tuple[str, str]] = set()
    for document in documents:
        ends = (document.text[m.start : m.end] for m in document.mentions)
        for text in (document.text, *ends):
            found = WORD.findall(fold(text))
            words.update(found)
            pairs.update(itertools.pairwise(found))

    def occurs(form: str) -> bool:
        if form in words:
            return True
        parts = WORD.findall(form)
        return words.issuperset(parts) and pairs.issuperset(itertools.pairwise(parts))

    return occurs


def _make_additions(
    kb: KnowledgeBase, occurs: Callable[[str], bool], progress: Callable[[str], None]
) -> tuple[dict[str, int], list[Addition]]:
    """The number of each form that a rule makes and that `occurs`; the additions."""
    numbers: dict[str, int] = {}
    # of each rule, and of those that only rules together make: forms, entities
    made = {rule: (array("i"), array("i")) for rule in (*FORM_RULES, TOGETHER)}
    for count, (name, entity) in enumerate(_names(kb)):
        if count % 100_000 == 0:
            progress(f"{count:,} names of entities and redirects")
        for rule, keys in _keys_by_rule(name).items():
            forms, entities = made[rule]
            for key in filter(occurs, keys):
                forms.append(numbers.setdefault(key, len(numbers)))
                entities.append(entity)
    pairs = {
        rule: np.array(forms, np.int64) << 32 | np.array(entities, np.int64)
        for rule, (forms, entities) in made.items()
    }
    keys = list(numbers)
    additions = [_make_addition((rule,), [pairs[rule]], keys) for rule in FORM_RULES]
    for count in range(2, len(FORM_RULES) + 1):
        rules = FORM_RULES[:count]
        parts = [pairs[rule] for rule in rules]
        if "ascii" in rules:
            parts.append(pairs[TOGETHER])
        additions.append(_make_addition(rules, parts, keys))
    return numbers, additions


def _names(kb: KnowledgeBase) -> Iterator[tuple[Name, int]]:
    """Every title and every redirect's name, with the row of the entity."""
    for row in range(len(kb)):
        yield read_name(kb.title(row), kb.description(row)), row
    for name, row in kb.redirects():
        yield read_name(name), row


def _keys_by_rule(name: Name) -> dict[str, set[str]]:
    """The keys of the forms that each rule makes; those that only rules together make,
    which are other rules' forms in ASCII, under TOGETHER."""
    keys: dict[str, set[str]] = {rule: rule_keys(name, [rule]) for rule in FORM_RULES}
    # The other cases, which are nearly all, have nothing that ASCII spells otherwise.
    if keys["ascii"] or keys["demonym"] or not name.whole.isascii():
        keys[TOGETHER] = rule_keys(name, FORM_RULES)
    return keys


def _make_addition(
    rules: tuple[FormRule, ...], parts: Sequence[np.ndarray], keys: Sequence[str]
) -> Addition:
    """An addition of pairs, each of them form << 32 | entity. keys: of the forms."""
    pairs = np.unique(np.concatenate(parts))
    forms = [keys[form] for form in np.unique(pairs >> 32).tolist()]
    matcher = Matcher(marisa_trie.Trie(forms), max(map(len, forms), default=1))
    return Addition(rules, pairs >> 32, pairs & 0xFFFFFFFF, matcher)


def _counted(kb: KnowledgeBase, form: int) -> Int[np.ndarray, " M"]:
    """The candidates of a form that not only a rule gives."""
    entities, counts = kb.candidates(form)
    return entities[counts >= 1]


def _counted_matches(kb: KnowledgeBase, text: str) -> Matches:
    """The matches in a text of the forms that not only rules give."""
    matches = kb.matches(text)
    forms = {form: len(_counted(kb, form)) > 0 for form in set(matches.forms.tolist())}
    keep = np.array([forms[form] for form in matches.forms.tolist()], bool)
    return Matches(*(column[keep] for column in matches))


def _spans(text: str, matches: Matches) -> set[tuple[int, int]]:
    """The spans of matches, without stop words."""
    spans = zip(matches.starts.tolist(), matches.ends.tolist(), strict=True)
    return {span for span in spans if not is_stop_word(text[slice(*span)])}


def _count_golds(
    kb: KnowledgeBase,
    golds: Sequence[Gold],
    numbers: Mapping[str, int],
    added: Addition | None,
    retrieved: Sequence[Int[np.ndarray, " R"]] | None,
) -> dict[str, int | None]:
    """The fields of a `Row` that are counted over golds."""
    counts = Counter(known=0, found=0, candidates=0)
    if retrieved is not None:
        counts.update(kept=0, kept_candidates=0)
    of_forms: dict[str, np.ndarray] = {}
    for document, key, entity in golds:
        if key not in of_forms:
            form = kb.form(key)
            of_kb = [] if form is None else _counted(kb, form)
            more = [] if added is None else added.candidates(numbers.get(key))
            of_forms[key] = np.union1d(of_kb, more)
        candidates = of_forms[key]
        found = entity is not None and entity in candidates
        counts["known"] += entity is not None
        counts["found"] += found
        counts["candidates"] += len(candidates)
        if retrieved is not None:
            here = retrieved[document]
            counts["kept"] += found and entity in here
            counts["kept_candidates"] += len(np.intersect1d(candidates, here))
    return dict(counts)
