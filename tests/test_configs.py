"""Every config is read, checked, and builds its abstract state."""

from pathlib import Path

import jax
import pytest

from insgenel_jax import train
from insgenel_jax.training import config, loop, objectives, optimizer

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.py"))
ARGUMENTS = {"generator_tiny": ("", ":wiki"), "retriever_tiny": ("", ":wiki")}


@pytest.mark.parametrize(
    "file", [f"{f}{arg}" for f in CONFIGS for arg in ARGUMENTS[f.stem]]
)
def test_the_abstract_state_is_built(file):
    found = config.load(file)
    model = train.model_config(found, vocabulary=512, max_positions=512)
    task = {
        "generator": lambda: objectives.generator_task(model),
        "retriever": lambda: objectives.retriever_task(model, pad=0),
    }[found.task]()
    tx = optimizer.build(found.optimizer, found.loop.steps)
    state = loop.abstract_state(task, tx)
    mesh = train.sharding.make_mesh(1, 1, 1)
    placed = loop.state_shardings(task, tx, mesh)
    assert jax.tree.structure(state) == jax.tree.structure(placed)
    assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) > 10_000
