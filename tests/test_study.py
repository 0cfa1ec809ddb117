"""The command `study`: what it writes and what it refuses."""

import json
import sys

import pytest
from typer.testing import CliRunner

from insgenel_jax import mini_world
from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.kb.build.training_documents import write_training_documents
from insgenel_jax.study import app
from insgenel_jax.text.document import dumps
from insgenel_jax.text.formats.rejects import Rejects


def run(*arguments):
    app_runner = CliRunner(env={"COLUMNS": "120"})
    return app_runner.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def inputs(tmp_path):
    """A knowledge base and two files of documents, one without golds."""
    names = ("Ada Bird", "Bo Bird")
    build_from_entities(tmp_path / "kb", [(Entity(n), ()) for n in names], Rejects())
    mentions = [{"start": 0, "end": 4, "entity": "Old Bird"}]
    record = {"id": "1", "text": "Bird sang.", "mentions": mentions}
    (tmp_path / "set.jsonl").write_text(json.dumps(record) + "\nnonsense\n")
    (tmp_path / "bare.jsonl").write_text('{"id": "1", "text": "Bird sang."}\n')
    (tmp_path / "redirects.tsv").write_text("Old Bird\tAda Bird\n")
    return tmp_path


def test_surface_forms(inputs):
    pytest.importorskip("matplotlib")
    out = inputs / "a" / "study"
    done = run(
        *("surface-forms", "--kb", inputs / "kb", "--documents", inputs / "set.jsonl"),
        *("--redirects", inputs / "redirects.tsv", "--out", out),
    )
    assert done.exit_code == 3, done.output  # a line that is no document
    rows = json.loads((out / "surface_forms.json").read_text())
    assert len(rows) == 16
    assert (rows[0]["rules"], rows[0]["known"], rows[0]["found"]) == ([], 1, 0)
    last = rows[-1]
    assert (last["found"], last["found, %"], last["candidates a gold"]) == (1, 100, 2)
    assert "all rules" in done.output and "1 golds, 100.0 %" in done.output
    assert (out / "surface_forms.png").read_bytes()[1:4] == b"PNG"
    assert (out / "rejects.jsonl").exists()


ERRORS = {
    "no golds": (
        "--documents bare.jsonl --out out",
        "expected documents with labelled",
    ),
    "no documents": ("--documents no --out out", "no: expected a file"),
    "no redirects": ("--documents set.jsonl --redirects no --out out", "no: expected"),
    "out in kb": ("--documents set.jsonl --out kb/out", "expected an output apart"),
    "no linker": ("--documents set.jsonl --out out --linker no", "no: expected"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_user_errors(inputs, monkeypatch, case):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(inputs)
    arguments, message = ERRORS[case]
    done = run("surface-forms", "--kb", "kb", *arguments.split())
    assert done.exit_code == 2 and message in done.stderr
    assert not (inputs / "out").exists()


def test_without_matplotlib(inputs, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.chdir(inputs)
    done = run(
        "surface-forms", "--kb", "kb", "--documents", "set.jsonl", "--out", "out"
    )
    assert done.exit_code == 2 and "insgenel_jax[plot]" in done.stderr


def test_what_the_retriever_keeps(tmp_path, linker_path):
    pytest.importorskip("matplotlib")
    kb = KnowledgeBase.open(linker_path / "kb")
    title = kb.title(0)
    mentions = [{"start": 0, "end": len(title), "entity": title}]
    (tmp_path / "set.jsonl").write_text(
        json.dumps({"id": "1", "text": f"{title} is here.", "mentions": mentions})
    )
    arguments = ("--linker", linker_path, "--documents", tmp_path / "set.jsonl")
    out = tmp_path / "out"
    done = run("surface-forms", *arguments, "--kb", linker_path / "kb", "--out", out)
    assert done.exit_code == 0, done.output
    rows = json.loads((out / "surface_forms.json").read_text())
    assert all(row["kept"] <= row["found"] for row in rows)
    assert 0 < rows[-1]["kept_candidates"] <= rows[-1]["candidates"]
    build_from_entities(tmp_path / "kb", [(Entity("Ada"), ())], Rejects())
    done = run("surface-forms", *arguments, "--kb", tmp_path / "kb", "--out", out)
    assert done.exit_code == 2 and "expected a linker with" in done.stderr


@pytest.fixture(scope="module")
def mini(tmp_path_factory, linker_path):
    """Documents of the mini world: labelled ones, and some to train on."""
    root = tmp_path_factory.mktemp("mini")
    lines = [dumps(d) + "\n" for d in mini_world.paragraphs("dev", 8)]
    (root / "dev.jsonl").write_text("".join(lines))
    train = mini_world.paragraphs("train", 20)
    write_training_documents(root / "train", train, linker_path / "kb")
    return root


def test_given_mentions(tmp_path, mini, linker_path):
    arguments = ("--linker", linker_path, "--documents", mini / "dev.jsonl")
    arguments += ("--train", mini / "train", "--mentions", 9, "--out", tmp_path / "out")
    done = run("given-mentions", *arguments, "--set", "max_candidates=2")
    assert done.exit_code == 0, done.output
    study = json.loads((tmp_path / "out/given_mentions.json").read_text())
    assert 0 < study["mentions"] <= 9 and study["candidates"] == 2 * study["mentions"]
    assert len(study["rows"]) == 5 and not study["skipped"]
    for row in study["rows"]:
        assert f"{100 * row['accuracy']:.1f}" in done.output
    assert len(study["differences"]) == 6 and "gold mentions left out" in done.output


def test_given_mentions_of_insgenel(tmp_path, mini, linker_path):
    arguments = ("--linker", linker_path, "--documents", mini / "dev.jsonl")
    arguments += ("--set", "system=insgenel", "--out", tmp_path / "out")
    done = run("given-mentions", *arguments)
    assert done.exit_code == 0, done.output
    assert "skipped: retriever, because the linker has no retriever" in done.output
    assert "skipped: bag of words, because no training documents" in done.output


GIVEN_ERRORS = {
    "no linker": ("--linker no", "no: expected"),
    "no training documents": ("--train no", "no: expected"),
    "train is something else": ("--train kb", "training-documents"),
    "unknown setting": ("--set colour=red", "colour"),
    "too few mentions": ("--mentions 1", "or more than 1 mentions"),
}


@pytest.mark.parametrize("case", GIVEN_ERRORS)
def test_user_errors_of_given_mentions(tmp_path, mini, linker_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    arguments, message = GIVEN_ERRORS[case]
    options = {"--linker": linker_path, "--documents": mini / "dev.jsonl"}
    options["--out"] = "out"
    name, value = arguments.split()
    options[name] = linker_path / "kb" if value == "kb" else value
    done = run("given-mentions", *(x for pair in options.items() for x in pair))
    assert done.exit_code == 2 and message in done.stderr
    assert not (tmp_path / "out").exists()
