"""Config files and overrides: what is read, and what is refused and how."""

import dataclasses

import pytest

from insgenel_jax.training import checks, config, settings

GOOD = """
import ml_collections
def get_config(arg="2"):
    return ml_collections.ConfigDict({
        "task": "generator",
        "model": {"family": "llama", "dim": 8, "layers": int(arg), "heads": 2, "ffn": 8,
                  "tokenizer": ""},
        "data": {"documents": "", "batch": 8, "max_length": 64},
        "optimizer": {"learning_rate": 1e-3, "warmup_steps": 5},
        "loop": {"steps": 10},
    })
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "good.py"
    path.write_text(GOOD)
    return str(path)


def test_argument_and_overrides_reach_the_settings(file):
    found = config.load(
        f"{file}:3",
        ["data.documents=out/train", "optimizer.clip=2", "data.kb=17", "seed=5"],
    )
    assert found.model.layers == 3
    assert found.data.documents == "out/train"
    assert found.data.kb == "17"  # a path that reads like a number
    assert (found.optimizer.clip, type(found.optimizer.clip)) == (2.0, float)
    assert found.seed == 5
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.seed = 6


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.learning_rat=1", "optimizer.learning_rate"),
        ("modell.dim=1", "model.dim"),
        ("data.copy_weight=1", "data.copy_loss_weight"),
        ("loop.steps=many", "loop.steps: expected"),
        ("loop.steps=0", "loop.steps must be at least 1"),
        ("loop.steps", "expected key=value"),
        ("loop.steps={[]: 1}", "loop.steps: expected"),
        ("loop.epochs=2", "loop.epochs = 2 with loop.steps = .*: expected one of them"),
        ("loop.epochs=-1", "loop.epochs = -1 with"),
        ("optimizer.warmup_share=1", "warmup_share must be at least 0 and below 1"),
        ("optimizer.warmup_share=0.1", "warmup_share needs optimizer.warmup_steps = 0"),
        ("data.share=0", "data.share must be above 0 and at most 1, found 0"),
        ("loop=3", "loop: expected a section"),
        ("task=parser", "task: expected one of"),
        ("loop.microbatches=3", "data.batch = 8 must be a multiple"),
        ("loop.log_steps=0", "loop.log_steps must be at least 1, found 0"),
        ("data.batch=-8", "data.batch must be at least 1, found -8"),
        ("optimizer.warmup_steps=-1", "optimizer.warmup_steps must be at least 0"),
        ("data.scored=65", "data.scored must be at most data.max_length = 64"),
        ("data.allowed_edges=True", "data.copy_loss_weight must be 0"),
        ("data.prior_weight=1", "data.prior_weight needs data.allowed_edges"),
        ("data.confusable_per_window=1", "unknown config key"),
        ("model.family=bert", "model.family = 'bert' cannot be a generator"),
    ],
)
def test_a_wrong_override_is_an_error_that_says_what_to_do(file, override, message):
    with pytest.raises(settings.ConfigError, match=message):
        config.load(file, [override])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"stride": 33}, "data.stride must be at most data.window_length = 32"),
        ({"entity_tokens": 4}, "data.entity_tokens must be at least 5"),
        ({"mined_per_window": -1}, "data.mined_per_window must be at least 0"),
        ({"golds": 0}, "data.golds must be at least 1"),
    ],
)
def test_settings_of_a_retriever_that_cannot_be(make_config, overrides, message):
    with pytest.raises(settings.ConfigError, match=message):
        make_config("retriever", {f"data.{k}": v for k, v in overrides.items()})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "x = 1\ndef get_config():\n    return x['y']\n",
            "bad.py:3: .* TypeError: 'int'",
        ),
        ("def get_config(:\n", "bad.py: .* SyntaxError"),
        ("import nothing_of_this_name\n", "bad.py:1: .* ModuleNotFoundError"),
        ("x = 1\n", "bad.py: .* no attribute 'get_config'"),
        ("def get_config():\n    return {}\n", "bad.py: .* ConfigDict .* found dict"),
        ("import sys\nsys.exit(0)\n", "bad.py:2: .* SystemExit"),
    ],
)
def test_a_config_file_that_fails_is_named_with_its_line(tmp_path, text, message):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(settings.ConfigError, match=message):
        config.load(str(tmp_path / "bad.py"))


def test_a_missing_file_and_a_missing_key_are_named(tmp_path, file):
    with pytest.raises(settings.ConfigError, match="nothing.py: no such config"):
        config.load(str(tmp_path / "nothing.py"))
    record = dataclasses.asdict(config.load(file))
    del record["optimizer"]["learning_rate"]
    with pytest.raises(settings.ConfigError, match="optimizer.learning_rate: missing"):
        config.parse(record)


@pytest.mark.parametrize(
    ("overrides", "missing"),
    [
        ([], ["model.tokenizer", "data.documents"]),
        (["data.documents=d", "model.tokenizer=t"], []),
        (
            ["data.copy_loss_weight=0.5"],
            ["model.tokenizer", "data.documents", "data.kb"],
        ),
        (
            ["data.documents=d", "data.mask_unlabelled_matches=True"],
            ["model.tokenizer", "data.kb"],
        ),
        (
            ["data.documents=d", "data.title_loss_weight=2"],
            ["model.tokenizer", "data.kb"],
        ),
    ],
)
def test_paths_that_are_needed_are_named(file, overrides, missing):
    found = config.load(file, overrides)
    if not missing:
        return checks.check_paths(found)
    with pytest.raises(settings.ConfigError) as error:
        checks.check_paths(found)
    flags = " ".join(f"--set {name}=PATH" for name in missing)
    assert str(error.value) == f"paths not set: add {flags}"


def section(task="generator", **model):
    """A config whose model section is `model`."""
    return {
        "task": task,
        "model": model,
        "data": {"documents": "d", "batch": 8, "max_length": 64},
        "optimizer": {"learning_rate": 1e-3, "warmup_steps": 5},
        "loop": {"steps": 10},
    }


SHAPE = {"family": "llama", "dim": 8, "layers": 1, "heads": 2, "ffn": 8}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"dim": 8, "heads": 2}, "scratch: model.family, model.layers, model.ffn$"),
        (SHAPE | {"pretrained": "p", "kv_heads": 1}, "model.ffn, model.kv_heads: the "),
        (SHAPE | {"lora": {"rank": 4}}, "model.lora needs the model.pretrained"),
        ({"pretrained": "p", "lora": {"dropout": 2.0}}, "model.lora: contradictory"),
        ({"pretrained": "p", "lora": {"targets": "query"}}, "model.lora.targets: "),
        ({"pretrained": "p", "lora": 3}, "model.lora: expected a section of keys"),
    ],
)
def test_a_model_is_from_scratch_or_pretrained(model, message):
    with pytest.raises(settings.ConfigError, match=message):
        config.parse(section(**model))


def test_a_pretrained_directory_brings_its_tokenizer():
    found = config.parse(section(pretrained="p", lora={"targets": ["query"]})).model
    assert found.tokenizer == "p" and found.shape == {}
    assert found.lora == settings.Lora(targets=("query",))
    other = config.parse(section(pretrained="p", tokenizer="t", lora=None)).model
    assert other.tokenizer == "t" and other.lora is None
    checks.check_paths(config.parse(section(pretrained="p")))
    with pytest.raises(settings.ConfigError, match="add --set model.pretrained=PATH$"):
        checks.check_paths(config.parse(section()))
