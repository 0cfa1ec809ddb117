"""A linker, or the prior-only baseline, and labelled documents in; it tuned out.

First a search over the settings (`search`), with no threshold. Then a calibrator is
fitted on the links with the best settings, and a threshold chosen (`thresholds`). What
is made as high as possible is the mean of the sets' micro F1.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import insgenel_jax
from insgenel_jax.evaluation import baseline, calibration, scoring
from insgenel_jax.evaluation.search import Found, Log, Sets, Step, search, split
from insgenel_jax.evaluation.thresholds import Calibrated, calibrate
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.kb.occurrences import CASES, find_occurrences
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.rejects import InputError

CUT_OFFS: tuple[float, ...] = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07)
CUT_OFFS += (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

# Setting -> the values that are tried, neighbours alike. Weights begin with a value
# that settles a decision whatever the model says.
SPACE: dict[str, tuple[Any, ...]] = {
    "prior_weight": (1e6, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.0),
    "mention_bias": (1e3, 8.0, 5.0, 3.0, 2.0, 1.0, 0.0, -2.0),
    "length_bias": (1e3, 5.0, 2.0, 1.0, 0.0, -1.0),
    "link_weight": (0.0, 0.3, 0.6, 1.0, 1.5, 2.0),
    "retriever_weight": (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
    "retrieval": ("rank", "limit"),
    "max_candidates": (50, 20, 10, 5),
    "selection": ("greedy", "marginal"),
    "min_link_probability": CUT_OFFS,
    "case": CASES,
    "capitalised_run": ("any", "whole"),
    "name_parts": ("off", "new", "override"),
}
NEAREST = 4  # values of a setting that a round tries with a linker: each costs time

# With these INSGENEL links as the baseline does, so the models can only add.
LOOKUP = {"mention_bias": 1e3, "length_bias": 1e3, "prior_weight": 1e6}
# The weights depend on each other. So a search from large weights alone, which changes
# one at a time, may miss what moderate ones reach together.
MODERATE = {"mention_bias": 0.0, "length_bias": 1.0, "prior_weight": 1.0}
MODERATE |= {"link_weight": 1.0}
# Prior and retriever decide; so small beside them, the generator breaks ties.
RANKED = {"prior_weight": 100.0, "retriever_weight": 30.0}


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What tuning found.

    settings: those that were tuned, threshold included. prior: of a linker, what tuning
    the baseline on the same documents found.
    """

    settings: Mapping[str, Any]
    found: Found
    calibrated: Calibrated
    prior: Tuned | None = None

    @property
    def steps(self) -> list[Step]:
        """What each change gained, in order."""
        return [*self.found.steps, *self.calibrated.steps]


def tune_prior(
    kb: KnowledgeBase,
    sets: Sets,
    same: scoring.Same | None = None,
    *,
    tell: Callable[[str], None] = lambda message: None,
) -> tuple[baseline.PriorLinker, Tuned]:
    """The prior-only baseline, tuned on sets of labelled documents.

    same: whether two mentions name one entity, see `scoring.score`. Raises InputError
    for a set without golds.
    """
    check_golds(sets)
    found_in = {
        name: [find_occurrences(kb, document.text) for document in documents]
        for name, documents in sets.items()
    }

    def link(settings: Mapping[str, Any]) -> list[list[Document]]:
        linker = baseline.PriorLinker(kb, **settings)
        return [
            list(map(linker.link, documents, found_in[name]))
            for name, documents in sets.items()
        ]

    known = [field.name for field in dataclasses.fields(baseline.PriorLinker)]
    space = {name: values for name, values in SPACE.items() if name in known}
    untuned = baseline.PriorLinker(kb)
    start = {name: getattr(untuned, name) for name in space}
    found = search(link, sets, space, {"defaults": start}, same=same, tell=tell)
    links = [
        baseline.explain(kb, document)
        for documents in link(found.best.settings)
        for document in documents
    ]
    calibrated = calibrate(sets, links, same, consider_unlinked=False)
    settings = {**found.best.settings, "threshold": calibrated.threshold}
    tuned = baseline.PriorLinker(kb, **settings, calibrator=calibrated.calibrator)
    return tuned, Tuned(settings, found, calibrated)


def tune_linker(
    linker: insgenel_jax.Linker,
    sets: Sets,
    same: scoring.Same | None = None,
    *,
    budget: float = math.inf,
    log: Log | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> Tuned:
    """The best settings of a linker on sets of labelled documents, and its calibrator.

    linker: opened with calibrated=False. budget, log, tell: see `search`. Raises
    InputError for a set without golds, ValueError for a linker with a calibrator.
    """
    from insgenel_jax.linker.decide import Known  # it loads JAX

    if linker.calibration is not None:
        raise ValueError("expected a linker opened with calibrated=False")
    check_golds(sets)
    linker = linker.with_settings(threshold=0.0, consider_unlinked=False)
    # many settings change the table of few chunks, and none what windows retrieve
    linker.known = Known()
    every = itertools.chain.from_iterable(sets.values())
    bare = [dataclasses.replace(document, mentions=()) for document in every]

    def link(settings: Mapping[str, Any]) -> list[list[Document]]:
        return split(sets, linker.with_settings(**settings)(bare))

    def possible(settings: Mapping[str, Any]) -> bool:
        try:
            dataclasses.replace(linker.settings, **settings)
        except ValueError:
            return False
        return True

    space = linker_space(linker)
    _, prior = tune_prior(linker.kb, sets, same)
    starts = make_starts(linker, prior, space)
    found = search(
        link,
        sets,
        space,
        starts,
        same=same,
        possible=possible,
        nearest=NEAREST,
        budget=budget,
        log=log,
        tell=tell,
    )
    tell("fitting the calibrator")
    links = linker.with_settings(**found.best.settings).score(bare)
    can = possible({**found.best.settings, "consider_unlinked": True})
    calibrated = calibrate(sets, links, same, consider_unlinked=can)
    settings = {
        **found.best.settings,
        "threshold": calibrated.threshold,
        "consider_unlinked": calibrated.consider_unlinked,
    }
    return Tuned(settings, found, calibrated, prior)


def linker_space(linker: insgenel_jax.Linker) -> dict[str, tuple[Any, ...]]:
    """What to try with a linker: the settings of SPACE that have an effect on it."""
    from insgenel_jax.linker.settings import without_effect  # it loads JAX

    known = {field.name for field in dataclasses.fields(linker.settings)}
    useless = without_effect(SPACE, linker.settings)
    return {k: v for k, v in SPACE.items() if k in known and k not in useless}


def make_starts(
    linker: insgenel_jax.Linker, prior: Tuned, space: Mapping[str, Sequence[Any]]
) -> dict[str, dict[str, Any]]:
    """Name -> settings to begin with: the lookup baseline, the linker's own, others.

    prior: the baseline, tuned.
    """
    own = {name: getattr(linker.settings, name) for name in space}
    neutral = {
        name: field.default
        for field in dataclasses.fields(linker.settings)
        if (name := field.name) in space
    }
    filters = {k: v for k, v in prior.found.best.settings.items() if k in space}
    lookup = neutral | filters | LOOKUP
    if "max_candidates" in space:  # with name rules a form may have very many
        lookup["max_candidates"] = own["max_candidates"]
    if "retrieval" in space:
        lookup["retrieval"] = "rank"  # the dictionary limits, as in the baseline
    starts = {
        "lookup baseline": lookup,
        "as stored": own,
        "moderate weights": lookup | MODERATE,
    }
    if "retriever_weight" in space:
        starts["ranked by the retriever"] = lookup | RANKED
    return starts


def check_golds(sets: Sets) -> None:
    """Raise InputError for a set on which nothing can be tuned."""
    for name, documents in sets.items():
        if not any(m.entity is not None for d in documents for m in d.mentions):
            raise InputError(
                f"{name}: expected labelled documents with an entity to find, found "
                f"{len(documents)} documents and no such label; tune on others"
            )


def sample(sets: Sets, count: int | None) -> dict[str, list[Document]]:
    """At most `count` documents of each set, chosen by a hash of their text."""
    chosen = {}
    for name, documents in sets.items():
        order = sorted(range(len(documents)), key=lambda i: _place(documents[i]))
        chosen[name] = [documents[i] for i in sorted(order[:count])]
    return chosen


def _place(document: Document) -> tuple[str, str]:
    return calibration.hash_text(document.text), document.id


def hash_sets(sets: Sets) -> dict[str, list[str]]:
    """Name of a set -> a short hash of each document's text."""
    return {
        name: [calibration.hash_text(document.text) for document in documents]
        for name, documents in sets.items()
    }


def log_header(
    linker: insgenel_jax.Linker, parts: str, sets: Sets, redirects: Mapping[str, str]
) -> dict[str, str]:
    """What the log of a tuning run is for. parts: the identity of the linker's."""
    fixed = dataclasses.asdict(linker.settings)
    tuned = {*linker_space(linker), "threshold", "consider_unlinked"}
    rest = {k: v for k, v in sorted(fixed.items()) if k not in tuned}
    labels = {n: [repr(d) for d in documents] for n, documents in sets.items()}
    return {
        "linker": parts[:12],
        "settings beside the tuned ones": _digest(rest),
        "documents": _digest(labels),
        "redirects": _digest(dict(redirects)),
    }


def _digest(record: Any) -> str:
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()[:12]


def overlaps(sets: Sets, tuned_on: Mapping[str, Sequence[str]]) -> list[str]:
    """A sentence for each set that shares documents with those that were tuned on."""
    told = []
    for name, hashes in hash_sets(sets).items():
        shared = {
            other: len(set(hashes) & set(seen)) for other, seen in tuned_on.items()
        }
        if any(shared.values()):
            where = ", ".join(f"{n} in {other}" for other, n in shared.items() if n)
            told.append(
                f"{name}: of its {len(hashes)} documents, some are among those that "
                f"were tuned on ({where}): the scores on it are too good"
            )
    return told
