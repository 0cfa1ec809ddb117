"""Gold and predicted documents in; precision, recall and F1 out (DESIGN.md section 11).

In-KB is a property of the benchmark's labels: a gold mention is in-KB when its entity
is not NIL, whatever the linker's own knowledge base holds.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.document import Document, Mention, normalise
from insgenel_jax.text.formats.rejects import InputError

Same = Callable[[Mention, Mention], bool]
Resolve = Callable[[str], str]
Offered = Mapping[tuple[int, int], Iterable[int]]  # span -> rows of entities

STAGES = (
    "not in KB",
    "surface not in dictionary",
    "not retrieved",
    "opening refused",
    "wrong span",
    "wrong entity",
)


class Counts(NamedTuple):
    """True positives, false positives, false negatives."""

    tp: int
    fp: int
    fn: int


class Measures(NamedTuple):
    """Precision, recall and F1, each between 0 and 1."""

    precision: float
    recall: float
    f1: float


@dataclasses.dataclass(frozen=True)
class Scores:
    """The scores of one system on one set, in-KB golds and predictions alone.

    micro, counts: over all mentions. macro: means over documents. detection: spans
    alone, micro. accuracy: of the golds whose span was predicted, the share with the
    right entity (NaN where there are none). titles_checked: whether gold titles were
    looked up in a title table. per_document: counts [documents, 3].
    """

    documents: int
    golds: int
    predictions: int
    counts: Counts
    micro: Measures
    macro: Measures
    detection: Measures
    accuracy: float
    titles_checked: bool
    per_document: np.ndarray


class Interval(NamedTuple):
    """A difference of micro F1 and its 95 % interval."""

    difference: float
    low: float
    high: float


def score(
    gold: Sequence[Document],
    predicted: Sequence[Document],
    mode: str = "gerbil",
    same: Same | None = None,
    titles: Container[str] | None = None,
    within: Callable[[Mention], bool] | None = None,
) -> Scores:
    """Score predictions by the rules of GERBIL's strong match.

    same: whether two mentions name one entity; by default `same_entity()`. titles: all
    titles that exist, folded; a title that is not among them is NIL, in gold and in
    predictions, which then cost nothing. within: a gold mention for which it is false becomes NIL too ("F1 within our KB").
    Raises InputError that names the documents when the two sides do not pair up.
    """
    if mode != "gerbil":
        raise ValueError(f"mode: expected 'gerbil', found {mode!r}")
    same = same or same_entity()

    if titles is not None:
        gold = make_nil(gold, lambda m: is_gone(m, titles))
        predicted = make_nil(predicted, lambda m: is_gone(m, titles))
    if within is not None:
        gold = make_nil(gold, lambda m: not within(m))
    per_document, spans = [], []
    for golds, guesses in pair_documents(gold, predicted):
        wanted = [m for m in golds.mentions if m.entity is not None]
        found = [m for m in guesses.mentions if m.entity is not None]
        per_document.append(count_matches(wanted, found, same))
        spans.append(count_matches(wanted, found, lambda a, b: True))
    table = np.array(per_document, np.int64).reshape(-1, 3)
    counts = Counts(*table.sum(0).tolist())
    detected = Counts(*np.array(spans, np.int64).reshape(-1, 3).sum(0).tolist())
    means = np.array([measure(Counts(*row)) for row in per_document]).reshape(-1, 3)
    return Scores(
        documents=len(per_document),
        golds=counts.tp + counts.fn,
        predictions=counts.tp + counts.fp,
        counts=counts,
        micro=measure(counts),
        macro=Measures(*means.mean(0).tolist()) if len(means) else measure(counts),
        detection=measure(detected),
        accuracy=counts.tp / detected.tp if detected.tp else float("nan"),
        titles_checked=titles is not None,
        per_document=table,
    )


def make_nil(
    documents: Sequence[Document], when: Callable[[Mention], bool]
) -> list[Document]:
    """The documents with the mentions for which `when` is true made NIL."""
    return [
        dataclasses.replace(
            document,
            mentions=tuple(
                dataclasses.replace(m, entity=None)
                if m.entity is not None and when(m)
                else m
                for m in document.mentions
            ),
        )
        for document in documents
    ]


def is_gone(mention: Mention, titles: Container[str]) -> bool:
    """Whether a mention's title is no longer among all (folded) titles there are."""
    return fold_title(mention.entity) not in titles


def count_matches(
    golds: Sequence[Mention], predictions: Sequence[Mention], same: Same
) -> Counts:
    """Golds in order each take the first unused prediction of their span and entity."""
    unused: dict[tuple[int, int], list[Mention]] = collections.defaultdict(list)
    for prediction in predictions:
        unused[prediction.start, prediction.end].append(prediction)
    tp = 0
    for gold in golds:
        on_span = unused.get((gold.start, gold.end), [])
        match = next((i for i, p in enumerate(on_span) if same(gold, p)), None)
        if match is not None:
            del on_span[match]
            tp += 1
    return Counts(tp, len(predictions) - tp, len(golds) - tp)


def measure(counts: Counts) -> Measures:
    """Precision, recall, F1. Nothing to find and nothing found is perfect: all 1."""
    tp, fp, fn = counts
    if tp == 0:
        return Measures(*[float(fp + fn == 0)] * 3)
    return Measures(tp / (tp + fp), tp / (tp + fn), 2 * tp / (2 * tp + fp + fn))


def fold_title(title: str) -> str:
    """A title as titles are compared: underscores are spaces, the first letter large."""
    title = normalise(title).replace("_", " ").strip()
    first = title[:1].upper()
    return first + title[1:] if len(first) == 1 else title


def make_resolve(
    redirects: Mapping[str, str] | None = None, kb: KnowledgeBase | None = None
) -> Resolve:
    """A function title -> the folded title it stands for.

    redirects: alias -> title, followed to their end; then those of the knowledge base.
    Where that end is not in the knowledge base but an alias of it is, the alias (the
    first in the alphabet) stands for them all.
    """
    table = {fold_title(a): fold_title(t) for a, t in (redirects or {}).items()}

    def follow(title: str) -> str:
        path = [title]
        while path[-1] in table and path[-1] not in path[:-1]:
            path.append(table[path[-1]])
        if path[-1] in path[:-1]:  # a circle of redirects: all in it are one title
            return min(path[path.index(path[-1]) :])
        return path[-1]

    def look_up(title: str) -> str | None:
        row = None if kb is None else kb.find(title)
        return None if row is None else fold_title(kb.title(row))

    stand_ins: dict[str, str] = {}
    for alias in sorted(table if kb is not None else ()):
        if (found := look_up(alias)) is not None:
            stand_ins.setdefault(follow(alias), found)

    @functools.cache
    def resolve(title: str) -> str:
        end = follow(fold_title(title))
        return look_up(end) or stand_ins.get(end, end)

    return resolve


def same_entity(resolve: Resolve | None = None) -> Same:
    """Whether two mentions name one entity: by external id or by resolved title."""
    resolve = resolve or fold_title

    def same(a: Mention, b: Mention) -> bool:
        if a.external_id is not None and a.external_id == b.external_id:
            return True
        if a.entity is None or b.entity is None:
            return False
        return a.entity == b.entity or resolve(a.entity) == resolve(b.entity)

    return same


def pair_documents(
    gold: Sequence[Document], predicted: Sequence[Document]
) -> Iterator[tuple[Document, Document]]:
    """Pairs of documents with equal id and text, in the order of `gold`.

    Raises InputError that names the documents that are missing, extra or altered.
    """
    waiting = collections.defaultdict(collections.deque)
    for document in predicted:
        waiting[document.id, document.text].append(document)
    pairs, missing = [], []
    for document in gold:
        queue = waiting[document.id, document.text]
        if queue:
            pairs.append((document, queue.popleft()))
        else:
            missing.append(document.id)
    extra = [key[0] for key, queue in waiting.items() for _ in queue]
    if missing or extra:
        altered = sorted(set(missing) & set(extra))
        raise InputError(
            "expected one prediction for each gold document, of the same id and text; "
            f"found {_names(missing)} missing, {_names(extra)} extra, of these "
            f"{_names(altered)} with another text; link the gold file itself"
        )
    return iter(pairs)


def compare(a: Scores, b: Scores, *, samples: int = 10_000, seed: int = 0) -> Interval:
    """Micro F1 of a minus that of b, with a 95 % paired bootstrap over documents."""
    if a.documents != b.documents:
        raise ValueError(
            f"expected scores of the same documents, found {a.documents} and "
            f"{b.documents}"
        )
    difference = a.micro.f1 - b.micro.f1
    if not a.documents:
        return Interval(difference, difference, difference)
    rng = np.random.default_rng(seed)
    even = np.full(a.documents, 1 / a.documents)
    drawn = []
    for start in range(0, samples, 500):
        times = rng.multinomial(a.documents, even, size=min(500, samples - start))
        drawn.append(_f1(times @ a.per_document) - _f1(times @ b.per_document))
    low, high = np.percentile(np.concatenate(drawn), [2.5, 97.5]).tolist()
    return Interval(difference, low, high)


def count_losses(
    gold: Sequence[Document],
    predicted: Sequence[Document],
    kb: KnowledgeBase,
    resolve: Resolve,
    offered: Sequence[Offered] | None = None,
) -> dict[str, int]:
    """In-KB golds that were not found, by the first stage that lost them (`STAGES`).

    offered: what the linker could choose from in each document; without it nothing is
    told to be "not retrieved", which is also where its filters' losses go.
    """
    same = same_entity(resolve)

    def is_among(row: int, rows: Iterable[int]) -> bool:
        # a knowledge base may hold a title and, as another entity, an alias of it
        title = resolve(kb.title(row))
        return any(resolve(kb.title(other)) == title for other in rows)

    lost = dict.fromkeys(STAGES, 0)
    pairs = pair_documents(gold, predicted)
    for number, (golds, guesses) in enumerate(pairs):
        found = [m for m in guesses.mentions if m.entity is not None]
        for mention in golds.mentions:
            if mention.entity is None:
                continue
            span = mention.start, mention.end
            at = [p for p in found if (p.start, p.end) == span]
            if any(same(mention, p) for p in at):
                continue
            row = find_entity(mention, kb, resolve)
            form = kb.form(golds.text[slice(*span)])
            choice = () if form is None else kb.candidates(form)[0].tolist()
            if row is None:
                stage = "not in KB"
            elif not is_among(row, choice):
                stage = "surface not in dictionary"
            elif offered is not None and not is_among(
                row, offered[number].get(span, ())
            ):
                stage = "not retrieved"
            elif at:
                stage = "wrong entity"
            elif any(p.start < span[1] and span[0] < p.end for p in found):
                stage = "wrong span"
            else:
                stage = "opening refused"
            lost[stage] += 1
    return lost


def find_entity(mention: Mention, kb: KnowledgeBase, resolve: Resolve) -> int | None:
    """The row of a mention's entity in a knowledge base, by external id or title."""
    row = None
    if mention.external_id is not None:
        row = kb.find_external(mention.external_id)
    if row is None and mention.entity is not None:
        row = kb.find(resolve(mention.entity))
    return row


def _f1(counts: np.ndarray) -> np.ndarray:
    """F1 of rows of (tp, fp, fn), [N, 3] -> [N]; 1 where all three are zero."""
    tp, fp, fn = counts.T
    total = 2 * tp + fp + fn
    return np.where(total == 0, 1.0, 2 * tp / np.maximum(total, 1))


def _names(ids: Sequence[str]) -> str:
    shown = ", ".join(map(repr, ids[:5])) + (", ..." if len(ids) > 5 else "")
    return f"{len(ids)} ({shown})" if ids else "0"
