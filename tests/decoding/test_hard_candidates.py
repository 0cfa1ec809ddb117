"""Candidates that are easy to get wrong: titles within titles, one alone, thousands."""

import math

import numpy as np
import pytest

from insgenel_jax.decoding import blocks, speculative, step, tree
from insgenel_jax.decoding.mentions import CandidateMention
from insgenel_jax.decoding.options import Options
from insgenel_jax.decoding.path import follow, read_links
from insgenel_jax.decoding.table import TITLE, Weights
from insgenel_jax.text.linked_text import encode_titles
from tests.helpers.random_chunks import make_chunk
from tests.helpers.small_models import small_model

DECODERS = {
    "step": (step, Options()),
    "tree": (tree, Options()),
    "tree, marginal": (tree, Options(selection="marginal")),
    "tree, whole": (tree, Options(vocabulary=True)),
    "speculative": (speculative, Options()),
}


@pytest.fixture(scope="module")
def generator(tokenizer):
    return small_model(tokenizer.size, 2.0)


def favour(tokenizer, ids, entity):
    """The chunk "in York", which is linked almost surely, and to the given entity."""
    log_prior = np.full(len(ids), -60.0)
    log_prior[entity] = 0.0
    mention = CandidateMention(3, 7, np.arange(len(ids)), log_prior, 0 * log_prior)
    weights = Weights(mention_bias=12.0, prior_weight=1.0)
    return make_chunk(tokenizer, "in York", [mention], ids, weights)


def decode(decoder, options, generator, chunks):
    """The path and the one link of each chunk."""
    paths = decoder.decode(*generator, chunks, batch=4, options=options)
    links = [
        read_links(chunk.table, path.edges, path.log_probs)
        for chunk, path in zip(chunks, paths, strict=True)
    ]
    assert [len(found) for found in links] == [1] * len(chunks)
    return paths, [link for (link,) in links]


@pytest.mark.parametrize("name", DECODERS)
def test_titles_within_titles(generator, tokenizer, name):
    """END or a longer title: four titles, of which each begins with the one before."""
    titles = ["New", "New York", "New York City", "New York City, New York"]
    ids = encode_titles(tokenizer, titles)
    assert all(ids[-1][: len(shorter)] == shorter for shorter in ids)
    chunks = [favour(tokenizer, ids, entity) for entity in range(4)]
    paths, links = decode(*DECODERS[name], generator, chunks)
    assert [link.entity for link in links] == [0, 1, 2, 3]
    for path, link in zip(paths, links, strict=True):
        assert link.log_prob == pytest.approx(0, abs=0.01)
        assert link.log_prob == pytest.approx(sum(path.log_probs))


@pytest.mark.parametrize("name", DECODERS)
def test_one_candidate(generator, tokenizer, name):
    """Its title is forced and costs no call. Over the vocabulary it has a score."""
    ids = encode_titles(tokenizer, ["New York City"])
    chunk = favour(tokenizer, ids, 0)
    (path,), (link,) = decode(*DECODERS[name], generator, [chunk])
    assert (link.entity, link.span, link.title) == (0, 0.0, 0.0)
    assert link.open < 0
    assert path.calls == 1
    assert (path.vocabulary is not None) == (name == "tree, whole")
    if path.vocabulary is not None:
        (link,) = read_links(chunk.table, path.edges, path.log_probs, path.vocabulary)
        assert max(link.vocabulary) < 0


@pytest.fixture(scope="module")
def thousands():
    """3,600 titles: many are prefixes of others, and most share their beginning."""
    rng = np.random.default_rng(0)
    longest = sorted({tuple(row) for row in rng.integers(10, 60, (1200, 5)).tolist()})
    titles = {title[:length] for title in longest for length in (3, 4, 5)}
    assert len(titles) > 3500
    return [list(title) for title in sorted(titles)]


@pytest.mark.slow
@pytest.mark.parametrize("name", DECODERS)
def test_thousands_of_candidates(generator, tokenizer, thousands, name):
    """Any of them can win, the last one too: what one call cannot hold takes more."""
    places = [0, len(thousands) // 2, len(thousands) - 1]
    chunks = [favour(tokenizer, thousands, entity) for entity in places]
    paths, links = decode(*DECODERS[name], generator, chunks)
    assert [link.entity for link in links] == places
    expected, _ = decode(*DECODERS["step"], generator, chunks)
    for found, reference in zip(paths, expected, strict=True):
        assert found.edges == reference.edges
        np.testing.assert_allclose(found.log_probs, reference.log_probs, atol=1e-5)
    if name != "tree":
        return
    assert all(path.calls <= 3 for path in paths)  # it goes where the best titles are
    for options in (Options(selection="marginal"), Options(unlinked=True)):
        others, _ = decode(tree, options, generator, chunks)
        assert [path.edges for path in others] == [path.edges for path in paths]
    # the last of these options runs the whole block
    for chunk, path in zip(chunks, others, strict=True):
        table = chunk.table
        state, forced = follow(table, 0)
        block = blocks.find_block(table, state)
        assert np.count_nonzero(table.kind == TITLE) > 4000
        # each piece runs the tokens of one path again, at most
        least = math.ceil(block.asked.sum() / tree.NODES)
        assert 10 < least <= path.calls <= least * 1.1
        pending = len(chunk.prompt) + len(forced)
        deepest = path.calls * (1 + block.depth.max())
        assert path.tokens <= pending + block.asked.sum() + deepest
