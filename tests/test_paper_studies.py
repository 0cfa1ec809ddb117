"""The paper's studies as commands: each runs on tiny models, and draws a figure."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from insgenel_jax import mini_world
from insgenel_jax.icl import IclSettings
from insgenel_jax.icl.prompt import format_line
from insgenel_jax.kb import KnowledgeBase
from insgenel_jax.study import app
from insgenel_jax.text.document import dumps
from tests.helpers.chat_server import completion, serving

CONFIG = Path(__file__).resolve().parents[1] / "configs/generator_tiny.py"

pytest.importorskip("matplotlib")


def run(name, *arguments):
    arguments = [str(argument) for argument in (name, *arguments)]
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)


def read(out, name):
    """The rows of a study, whose figure is a picture."""
    assert (out / f"{name}.png").read_bytes()[1:4] == b"PNG"
    return json.loads((out / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Four labelled documents of the mini world."""
    path = tmp_path_factory.mktemp("labelled") / "dev.jsonl"
    path.write_text("".join(dumps(d) + "\n" for d in mini_world.paragraphs("dev", 4)))
    return path


def test_coverage(tmp_path, linker_path, labelled):
    arguments = ("--linker", linker_path, "--documents", labelled, "--out", tmp_path)
    done = run("coverage", *arguments, "--k", 1, "--k", 10_000)
    assert done.exit_code == 0, done.output
    one, all_ = read(tmp_path, "coverage")
    assert one["golds"] == all_["golds"] > 0 and (one["k"], all_["k"]) == (1, 10_000)
    window, chunk = "recall@k by window, %", "recall@k by chunk, %"
    assert one[window] <= one[chunk] < all_[window]
    assert all_[window] == all_[chunk] == all_["in our knowledge base, %"] == 100
    refused = run("coverage", *arguments, "--set", "system=insgenel")
    assert refused.exit_code == 2 and "only a retriever has a recall" in refused.stderr


def test_runtime(tmp_path, linker_path, labelled):
    arguments = ("--linker", linker_path, "--documents", labelled, "--out", tmp_path)
    done = run("runtime", *arguments, "--repeats", 1)
    assert done.exit_code == 0, done.output
    (row,) = read(tmp_path, "runtime")
    assert row["texts"] == 4 and row["calls"] == 4 * row["calls a document"] > 0
    assert 0 < row["of them retrieval"] < row["seconds"]
    assert row["choices"] > 0 and row["parameters"] > 10_000


@pytest.mark.slow
def test_decoding(tmp_path, linker_path, labelled):
    arguments = ("--linker", linker_path, "--documents", labelled, "--out", tmp_path)
    done = run("decoding", *arguments, "--repeats", 1)
    assert done.exit_code == 0, done.output
    rows = {row["decoding"]: row for row in read(tmp_path, "decoding")}
    assert list(rows) == ["greedy", "marginal", "2 beams", "6 beams", "whole trie"]
    assert rows["greedy"]["calls"] < rows["2 beams"]["calls"]
    assert all(row["calls"] > 0 and row["seconds"] > 0 for row in rows.values())
    refused = run("decoding", *arguments, "--way", "7 beams")
    assert refused.exit_code == 2 and "expected one of ('greedy'," in refused.stderr


def test_errors(tmp_path, linker_path, labelled):
    arguments = ("--documents", labelled, "--out", tmp_path / "out")
    done = run("runtime", "--linker", tmp_path / "no", *arguments)
    assert done.exit_code == 2 and "no: expected" in done.stderr
    done = run("coverage", "--linker", linker_path, *arguments, "--set", "colour=red")
    assert done.exit_code == 2 and "colour" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def training(linker_path, prepared, labelled):
    """Options of a study that trains a tiny model for two steps."""
    settings = {
        "data.documents": prepared / "train",
        "data.kb": prepared / "kb",
        "model.tokenizer": prepared / "generator",
        "model.dim": 16,
        "model.ffn": 16,
        "data.batch": 4,
        "data.max_length": 256,
        "loop.steps": 2,
    }
    options = ["--linker", linker_path, "--documents", labelled]
    for name, value in settings.items():
        options += ["--train-set", f"{name}={value}"]
    return options


@pytest.mark.slow
def test_data(tmp_path, training):
    arguments = (*training, "--config", CONFIG, "--out", tmp_path, "--share", 0.5)
    done = run("data", *arguments, "--share", 1)
    assert done.exit_code == 0, done.output
    half, whole = read(tmp_path, "data")
    assert (half["data, %"], whole["data, %"]) == (50, 100)
    assert half["steps"] == whole["steps"] == 2
    assert half["million tokens"] == pytest.approx(2 * 4 * 256 / 1e6)
    model = tmp_path / "train/share-0.5/model/model.safetensors"
    written = model.stat().st_mtime_ns
    again = run("data", *arguments)
    assert again.exit_code == 0 and model.stat().st_mtime_ns == written
    assert read(tmp_path, "data") == [half]
    other = run("data", *arguments, "--train-set", "seed=1")
    assert other.exit_code == 2 and "seed" in other.stderr


@pytest.mark.slow
def test_size(tmp_path, training):
    wide = tmp_path / "wide.py"
    wide.write_text(
        CONFIG.read_text().replace('"layers": 2', '"layers": 1'), encoding="utf-8"
    )
    arguments = (*training, "--config", CONFIG, "--config", wide, "--out", tmp_path)
    done = run("size", *arguments)
    assert done.exit_code == 0, done.output
    two, one = read(tmp_path, "size")
    assert (two["model"], one["model"]) == ("generator_tiny.py", "wide.py")
    assert two["parameters"] > one["parameters"] and two["TFLOPs"] > one["TFLOPs"] > 0


@pytest.mark.slow
def test_instruction(tmp_path, training):
    arguments = (*training, "--config", CONFIG, "--out", tmp_path, "--also", "Mark:")
    done = run("instruction", *arguments)
    assert done.exit_code == 0, done.output
    rows = read(tmp_path, "instruction")
    kinds = [(row["instruction"], row["text in the prompt"]) for row in rows]
    ways = ("none", "one", "several")
    assert kinds == [(way, text) for text in ("yes", "no") for way in ways]
    written = {
        path.parents[1].name: json.loads(path.read_text())
        for path in tmp_path.glob("train/*/model/insgenel.json")
    }
    assert written["none-text"]["instruction"] == ""
    assert written["several-bare"]["instruction"] == "Link:"
    assert not written["several-bare"]["prompt_text"]
    assert written["one-text"]["prompt_text"]


@pytest.mark.slow
def test_merging(tmp_path):
    done = run("merging", "--texts", 4, "--noise", 0, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    rows = {row["way"]: row for row in read(tmp_path, "merging")}
    assert rows["merged"]["F1, %"] == 100
    assert rows["merged"]["calls"] < rows["apart, by probability"]["calls"]


def test_icl(tmp_path, linker_path, labelled):
    """An endpoint that names the right entity of every text's first mention."""
    kb = KnowledgeBase.open(linker_path / "kb")
    golds = {}
    for line in labelled.read_text().splitlines():
        document = json.loads(line)
        mention = document["mentions"][0]
        words = document["text"][mention["start"] : mention["end"]]
        golds[document["text"]] = (words, mention["entity"])

    def respond(prompt, *_):
        for text, (words, entity) in golds.items():
            if text in prompt:
                line = format_line((words, entity, words), IclSettings())
                return 200, {}, completion(f"{line}\nEND\n")
        return 200, {}, completion("END\n")

    assert all(kb.find(entity) is not None for _, entity in golds.values())
    arguments = ("--linker", linker_path, "--documents", labelled, "--model", "some")
    with serving(respond) as server:
        done = run("icl", *arguments, "--endpoint", server.url, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    rows = {row["prompt"]: row for row in read(tmp_path, "icl")}
    assert len(rows) == 5 and rows["as the paper"]["asked"] == 4
    assert rows["as the paper"]["links"] > 0 and rows["as the paper"]["F1, %"] > 0
