"""The entry point: a text in; a row for each group of words, or JSON, out."""

import dataclasses
import json

import pytest
import typer
from typer.testing import CliRunner

from insgenel_jax import explain
from insgenel_jax.linker import Linker, bundled, reasons

TEXT = "We saw Michael Jordan in [b]Paris[/b]."
SETTINGS = {"system": "insgenel", "mention_bias": 1000.0, "length_bias": 1000.0}
SET = [part for k, v in SETTINGS.items() for part in ("--set", f"{k}={v}")]


def run(*arguments, **environment):
    app = typer.Typer()
    app.command()(explain.main)
    runner = CliRunner(env={"COLUMNS": "200", **environment})
    return runner.invoke(app, [str(a) for a in arguments])


def test_json_is_what_python_gives(linker_path):
    result = run(linker_path, TEXT, "--json", *SET)
    assert result.exit_code == 0, (result.output, result.exception)
    expected = Linker.from_pretrained(linker_path, **SETTINGS).explain(TEXT)
    found = json.loads(result.stdout)
    assert found["text"] == TEXT
    assert found["words"] == json.loads(
        json.dumps(list(map(dataclasses.asdict, expected)))
    )


def test_rows_and_colours_of_the_bundled_linker(linker_path, monkeypatch):
    monkeypatch.setattr(bundled, "BUNDLED", linker_path)
    result = run(TEXT, *SET)
    assert result.exit_code == 0, (result.output, result.exception)
    first, _, head, *rows = result.stdout.splitlines()
    assert first == TEXT and head.split()[:2] == ["words", "reason"]
    cells = [[cell for cell in row.split("  ") if cell] for row in rows]
    assert [row[0].strip() for row in cells][:2] == ["We saw", "Michael Jordan"]
    linked = [row[0].strip() for row in cells if row[1].strip() == "linked"]
    assert linked == ["Michael Jordan", "Paris"]
    words = Linker.from_pretrained(linker_path, **SETTINGS).explain(TEXT)
    spans = explain.paint(TEXT, words).spans
    assert {(s.start, s.end, s.style) for s in spans} == {
        (w.start, w.end, explain.STYLES[w.reason]) for w in words
    }


def test_every_reason_has_a_colour():
    assert tuple(explain.STYLES) == reasons.REASONS


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["a", "b", "c"], "put the text in quotes"),
        (["nowhere", "Paris"], "nowhere"),
        (["Par\udcffis"], "text 0: a lone surrogate"),
        (["Paris", "--set", "colour=red"], "colour"),
    ],
)
def test_wrong_arguments(linker_path, monkeypatch, arguments, named):
    monkeypatch.setattr(bundled, "BUNDLED", linker_path)
    result = run(*arguments)
    assert result.exit_code == 2 and named in result.output
