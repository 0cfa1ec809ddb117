"""The step decoder against greedy decoding by recomputation over legal outputs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax import models
from insgenel_jax.decoding import step
from insgenel_jax.decoding.decisions import Weights, build_table
from insgenel_jax.linked_text import encode_prompt, encode_source, encode_titles
from insgenel_jax.models.config import ModelConfig
from tests.decoding.test_decisions import TITLES, legal_outputs, random_candidates

TEXTS = ["New York City", "(York) New York's 1999", "in York", "York's mayor: York"]


@pytest.fixture(scope="module")
def generator(tokenizer):
    config = ModelConfig(
        family="llama",
        vocabulary=tokenizer.size,
        dim=32,
        layers=2,
        heads=4,
        kv_heads=2,
        ffn=64,
        max_positions=512,
    )
    params = models.init_params(config, jax.random.key(0))
    params = jax.tree.map(lambda p: p * 8, params)  # decisions far from ties
    module = models.build(config)
    model = step.Model(
        forward=lambda p, *args: module.apply({"params": p}, *args),
        unembed=functools.partial(models.unembed, config),
        init_cache=functools.partial(models.init_cache, config),
    )
    return model, params


def greedy_oracle(model, params, prompt, outputs, bias):
    """Argmax over the legal next tokens, the whole sequence run anew for each."""
    ids, log_prob = (), 0.0
    while True:
        allowed = sorted(
            {o[len(ids)] for o in outputs if o[: len(ids)] == ids and len(o) > len(ids)}
        )
        if not allowed:
            return ids, log_prob
        if len(allowed) > 1:
            tokens = jnp.array([[*prompt, *ids]])
            length = tokens.shape[1]
            positions = jnp.arange(length)[None]
            mask = jnp.tril(jnp.ones((1, length, length), bool))
            hidden, _ = model.forward(params, tokens, positions, mask, None)
            logits = model.unembed(params, hidden[:, -1], jnp.array([allowed]))[0]
            logits = logits + jnp.array([bias(ids, token) for token in allowed])
            best = int(jnp.argmax(logits))
            log_prob += float(jax.nn.log_softmax(logits)[best])
        else:
            best = 0
        ids = (*ids, allowed[best])


def cases(tokenizer, rng, count):
    titles = encode_titles(tokenizer, TITLES)
    for i in range(count):
        text = TEXTS[i % len(TEXTS)]
        tokens = encode_source(tokenizer, text)
        candidates = random_candidates(tokens, rng, int(rng.integers(1, 4)))
        table = build_table(
            tokenizer, tokens, candidates, titles.__getitem__, Weights(mention_bias=0.5)
        )
        outputs = legal_outputs(tokenizer, tokens, candidates, titles, True)
        prompt = encode_prompt(tokenizer, "link it", text)
        yield tokens, table, outputs, prompt


@pytest.mark.parametrize("block", [1, 3, 8])
def test_step_is_greedy_over_legal_outputs(generator, tokenizer, block):
    model, params = generator
    chunks = list(cases(tokenizer, np.random.default_rng(0), 8))
    paths = step.decode(
        model,
        params,
        [prompt for _, _, _, prompt in chunks],
        [table for _, table, _, _ in chunks],
        batch=8,
        block=block,
    )

    def bias(ids, token):
        return 0.5 * (token == tokenizer.open)

    decided = 0
    for (tokens, table, outputs, prompt), path in zip(chunks, paths, strict=True):
        expected, log_prob = greedy_oracle(model, params, prompt, outputs, bias)
        ids = table.token[path.edges].tolist()
        last = max(end for _, end, _ in table.mentions)
        assert (*ids, *tokens.ids[last:].tolist()) == expected
        assert path.log_probs.sum() == pytest.approx(log_prob, abs=1e-4)
        decided += (path.log_probs < 0).sum()
        assert path.calls <= max((path.log_probs < 0).sum(), 1) + len(ids) // block
    assert decided > 8


def test_batch_and_padding_change_nothing(generator, tokenizer):
    model, params = generator
    chunks = list(cases(tokenizer, np.random.default_rng(1), 6))
    prompts = [prompt for _, _, _, prompt in chunks]
    tables = [table for _, table, _, _ in chunks]
    together = step.decode(model, params, prompts, tables, batch=8)
    for i, expected in enumerate(together):
        alone = step.decode(model, params, prompts[i:][:1], tables[i:][:1], batch=1)[0]
        np.testing.assert_array_equal(alone.edges, expected.edges)
        np.testing.assert_allclose(alone.log_probs, expected.log_probs, atol=1e-5)
        assert alone.calls == expected.calls


def test_forced_chunks_cost_no_call(generator, tokenizer):
    """A given mention with one candidate leaves nothing to decide."""
    model, params = generator
    titles = encode_titles(tokenizer, TITLES)
    tokens = encode_source(tokenizer, "in York")
    mention = random_candidates(tokens, np.random.default_rng(0), 1)[0]
    mention = type(mention)(3, 7, mention.entities[:1], np.zeros(1), np.zeros(1), False)
    table = build_table(tokenizer, tokens, [mention], titles.__getitem__, Weights())
    (path,) = step.decode(model, params, [[1]], [table], batch=1)
    assert path.calls == 0
    assert path.log_probs.sum() == 0
    assert table.value[path.edges[-1]] == mention.entities[0]
