"""Beam search against a plain one over legal outputs, each hypothesis run anew."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax.decoding import beam, step
from insgenel_jax.decoding.decisions import (
    Weights,
    build_table,
    follow,
    read_links,
)
from insgenel_jax.decoding.spans import CandidateMention
from insgenel_jax.linked_text import encode_prompt, encode_source, encode_titles
from tests.decoding.test_decisions import TITLES, candidate
from tests.decoding.test_decoders import LENGTH, cases, small_model, whole


@pytest.fixture(scope="module")
def generator(tokenizer):
    return small_model(tokenizer.size, 3.0)


def chunks_of(tokenizer, seed, count, weights=None):
    """Prompts, tables, sources, and all legal targets."""
    chunks = list(
        cases(tokenizer, np.random.default_rng(seed), count, weights or Weights())
    )
    return (
        [prompt for *_, prompt in chunks],
        [table for _, table, *_ in chunks],
        [[*tokens.ids.tolist(), tokenizer.eos] for tokens, *_ in chunks],
        [{(*ids, tokenizer.eos) for ids in outputs} for *_, outputs, _ in chunks],
    )


def target_of(table, source, path):
    """The tokens up to EOS that a path stands for."""
    last = len(table.span_end) - 1
    return (*table.token[path.edges].tolist(), *source[last:])


class Search:
    """Beam search as Hugging Face's, over given targets, in plain Python."""

    def __init__(self, generator, prompt, targets, bias=lambda ids, token: 0.0):
        self.model, self.params = generator
        self.prompt, self.targets, self.bias = prompt, targets, bias

    @functools.cache
    def log_probs(self, ids):
        tokens = np.zeros(LENGTH, np.int32)
        sequence = [*self.prompt, *ids]
        tokens[: len(sequence)] = sequence
        logits = whole(self.model)(self.params, tokens, len(sequence))
        return np.asarray(jax.nn.log_softmax(logits), np.float64)

    def continuations(self, ids, score):
        n = len(ids)
        for token in sorted({t[n] for t in self.targets if t[:n] == ids}):
            gain = self.log_probs(ids)[token] + self.bias(ids, token)
            yield score + gain, (*ids, token)

    def find(self, beams):
        """-> (mean of ln p, target) of the best finished hypothesis."""
        running, finished = [(0.0, ())], []
        while running:
            found = [
                c for score, ids in running for c in self.continuations(ids, score)
            ]
            found = sorted(found, key=lambda c: -c[0])[: 2 * beams]
            ended = [(s / len(ids), ids) for s, ids in found[:beams] if self.ends(ids)]
            finished = sorted([*finished, *ended], reverse=True)[:beams]
            running = [c for c in found if not self.ends(c[1])][:beams]
            if running and len(finished) == beams:
                score, ids = running[0]
                if score / len(ids) <= finished[-1][0]:
                    break
        return finished[0]

    def ends(self, ids):
        return ids in self.targets


@pytest.mark.parametrize(("beams", "block"), [(1, 8), (2, 1), (2, 3), (2, 8), (6, 8)])
def test_over_legal_outputs(generator, tokenizer, beams, block):
    """Targets and scores, with biases, whether forced tokens ride along or not."""
    weights = Weights(mention_bias=4.0)
    *args, targets = chunks_of(tokenizer, 0, 8, weights)
    found = beam.search(*generator, *args, batch=8, beams=beams, block=block)
    links = 0
    for prompt, table, source, legal, (path, score) in zip(
        *args, targets, found, strict=True
    ):
        search = Search(
            generator, prompt, legal, lambda i, t: 4.0 * (t == tokenizer.open)
        )
        expected, target = search.find(beams)
        assert path.gap > 1e-4
        assert target_of(table, source, path) == target
        assert score == pytest.approx(expected, abs=1e-4)
        full = [search.log_probs(target[:n])[t] for n, t in enumerate(target)]
        np.testing.assert_allclose(path.vocabulary, full[: len(path.edges)], atol=1e-4)
        links += len(read_links(table, path.edges, path.log_probs))
    assert links > 4
