"""Both modes over documents and articles; ids and titles; what cannot be mapped."""

import dataclasses
import json

import pytest

from insgenel_jax import evaluation
from insgenel_jax.evaluation import Predictions, files, modes, scoring
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.elevant import Article, Label, Link
from insgenel_jax.text.formats.rejects import Rejects

TEXT = "Ann met Bob in New York."
ARTICLE = Article(
    "1",
    TEXT,
    (0, len(TEXT)),
    (
        Label(0, 0, 3, "Q3", other={"name": "Annie"}),
        Label(1, 8, 11, "<NIL>"),
        Label(2, 15, 23, "Q60", children=(3,)),
        Label(3, 15, 18, "Q2", parent=2),
        Label(4, 4, 7, "Q9", optional=True),
    ),
)
LINKED = dataclasses.replace(
    ARTICLE, links=(Link(0, 3, "Q3"), Link(8, 11, "<NIL>"), Link(15, 18, "Q2"))
)
IDS = {"Ann Lee": "Q3", "New": "Q2", "New York City": "Q60"}


def document(*mentions):
    return Document("1", TEXT, None, tuple(Mention(*m) for m in mentions))


def score(gold, linked, mode, **more):
    given = [Predictions("s", "p", [linked])]
    result = evaluation.run({"s": [gold]}, predictions=given, mode=mode, **more)
    return result.results[0]


def test_articles_and_documents_score_alike():
    """A nested label counts in ELEVANT alone; a document cannot say it."""
    titles = document((0, 3, "Ann Lee"), (8, 11, None), (15, 18, "New"))
    for linked in (LINKED, titles):
        elevant = score(ARTICLE, linked, "elevant", ids=IDS)
        assert elevant.elevant.all == (2, 0, 0) and elevant.scores.micro.f1 == 1
        assert elevant.unmapped == 0
        gerbil = score(ARTICLE, linked, "gerbil", ids=IDS)
        assert gerbil.scores.counts == (1, 1, 1) and gerbil.elevant is None


def test_a_title_without_an_id_is_wrong_and_counted():
    linked = document((0, 3, "Ann Lee"), (8, 11, "Bob Hope"), (15, 23, "Gotham"))
    result = score(ARTICLE, linked, "elevant", ids=IDS)
    assert result.elevant.all == (1, 2, 1) and result.unmapped == 2


def test_ids_of_the_knowledge_base(bobs):
    """Ann Lee is Q3 there: as a gold of an article, and as a link of a document."""
    linked = document((0, 3, "Ann Lee"), (15, 23, "New York City", "Q60"))
    for mode, counts in (("elevant", (2, 0, 0)), ("gerbil", (2, 0, 0))):
        result = score(ARTICLE, linked, mode, kb=bobs, ids={"New York City": "Q60"})
        assert result.scores.counts == counts
        # New York is not in that knowledge base, and so NIL: a link to it is wrong
        assert result.within.counts == (1, 1, 0)


def test_documents_with_elevant():
    gold = document((0, 3, "Ann Lee", "Q3"), (8, 11, "Bob Hope"))
    linked = document((0, 3, "other", "Q3"), (8, 12, "Bob Hope"))
    assert score(gold, linked, "elevant").scores.counts == (1, 1, 1)
    known = {"within": lambda mention: mention.external_id is not None}
    rules = modes.make_rules("elevant", scoring.make_resolve())
    assert modes.score([gold], [linked], rules, **known)[0].counts == (1, 1, 0)
    assert score(gold, LINKED, "elevant").scores.counts == (1, 1, 1)


def test_bad_modes():
    with pytest.raises(ValueError, match="mode: expected one of"):
        evaluation.run({}, mode="GERBIL")
    with pytest.raises(ValueError, match="titles: no effect"):
        evaluation.run({}, mode="elevant", titles=frozenset())


@pytest.mark.parametrize(
    ("mode", "counts"), [("gerbil", (1, 4, 1)), ("elevant", (1, 3, 1))]
)
def test_overlapping_and_duplicate_predictions(mode, counts):
    """GERBIL counts a duplicate; ELEVANT keeps the last of a span, and no FP there."""
    gold = document((0, 3, "Ann Lee"), (15, 23, "New York City"))
    linked = document(
        *[(0, 3, "Ann Lee")] * 2, (0, 7, "Ann Lee"), (15, 18, "New"), (19, 23, "York")
    )
    result = score(gold, linked, mode)
    assert result.scores.counts == counts
    assert result.errors == [
        [None, "duplicate", "wrong span", "wrong span", "wrong span"]
    ]


@pytest.mark.parametrize("name", ["kore50", "oke-2015-eval"])
def test_a_whole_file_of_elevant(data, name):
    """As `insgenel evaluate --mode elevant` scores it."""
    folder = data / "elevant"
    file = folder / f"results/refined__aida_.{name}.linked_articles.jsonl"
    rejects = Rejects(None)
    sets = files.read_benchmarks(
        [folder / f"benchmarks/{name}.benchmark.jsonl"], rejects
    )
    given = files.read_predictions([file], sets, [], rejects)
    (result,) = evaluation.run(sets, predictions=given, mode="elevant").results
    assert (result.dataset, result.system) == (name, "refined__aida_")
    record = json.loads(
        (folder / f"results/refined__aida_.{name}.eval_results.json").read_text()
    )
    theirs = record["IGNORED"]["mention_types"]["all"]
    fields = ("true_positives", "false_positives", "false_negatives")
    assert result.scores.counts == tuple(theirs[field] for field in fields)
