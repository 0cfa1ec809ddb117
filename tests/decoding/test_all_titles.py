"""Mentions that may take any title of the knowledge base: one tree for all chunks."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from insgenel_jax.decoding import beam, speculative, step, tree
from insgenel_jax.decoding.build import build_table
from insgenel_jax.decoding.chunk import Chunk
from insgenel_jax.decoding.mentions import CandidateMention, allow_any_title
from insgenel_jax.decoding.options import Options
from insgenel_jax.decoding.path import read_links
from insgenel_jax.decoding.table import Weights
from insgenel_jax.decoding.title_trie import build_title_trie
from insgenel_jax.text.linked_text import encode_prompt, encode_source, find_tokens
from tests.helpers.marks import slow
from tests.helpers.oracle import Oracle
from tests.helpers.random_chunks import candidate, legal_outputs
from tests.helpers.small_models import small_model

WORDS = ["York", "New", "City", "mayor", "in", "the", "1999", "'s", ",", "of"]


@pytest.fixture(scope="module")
def generator(tokenizer):
    return small_model(tokenizer.size, 3.0)


def draw_titles(tokenizer, rng, count, letters):
    """Titles of few different tokens: they share beginnings, some are prefixes."""
    own = (tokenizer.open, tokenizer.close, tokenizer.entity, tokenizer.end)
    letters = [t for t in range(tokenizer.size - letters, tokenizer.size)]
    letters = [t for t in letters if t not in own]
    lengths = rng.integers(1, 5, count)
    titles = [tuple(rng.choice(letters, n).tolist()) for n in lengths]
    titles += [title[:-1] for title in titles if len(title) > 1][: count // 4]
    return [list(title) for title in dict.fromkeys(titles)]


def grow(tokenizer, titles):
    """The prefix tree of all titles on the host, and on the device."""
    ids = np.array([token for title in titles for token in title])
    lengths = np.array([len(title) for title in titles])
    trie = build_title_trie(ids, lengths, tokenizer.size, tokenizer.end)
    return trie, jax.device_put(trie)


class Case:
    """A chunk whose mentions may take any title, each with probability `share`.

    table: its mentions lead into the tree of all titles. listed: they have all titles
    as candidates instead.
    """

    def __init__(self, tokenizer, rng, titles, trie, share, weights=None, mentions=4):
        self.text = " ".join(rng.choice(WORDS, int(rng.integers(2, 7))))
        self.tokens = encode_source(tokenizer, self.text)
        self.prompt = encode_prompt(tokenizer, "link it", self.text)
        every, found = np.arange(len(titles), dtype=np.int32), {}
        spans = [
            (int(self.tokens.starts[i]), int(self.tokens.ends[j - 1]))
            for i in range(len(self.tokens))
            for j in range(i + 1, min(i + 4, len(self.tokens) + 1))
        ]
        spans = [s for s in dict.fromkeys(spans) if find_tokens(self.tokens, *s)]
        rng.shuffle(spans)
        for span in spans[: int(rng.integers(1, mentions + 1))]:
            span = tuple(map(int, span))
            optional, some = rng.random() < 0.7, rng.choice(len(titles), 3, False)
            if rng.random() < share:
                mention = dataclasses.replace(allow_any_title(*span), optional=optional)
                alike = np.full(len(titles), -np.log(len(titles)))
                known = CandidateMention(*span, every, alike, alike, optional)
            else:
                mention = known = candidate(*span, some.tolist(), rng, optional)
            found[span] = mention, known
        self.candidates, self.known = map(list, zip(*found.values(), strict=True))
        build = functools.partial(
            build_table,
            tokenizer,
            self.tokens,
            title_ids=titles.__getitem__,
            weights=weights or Weights(mention_bias=1.0),
        )
        self.table = build(candidates=self.candidates, titles=trie)
        self.listed = build(candidates=self.known)

    def ids(self, path):
        last = max(end for _, end, _ in self.table.mentions)
        return (*self.table.token_ids(path.edges), *self.tokens.ids[last:].tolist())


def decode(generator, cases, *, batch, listed=False, titles=None):
    chunks = [
        Chunk(case.prompt, [], case.listed if listed else case.table) for case in cases
    ]
    return step.decode(*generator, chunks, batch=batch, options=Options(titles=titles))


@pytest.mark.parametrize("tokens_per_call", [slow(1), 8])
def test_greedy_over_legal_outputs(generator, tokenizer, monkeypatch, tokens_per_call):
    """A batch of chunks with the tree of all titles, with own candidates, and both."""
    rng = np.random.default_rng(0)
    titles = draw_titles(tokenizer, rng, 16, 6)
    trie, titles_on_device = grow(tokenizer, titles)
    shares = [1, 0, 0.5, 1, 0, 0.5, 1, 1]
    cases = [Case(tokenizer, rng, titles, trie, share, mentions=2) for share in shares]
    monkeypatch.setattr(step, "TOKENS_PER_CALL", tokens_per_call)
    paths = decode(generator, cases, batch=8, titles=titles_on_device)
    for case, path in zip(cases, paths, strict=True):
        links = legal_outputs(tokenizer, case.tokens, case.known, titles, True)
        oracle = Oracle(
            generator,
            case.prompt,
            links,
            lambda ids, token: float(token == tokenizer.open),
        )
        expected, log_prob = oracle.greedy()
        found = read_links(case.table, path.edges, path.log_probs)
        assert case.ids(path) == expected
        assert sum(path.log_probs) == pytest.approx(log_prob, abs=1e-5)
        assert tuple(
            (case.tokens.starts.tolist().index(link.mention.start), link.entity)
            for link in found
        ) == tuple((start, entity) for start, _, entity in links[expected])


@pytest.mark.slow
def test_probabilities_of_all_titles_sum_to_one(generator, tokenizer):
    """The oracle's do, and the decoder's agree with them."""
    rng = np.random.default_rng(1)
    titles = draw_titles(tokenizer, rng, 30, 5)
    trie, titles_on_device = grow(tokenizer, titles)
    tokens = encode_source(tokenizer, "in York")
    mention = dataclasses.replace(allow_any_title(3, 7), optional=False)
    table = build_table(tokenizer, tokens, [mention], None, Weights(), trie)
    prompt = encode_prompt(tokenizer, "link it", "in York")
    (path,) = step.decode(
        *generator,
        [Chunk(prompt, [], table)],
        batch=1,
        options=Options(titles=titles_on_device),
    )
    (link,) = read_links(table, path.edges, path.log_probs)
    every = np.arange(len(titles))
    alike = np.zeros(len(titles))
    listed = CandidateMention(3, 7, every, alike, alike, optional=False)
    outputs = legal_outputs(tokenizer, tokens, [listed], titles, True)
    oracle = Oracle(generator, prompt, outputs, lambda ids, token: 0.0)
    log_probs = {
        entity: oracle.log_prob(ids, 0) for ids, ((_, _, entity),) in outputs.items()
    }
    assert sum(map(np.exp, log_probs.values())) == pytest.approx(1, abs=1e-6)
    assert link.log_prob == pytest.approx(log_probs[link.entity], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "letters, count, rest_of_span",
    [(4, 20, True), (300, 400, False)],
    ids=["few letters", "a wide root"],
)
def test_as_with_all_titles_for_candidates(
    generator, tokenizer, letters, count, rest_of_span
):
    """The same tokens, log-probabilities, calls and links, whatever the weights."""
    rng = np.random.default_rng(2)
    titles = draw_titles(tokenizer, rng, count, letters)
    trie, titles_on_device = grow(tokenizer, titles)
    assert (np.diff(trie.indptr)[0] > 64) == (letters == 300)
    weights = Weights(
        mention_bias=0.3,
        prior_weight=1.0,
        retriever_weight=0.5,
        rest_of_span=rest_of_span,
    )
    cases = [
        Case(tokenizer, rng, titles, trie, 0.6, weights, mentions=6) for _ in range(32)
    ]
    found = decode(generator, cases, batch=32, titles=titles_on_device)
    expected = decode(generator, cases, listed=True, batch=32)
    links, inside = 0, 0
    for case, a, b in zip(cases, found, expected, strict=True):
        assert case.table.longest == case.listed.longest
        if min(a.margin, b.margin) < 1e-4:
            continue
        assert case.table.token_ids(a.edges) == case.listed.token_ids(b.edges)
        np.testing.assert_allclose(a.log_probs, b.log_probs, atol=1e-5)
        assert a.margin == pytest.approx(b.margin, abs=1e-4)
        assert (a.calls, a.tokens) == (b.calls, b.tokens)
        one, two = (
            [
                (link.mention.start, link.mention.end, link.entity)
                for link in read_links(table, path.edges, path.log_probs)
            ]
            for table, path in ((case.table, a), (case.listed, b))
        )
        assert one == two
        links += len(one)
        inside += sum(edge >= len(case.table.token) for edge in a.edges)
    assert links > 24 and inside > 24


@pytest.mark.slow
def test_one_title(generator, tokenizer):
    """It is forced, so there is a single call, for the root."""
    trie, titles_on_device = grow(tokenizer, [[9, 8, 7]])
    tokens = encode_source(tokenizer, "in York")
    mention = dataclasses.replace(allow_any_title(3, 7), optional=False)
    table = build_table(tokenizer, tokens, [mention], None, Weights(), trie)
    options = Options(titles=titles_on_device)
    (path,) = step.decode(*generator, [Chunk([1], [], table)], batch=1, options=options)
    assert table.token_ids(path.edges)[-4:] == [9, 8, 7, tokenizer.end]
    assert (path.calls, sum(path.log_probs), path.margin) == (1, 0, float("inf"))
    assert table.longest == len(path.edges)
    assert read_links(table, path.edges, path.log_probs)[0].entity == 0


@pytest.mark.slow
def test_new_documents_compile_nothing(generator, tokenizer):
    """With or without the tree, if an earlier chunk was padded to the same sizes."""
    rng = np.random.default_rng(3)
    titles = draw_titles(tokenizer, rng, 20, 5)
    trie, titles_on_device = grow(tokenizer, titles)
    cases = [Case(tokenizer, rng, titles, trie, share / 8) for share in range(8)]
    sizes = {
        step.shape(Chunk(case.prompt, [], case.table), Options()) for case in cases
    }
    before = step._decode._cache_size()
    for i in range(0, 8, 2):
        decode(generator, cases[i : i + 2], batch=2, titles=titles_on_device)
    assert step._decode._cache_size() - before <= len(sizes)
    _, other = grow(tokenizer, titles[::-1])
    compiled = step._decode._cache_size()
    decode(generator, cases[:2], batch=2, titles=other)
    assert (
        step._decode._cache_size() == compiled
    )  # the tree is an argument, not a constant


def test_who_cannot_refuses(generator, tokenizer):
    trie, _ = grow(tokenizer, [[9, 8], [9]])
    tokens = encode_source(tokenizer, "in York")
    build = functools.partial(
        build_table, tokenizer, tokens, [allow_any_title(3, 7)], None, Weights()
    )
    with pytest.raises(ValueError, match="give the tree of all titles, or cand"):
        build()
    source = [*tokens.ids.tolist(), tokenizer.eos]
    args = *generator, [Chunk([1], source, build(titles=trie))]
    for name, decoder in (("tree", tree), ("speculative", speculative), ("beam", beam)):
        with pytest.raises(ValueError, match=f'{name} decoder .*decoder="step"'):
            decoder.decode(*args, batch=1, options=Options())
    with pytest.raises(ValueError, match="give decode the tree of all titles"):
        step.decode(*args, batch=1, options=Options())
