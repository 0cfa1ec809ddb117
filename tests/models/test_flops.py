"""FLOPs counted from the config against what JAX traces and XLA compiles."""

import dataclasses
import functools
import math

import jax
import jax.extend as jex
import pytest

from insgenel_jax.models import layers
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.models.lora import Lora
from insgenel_jax.training import loop
from insgenel_jax.training.generator import generator_task
from insgenel_jax.training.retriever import retriever_task
from tests.helpers.marks import slow
from tests.helpers.tiny import BERT, LLAMA, OPT, OPT_350M

WIDE = dataclasses.replace(LLAMA, head_dim=16, tie_embeddings=True)
ROWS, LENGTH, SCORED = 2, 16, 5


def generator(config):
    """The task of a model, and the shapes of a batch."""
    wide = dict.fromkeys(("tokens", "targets", "segments", "positions"), "int32")
    shapes = {
        name: jax.ShapeDtypeStruct((ROWS, LENGTH), dtype)
        for name, dtype in (wide | {"weights": "float32"}).items()
    }
    shapes["others"] = jax.ShapeDtypeStruct((ROWS, LENGTH, 1), "int32")
    shapes["biases"] = jax.ShapeDtypeStruct((ROWS, LENGTH, 2), "float32")
    return generator_task(config, SCORED), shapes


def retriever(config):
    shapes = {
        "windows": jax.ShapeDtypeStruct((4, 8), "int32"),
        "entities": jax.ShapeDtypeStruct((6, 12), "int32"),
        "gold": jax.ShapeDtypeStruct((4, 6), "bool"),
        "negatives": jax.ShapeDtypeStruct((4, 6), "bool"),
    }
    return retriever_task(config, 0), shapes


def gradient(task, microbatches):
    """A function of trained and frozen parameters, batch and key: the gradient."""

    def compute(params, frozen, batch, key):
        sums = functools.partial(loop._loss_sums, task, frozen)
        places = task.split(task.param_shardings(loop.sharding.make_mesh()))[0]
        return loop.accumulate(sums, microbatches, places, task.shared)(
            params, batch, key
        )

    return compute


def trace(task, shapes, microbatches=1):
    params, frozen = task.split(task.abstract_params())
    return params, frozen, shapes, jax.random.key(0)


def products(jaxpr) -> int:
    """FLOPs of all products of a jaxpr; the body of a scan counts `length` times."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            sizes = equation.invars[0].aval.shape
            (out,) = equation.outvars
            total += 2 * out.aval.size * math.prod(sizes[i] for i in contracted)
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        for inner in jex.core.jaxprs_in_params(equation.params):
            total += times * products(inner)
    return total


@pytest.mark.parametrize(
    ("make", "config", "microbatches"),
    [
        slow(generator, WIDE, 1),
        slow(generator, OPT_350M, 1),
        (generator, dataclasses.replace(WIDE, lora=Lora(targets=("query", "down"))), 2),
        slow(generator, dataclasses.replace(OPT_350M, lora=Lora()), 1),
        (retriever, BERT, 2),
        slow(generator, OPT, 1),
        slow(retriever, dataclasses.replace(BERT, lora=Lora()), 1),
    ],
)
def test_every_product_is_counted(make, config, microbatches):
    task, shapes = make(config)
    traced = jax.make_jaxpr(gradient(task, microbatches))(*trace(task, shapes))
    assert products(traced.jaxpr) == task.flops(shapes, microbatches)


@pytest.mark.slow
def test_an_unrolled_step_compiles_to_as_many_flops(monkeypatch):
    """XLA's own count; it has the FLOPs of norms and of the softmax, too."""
    size = 128
    config = ModelConfig(
        "llama", 512, dim=size, layers=3, heads=2, ffn=4 * size, max_positions=LENGTH
    )
    task, shapes = generator(config)

    def compiled():
        lowered = jax.jit(gradient(task, 1)).lower(*trace(task, shapes))
        return lowered.compile().cost_analysis()["flops"]

    counted = task.flops(shapes, 1)
    rolled = compiled()
    scan = layers.nn.scan
    monkeypatch.setattr(layers.nn, "scan", functools.partial(scan, unroll=3))
    assert counted == pytest.approx(compiled(), rel=0.03)
    assert rolled < counted / 2, "XLA now counts the body of a scan as often as it runs"
