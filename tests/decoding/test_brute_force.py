"""The decoders against brute force over legal outputs; probabilities sum to 1."""

import functools

import numpy as np
import pytest

from insgenel_jax.decoding import blocks, selection, speculative, step, tree
from insgenel_jax.decoding.mentions import merge_spans
from insgenel_jax.decoding.options import Options
from insgenel_jax.decoding.path import follow
from insgenel_jax.decoding.table import COPY, OPEN
from tests.helpers.marks import slow
from tests.helpers.oracle import Oracle
from tests.helpers.random_chunks import random_chunk, target_of, varied_case
from tests.helpers.small_models import small_model

DECODERS = {
    "step, 1 token a call": (step, Options()),
    "step, 3 tokens a call": (step, Options()),
    "step": (step, Options()),
    "tree": (tree, Options()),
    "tree, whole": (tree, Options(vocabulary=True)),
    "speculative": (speculative, Options()),
}
DEFAULT = ("step", "tree", "speculative")  # only the slow run has the variants
BATCH = 64
SEEDS = [0, *(slow(seed) for seed in range(1, 8))]


@functools.cache
def chunks(tokenizer, seed):
    """64 chunks with their oracles: half of a sharp LLaMA, half of a flatter OPT."""
    rng = np.random.default_rng(seed)
    cases = [varied_case(tokenizer, rng) for _ in range(BATCH)]
    models = [small_model(tokenizer.size, 8.0), small_model(tokenizer.size, 3.0, "opt")]
    return [
        (case, Oracle(models[i % 2], case.chunk.prompt, case.outputs, case.bias))
        for i, case in enumerate(cases)
    ]


@functools.cache
def greedy(tokenizer, seed):
    return [oracle.greedy() for _, oracle in chunks(tokenizer, seed)]


def decode(decoder, found, options):
    """The paths of chunks, each decoded with its own model."""
    paths = [None] * len(found)
    for odd in (0, 1):
        own = found[odd::2]
        paths[odd::2] = decoder.decode(
            own[0][-1].model,
            own[0][-1].params,
            [case.chunk for case, _ in own],
            batch=BATCH // 2,
            options=options,
        )
    return paths


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name not in DEFAULT))
        for name in DECODERS
    ],
)
def test_greedy(tokenizer, monkeypatch, name, seed):
    found, ties = chunks(tokenizer, seed), 0
    decoder, options = DECODERS[name]
    if "a call" in name:
        tokens = int(name.split()[1])
        monkeypatch.setattr(step, "TOKENS_PER_CALL", tokens)
    paths = decode(decoder, found, options)
    for (case, _), path, (expected, log_prob) in zip(
        found, paths, greedy(tokenizer, seed), strict=True
    ):
        if path.margin < 1e-4:
            ties += 1
            continue
        assert target_of(case.chunk, path)[:-1] == expected
        assert sum(path.log_probs) == pytest.approx(log_prob, abs=1e-4)
    assert ties < 3
    assert sum(np.count_nonzero(path.log_probs) for path in paths) > BATCH


@pytest.mark.parametrize("seed", SEEDS)
def test_marginal(tokenizer, seed):
    found, ties = chunks(tokenizer, seed), 0
    paths = decode(tree, found, Options(selection="marginal"))
    for (case, oracle), path in zip(found, paths, strict=True):
        spans = merge_spans([mention[:2] for mention in case.chunk.table.mentions])
        expected, sums = oracle.marginal(tokenizer, spans)
        np.testing.assert_allclose(sums, 1, atol=1e-6)
        if path.margin < 1e-4:
            ties += 1
            continue
        assert target_of(case.chunk, path)[:-1] == expected
        log_prob = oracle.log_prob(expected, 0)
        assert sum(path.log_probs) == pytest.approx(log_prob, abs=1e-4)
    assert ties < 3


def test_the_chunks_have_all_kinds(tokenizer):
    """Everything occurs that brute force is meant to check."""
    cases = [case for case, _ in chunks(tokenizer, 0)]
    given = weighted = passing = unweighted = longer = 0
    for case in cases:
        mentions, title = case.chunk.table.mentions, case.chunk.table.kind > OPEN
        given += not all(candidate.optional for *_, candidate in mentions)
        weighted += bool(np.abs(case.chunk.table.bias[title]).max() > 0.1)
        unweighted += not case.chunk.table.bias[title].any()
        longer += case.chunk.table.bias[case.chunk.table.kind == COPY].any()
        # a link after which some of its decision span is left
        ends = case.chunk.table.span_end
        short = any(end < ends[start] for start, end, _ in mentions)
        passing += short and not case.weights.rest_of_span
    assert min(given, weighted, passing, unweighted, longer) >= 8


def sums_along(block, log_probs):
    """ln p of the path to each edge, and the leaves: edges with none below them."""
    total = {-1: 0.0}
    for i, up in enumerate(block.parent.tolist()):  # pre-order: the parent comes first
        total[i] = total[up] + log_probs[i]
    leaves = sorted(set(total) - set(block.parent.tolist()) - {-1})
    return total, leaves


def sum_block_by_block(table, rng, state, known, whole):
    """The sum of p over all paths to the end, by random logits, and their number."""
    state, _ = follow(table, state, links=not whole)
    if not table.degree(state):
        return 1.0, 1
    if state not in known:
        block = blocks.find_block(table, state, whole=whole)
        logits = rng.normal(0, 4, len(block.edge))
        total, leaves = sums_along(block, selection.log_probs(table, block, logits))
        probs = np.exp([total[i] for i in leaves])
        assert probs.sum() == pytest.approx(1, abs=1e-9)
        behind = [
            sum_block_by_block(table, rng, int(table.next[edge]), known, whole)
            for edge in block.edge[leaves]
        ]
        sums, counts = zip(*behind, strict=True)
        known[state] = float(probs @ sums), sum(counts)
    return known[state]


def count_paths(table):
    """The number of paths from the start to the end."""

    @functools.cache
    def count(state):
        edges = range(table.indptr[state], table.indptr[state + 1])
        return sum(count(int(table.next[edge])) for edge in edges) if edges else 1

    return count(0)


@pytest.mark.parametrize("whole", [False, True])
def test_the_paths_of_every_block_sum_to_1(tokenizer, whole):
    """Over random tables and logits. Through its blocks, a chunk has each path once."""
    rng = np.random.default_rng(8)
    seen = 0
    for _ in range(60):
        table = random_chunk(tokenizer, rng).table
        known = {}
        total, count = sum_block_by_block(table, rng, 0, known, whole)
        assert total == pytest.approx(1, abs=1e-9)
        assert count == count_paths(table)
        seen += len(known)
    assert seen > 60


@pytest.mark.parametrize("rule", ["greedy", "marginal"])
def test_the_probabilities_of_a_document_sum_to_1(tokenizer, monkeypatch, rule):
    """Both those that `tree.decode` chooses by and those that it returns."""
    found, seen, select = chunks(tokenizer, 0), 0, selection.select

    def checked(table, block, logits, log_probs, rule):
        nonlocal seen
        total, leaves = sums_along(block, log_probs)
        once = sum(np.exp(total[i]) for i in leaves)
        assert once == pytest.approx(1, abs=1e-9)
        seen += 1
        return select(table, block, logits, log_probs, rule)

    monkeypatch.setattr(selection, "select", checked)
    paths = decode(tree, found, Options(selection=rule, unlinked=True))
    assert seen > BATCH
    passed = 0
    for (case, _), path in zip(found, paths, strict=True):
        table = case.chunk.table
        source = np.repeat(np.arange(len(table.indptr) - 1), np.diff(table.indptr))
        taken = {
            int(source[edge]): log_prob
            for edge, log_prob in zip(path.edges, path.log_probs, strict=True)
        }
        for (opened, *_), (log_prob, *_), _ in path.unlinked:
            # OPEN of the unlinked link and the COPY that was taken are all there is
            copied = taken[int(source[opened])]
            assert np.exp(log_prob) + np.exp(copied) == pytest.approx(1, abs=1e-9)
            passed += 1
    assert passed > 5
