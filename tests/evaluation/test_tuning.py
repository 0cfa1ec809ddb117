"""Tuning the baseline and a linker, on examples whose best settings are known."""

import itertools

import pytest

from insgenel_jax import mini_world
from insgenel_jax.evaluation import report, scoring, tuning
from insgenel_jax.evaluation.baseline import PriorLinker
from insgenel_jax.evaluation.search import Log, score_sets, split
from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.linker import Linker
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.rejects import InputError, Rejects
from tests.helpers.marks import slow

TEXT = "York and york, Times and times"


@pytest.fixture(scope="module")
def kb(tmp_path_factory):
    """ "york" is linked in a quarter of its documents, "times" in half of them."""
    entities = [(Entity("York"), []), (Entity("The Times"), ["Times"])]
    documents = [
        Document("", "to York", None, (Mention(3, 7, "York"),)),
        *[Document("", "York", None, ())] * 3,
        Document("", "the Times", None, (Mention(4, 9, "The Times"),)),
        Document("", "old times", None, ()),
    ]
    path = tmp_path_factory.mktemp("kb") / "kb"
    build_from_entities(path, entities, Rejects(), documents=documents)
    return KnowledgeBase.open(path)


@pytest.mark.parametrize(
    "gold",
    [
        Mention(0, 4, "York"),
        *map(slow, (Mention(15, 20, "The Times"), Mention(9, 13, "York"))),
    ],
)
def test_the_prior_has_the_best_of_all_settings(kb, gold):
    dev = [Document("1", TEXT, None, (gold,))]
    linker, tuned = tuning.tune_prior(kb, {"dev": dev})
    found = scoring.score(dev, linker(dev)).micro.f1
    space = ("case", "min_link_probability", "capitalised_run", "name_parts")
    best = max(
        scoring.score(dev, PriorLinker(kb, *values)(dev)).micro.f1
        for values in itertools.product(*(tuning.SPACE[name] for name in space))
    )
    assert found == tuned.found.best.f1 == best
    assert tuned.settings == {name: getattr(linker, name) for name in tuned.settings}
    assert "threshold" in tuned.settings


def test_a_set_without_golds_is_refused(kb):
    nil = [Document("1", TEXT, None, (Mention(0, 4, None),))]
    for documents in ([], nil):
        with pytest.raises(InputError, match="news: expected labelled documents with"):
            tuning.tune_prior(kb, {"news": documents})


def numbered(count):
    documents = [Document(str(i), f"{i:08} a", None, ()) for i in range(count)]
    return {"dev": documents}


def test_samples_are_of_the_same_documents():
    sets = numbered(30)
    few, more = (tuning.sample(sets, n)["dev"] for n in (5, 9))
    assert len(few) == 5 and {d.id for d in few} < {d.id for d in more}
    assert [d.id for d in more] == sorted((d.id for d in more), key=int)
    assert tuning.sample(sets, None) == sets
    backwards = {"dev": sets["dev"][::-1]}
    assert tuning.sample(backwards, 5)["dev"] == few[::-1]


def test_documents_that_were_tuned_on_are_known():
    sets = numbered(30)
    tuned_on = tuning.hash_sets({"a": sets["dev"][:3], "b": sets["dev"][3:5]})
    told = tuning.overlaps({"new": sets["dev"][2:], "other": sets["dev"][9:]}, tuned_on)
    assert len(told) == 1
    assert (
        told[0].startswith("new: of its 28 documents") and "1 in a, 2 in b" in told[0]
    )


@pytest.fixture(scope="module")
def dev():
    paragraphs = mini_world.paragraphs("dev", 8)
    return {"one": paragraphs[:5], "two": paragraphs[5:]}


@pytest.mark.slow
def test_a_linker_is_tuned(linker_path, dev, tmp_path, monkeypatch):
    """It begins as the lookup baseline; what a killed run knew is not linked again."""
    monkeypatch.setattr(tuning, "MODERATE", {})
    monkeypatch.setattr(tuning, "SPACE", SMALL)
    linker = Linker.from_pretrained(linker_path, system="insgenel")
    header = tuning.log_header(linker, "parts", dev, {})
    messages = []
    tuned = tuning.tune_linker(
        linker, dev, log=Log(tmp_path / "log", header), tell=messages.append
    )
    _, prior = tuning.tune_prior(linker.kb, dev)
    assert tuned.found.best.f1 >= prior.found.best.f1
    assert tuned.found.points > 3 and "points" in messages[0]
    settings = dict(tuned.settings)
    assert settings.keys() == {*SMALL, "threshold", "consider_unlinked"}
    # the settings, with the calibrator, give what was promised (scores are cross-fitted
    # there, so the threshold is left aside)
    plain = linker.with_settings(**settings | {"threshold": 0.0} | UNLINKED)
    documents = [d for documents in dev.values() for d in documents]
    linked = split(dev, plain(documents))
    counts = score_sets(dev, linked, None)
    assert scoring.mean_f1(counts) == tuned.found.best.f1
    tables = report.make_tuning_tables(tuned)
    assert len(tables) == 4
    shown = list(tables[1].columns[1].cells)  # of the prior
    best = tuned.prior.calibrated.best
    assert best.f1 == prior.calibrated.best.f1
    assert shown[-1] == f"{100 * best.f1:.1f}" and len(shown) == len(dev) + 1

    def stop(*_):
        raise AssertionError("linked again")

    monkeypatch.setattr(Linker, "__call__", stop)
    again = tuning.tune_linker(linker, dev, log=Log(tmp_path / "log", header))
    assert again.settings == tuned.settings
    assert again.calibrated.calibrator == tuned.calibrated.calibrator


UNLINKED = {"consider_unlinked": False}
SMALL = {
    "prior_weight": (1e6, 3.0),
    "mention_bias": (1e3, 0.0),
    "length_bias": (1e3,),
    "min_link_probability": (0.0, 0.3),
    "case": ("any", "capitalised"),
}


def test_what_is_tried_with_a_linker(linker_path):
    """All values are values of the setting; those without effect are left out."""
    linker = Linker.from_pretrained(linker_path)
    space = tuning.linker_space(linker)
    assert space.keys() == tuning.SPACE.keys()
    for name, values in space.items():
        for value in values:
            linker.with_settings(**{name: value})
    alone = tuning.linker_space(linker.with_settings(system="insgenel"))
    assert space.keys() - alone.keys() == {"retriever_weight", "retrieval"}


def test_where_a_search_begins(linker_path, dev):
    """As the baseline, the dictionary limits; but a limit of candidates is kept."""
    linker = Linker.from_pretrained(linker_path, retrieval="limit", max_candidates=7)
    _, prior = tuning.tune_prior(linker.kb, dev)
    starts = tuning.make_starts(linker, prior, tuning.linker_space(linker))
    limits = {
        name: (start["retrieval"], start["max_candidates"])
        for name, start in starts.items()
    }
    assert limits == {
        "lookup baseline": ("rank", 7),
        "as stored": ("limit", 7),
        "moderate weights": ("rank", 7),
        "ranked by the retriever": ("rank", 7),
    }
    alone = tuning.make_starts(linker, prior, SMALL)
    assert len(alone) == 3  # without a retriever, nothing is ranked by one
    assert not {"retrieval", "max_candidates"} & set().union(*alone.values())


def test_logs_tell_linkers_and_documents_apart(linker_path, dev):
    linker = Linker.from_pretrained(linker_path)
    header = tuning.log_header(linker, "parts", dev, {})
    tuned_already = linker.with_settings(prior_weight=3.0, threshold=0.5)
    assert tuning.log_header(tuned_already, "parts", dev, {}) == header
    others = [
        tuning.log_header(linker, "others", dev, {}),
        tuning.log_header(linker.with_settings(top_k=3), "parts", dev, {}),
        tuning.log_header(linker, "parts", {"one": dev["one"]}, {}),
        tuning.log_header(linker, "parts", dev, {"a": "b"}),
    ]
    for other in others:
        assert sum(other[name] != header[name] for name in header) == 1
