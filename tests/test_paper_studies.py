"""The paper's studies as commands: each runs on tiny models, and draws a figure."""

import json

import pytest
from typer.testing import CliRunner

from insgenel_jax import mini_world
from insgenel_jax.study import app
from insgenel_jax.text.document import dumps

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


def test_decoding(tmp_path, linker_path, labelled):
    arguments = ("--linker", linker_path, "--documents", labelled, "--out", tmp_path)
    done = run("decoding", *arguments, "--repeats", 1)
    assert done.exit_code == 0, done.output
    rows = {row["decoding"]: row for row in read(tmp_path, "decoding")}
    assert list(rows) == ["greedy", "marginal", "2 beams", "6 beams", "whole trie"]
    assert rows["greedy"]["calls"] < rows["2 beams"]["calls"]
    assert all(row["calls"] > 0 and row["seconds"] > 0 for row in rows.values())


def test_errors(tmp_path, linker_path, labelled):
    arguments = ("--documents", labelled, "--out", tmp_path / "out")
    done = run("runtime", "--linker", tmp_path / "no", *arguments)
    assert done.exit_code == 2 and "no: expected" in done.stderr
    done = run("coverage", "--linker", linker_path, *arguments, "--set", "colour=red")
    assert done.exit_code == 2 and "colour" in done.stderr
    assert not (tmp_path / "out").exists()
