"""Who is left out, how entities are chosen, and what each part says of candidates."""

import dataclasses
import math

import numpy as np
import pytest

from insgenel_jax import mini_world
from insgenel_jax.evaluation.scoring import make_resolve
from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.linker import Linker
from insgenel_jax.retrieval import encoder
from insgenel_jax.studies.candidate_scores import (
    Gold,
    score_by_generator,
    score_by_retriever,
)
from insgenel_jax.studies.given_mentions import (
    BAG,
    GENERATOR,
    PRIOR,
    REASONS,
    RETRIEVER,
    choose,
    compare,
    find_golds,
    halve,
    study_given_mentions,
)
from insgenel_jax.text import chunking
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.rejects import InputError, Rejects

BIRDS = {"Ada Bird": 5, "Bo Bird": 3, "Cy Bird": 1}  # links of "Bird" to each


def document(text, *golds, name="1"):
    mentions = [
        Mention(text.index(surface), text.index(surface) + len(surface), entity)
        for surface, entity in golds
    ]
    return Document(name, text, mentions=tuple(mentions))


@pytest.fixture
def birds(tmp_path):
    links = [
        document("A Bird sang.", ("Bird", title))
        for title, count in BIRDS.items()
        for _ in range(count)
    ]
    listed = [(Entity(title), ()) for title in (*BIRDS, "Finland")]
    with Rejects(None) as rejects:
        build_from_entities(tmp_path / "kb", listed, rejects, documents=links)
    return KnowledgeBase.open(tmp_path / "kb")


def test_who_is_left_out(birds):
    text = "The Bird of Finland met Jay, and a bird met a BIRD: Bird"
    labelled = document(
        text,
        ("Bird", "Bo Bird"),
        ("bird", "Nobody"),
        ("Jay", "Finland"),
        ("BIRD", "Finland"),
        ("Finland", "Finland"),
        ("Jay", None),
    )
    golds, left_out = find_golds(birds, [labelled], make_resolve(None, birds), None)
    assert left_out == dict.fromkeys(REASONS[:4], 1)
    (gold,) = golds
    assert (gold.document, gold.start, gold.end, gold.gold) == (0, 4, 8, 1)
    assert [birds.title(e) for e in gold.entities.tolist()] == list(BIRDS)
    np.testing.assert_allclose(np.exp(gold.log_prior), np.array([5, 3, 1]) / 9)
    (gold,), _ = find_golds(birds, [labelled], make_resolve(None, birds), 2)
    np.testing.assert_allclose(np.exp(gold.log_prior), np.array([5, 3]) / 8)
    golds, left_out = find_golds(birds, [labelled], make_resolve(None, birds), 1)
    assert not golds and left_out[REASONS[4]] == 1


def test_whole_documents_up_to_a_number(birds):
    two = document("Bird, BIRD", ("Bird", "Bo Bird"), ("BIRD", "Ada Bird"))
    documents = [dataclasses.replace(two, id=str(i)) for i in range(5)]
    resolve = make_resolve(None, birds)
    taken, _ = find_golds(birds, documents, resolve, None, 5)
    assert len(taken) == 4
    backwards, _ = find_golds(birds, documents[::-1], resolve, None, 5)
    assert {g.document for g in taken} == {4 - g.document for g in backwards}
    assert find_golds(birds, documents, resolve, None, 1)[0] == []


def gold(number, right, *shares):
    entities = np.arange(len(shares), dtype=np.int32)
    return Gold(number, 0, 1, entities, np.log(np.array(shares)), right)


def test_accuracies_and_differences_by_hand():
    golds = [gold(0, 0, 0.85, 0.15), gold(0, 1, 0.5, 0.5), gold(1, 1, 0.75, 0.25)]
    golds.append(gold(1, 2, 0.2, 0.15, 0.65))
    golds, half = 10 * golds, np.array(10 * [0, 0, 1, 1])
    scores = {PRIOR: [g.log_prior for g in golds]}
    scores[BAG] = [5.0 * (g.entities == g.gold) for g in golds]  # says the right one
    prior = choose(PRIOR, (PRIOR,), scores, golds, half)
    # the tie of the second goes to its first candidate
    assert prior.right.tolist() == 10 * [True, False, False, True]
    assert prior.accuracy == 0.5 and prior.weights == []
    assert prior.quality.error == pytest.approx((0.15 + 0.5 + 0.75 + 0.35) / 4)
    # of 0.85 and 0.65, which are right, and 0.5 and 0.75, which are wrong
    assert prior.quality.auroc == pytest.approx(3 / 4)
    assert prior.sure.share == 0 and math.isnan(prior.sure.precision)
    with_bag = choose(f"{BAG} + {PRIOR}", (PRIOR, BAG), scores, golds, half)
    assert with_bag.accuracy == 1
    assert with_bag.sure.precision == 1 and with_bag.sure.share > 0
    (difference,) = compare([prior, with_bag], [g.document for g in golds])
    assert (difference.system, difference.against) == (f"{BAG} + {PRIOR}", PRIOR)
    # half of each document's are right, whichever documents are drawn
    assert difference.interval == (0.5, 0.5, 0.5)


def test_a_half_is_judged_by_weights_of_the_other():
    rng = np.random.default_rng(0)
    golds = [gold(i, int(rng.integers(2)), 0.6, 0.4) for i in range(40)]
    documents = [Document(str(i), f"text {i}") for i in range(40)]
    half = halve(documents, golds)
    assert sorted(np.bincount(half).tolist()) == [20, 20]
    scores = {PRIOR: [g.log_prior for g in golds]}
    scores[BAG] = [rng.normal(size=2) for _ in golds]

    def weights(of_golds):
        return choose("", (PRIOR, BAG), scores, of_golds, half).weights

    turned = [
        dataclasses.replace(g, gold=1 - g.gold) if own == 0 else g
        for g, own in zip(golds, half, strict=True)
    ]
    assert weights(turned)[0] == weights(golds)[0]
    assert weights(turned)[1] != weights(golds)[1]


@pytest.fixture(scope="module")
def linker(linker_path):
    return Linker.from_pretrained(linker_path)


@pytest.fixture(scope="module")
def labelled():
    return mini_world.paragraphs("dev", 12)


@pytest.fixture(scope="module")
def golds(linker, labelled):
    found, _ = find_golds(linker.kb, labelled, make_resolve(None, linker.kb), None)
    assert len(found) > 8
    return found


def test_the_retriever_pair_by_pair(linker, labelled, golds):
    """The best over the windows of one embedding each, times one entity each."""
    retriever = linker.retriever
    found = score_by_retriever(retriever, linker.index, labelled, golds)
    several = 0
    for one, scores in zip(golds[:6], found, strict=False):
        text = labelled[one.document].text
        spans = chunking.windows(text, retriever.window_length, retriever.stride)
        over = [
            retriever.embed_windows([text[a:b]])[0]
            for a, b in spans
            if max(a, one.start) < min(b, one.end)
        ]
        several += len(over) > 1
        for entity, score in zip(one.entities.tolist(), scores, strict=True):
            ids = encoder.tokenize_entities(
                retriever.tokenizer, linker.kb, [entity], retriever.entity_tokens
            )
            (vector,) = retriever.embed_tokens("entity", ids)
            expected = max(float(window @ vector) for window in over)
            # the index keeps bfloat16
            assert score == pytest.approx(expected, rel=2e-2, abs=2e-2)
    assert several


def test_the_generator_as_the_linker_links(linker, labelled, golds):
    """Its scores sum to 1 and, where the linker has no biases, are what it reports."""
    plain = linker.with_settings(system="insgenel")
    found = score_by_generator(linker, labelled, golds)
    links = plain.score(
        labelled, [[(m.start, m.end) for m in d.mentions] for d in labelled]
    )
    titles = {
        (i, link.mention.start): (link.mention.entity, link.features.title)
        for i, of_document in enumerate(links)
        for link in of_document
        if link.linked
    }
    for one, scores in zip(golds, found, strict=True):
        assert np.exp(scores).sum() == pytest.approx(1)
        title, log_prob = titles[one.document, one.start]
        row = one.entities.tolist().index(linker.kb.find(title))
        assert scores[row] == pytest.approx(log_prob, abs=1e-4)


def test_scores_have_no_biases(linker, labelled, golds):
    """Where nothing is linked before a mention, the linker's weights do not matter."""
    one = golds[0]
    mention = Mention(one.start, one.end, "of no matter")
    only = [dataclasses.replace(d, mentions=(mention,)) for d in labelled]
    (expected,) = score_by_generator(linker, only, [one])
    weighed = linker.with_settings(prior_weight=50.0)
    (found,) = score_by_generator(weighed, only, [one])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_mention_inside_a_token_is_not_scored(linker, labelled, golds):
    one = dataclasses.replace(golds[0], start=golds[0].start + 1)
    assert score_by_generator(linker, labelled, [one]) == [None]


def test_parts_that_are_missing_are_skipped(linker_path, linker, labelled):
    plain = Linker.from_pretrained(linker_path, system="insgenel")
    resolve = make_resolve(None, plain.kb)
    study = study_given_mentions(plain, labelled, resolve)
    assert [row.system for row in study.rows] == [PRIOR, f"{GENERATOR} + {PRIOR}"]
    assert set(study.skipped) == {RETRIEVER, BAG}
    train = mini_world.paragraphs("train", 30)
    study = study_given_mentions(linker, labelled, resolve, train=train)
    assert len(study.rows) == 5 and not study.skipped
    assert len(study.differences) == 6
    assert all(len(row.right) == study.mentions for row in study.rows)
    assert not math.isnan(study.rows[-1].quality.error)


def test_nothing_to_choose(linker):
    document = Document("1", "Nothing.", mentions=(Mention(0, 7, "Nobody"),))
    with pytest.raises(InputError, match="entity not in the knowledge base: 1"):
        study_given_mentions(linker, [document], make_resolve(None, linker.kb))
