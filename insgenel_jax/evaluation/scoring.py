"""Gold and predicted documents in; precision, recall and F1 out.

"In-KB" is a property of the benchmark's labels: a gold mention is in-KB when its entity
is not NIL, whatever the linker's own knowledge base holds.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Int

from insgenel_jax.kb.folding import fold_title
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.elevant import Article
from insgenel_jax.text.formats.rejects import InputError

Paired = TypeVar("Paired", Document, Article)
Span = tuple[int, int]  # characters [start, end)
Same = Callable[[Mention, Mention], bool]  # whether two mentions name one entity
Resolve = Callable[[str], str]  # title -> the folded title that it stands for


class Counts(NamedTuple):
    """True positives, false positives, false negatives."""

    tp: int
    fp: int
    fn: int


class PrecisionRecall(NamedTuple):
    """Precision, recall and F1, each between 0 and 1."""

    precision: float
    recall: float
    f1: float


@dataclasses.dataclass(frozen=True)
class Scores:
    """The scores of one system on one set; in-KB golds and predictions alone count.

    micro, counts: over all mentions. macro: means over documents. detection: micro, by
    span, whatever the entity. accuracy: the share of right entities among the golds
    whose span was predicted (NaN where there are none). titles_checked: whether gold
    titles were looked up in a table of all titles. per_document: tp, fp and fn of each
    document.
    """

    documents: int
    golds: int
    predictions: int
    counts: Counts
    micro: PrecisionRecall
    macro: PrecisionRecall
    detection: PrecisionRecall
    accuracy: float
    titles_checked: bool
    per_document: Int[np.ndarray, "documents 3"]


class Estimate(NamedTuple):
    """A micro F1 and its 95 % interval."""

    f1: float
    low: float
    high: float


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
    titles that exist, folded. A mention whose title is not among them is made NIL, in
    the gold and in the predictions. NIL mentions are not scored, so such a prediction
    is no false positive. within: a gold mention for which it is false becomes NIL too
    ("F1 within our KB"). Raises InputError that names the documents
    where the two sides do not pair up.
    """
    if mode != "gerbil":
        raise ValueError(f"mode: expected 'gerbil', found {mode!r}")
    same = same or same_entity()

    if titles is not None:
        gold = make_nil(gold, lambda m: is_gone(m, titles))
        predicted = make_nil(predicted, lambda m: is_gone(m, titles))
    if within is not None:
        gold = make_nil(gold, lambda m: not within(m))
    matches, span_matches = [], []
    for labelled, linked in pair_documents(gold, predicted):
        golds = [m for m in labelled.mentions if m.entity is not None]
        predictions = [m for m in linked.mentions if m.entity is not None]
        matches.append(count_matches(golds, predictions, same))
        span_matches.append(count_matches(golds, predictions, lambda a, b: True))
    per_document = np.array(matches, np.int64).reshape(-1, 3)
    return make_scores(
        per_document,
        _total(span_matches),
        int(per_document[:, 0].sum()),
        titles_checked=titles is not None,
    )


def make_scores(
    per_document: Int[np.ndarray, "documents 3"],
    spans: Counts,
    right: int,
    *,
    titles_checked: bool,
) -> Scores:
    """The scores that follow from tp, fp and fn of each document.

    spans: the counts of detection. right: how many golds have the right entity, among
    those whose span was predicted.
    """
    counts = Counts(*per_document.sum(0).tolist())
    macro = precision_recall(counts)  # where there are no documents
    if len(per_document):
        rows = [precision_recall(Counts(*row)) for row in per_document.tolist()]
        macro = PrecisionRecall(*np.mean(rows, 0).tolist())
    return Scores(
        documents=len(per_document),
        golds=counts.tp + counts.fn,
        predictions=counts.tp + counts.fp,
        counts=counts,
        micro=precision_recall(counts),
        macro=macro,
        detection=precision_recall(spans),
        accuracy=right / spans.tp if spans.tp else float("nan"),
        titles_checked=titles_checked,
        per_document=per_document,
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
    """Whether a mention's title is no longer among all (folded) titles that exist."""
    return mention.entity is not None and fold_title(mention.entity) not in titles


def count_matches(
    golds: Sequence[Mention], predictions: Sequence[Mention], same: Same
) -> Counts:
    """True positives, false positives and false negatives by `match`."""
    tp = len(match(golds, predictions, same))
    return Counts(tp, len(predictions) - tp, len(golds) - tp)


def match(
    golds: Sequence[Mention], predictions: Sequence[Mention], same: Same
) -> set[int]:
    """The numbers of the predictions that are right.

    Each gold, in order, makes the first unused prediction that equals it right.
    """
    unused: dict[Span, list[int]] = collections.defaultdict(list)
    for number, prediction in enumerate(predictions):
        unused[prediction.start, prediction.end].append(number)
    right = set()
    for gold in golds:
        on_span = unused.get((gold.start, gold.end), [])
        found = next((n for n in on_span if same(gold, predictions[n])), None)
        if found is not None:
            on_span.remove(found)
            right.add(found)
    return right


def precision_recall(counts: Counts) -> PrecisionRecall:
    """Precision, recall and F1 of counts; all are 1 where every count is 0."""
    tp, fp, fn = counts
    if tp == 0:
        return PrecisionRecall(*[float(fp + fn == 0)] * 3)
    return PrecisionRecall(tp / (tp + fp), tp / (tp + fn), 2 * tp / (2 * tp + fp + fn))


def make_resolve(
    redirects: Mapping[str, str] | None = None, kb: KnowledgeBase | None = None
) -> Resolve:
    """Make a function that maps a title to the folded title it stands for.

    The function follows `redirects` (alias -> title) to their end, then the redirects
    of the knowledge base. An end that the knowledge base does not hold is replaced by
    an alias of it that the knowledge base does hold: the alphabetically first, so that
    all aliases of one title resolve to the same one.
    """
    table = {fold_title(a): fold_title(t) for a, t in (redirects or {}).items()}
    stand_ins: dict[str, str] = {}
    for alias in sorted(table):
        title = _title_in(kb, alias)
        if title is not None:
            stand_ins.setdefault(_follow(table, alias), title)

    @functools.cache
    def resolve(title: str) -> str:
        end = _follow(table, fold_title(title))
        return _title_in(kb, end) or stand_ins.get(end, end)

    return resolve


def _follow(redirects: Mapping[str, str], title: str) -> str:
    """The title at the end of a chain of redirects.

    For a circle of redirects it is the alphabetically first title of the circle: all
    titles in it are one.
    """
    path = [title]
    while path[-1] in redirects and path[-1] not in path[:-1]:
        path.append(redirects[path[-1]])
    if path[-1] in path[:-1]:
        return min(path[path.index(path[-1]) :])
    return path[-1]


def _title_in(kb: KnowledgeBase | None, title: str) -> str | None:
    """The folded title of the entity that a knowledge base finds for a title."""
    if kb is None:
        return None
    row = kb.find(title)
    return None if row is None else fold_title(kb.title(row))


def same_entity(resolve: Resolve | None = None) -> Same:
    """Make a function that says whether two mentions name one entity.

    They do where their external ids are equal, or their titles, after `resolve` (by
    default `fold_title`).
    """
    resolve = resolve or fold_title

    def same(a: Mention, b: Mention) -> bool:
        if a.external_id is not None and a.external_id == b.external_id:
            return True
        if a.entity is None or b.entity is None:
            return False
        return a.entity == b.entity or resolve(a.entity) == resolve(b.entity)

    return same


def pair_documents(
    gold: Sequence[Paired], predicted: Sequence[Paired]
) -> Iterator[tuple[Paired, Paired]]:
    """Pairs of documents with equal id and text, in the order of `gold`.

    Raises InputError, at once, that names the documents that are missing, extra or
    altered.
    """
    waiting: dict[tuple[str, str], collections.deque[Paired]]
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
            f"found {_list_ids(missing)} missing, {_list_ids(extra)} extra, of these "
            f"{_list_ids(altered)} with another text; link the gold file itself"
        )
    return iter(pairs)


def compare(a: Scores, b: Scores, *, samples: int = 10_000, seed: int = 0) -> Interval:
    """Micro F1 of a minus that of b, with a 95 % paired bootstrap over documents.

    Raises ValueError where the two are not of the same documents.
    """
    if a.documents != b.documents:
        raise ValueError(
            f"expected scores of the same documents, found {a.documents} and "
            f"{b.documents}"
        )
    return compare_means([a.per_document], [b.per_document], samples=samples, seed=seed)


def compare_means(
    a: Sequence[Int[np.ndarray, "_ 3"]],
    b: Sequence[Int[np.ndarray, "_ 3"]],
    *,
    samples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """The mean of the sets' micro F1 of a minus that of b, with its 95 % interval.

    a, b: for each set, tp, fp and fn of each document. The bootstrap is paired: it
    draws the documents of each set anew, the same for a and for b.
    """
    rng = np.random.default_rng(seed)
    differences = np.zeros(samples)
    for ours, theirs in zip(a, b, strict=True):
        for rows, times in _draw(len(ours), samples, rng):
            differences[rows] += _f1(times @ ours) - _f1(times @ theirs)
    low, high = (np.percentile(differences, [2.5, 97.5]) / len(a)).tolist()
    return Interval(mean_f1(a) - mean_f1(b), low, high)


def estimate(
    counts: Int[np.ndarray, "_ 3"], *, samples: int = 10_000, seed: int = 0
) -> Estimate:
    """Micro F1 with its 95 % interval, from a bootstrap over documents.

    counts: tp, fp and fn of each document.
    """
    drawn = np.full(samples, mean_f1([counts]))  # what stays where there are none
    for rows, times in _draw(len(counts), samples, np.random.default_rng(seed)):
        drawn[rows] = _f1(times @ counts)
    return Estimate(mean_f1([counts]), *np.percentile(drawn, [2.5, 97.5]).tolist())


def _draw(
    documents: int, samples: int, rng: np.random.Generator
) -> Iterator[tuple[slice, Int[np.ndarray, "_ _"]]]:
    """How often a bootstrap draws each document: rows of samples, and their counts
    [rows, documents]; a part of the samples at a time."""
    even = np.full(documents, 1 / max(documents, 1))
    for start in range(0, samples if documents else 0, 500):
        rows = slice(start, min(start + 500, samples))
        yield rows, rng.multinomial(documents, even, size=rows.stop - rows.start)


def mean_f1(sets: Sequence[Int[np.ndarray, "_ 3"]]) -> float:
    """The mean of the sets' micro F1. sets: tp, fp and fn of each document."""
    return float(np.mean([_f1(counts.sum(0, keepdims=True))[0] for counts in sets]))


def _total(counts: Sequence[Counts]) -> Counts:
    return Counts(*np.array(counts, np.int64).reshape(-1, 3).sum(0).tolist())


def _f1(counts: Int[np.ndarray, "N 3"]) -> Float[np.ndarray, " N"]:
    """F1 of rows of (tp, fp, fn); 1 where all three are zero."""
    tp, fp, fn = counts.T
    total = 2 * tp + fp + fn
    return np.where(total == 0, 1.0, 2 * tp / np.maximum(total, 1))


def _list_ids(ids: Sequence[str]) -> str:
    shown = ", ".join(map(repr, ids[:5])) + (", ..." if len(ids) > 5 else "")
    return f"{len(ids)} ({shown})" if ids else "0"
