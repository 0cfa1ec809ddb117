"""The entry point: files in, tables and JSON out; bad options and bad lines."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from insgenel_jax import evaluate
from insgenel_jax.kb import Entity
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.documents import write_documents
from insgenel_jax.text.formats.rejects import Rejects

TEXT = "Ann met Bob in Rome."
GOLD = [
    Document("1", TEXT, None, (Mention(0, 3, "Ann Lee"), Mention(8, 11, "Robert"))),
    Document("2", "Nobody in Oz", None, (Mention(10, 12, "Oz (land)"),)),
]
MANIFEST = json.dumps(
    {"kind": "linker", "version": 1, "counts": {}, "made_from": {}, "files": {}}
    | {"identity": "stands in"}
)
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
    assert (found["tp"], found["fp"], found["fn"]) == (1, 0, 1)
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
    path = files / "linker"
    shutil.copytree(files / "kb", path / "kb")
    (path / "manifest.json").write_text(MANIFEST)

    def from_pretrained(path, **settings):
        opened.append((path, settings))
        return Linker()

    monkeypatch.setattr(
        "insgenel_jax.linker.linker.Linker.from_pretrained",
        staticmethod(from_pretrained),
    )
    result = run(
        *("--documents", files / "gold.jsonl"),
        *("--linker", path, "--system", "insgenel", "--set", "top_k=3", "--verify"),
        *("--redirects", files / "redirects.tsv"),
        *("--json", files / "scores.json"),
    )
    assert result.exit_code == 0, (result.output, result.exception)
    assert opened == [(path, {"verify": True, "system": "insgenel", "top_k": 3})]
    assert [d.id for d in seen] == ["1", "2"] and not any(d.mentions for d in seen)
    (found,) = json.loads((files / "scores.json").read_text())["results"]
    assert found["calls"] == 7 and found["tp"] == 2
    assert found["settings"] == {"system": "insgenel"}


def test_verify_finds_a_flipped_bit(files):
    file = files / "kb" / "entities.arrow"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    arguments = (
        *("--documents", files / "gold.jsonl", "--kb", files / "kb"),
        *("--predictions", files / "linked.jsonl", "--verify"),
    )
    result = run(*arguments)
    assert result.exit_code == 2, (result.output, result.exception)
    assert "entities.arrow has another sha256" in result.stderr


def test_lost_documents_are_named(files):
    write_documents(files / "linked.jsonl", PREDICTED[:1])
    result = run(
        *("--documents", files / "gold.jsonl"),
        *("--predictions", files / "linked.jsonl"),
    )
    assert result.exit_code == 2
    assert f"{files}/linked.jsonl: expected one prediction" in result.stderr
    assert "1 ('1') missing" in result.stderr


def test_bad_lines_show_in_the_exit_status(files):
    with (files / "redirects.tsv").open("a") as stream:
        stream.write("no tab here\n\n")
    with (files / "linked.jsonl").open("a") as stream:
        stream.write("{broken\n")
    result = run(
        *("--documents", files / "gold.jsonl"),
        *("--predictions", files / "linked.jsonl"),
        *("--redirects", files / "redirects.tsv"),
        *("--json", files / "scores.json"),
    )
    assert result.exit_code == 3
    file = files / "scores.json.rejects.jsonl"
    assert f"2 rejected, see {file}" in result.output
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(Path(row["source"]).name, row["line"]) for row in rows] == [
        ("linked.jsonl", 3),
        ("redirects.tsv", 2),
    ]


@pytest.mark.parametrize("option", ["documents", "predictions", "tune"])
def test_a_bad_line_of_any_input_is_in_the_rejects_file(files, option, monkeypatch):
    monkeypatch.chdir(files)
    paths = {"documents": "gold.jsonl", "predictions": "linked.jsonl"}
    paths["tune"] = shutil.copy("gold.jsonl", "dev.jsonl")
    with open(paths[option], "a") as stream:
        stream.write('{"id": 3, "text": "a", "mentions": [[]]}\n')
    arguments = [word for name, path in paths.items() for word in (f"--{name}", path)]
    scored = run(*arguments, "--kb", "kb", "--system", "prior")
    assert scored.exit_code == 3
    row = json.loads(Path("evaluate.rejects.jsonl").read_text())
    assert (row["source"], row["line"]) == (paths[option], 3)
    kept = run(*arguments, "--kb", "kb", "--system", "prior", "--rejects", "here/bad")
    assert kept.exit_code == 3 and Path("here/bad").is_file()


def test_no_rejects_no_file(files, monkeypatch):
    monkeypatch.chdir(files)
    done = run("--documents", "gold.jsonl", "--predictions", "linked.jsonl")
    assert done.exit_code == 0 and not Path("evaluate.rejects.jsonl").exists()


def test_files_of_one_name_stay_apart(files):
    """Also from a system: a file called prior, [b] that is no markup."""
    (files / "[b]").mkdir()
    gold = [files / "gold.jsonl", files / "[b]" / "gold.jsonl"]
    write_documents(gold[1], GOLD[:1])
    guesses = [files / "linked.jsonl", files / "prior.jsonl"]
    write_documents(guesses[1], PREDICTED[1:])
    result = run(
        *(word for path in gold for word in ("--documents", path)),
        *(word for path in guesses for word in ("--predictions", path)),
        *("--kb", files / "kb", "--system", "prior", "--tune", gold[0]),
        *("--json", files / "scores.json"),
    )
    assert result.exit_code == 0, (result.output, result.exception)
    rows = json.loads((files / "scores.json").read_text())["results"]
    found = [(row["set"], row["system"], row["documents"]) for row in rows]
    first, second = map(str, gold)
    assert found == [
        (first, "prior", 2),
        (first, str(guesses[0]), 2),
        (second, "prior", 1),
        (second, str(guesses[1]), 1),
    ]
    assert "[b]" in result.output


def test_one_file_twice_is_refused(files, monkeypatch):
    monkeypatch.chdir(files)
    twice = ("--documents", "gold.jsonl", "--documents", files / "gold.jsonl")
    result = run(*twice, "--predictions", "linked.jsonl", "--predictions", "kb")
    assert result.exit_code == 2
    assert "gold.jsonl is given 2 times" in " ".join(result.output.split())


ERRORS = {
    "gold missing": ("--documents no.jsonl --predictions linked.jsonl", "no.jsonl"),
    "gold a folder": ("--documents kb --predictions linked.jsonl", "kb"),
    "gold empty": ("--documents empty.jsonl --predictions linked.jsonl", "empty.jsonl"),
    "tune empty": ("$G --system prior --kb kb --tune empty.jsonl", "empty.jsonl"),
    "bad gzip": ("--documents bad.jsonl.gz --predictions linked.jsonl", "bad.jsonl.gz"),
    "redirects missing": ("$G --predictions linked.jsonl --redirects no.tsv", "no.tsv"),
    "titles missing": ("$G --predictions linked.jsonl --titles no.txt", "no.txt"),
    "kb missing": ("$G --predictions linked.jsonl --kb no", "no"),
    "kb damaged": ("$G --predictions linked.jsonl --kb damaged", "damaged"),
    "manifest damaged": ("$G --predictions linked.jsonl --kb odd", "odd"),
    "linker no linker": ("$G --linker kb", "kb"),
    "unknown setting": ("$G --linker kb --set top_kk=1", "top_kk"),
    "unknown system": ("$G --linker kb --system insgenel-x", "insgenel-x"),
    "system set": ("$G --linker kb --set system=insgenel", "--system"),
    "setting twice": ("$G --linker kb --set top_k=1 --set top_k=2", "top_k=2"),
    "setting of nothing": ("$G --predictions linked.jsonl --set top_k=1", "top_k=1"),
    "no setting": ("$G --linker kb --set top_k", "--set top_k"),
    "json a folder": ("$G --predictions linked.jsonl --json kb", "kb"),
    "json a gold": ("$G --predictions linked.jsonl --json gold.jsonl", "gold.jsonl"),
    "json in a file": ("$G --predictions linked.jsonl --json gold.jsonl/x", "x"),
    "rejects a gold": ("$G --predictions linked.jsonl --rejects gold.jsonl", "gold"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_user_errors_are_one_line_before_any_work(files, case, monkeypatch):
    monkeypatch.chdir(files)
    Path("empty.jsonl").touch()
    Path("bad.jsonl.gz").write_bytes(b"no gzip")
    shutil.copytree("kb", "damaged")
    Path("damaged/entities.arrow").write_bytes(b"short")
    shutil.copytree("kb", "odd")
    odd = json.loads(Path("kb/manifest.json").read_text()) | {"files": 3}
    Path("odd/manifest.json").write_text(json.dumps(odd))
    before = sorted(Path().rglob("*"))
    monkeypatch.setattr(evaluate, "run", None)  # no system is run
    command, named = ERRORS[case]
    result = run(*command.replace("$G", "--documents gold.jsonl").split())
    assert result.exit_code == 2, (result.output, result.exception)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and named in line
    assert "expected" in line or "bytes instead of" in line
    left = {path for path in Path().rglob("*")} - set(before)
    assert {path.name for path in left} <= {"evaluate.rejects.jsonl"}


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


@pytest.mark.parametrize("option", ["predictions", "tune", "redirects", "titles"])
def test_missing_files_are_found_before_any_is_read(files, option, monkeypatch):
    monkeypatch.chdir(files)
    monkeypatch.setattr(evaluate, "read_documents", None)
    options = ["--predictions", "linked.jsonl", f"--{option}", "no"]
    options = options[-2 if option == "predictions" else 0 :]
    result = run("--documents", "gold.jsonl", *options)
    assert result.exit_code == 2, (result.output, result.exception)
    assert (
        result.stderr == "error: no: expected a file, found nothing; check the path\n"
    )
