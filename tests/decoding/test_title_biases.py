"""The biases on title edges, edge by edge, against a dict of prefixes and by hand."""

import dataclasses
import math

import numpy as np
import pytest

from insgenel_jax.decoding.build import LEAST_LOG_WEIGHT, build_table
from insgenel_jax.decoding.mentions import CandidateMention
from insgenel_jax.decoding.table import END, TITLE, Weights
from insgenel_jax.text.linked_text import encode_source, encode_titles
from tests.helpers.random_chunks import TITLES, varied_case


def along(table, output):
    """(kind, bias) of each edge that spells an output, as far as the table goes."""
    state = 0
    for token in output:
        edges = range(table.indptr[state], table.indptr[state + 1])
        if not edges:
            return
        edge = next(e for e in edges if table.token[e] == token)
        yield int(table.kind[edge]), float(table.bias[edge])
        state = int(table.next[edge])


def test_every_edge_has_the_bias_of_the_dict(tokenizer):
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(60):
        case = varied_case(tokenizer, rng)
        for output in case.outputs:
            for n, (_, found) in enumerate(along(case.chunk.table, output)):
                expected = case.bias(output[:n], output[n])
                assert found == pytest.approx(expected, abs=1e-5)
                seen += found != 0
    assert seen > 1000


def in_york(tokenizer, entities, probabilities, weights, **changes):
    """The table of "in York" with one mention, and the biases along each title."""
    titles = encode_titles(tokenizer, TITLES)
    log_prior, log_retriever = np.log(probabilities), np.zeros(len(entities))
    mention = CandidateMention(3, 7, np.array(entities), log_prior, log_retriever)
    mention = dataclasses.replace(mention, **changes)
    tokens = encode_source(tokenizer, "in York")
    table = build_table(tokenizer, tokens, [mention], titles.__getitem__, weights)
    link = [*tokens.ids[:1], tokenizer.open, *tokens.ids[1:], tokenizer.close]
    biases = {}
    for entity in entities:
        output = [*link, tokenizer.entity, *titles[entity], tokenizer.end]
        edges = along(table, output)
        biases[TITLES[entity]] = [b for kind, b in edges if kind in (TITLE, END)]
    return biases, titles


def test_by_hand(tokenizer):
    """York .5; New York .2, New York City .2, New York (state) .1.

    The root's mean is 1/4, that below "New" and "New York" 1/6.
    """
    entities, probabilities = [0, 1, 2, 3], [0.5, 0.2, 0.2, 0.1]
    found, titles = in_york(
        tokenizer, entities, probabilities, Weights(prior_weight=1.0)
    )
    assert [len(titles[e]) for e in entities[:3]] == [1, 2, 3]
    state = [0.0] * (len(titles[3]) - 2)  # one way on: "state", ")", END
    expected = {
        "York": [math.log(2), 0],
        "New York": [math.log(2 / 3), 0, math.log(1.2)],
        "New York City": [math.log(2 / 3), 0, math.log(1.2), 0],
        "New York (state)": [math.log(2 / 3), 0, math.log(0.6), *state],
    }
    assert found.keys() == expected.keys()
    for title, biases in expected.items():
        assert found[title] == pytest.approx(biases, abs=1e-6), title


def test_weights_square_and_share(tokenizer):
    """prior_weight 2 squares p; equal retriever scores change nothing."""
    weights = Weights(prior_weight=2.0, retriever_weight=3.0)
    found, _ = in_york(tokenizer, [0, 4], [0.75, 0.25], weights)
    assert found["York"] == pytest.approx([math.log(1.8), 0], abs=1e-6)
    assert found["City"] == pytest.approx([math.log(0.2), 0], abs=1e-6)


def test_the_retriever_weighs_alone(tokenizer):
    """With prior_weight 0 the prior has no influence."""
    found, _ = in_york(
        tokenizer,
        [0, 4],
        [0.75, 0.25],
        Weights(retriever_weight=1.0),
        log_retriever=np.log([0.1, 0.9]),
    )
    assert found["York"] == pytest.approx([math.log(0.2), 0], abs=1e-6)
    assert found["City"] == pytest.approx([math.log(1.8), 0], abs=1e-6)


def test_a_large_prior_weight_settles_the_title(tokenizer):
    """Counts of 10,000 and 9,999 are enough; no weight is below the floor."""
    probabilities = np.array([10_000, 9_999, 9_999, 9_999]) / 39_997
    weights = Weights(prior_weight=1e6)
    found, _ = in_york(tokenizer, [2, 0, 1, 3], probabilities, weights)
    best = found.pop("New York City")
    assert min(best) >= 0
    for biases in found.values():
        assert min(biases) < -90
    found, _ = in_york(tokenizer, [0, 4], [0.75, 0.25], weights)
    assert found["City"][0] == pytest.approx(LEAST_LOG_WEIGHT + math.log(2), abs=1e-3)
    assert LEAST_LOG_WEIGHT <= -500


def test_along_a_title_they_telescope(tokenizer):
    """Their sum is ln of the weight over the mean weight; with Weights() it is zero."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        entities = sorted(rng.choice(len(TITLES), 4, replace=False).tolist())
        p = rng.dirichlet(np.ones(4))
        found, _ = in_york(tokenizer, entities, p, Weights(prior_weight=1.0))
        for entity, probability in zip(entities, p, strict=True):
            total = math.log(probability / p.mean())
            assert sum(found[TITLES[entity]]) == pytest.approx(total, abs=1e-5)
        zero, _ = in_york(tokenizer, entities, p, Weights())
        assert not any(bias for biases in zero.values() for bias in biases)
