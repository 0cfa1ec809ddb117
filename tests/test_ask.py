"""The command: a file in, linked documents, answers and rejects out; errors by name."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from insgenel_jax import ask
from insgenel_jax.kb import KnowledgeBase
from tests.helpers.chat_server import completion, serving


def run(*arguments):
    app = typer.Typer()
    app.command()(ask.main)
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(a) for a in arguments])


FILES = ("--input", "in.jsonl", "--output", "out.jsonl")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Path("in.jsonl").write_text('{"id": 1, "text": "Paris is far."}\n{\n')


def name_all(prompt, n):
    """Claims that "Paris" names every entity of the list: one of them is placed."""
    listed = prompt.split("Entities:\n")[-1].split("\n\nText:")[0].splitlines()
    lines = [f"Paris | {title.removeprefix('- ')} | Paris is" for title in listed]
    return 200, {}, completion("\n".join([*lines, "END"]))


def test_a_file_is_linked_and_a_second_run_asks_nothing(linker_path):
    arguments = ("--linker", linker_path, *FILES)
    with serving(name_all) as server:
        arguments += ("--endpoint", server.url, "--model", "m", "--set", "k=3")
        for requests in (1, 1):
            result = run(*arguments)
            assert result.exit_code == 3, (result.output, result.exception)
            assert len(server.requests) == requests
    (mention,) = json.loads(Path("out.jsonl").read_text())["mentions"]
    kb = KnowledgeBase.open(linker_path / "kb")
    assert (mention["start"], mention["end"]) == (0, 5)
    assert kb.find(mention["entity"]) is not None
    assert (
        "1 documents, 1 prompts, 1 links; 0 answers asked for, 1 from" in result.output
    )
    assert "no link: not placed (2)" in result.output
    assert json.loads(Path("out.jsonl.rejects.jsonl").read_text())["line"] == 2


def test_errors_are_one_line(linker_path):
    arguments = ("--linker", linker_path, *FILES)
    arguments += ("--model", "m")
    with serving(lambda prompt, n: (401, {}, b"no key")) as server:
        url = ("--endpoint", server.url)
        for more, message in (
            ((), "--model m: expected a model directory, found none; give"),
            (url, f"{server.url}: expected an answer of m, found HTTP 401, no key"),
            (("--endpoint", "x"), "endpoint: expected a URL"),
            ((*url, "--tries", "0"), "tries: expected at least 1"),
            ((*url, "--set", "k=no"), "--set: k: expected an integer, found 'no'"),
            ((*url, "--set", "nonsense=1"), "nonsense"),
            ((*url, "--set", "prompt_tokens=9"), "prompt_tokens: expected at least"),
            ((*url, "--cache", "in.jsonl"), "in.jsonl: expected an output apart"),
        ):
            result = run(*arguments, *more)
            assert result.exit_code == 2, (more, result.output, result.exception)
            assert message in result.stderr
    assert not Path("out.jsonl").exists()


def test_a_generator_of_ours_needs_positions(linker_path):
    """The linker's own has too few for a prompt."""
    arguments = ("--linker", linker_path, *FILES)
    result = run(*arguments, "--model", linker_path / "generator")
    assert result.exit_code == 2
    assert "positions of the model, less max_new_tokens" in result.stderr
