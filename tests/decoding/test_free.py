"""Free decoding against a loop that runs the whole sequence anew for each token."""

import jax
import numpy as np
import pytest

from insgenel_jax.decoding import free
from insgenel_jax.decoding.free import Written, write
from tests.helpers.marks import slow
from tests.helpers.small_models import LENGTH, small_model, whole

VOCABULARY, NEW = 24, 14


def naive(model, params, prompt, eos, stop=None, new_tokens=NEW):
    tokens = list(prompt)
    while len(tokens) < len(prompt) + new_tokens:
        padded = np.zeros(LENGTH, np.int32)
        padded[: len(tokens)] = tokens
        best = int(np.argmax(whole(model)(params, padded, len(tokens))))
        if best == eos:
            return Written(tokens[len(prompt) :], False)
        tokens.append(best)
        if stop and stop(tokens[len(prompt) :]):
            return Written(tokens[len(prompt) :], False)
    return Written(tokens[len(prompt) :], True)


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch):
    """Prompts of several pieces, and several returns to the host."""
    monkeypatch.setattr(free, "PIECE", 8)
    monkeypatch.setattr(free, "STEPS", 4)


@pytest.mark.parametrize("family", ["llama", slow("opt")])
def test_equals_a_loop_without_a_cache(family):
    """At any batch; rows that end at once, later, and not at all."""
    model, params = small_model(VOCABULARY, 5.0, family)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, VOCABULARY, n).tolist() for n in (1, 7, 8, 9, 21, 40)]
    with jax.default_matmul_precision("highest"):
        free_run = [naive(model, params, p, eos=-1).tokens for p in prompts]
        # the tokens that end some rows early, and one row at once
        for eos in (free_run[0][0], free_run[3][6]):
            expected = [naive(model, params, p, eos) for p in prompts]
            assert len({len(w.tokens) for w in expected}) > 1
            for batch in (1, 4):
                found = write(
                    model, params, prompts, batch=batch, new_tokens=NEW, eos=eos
                )
                assert found == expected


def test_stops_where_it_is_told():
    """With the token that completes the stop string, wherever a block of steps ends."""
    model, params = small_model(VOCABULARY, 5.0)
    prompts = [[1, 2, 3], [4]]
    with jax.default_matmul_precision("highest"):
        run = naive(model, params, prompts[0], eos=-1).tokens
        for end in range(2, NEW):

            def stop(tokens, last=tuple(run[end - 2 : end])):
                return tuple(tokens[-2:]) == last

            expected = [naive(model, params, p, -1, stop) for p in prompts]
            assert not expected[0].cut_off
            options = {"new_tokens": NEW, "eos": -1, "stop": stop}
            assert write(model, params, prompts, batch=2, **options) == expected


def test_new_tokens_are_counted():
    model, params = small_model(VOCABULARY, 5.0)
    for count in (1, 4, 5):
        (found,) = write(model, params, [[1]], batch=1, new_tokens=count, eos=-1)
        assert found.cut_off and len(found.tokens) == count
    assert write(model, params, [], batch=1, new_tokens=1, eos=-1) == []
    with pytest.raises(ValueError, match="prompt 1: expected at least one token"):
        write(model, params, [[1], []], batch=1, new_tokens=1, eos=-1)
