"""The entry point: files in, tables and JSON out; bad options and bad lines."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from insgenel_jax import evaluate
from insgenel_jax.document import Document, Mention
from insgenel_jax.formats import Rejects, write_documents
from insgenel_jax.kb import Entity
from insgenel_jax.kb.entity_list import build_from_entities

TEXT = "Ann met Bob in Rome."
GOLD = [
    Document("1", TEXT, None, (Mention(0, 3, "Ann Lee"), Mention(8, 11, "Robert"))),
    Document("2", "Nobody in Oz", None, (Mention(10, 12, "Oz (land)"),)),
]
PREDICTED = [
    Document("2", "Nobody in Oz"),
    Document("1", TEXT, None, (Mention(0, 3, "Ann Lee"), Mention(8, 11, "Bob Lee"))),
]


@dataclasses.dataclass(frozen=True)
class SettingsStandIn:
    system: str = "insgenel"


def run(*arguments):
    app = typer.Typer()
    app.command()(evaluate.main)
    return CliRunner(env={"COLUMNS": "240"}).invoke(app, [str(a) for a in arguments])


@pytest.fixture
def files(tmp_path):
    entities = [(Entity("Ann Lee"), ["Ann"]), (Entity("Bob Lee"), ["Bob"])]
    build_from_entities(tmp_path / "kb", entities, Rejects())
    write_documents(tmp_path / "gold.jsonl", GOLD)
    write_documents(tmp_path / "linked.jsonl", PREDICTED)
    (tmp_path / "redirects.tsv").write_text("Robert\tBob Lee\n")
    return tmp_path


def test_predictions_and_prior_side_by_side(files):
    result = run(
        *("--documents", files / "gold.jsonl"),
        *("--predictions", files / "linked.jsonl"),
        *("--kb", files / "kb"),
        *("--system", "prior", "--tune", files / "gold.jsonl"),
        *("--redirects", files / "redirects.tsv"),
        *("--json", files / "out" / "scores.json"),
    )
    assert result.exit_code == 0, result.output
    assert "not checked" in result.output and "linked" in result.output
    record = json.loads((files / "out" / "scores.json").read_text())
    prior, linked = record["results"]
    for found in (prior, linked):
        # Oz is in-KB to the benchmark, and unknown to our knowledge base
        assert (found["tp"], found["fp"], found["fn"]) == (2, 0, 1)
        assert (found["documents"], found["golds"]) == (2, 3)
        assert found["within_our_kb"]["golds"] == 2
        assert found["within_our_kb"]["micro"]["f1"] == 1
        assert found["losses"]["not in KB"] == sum(found["losses"].values()) == 1
        assert found["per_document"] == [[2, 0, 0], [0, 0, 1]]
    assert prior["seconds"] > 0 and linked["seconds"] is None
    (comparison,) = record["comparisons"]
    assert (comparison["system"], comparison["against"]) == ("prior", "linked")
    assert comparison["difference"] == comparison["low"] == comparison["high"] == 0


def test_without_redirects_and_with_titles(files):
    (files / "titles.txt").write_text("ann Lee\nRobert\n\n")
    result = run(
        *("--documents", files / "gold.jsonl"),
        *("--predictions", files / "linked.jsonl"),
        *("--titles", files / "titles.txt"),
        *("--json", files / "scores.json"),
    )
    assert result.exit_code == 0, result.output
    (found,) = json.loads((files / "scores.json").read_text())["results"]
    assert (found["tp"], found["fp"], found["fn"]) == (1, 1, 1)
    assert found["titles_checked"] and found["golds"] == 2
    assert found["within_our_kb"] is None and found["losses"] is None


def test_a_linker(files, monkeypatch):
    """The linker sees no label; its calls and what it offered are reported."""
    seen = []

    class Linker:
        def __init__(self):
            self.stats = {"calls": 5}
            self.settings = SettingsStandIn()

        def __call__(self, documents):
            seen.extend(documents)
            self.stats["calls"] += 7
            return [d if d.id == "2" else PREDICTED[1] for d in documents]

        def candidates(self, documents):
            rows = np.array([1], np.int32)
            span = SimpleNamespace(start=0, end=3, entities=rows)
            return [[span], []]

    opened = []

    def from_pretrained(path, **settings):
        opened.append((path, settings))
        return Linker()

    monkeypatch.setattr(
        "insgenel_jax.linker.Linker.from_pretrained", staticmethod(from_pretrained)
    )
    result = run(
        *("--documents", files / "gold.jsonl"),
        *("--linker", files, "--system", "insgenel", "--set", "top_k=3"),
        *("--redirects", files / "redirects.tsv"),
        *("--json", files / "scores.json"),
    )
    assert result.exit_code == 0, (result.output, result.exception)
    assert opened == [(files, {"system": "insgenel", "top_k": 3})]
    assert [d.id for d in seen] == ["1", "2"] and not any(d.mentions for d in seen)
    (found,) = json.loads((files / "scores.json").read_text())["results"]
    assert found["calls"] == 7 and found["tp"] == 2
    assert found["settings"] == {"system": "insgenel"}


def test_lost_documents_are_named(files):
    write_documents(files / "linked.jsonl", PREDICTED[:1])
    result = run(
        *("--documents", files / "gold.jsonl"),
        *("--predictions", files / "linked.jsonl"),
    )
    assert result.exit_code != 0
    assert "1 ('1') missing" in str(result.exception)


def test_bad_lines_show_in_the_exit_status(files):
    with (files / "redirects.tsv").open("a") as stream:
        stream.write("no tab here\n\n")
    with (files / "linked.jsonl").open("a") as stream:
        stream.write("{broken\n")
    result = run(
        *("--documents", files / "gold.jsonl"),
        *("--predictions", files / "linked.jsonl"),
        *("--redirects", files / "redirects.tsv"),
    )
    assert result.exit_code == 3
    assert "2 rejected" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to score"),
        (["--system", "insgenel"], "expects --linker"),
        (["--system", "prior"], "expects --kb or --linker"),
        (["--system", "prior", "--kb", "kb"], "expects --tune"),
        (["--predictions", "a", "--predictions", "b"], "one --predictions for each"),
    ],
)
def test_bad_options(files, options, message):
    result = run("--documents", files / "gold.jsonl", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())
