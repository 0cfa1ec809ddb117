"""Every config is read, checked, and builds its abstract state."""

import json
from pathlib import Path

import jax
import pytest

from benchmarks import memory
from insgenel_jax.training import config, loop, settings
from insgenel_jax.training import run as experiment
from insgenel_jax.training.data import negatives
from insgenel_jax.training.generator import generator_task
from insgenel_jax.training.retriever import retriever_task
from tests.helpers.marks import slow

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
TINY = [
    f"{task}_tiny.py{arg}"
    for task in ("generator", "retriever")
    for arg in ("", ":wiki")
]
# published models that the default run takes; the slow run takes all
SMALLER = {
    "generator_opt.py:350m",
    "generator_llama.py:7b-lora",
    "retriever_bert.py:base",
}
# those that two cores train, over small published models
SMALL = ("generator_smollm2.py", "retriever_bert.py:small")
# the config.json of all-MiniLM-L6-v2
MINILM = {
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
}
# the config.json of SmolLM2-135M
SMOLLM2 = {
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100_000,
    "tie_word_embeddings": True,
}
# what the parameters of published models are, in millions
MILLIONS = {
    "OPT-350M": 331,
    "OPT-1.3B": 1316,
    "OPT-2.7B": 2652,
    "OPT-6.7B": 6658,
    "LLaMA-7B": 6738,
    "BERT-base": 109,
    "BERT-large": 334,
}


def test_no_config_is_left_out():
    tested = {name.partition(":")[0] for name in (*TINY, *SMALL, *memory.PAPER)}
    assert tested == {file.name for file in CONFIGS.glob("*.py")}


@pytest.mark.parametrize("name", TINY)
def test_a_model_from_scratch_is_built(name):
    found = config.load(str(CONFIGS / name))
    model = experiment.model_config(found, vocabulary=512, length=512)
    task = {
        "generator": lambda: generator_task(model),
        "retriever": lambda: retriever_task(model, pad=0),
    }[found.task]()
    plan = loop.make_plan(task, found.optimizer, found.loop)
    assert jax.tree.structure(plan.abstract) == jax.tree.structure(plan.places)
    assert sum(leaf.size for leaf in jax.tree.leaves(plan.abstract.params)) > 10_000


def test_minilm_is_pooled_as_it_was_trained(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(MINILM))
    name = str(CONFIGS / "retriever_bert.py:minilm")
    found = config.load(name, [f"model.pretrained={tmp_path}"])
    model = experiment.model_config(found, vocabulary=30522, length=64)
    vectors = model.pooling, model.normalise, model.temperature
    assert vectors == ("mean", True, 0.05)
    plan = loop.make_plan(retriever_task(model, pad=0), found.optimizer, found.loop)
    count = sum(leaf.size for leaf in jax.tree.leaves(plan.abstract.params))
    assert round(count / 2 / 1e6, 1) == 22.6  # without the pooler
    negatives.check_room(found.data, 10**6)


@pytest.mark.parametrize(
    ("name", "published", "trained"),
    [
        # A and B of query and value, rank 16, with 3 heads for keys and values
        ("generator_smollm2.py", SMOLLM2, 30 * 16 * (576 + 576 + 576 + 192)),
        ("retriever_bert.py:small", MINILM, 22_565_376),  # one encoder, no pooler
    ],
)
def test_two_cores_train_what_they_can_hold(tmp_path, name, published, trained):
    (tmp_path / "config.json").write_text(json.dumps(published))
    found = config.load(str(CONFIGS / name), [f"model.pretrained={tmp_path}"])
    model = experiment.model_config(found, published["vocab_size"], length=64)
    if found.task == "retriever":
        task = retriever_task(model, 0, shared=found.model.shared)
        negatives.check_room(found.data, 10**6)
    else:
        task = generator_task(model, found.data.scored, "", found.data.allowed_edges)
    plan = loop.make_plan(task, found.optimizer, found.loop)
    count = sum(leaf.size for leaf in jax.tree.leaves(plan.abstract.params))
    assert count == trained


@pytest.mark.parametrize("name", [*TINY, *memory.PAPER])
def test_hard_negatives_have_room(name):
    model = ["model.pretrained=m"] if name in memory.PAPER else []
    data = config.load(str(CONFIGS / name), model).data
    if isinstance(data, settings.RetrieverData):
        negatives.check_room(data, 67 if name == "retriever_tiny.py" else 10**6)


@pytest.mark.parametrize(
    "name", [name if name in SMALLER else slow(name) for name in memory.PAPER]
)
def test_the_state_of_a_published_model_fits(name):
    """On the config's own mesh of eight devices, of 80 GB each."""
    found, model, plan = memory.open_config(name)
    assert plan.mesh.size == 8
    assert (model.dtype, model.dropout) == ("bfloat16", 0.1)
    assert jax.tree.structure(plan.abstract) == jax.tree.structure(plan.places)
    count = sum(leaf.size for leaf in jax.tree.leaves(plan.task.abstract_params()))
    trained = sum(leaf.size for leaf in jax.tree.leaves(plan.abstract.params))
    if model.lora:  # A and B of query and value, rank 8, in all layers
        assert trained == 32 * 2 * 2 * 4096 * 8
        count -= trained
    else:
        assert trained == count
    models = 2 if found.task == "retriever" else 1
    assert round(count / models / 1e6) == MILLIONS[memory.PAPER[name]]
    measured = memory.measure(plan)["training"]
    parts = 8 if found.loop.fsdp == 8 else 1
    assert (2 if model.lora else 16) * count / parts < measured < 20e9


@pytest.mark.slow
@pytest.mark.parametrize("name", memory.PAPER)
def test_the_step_of_a_published_model_fits(name):
    """Activations and all, by XLA's count (of a CPU, which is rather too high)."""
    found = memory.measure_step(name)
    assert 1e9 < found["whole"] < 80e9
