"""Training from a pretrained directory, all of it or LoRA alone, to a new directory."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from insgenel_jax import artifact, models, train
from insgenel_jax.models import hf, lora
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.tokenizer import copy_tokenizer, load_tokenizer
from insgenel_jax.training import loop, settings
from insgenel_jax.training.generator import generator_task

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RATE, STEPS = 1e-3, 4
LORA = "model.lora={'rank': 2, 'targets': ('query', 'value')}"


@pytest.fixture(scope="module")
def pretrained(prepared, tmp_path_factory):
    """Tiny random models as Hugging Face would write them: task -> directory."""
    root = tmp_path_factory.mktemp("pretrained")
    shape = {"dim": 16, "layers": 2, "heads": 2, "ffn": 32, "max_positions": 256}
    # of 600 tokens: some rows of the embedding are padding, as many models have them
    for task, model in (
        ("generator", ModelConfig("opt", 640, tie_embeddings=True, **shape)),
        ("retriever", ModelConfig("bert", 640, **shape)),
    ):
        hf.save_model(root / task, model, models.init_params(model, jax.random.key(7)))
        copy_tokenizer(prepared / task, root / task)
    return {task: root / task for task in ("generator", "retriever")}


def arguments(prepared, pretrained, task, *others):
    """A paper's config made small, and its --set values."""
    file = {"generator": "generator_opt.py:350m", "retriever": "retriever_bert.py:base"}
    values = [
        f"model.pretrained={pretrained[task]}",
        "model.dtype=float32",
        f"data.documents={prepared / 'train'}",
        f"data.kb={prepared / 'kb'}",
        "data.batch=4",
        f"optimizer.learning_rate={RATE}",
        "optimizer.warmup_steps=1",
        f"loop.steps={STEPS}",
        "loop.epochs=0",
        "optimizer.warmup_share=0",
        "loop.checkpoint_steps=2",
        "loop.data=1",
        "loop.fsdp=1",
        "loop.tensor=2",
    ]
    if task == "generator":
        values += ["data.max_length=256", "data.instruction=Link:"]
    else:
        values += ["data.golds=12", "data.negatives=8", "data.mined_per_window=1"]
        values += ["data.entity_tokens=16"]
    return str(CONFIGS / file[task]), [*values, *others]


def read(path):
    """Flat numpy parameters of a model directory."""
    params = hf.load_params(path, hf.load_config(path))
    return {k: np.asarray(v) for k, v in flatten_dict(params, sep="/").items()}


def moved(before, after, most=2 * RATE * STEPS):
    """Which parameters changed; none by more than Adam can in so few steps."""
    assert before.keys() == after.keys()
    for name in before:
        assert np.abs(after[name] - before[name]).max() < most, name
    return {n for n in before if not np.array_equal(before[n], after[n])}


@pytest.mark.slow
def test_all_of_a_model_is_trained_from_where_it_stood(prepared, pretrained, tmp_path):
    file, values = arguments(prepared, pretrained, "generator")
    train.main(file, tmp_path, values)
    base, model = pretrained["generator"], tmp_path / "model"
    made_from = artifact.check(model, "generator", 1, verify=True).made_from
    assert made_from["pretrained"] == made_from["tokenizer"] == artifact.identity(base)
    assert (
        made_from == json.loads((tmp_path / "training.json").read_text())["made_from"]
    )
    before, after = read(base), read(model)
    # the bias of a key adds the same to all scores: it has no gradient but rounding
    assert moved(before, after) >= set(before) - {"layers/attention/key/bias"}
    assert not (tmp_path / "lora").exists()
    one, two = (json.loads((p / "config.json").read_text()) for p in (base, model))
    bpe = load_tokenizer(base)
    special = {f"{role}_token_id": getattr(bpe, role) for role in ("bos", "eos", "pad")}
    assert two == one | {"dropout": 0.1} | special
    assert load_tokenizer(model).size == bpe.size == 600


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_lora_leaves_all_else_as_it_is(prepared, pretrained, tmp_path, dtype):
    file, values = arguments(
        prepared, pretrained, "generator", LORA, f"model.param_dtype={dtype}"
    )
    train.main(file, tmp_path, values)
    base = hf.load_config(pretrained["generator"])
    before = hf.load_params(pretrained["generator"], base)
    before = jax.tree.map(lambda x: x.astype(dtype), before)
    kept, leaves = lora.load(tmp_path / "lora", before)
    assert kept == lora.Lora(rank=2)
    flat = flatten_dict(leaves, sep="/")
    assert len(flat) == 4
    for name, leaf in flat.items():
        assert leaf.dtype == np.float32 and np.abs(leaf).max() > 0, name
    merged = flatten_dict(lora.merge(kept, lora.join(before, leaves)), sep="/")
    after = read(tmp_path / "model")
    assert merged.keys() == after.keys()
    for name, leaf in merged.items():
        np.testing.assert_allclose(after[name], np.asarray(leaf, np.float32), 1e-6)
    first = flatten_dict(before, sep="/")
    changed = {
        n for n in after if not np.array_equal(after[n], first[n].astype("float32"))
    }
    kernels = {f"layers/attention/{name}/kernel" for name in ("query", "value")}
    assert changed == kernels
    assert artifact.check(tmp_path / "lora", "lora", lora.VERSION).made_from == (
        artifact.read(tmp_path / "model").made_from
    )


@pytest.mark.slow
@pytest.mark.parametrize("others", [(), (LORA, "model.param_dtype=bfloat16")])
def test_a_run_goes_on_to_the_same_bits(prepared, pretrained, tmp_path, others):
    """With dropout, from a checkpoint in the middle that holds only what changes."""
    file, values = arguments(prepared, pretrained, "generator", *others)
    straight, again = tmp_path / "straight", tmp_path / "again"
    train.main(file, straight, values)
    shutil.copytree(straight, again)
    for part in ("checkpoints/4", "model", *(["lora"] if others else [])):
        shutil.rmtree(again / part)
    train.main(file, again, values)
    for part in ("model", "lora") if others else ("model",):
        one, two = (artifact.identity(path / part) for path in (straight, again))
        assert one == two


@pytest.mark.slow
def test_the_state_holds_what_is_trained(pretrained):
    shape = hf.load_config(pretrained["generator"])
    model = dataclasses.replace(shape, lora=lora.Lora(), param_dtype="bfloat16")
    task = generator_task(model, pretrained=str(pretrained["generator"]))
    sizes = settings.LoopSettings(steps=2, data=2, fsdp=2, tensor=2)
    plan = loop.make_plan(task, settings.OptimizerSettings(1e-3, 1), sizes)
    state, placed, mesh = plan.abstract, plan.places, plan.mesh
    assert jax.tree.structure(state) == jax.tree.structure(placed)
    names = set(flatten_dict(state.params, sep="/"))
    assert {name.split("/")[-1] for name in names} == {"lora_a", "lora_b"}
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    assert len(moments) == 2 * len(names) == 8
    assert {leaf.dtype for leaf in moments} == {np.dtype("float32")}
    frozen = task.load_frozen(task.split(task.param_shardings(mesh))[1])
    up = flatten_dict(frozen, sep="/")["layers/mlp/up/kernel"]
    assert up.dtype == "bfloat16" and up.addressable_shards[0].data.shape == (2, 8, 16)
    params = task.init(jax.random.key(0), placed.params)
    joined = jax.tree.structure(lora.join(frozen, params))
    assert joined == jax.tree.structure(task.abstract_params())


@pytest.mark.slow
@pytest.mark.parametrize("others", [(), (LORA,)])
def test_both_encoders_begin_with_one_directory(prepared, pretrained, tmp_path, others):
    rounds = "data.refresh_steps=2"
    file, values = arguments(prepared, pretrained, "retriever", rounds, *others)
    train.main(file, tmp_path, values)
    base = read(pretrained["retriever"])
    found = {part: read(tmp_path / "model" / part) for part in ("mention", "entity")}
    for part in found.values():
        if others:
            assert len(moved(base, part, most=0.1)) == 2
        else:
            assert len(moved(base, part)) > 15
    query = "layers/attention/query/kernel"
    assert not np.array_equal(found["mention"][query], found["entity"][query])
    if others:
        tree = unflatten_dict(base, sep="/")
        parts = [lora.load(tmp_path / "lora" / p, tree)[1] for p in found]
        a, b = (flatten_dict(p, sep="/")[query[:-6] + "lora_a"] for p in parts)
        assert not np.array_equal(a, b)


@pytest.mark.torch
@pytest.mark.parametrize("others", [(), (LORA,)])
def test_transformers_opens_what_was_trained(prepared, pretrained, tmp_path, others):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    file, values = arguments(prepared, pretrained, "generator", *others)
    train.main(file, tmp_path, values)
    path = tmp_path / "model"
    model = hf.load_config(path)
    params = hf.load_params(path, model)
    tokens = np.random.default_rng(0).integers(0, 600, (2, 20)).astype(np.int32)
    positions = np.tile(np.arange(20, dtype=np.int32), (2, 1))
    mask = np.tril(np.ones((20, 20), bool))[None].repeat(2, 0)
    hidden, _ = models.build(model).apply(
        {"params": params}, tokens, positions, mask, None
    )
    ours = models.unembed(model, params, hidden)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path).eval()
    with torch.inference_mode():
        expected = theirs(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    text = "Mercury is a planet"
    opened = transformers.AutoTokenizer.from_pretrained(path)
    ids = load_tokenizer(path).encode_raw([text])[0][0]
    assert opened(text, add_special_tokens=False).input_ids == ids.tolist()


def spoil(path, what):
    """One thing wrong with a copy of a model directory."""
    record = json.loads((path / "config.json").read_text())
    if what == "shape":
        record["ffn_dim"] = 24
    elif what == "vocabulary":
        record["vocab_size"] = 10
    elif what == "weights":
        file = path / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
    elif what == "config":
        (path / "config.json").unlink()
        return
    (path / "config.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("what", "values", "message"),
    [
        ("shape", [], "has shape (32, 16) instead of (24, 16)"),
        ("vocabulary", [], "the tokenizer has 600 ids, but the embedding"),
        ("weights", [], "cannot read model.safetensors"),
        ("config", [], "config.json: no such file"),
        ("", ["data.max_length=257"], "has 256 positions, but the texts"),
        ("", ["loop.tensor=4"], "tensor = 4 does not divide heads = 2"),
        ("", ["model.dim=16"], "model.dim: the shape is that of model.pretrained"),
        ("", ["model.lora={'rank': 0}"], "model.lora: contradictory LoRA settings"),
        ("", ["model.lora={'ranks': 1}"], "unknown config key 'model.lora.ranks'"),
        ("", ["model.lora={'targets': ('gate',)}"], "LoRA targets ['gate']: 'opt'"),
        ("bert", [], "a model of family 'bert' cannot be a generator"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(
    prepared, pretrained, tmp_path, capsys, what, values, message
):
    task = "retriever" if what == "bert" else "generator"
    copy = tmp_path / "copy"
    shutil.copytree(pretrained[task], copy)
    spoil(copy, what)
    if what == "bert":
        values = [f"model.tokenizer={prepared / 'generator'}"]
    file, rest = arguments(prepared, {"generator": copy}, "generator", *values)
    with pytest.raises(SystemExit) as stopping:
        train.main(file, tmp_path / "w", rest)
    told = " ".join(capsys.readouterr().err.split())
    assert stopping.value.code == 2 and message in told and "Traceback" not in told
    assert not (tmp_path / "w" / "checkpoints" / "2").exists()
