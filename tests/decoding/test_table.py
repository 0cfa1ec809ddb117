"""The transition table against the policy written out, by brute force."""

import math

import numpy as np
import pytest

from insgenel_jax.decoding.build import build_table
from insgenel_jax.decoding.mentions import CandidateMention, merge_spans
from insgenel_jax.decoding.table import LARGEST_BIAS, Weights
from insgenel_jax.text.linked_text import encode_source, encode_titles
from tests.helpers.random_chunks import (
    TITLES,
    candidate,
    legal_outputs,
    random_candidates,
)


def table_outputs(table, source):
    """Every path of a table, as pairs of token ids and links."""

    def outputs(state):
        edges = range(table.indptr[state], table.indptr[state + 1])
        if not edges:
            yield (), ()
        for edge in edges:
            for ids, values in outputs(table.next[edge]):
                value = int(table.value[edge])
                values = values if value < 0 else (value, *values)
                yield (int(table.token[edge]), *ids), values

    last = max((end for _, end, _ in table.mentions), default=0)
    for ids, values in outputs(0):
        links = [
            (*table.mentions[m][:2], entity)
            for m, entity in zip(values[::2], values[1::2], strict=True)
        ]
        yield (*ids, *source[last:]), tuple(links)


@pytest.mark.parametrize("rest_of_span", [True, False])
def test_table_is_the_policy(tokenizer, rest_of_span):
    """The paths of the table are the legal outputs, each of them once."""
    titles = encode_titles(tokenizer, TITLES)
    rng = np.random.default_rng(0)
    for text in ["New York City", "(York) New York's", "in York"] * 12:
        tokens = encode_source(tokenizer, text)
        candidates = random_candidates(tokens, rng, int(rng.integers(0, 5)))
        if candidates and rng.random() < 0.3:
            candidates[0] = candidate(
                candidates[0].start, candidates[0].end, [0, 1], rng, optional=False
            )
        expected = legal_outputs(tokenizer, tokens, candidates, titles, rest_of_span)
        table = build_table(
            tokenizer,
            tokens,
            candidates,
            titles.__getitem__,
            Weights(rest_of_span=rest_of_span),
        )
        found = list(table_outputs(table, tokens.ids.tolist()))
        assert len(found) == len(expected)
        assert dict(found) == expected
        merged = merge_spans([(start, end) for start, end, _ in table.mentions])
        assert table.spans == len(merged)
        last = max((end for _, end, _ in table.mentions), default=0)
        longest = max(len(ids) for ids in expected) - (len(tokens) - last)
        assert table.longest >= longest
        if rest_of_span and all(c.optional for c in candidates):
            assert table.longest == longest
        degree = np.diff(table.indptr)
        for state in np.flatnonzero(degree > 1):
            row = table.token[table.indptr[state] : table.indptr[state + 1]]
            assert (np.diff(row) > 0).all()


def test_biases(tokenizer):
    """Along a title the biases add up to ln of its weight over the mean weight."""
    titles = encode_titles(tokenizer, TITLES)
    rng = np.random.default_rng(1)
    text = "in New York City"
    tokens = encode_source(tokenizer, text)
    mention = candidate(3, 11, list(range(len(TITLES))), rng)
    weights = Weights(mention_bias=0.7, prior_weight=0.5, retriever_weight=2.0)
    table = build_table(tokenizer, tokens, [mention], titles.__getitem__, weights)
    log_weight = 0.5 * mention.log_prior + 2.0 * mention.log_retriever
    log_mean = math.log(np.exp(log_weight).mean())
    for entity in range(len(TITLES)):
        target = [
            *tokens.ids[:1],
            tokenizer.open,
            *tokens.ids[1:3],
            tokenizer.close,
            tokenizer.entity,
            *titles[entity],
            tokenizer.end,
        ]
        state, total = 0, 0.0
        for token in target:
            row = slice(table.indptr[state], table.indptr[state + 1])
            edge = row.start + table.token[row].tolist().index(token)
            total += table.bias[edge]
            state = table.next[edge]
        assert table.value[edge] == entity
        assert total == pytest.approx(0.7 + log_weight[entity] - log_mean, abs=1e-5)


def york_biases(tokenizer, counts, weights):
    """The biases along "New York City" in a table.

    counts: the words of a mention that starts at "New" -> (linked, seen) of its surface
    form. Returns the bias of OPEN at "New", and those of the words behind "New" within
    a mention.
    """
    tokens = encode_source(tokenizer, "New York City")
    assert len(tokens) == 3
    one = np.zeros(1)
    mentions = [
        CandidateMention(
            0, int(tokens.ends[n - 1]), np.array([0]), one, one, linked=k, seen=m
        )
        for n, (k, m) in counts.items()
    ]
    table = build_table(tokenizer, tokens, mentions, [[9]].__getitem__, weights)
    state, biases = 0, []
    for token in (tokenizer.open, *tokens.ids.tolist()[: max(counts)]):
        row = slice(table.indptr[state], table.indptr[state + 1])
        edge = row.start + table.token[row].tolist().index(token)
        biases.append(float(table.bias[edge]))
        state = int(table.next[edge])
    # nothing else is biased: one candidate a mention
    assert np.count_nonzero(table.bias) == np.count_nonzero(biases)
    opening, first, *longer = biases
    assert first == 0  # there is no way round the first word of a mention
    return opening, longer


def test_mention_biases_by_hand(tokenizer):
    """Link log-odds: "New" ln 1/9, "New York" ln 7, "New York City" 0 (not known)."""
    counts = {1: (0, 4), 2: (3, 3), 3: (0, 0)}
    nine, seven = math.log(9), math.log(7)
    weights = Weights(mention_bias=1.0, length_bias=0.25, link_weight=2.0)
    opening, longer = york_biases(tokenizer, counts, weights)
    assert opening == pytest.approx(1 + 2 * seven)
    assert longer == pytest.approx([0.25 + 2 * (seven + nine), 0.25 - 2 * seven])
    # the best of those longer than "New" is not the next one
    counts = {1: (0, 4), 2: (0, 0), 3: (3, 3)}
    opening, longer = york_biases(tokenizer, counts, weights)
    assert opening == pytest.approx(1 + 2 * seven)
    assert longer == pytest.approx([0.25 + 2 * (seven + nine), 0.25 + 2 * seven])
    # "New York" alone: nothing can be closed at "New", so nothing weighs the length
    opening, longer = york_biases(tokenizer, {2: (3, 3)}, weights)
    assert (opening, longer) == (pytest.approx(1 + 2 * seven), [0.0])
    opening, longer = york_biases(tokenizer, counts, Weights(length_bias=0.25))
    assert (opening, longer) == (0.0, [0.25, 0.25])


def test_large_biases_stay_precise(tokenizer):
    """Terms that cancel leave their difference; no bias is above the largest one."""
    odds = math.log(2e9 + 1)
    counts = {1: (0, 0), 2: (10**9, 10**9)}
    weights = Weights(mention_bias=-1e5 * odds, link_weight=1e5)
    opening, longer = york_biases(tokenizer, counts, weights)
    assert opening == pytest.approx(0, abs=1e-6)
    assert longer == [LARGEST_BIAS]
    weights = Weights(mention_bias=-1e6, length_bias=-1e6, link_weight=-1e6)
    assert york_biases(tokenizer, counts, weights) == (-LARGEST_BIAS, [-LARGEST_BIAS])
    beside = np.float32(LARGEST_BIAS) + np.float32(1 / 16)
    assert beside - np.float32(LARGEST_BIAS) == 1 / 16


def test_weights_of_zero_add_nothing(tokenizer):
    titles = encode_titles(tokenizer, TITLES)
    tokens = encode_source(tokenizer, "in New York City")
    mention = candidate(3, 11, list(range(6)), np.random.default_rng(2))
    table = build_table(tokenizer, tokens, [mention], titles.__getitem__, Weights())
    assert not table.bias.any()


def test_mentions_inside_tokens_are_dropped_and_counted(tokenizer):
    titles = encode_titles(tokenizer, TITLES)
    tokens = encode_source(tokenizer, "Mercury rose")
    rng = np.random.default_rng(3)
    cut = next(int(e) for e in tokens.ends) - 1
    candidates = [candidate(0, cut, [0], rng), candidate(0, 7, [0], rng)]
    table = build_table(tokenizer, tokens, candidates, titles.__getitem__, Weights())
    assert (len(table.mentions), table.dropped) == (1, 1)


def test_no_candidates_no_edges(tokenizer):
    table = build_table(
        tokenizer, encode_source(tokenizer, ""), [], [].__getitem__, Weights()
    )
    assert len(table.token) == 0
    assert table.indptr.tolist() == [0, 0]


def test_merging():
    """Half-open: [0, 2) and [2, 3) stay apart, [0, 2) and [1, 3) do not."""
    assert merge_spans([(2, 3), (0, 2)]) == [(0, 2), (2, 3)]
    assert merge_spans([(1, 3), (0, 2), (2, 5), (7, 8)]) == [(0, 5), (7, 8)]
    assert merge_spans([(0, 9), (1, 2), (3, 4)]) == [(0, 9)]
