"""Which backend computes an attention, and why others are refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax import models
from insgenel_jax.models import attention
from insgenel_jax.models.attention import Mask
from tests.helpers.attention import MASKS, TOKENS, normal, shapes
from tests.helpers.tiny import BERT, LLAMA

TREE = Mask(dense=np.ones((2, TOKENS, TOKENS), bool))


@pytest.mark.parametrize(
    ("platform", "mask", "change", "expected"),
    [
        ("cpu", MASKS["causal"], {}, "xla"),
        ("gpu", MASKS["causal"], {}, "cudnn"),
        ("gpu", MASKS["causal, lengths"], {}, "cudnn"),
        ("gpu", MASKS["causal"], {"queries": 9, "keys": 99}, "cudnn"),
        ("gpu", MASKS["causal, segments"], {}, "xla"),
        ("gpu", TREE, {}, "xla"),
        ("gpu", MASKS["causal"], {"dtype": jnp.float32}, "xla"),
        ("gpu", MASKS["causal"], {"size": 100}, "xla"),
        ("gpu", MASKS["causal"], {"size": 256}, "xla"),
        ("tpu", MASKS["causal, segments"], {}, "splash"),
        ("tpu", MASKS["lengths"], {"dtype": jnp.float32}, "splash"),
        ("tpu", TREE, {}, "xla"),
        ("tpu", MASKS["causal"], {"queries": 1}, "xla"),
        ("tpu", MASKS["causal"], {"queries": 200, "keys": 200}, "xla"),
        ("tpu", MASKS["causal"], {"size": 80}, "xla"),
    ],
)
def test_auto(platform, mask, change, expected):
    """The platform's kernel if it can compute this attention, else xla."""
    actual = attention.choose_backend("auto", mask, *shapes(**change), platform)
    assert actual == expected


@pytest.mark.parametrize(
    ("backend", "platform", "mask", "change", "reason"),
    [
        ("cudnn", "gpu", MASKS["causal, segments"], {}, "ignore the mask's segments"),
        ("cudnn", "gpu", TREE, {}, "ignore the mask's dense"),
        ("splash", "tpu", TREE, {}, "ignore the mask's dense"),
        ("cudnn", "cpu", MASKS["causal"], {}, "it runs on gpu, this is cpu"),
        ("splash", "gpu", MASKS["causal"], {}, "it runs on tpu, this is gpu"),
        ("cudnn", "gpu", MASKS["all"], {"dtype": jnp.float32}, "not float32"),
        ("cudnn", "gpu", MASKS["all"], {"size": 100}, "heads of 100"),
        ("splash", "tpu", MASKS["all"], {"size": 80}, "heads of 80"),
        ("splash", "tpu", MASKS["all"], {"queries": 128}, "found 128 and 384"),
        ("xla", "cpu", MASKS["segments"], {"keys": 400}, "384 tokens for 400 keys"),
    ],
)
def test_refusals(backend, platform, mask, change, reason):
    """A backend that would compute something else is refused, and says why."""
    with pytest.raises(ValueError, match=f"'{backend}' is refused: .*{reason}"):
        attention.choose_backend(backend, mask, *shapes(**change), platform)


def test_all_reasons_at_once():
    """The error names them all, and `attend` asks for the platform it runs on."""
    arrays = normal(1, 3, 2, 4), normal(1, 3, 2, 4), normal(1, 3, 2, 4)
    with pytest.raises(ValueError) as error:
        attention.attend(*arrays, attention.causal_mask(np.ones((1, 3), int)), "cudnn")
    for reason in ("this is cpu", "segments", "float32", "heads of 4"):
        assert reason in str(error.value)


@pytest.mark.parametrize("config", [LLAMA, BERT], ids=lambda c: c.family)
def test_models_ask_for_their_backend(config):
    """The config's backend reaches `attend`; parameters are made without it."""
    config = dataclasses.replace(config, attention="cudnn")
    params, tokens = models.abstract_params(config), np.zeros((2, 5), np.int32)
    with pytest.raises(
        ValueError, match="attention = 'cudnn' is refused: it runs on g"
    ):
        jax.eval_shape(
            lambda params: models.build(config).apply(
                {"params": params}, tokens, tokens, Mask()
            ),
            params,
        )
    with pytest.raises(ValueError, match="attention is 'flash', known are"):
        dataclasses.replace(config, attention="flash")


def test_a_new_part_of_a_mask_is_refused():
    """A part that no row of BACKENDS names is refused by all, not ignored."""

    @dataclasses.dataclass(frozen=True)
    class Wider(Mask):
        window: int | None = None

    for backend in attention.BACKENDS:
        actual = attention.objections(backend, Wider(window=3), *shapes(), "cpu")
        assert "it would ignore the mask's window" in actual
