"""`evaluation.run`: what a system is given, and what is kept of it."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest

from insgenel_jax import evaluation
from insgenel_jax.evaluation import Predictions, System, report
from insgenel_jax.linker import Linker, Settings
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.rejects import InputError

TEXT = "Ann met Bob in Rome."
ANN, BOB = Mention(0, 3, "Ann Lee"), Mention(8, 11, "Bob Hope")
GOLD = [
    Document("1", TEXT, None, (ANN, BOB)),
    Document("2", "Nobody in Oz", None, (Mention(10, 12, "Oz (land)"),)),
]


class StandIn(Linker):
    """A linker that finds Ann alone, and asks its generator seven times a call."""

    def __init__(self):
        self.stats = {"calls": 5}
        self.settings = Settings(system="insgenel")
        self.documents = []
        self.kb, self.retriever = None, None

    def __call__(self, documents):
        self.documents += documents
        self.stats["calls"] += 7
        return [
            dataclasses.replace(d, mentions=(ANN,) if d.id == "1" else ())
            for d in documents
        ]

    def candidates(self, documents, given=False):
        entities = np.array([2], np.int32)
        return [[SimpleNamespace(start=0, end=3, entities=entities)], []]


def test_a_linker(bobs):
    linker = StandIn()
    system = evaluation.linker_system(linker)
    (result,) = evaluation.run({"news": GOLD}, [system], kb=bobs).results
    assert [d.id for d in linker.documents] == ["1", "2"]
    assert not any(d.mentions for d in linker.documents)  # it sees no label
    assert (result.dataset, result.system, result.calls) == ("news", "insgenel", 7)
    assert result.settings == dataclasses.asdict(linker.settings)
    assert result.seconds > 0
    assert result.scores.counts == (1, 0, 2)
    assert result.within.counts == (1, 0, 1)  # our knowledge base lacks Oz
    lost = {stage: count for stage, count in result.losses.items() if count}
    assert lost == {"not in KB": 1, "not retrieved": 1}


def test_the_order_of_results_and_comparisons(bobs):
    """Set by set: the systems, then the predictions, all against the first."""
    opened, told = [], []

    def systems():
        for name in ("perfect", "empty"):
            opened.append(name)
            yield System(
                name, lambda bare, name=name: GOLD if name == "perfect" else bare
            )

    sets = {"news": GOLD, "again": GOLD}
    given = [Predictions("again", "given", GOLD)]
    result = evaluation.run(
        sets, systems(), given, progress=lambda m: told.append((len(opened), m))
    )
    assert [(r.dataset, r.system, r.scores.micro.f1) for r in result.results] == [
        ("news", "perfect", 1),
        ("news", "empty", 0),
        ("again", "perfect", 1),
        ("again", "empty", 0),
        ("again", "given", 1),
    ]
    compared = [(c.dataset, c.system, c.against) for c in result.comparisons]
    assert compared == [
        ("news", "perfect", "empty"),
        ("again", "perfect", "empty"),
        ("again", "perfect", "given"),
    ]
    assert [c.interval.difference for c in result.comparisons] == [1, 1, 0]
    # the second system is opened when the first has linked both sets
    assert [number for number, _ in told] == [1, 1, 2, 2, 2]
    assert result.results[-1].seconds is None and result.results[-1].losses is None
    assert len(report.make_tables(result)) == 3  # no losses without a knowledge base


def test_the_prior(bobs):
    system = evaluation.prior_system(bobs, GOLD)
    result = evaluation.run({"news": GOLD}, [system], kb=bobs).results[0]
    assert result.scores.counts.tp == 2 and result.calls is None
    assert result.settings.keys() == {
        *("case", "min_link_probability", "capitalised_run", "name_parts"),
        "threshold",
    }
    assert evaluation.prior_system(bobs, {"news": GOLD}).settings == system.settings


def test_titles_and_redirects(bobs):
    resolve = evaluation.make_resolve({"Robert": "Bob Hope"}, bobs)
    linked = [Document("1", TEXT, None, (Mention(8, 11, "Robert"),)), *GOLD[1:]]
    result = evaluation.run(
        {"news": GOLD},
        predictions=[Predictions("news", "given", linked)],
        kb=bobs,
        resolve=resolve,
        titles=frozenset(["Ann Lee", "Bob Hope", "Robert"]),
    ).results[0]
    assert result.scores.counts == (1, 0, 1)  # Oz is gone, and so NIL
    assert result.scores.titles_checked
    assert result.losses["not in KB"] == 0
    assert result.losses["opening refused"] == 1


def test_nothing_to_score_and_documents_that_do_not_pair_up():
    assert evaluation.run({"news": GOLD}).results == []
    empty = evaluation.run({"none": []}, [System("empty", lambda bare: bare)])
    assert math.isnan(empty.results[0].scores.accuracy)
    with pytest.raises(InputError, match=r"1 \('2'\) missing"):
        evaluation.run({"news": GOLD}, [System("half", lambda bare: bare[:1])])
