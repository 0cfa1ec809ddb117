"""Every config is read, checked, and builds its abstract state."""

import json
from pathlib import Path

import jax
import pytest

from benchmarks import memory
from insgenel_jax import sharding, train
from insgenel_jax.training import config, loop, objectives, optimizer

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.py"))
# config -> its arguments, and the published model that each begins with
ARGUMENTS = {
    "generator_tiny": {"": None, ":wiki": None},
    "retriever_tiny": {"": None, ":wiki": None},
    "generator_opt": {
        ":350m": "OPT-350M",
        ":1.3b": "OPT-1.3B",
        ":2.7b": "OPT-2.7B",
        ":6.7b": "OPT-6.7B",
    },
    "generator_llama": {":7b": "LLaMA-7B", ":7b-lora": "LLaMA-7B"},
    "retriever_bert": {":base": "BERT-base", ":large": "BERT-large"},
}
# what the parameters of each are, in millions; a retriever's are two models'
MILLIONS = {
    "OPT-350M": 331,
    "OPT-1.3B": 1316,
    "OPT-2.7B": 2652,
    "OPT-6.7B": 6658,
    "LLaMA-7B": 6738,
    "BERT-base": 2 * 109,
    "BERT-large": 2 * 334,
}


@pytest.mark.parametrize(
    ("file", "published"),
    [(f"{f}{arg}", name) for f in CONFIGS for arg, name in ARGUMENTS[f.stem].items()],
    ids=lambda value: value and value.split("/")[-1],
)
def test_the_state_is_built_and_fits(file, published, tmp_path):
    """Abstractly, on the config's own mesh: under 80 GB a device for the state."""
    changes = []
    if published:
        record = json.dumps(memory.PUBLISHED[published])
        (tmp_path / "config.json").write_text(record)
        changes = [f"model.pretrained={tmp_path}"]
    found = config.load(file, changes)
    longest = 512 if found.task == "generator" else 128
    model = train.model_config(found, vocabulary=512, length=longest)
    task = {
        "generator": lambda: objectives.generator_task(model),
        "retriever": lambda: objectives.retriever_task(model, pad=0),
    }[found.task]()
    tx = optimizer.build(found.optimizer, found.loop.steps)
    settings = found.loop
    mesh = sharding.make_mesh(settings.data, settings.fsdp, settings.tensor)
    assert mesh.size == (8 if published else 1)
    measured = memory.measure(task, tx, mesh)
    state = loop.abstract_state(task, tx)
    placed = loop.state_shardings(task, tx, mesh)
    assert jax.tree.structure(state) == jax.tree.structure(placed)
    count = sum(leaf.size for leaf in jax.tree.leaves(task.abstract_params()))
    if not published:
        assert count > 10_000
        return
    assert (model.dtype, model.dropout) == ("bfloat16", 0.1)
    trained = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    if model.lora is None:
        assert round(count / 1e6) == MILLIONS[published] and trained == count
    else:  # A and B of query and value, rank 8, in all layers
        assert trained == 32 * 2 * 2 * 4096 * 8
        assert round((count - trained) / 1e6) == MILLIONS[published]
    assert measured["training"] < 20e9  # and the rest for activations
    parts = 1 if settings.data == 8 else 8
    per_parameter = 2 if model.lora else 16
    assert measured["training"] > per_parameter * count / parts
