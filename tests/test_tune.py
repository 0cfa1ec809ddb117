"""The entry point: what it prints, writes and refuses; and `evaluate` afterwards."""

import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from insgenel_jax import artifact, evaluate, link, mini_world, tune
from insgenel_jax.evaluation import tuning
from insgenel_jax.linker import Linker, bundled
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.documents import read_documents, write_documents
from insgenel_jax.text.formats.rejects import Rejects

SMALL = {
    "prior_weight": (1e6, 3.0),
    "mention_bias": (1e3, 0.0),
    "length_bias": (1e3,),
    "case": ("any", "capitalised"),
}


def run(main, *arguments):
    app = typer.Typer()
    app.command()(main)
    return CliRunner(env={"COLUMNS": "240"}).invoke(app, [str(a) for a in arguments])


@pytest.fixture
def files(linker_path, tmp_path, monkeypatch):
    """The working directory, with a linker and two files of labelled documents."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tuning, "SPACE", SMALL)
    monkeypatch.setattr(tuning, "MODERATE", {})
    shutil.copytree(linker_path, "linker")
    paragraphs = mini_world.paragraphs("dev", 12)
    write_documents("one.jsonl", paragraphs[:4])
    write_documents("two.jsonl", paragraphs[4:8])
    write_documents("held_out.jsonl", paragraphs[7:])
    return tmp_path


TUNE = ("--linker", "linker", "--documents", "one.jsonl", "--documents", "two.jsonl")
TUNE += ("--system", "insgenel")


def test_tune_then_evaluate(files):
    """With no budget the linker becomes the lookup baseline, calibrated."""
    result = run(tune.main, *TUNE, "--budget", "0")
    assert result.exit_code == 0, (result.output, result.exception)
    for said in ("1 points on 8 documents", "the budget is spent", "AUROC", "(chosen)"):
        assert said in result.output
    artifact.check("linker", "linker", 1, verify=True)
    record = json.loads(Path("linker/linker.json").read_text())
    assert record["settings"]["system"] == "insgenel"
    assert record["settings"]["prior_weight"] == 1e6
    counts = {name: len(hashes) for name, hashes in record["tuned_on"].items()}
    assert counts == {"one": 4, "two": 4}
    sets = ("--documents", "two.jsonl", "--documents", "held_out.jsonl")
    result = run(evaluate.main, "--linker", "linker", "--system", "insgenel", *sets)
    assert result.exit_code == 0, result.output
    warnings = [line for line in result.output.splitlines() if "warning" in line]
    assert [line.split(":")[2].strip() for line in warnings] == ["two", "held_out"]
    assert "of its 5 documents, some" in warnings[1] and "1 in two" in warnings[1]


@pytest.mark.slow
def test_tune_again_and_link(files):
    """What the log knows is not linked again; `link` gives calibrated scores."""
    command = (*TUNE, "--log", "log.jsonl", "--documents-per-set", "3")
    assert run(tune.main, *command).exit_code == 0
    record = json.loads(Path("linker/linker.json").read_text())
    tried = Path("log.jsonl").read_text()
    assert len(tried.splitlines()) > 4
    assert run(tune.main, *command).exit_code == 0
    assert Path("log.jsonl").read_text() == tried
    assert json.loads(Path("linker/linker.json").read_text()) == record
    linker = Linker.from_pretrained("linker")
    assert linker.calibrator is not None
    write_documents("bare.jsonl", [first_document("one.jsonl")])
    result = run(
        link.main,
        *("--linker", "linker", "--input", "bare.jsonl", "--output", "linked.jsonl"),
    )
    assert result.exit_code == 0
    linked = linker(first_document("bare.jsonl"))
    assert first_document("linked.jsonl") == linked and linked.mentions


def first_document(path):
    with Rejects(None) as rejects:
        return next(read_documents(path, rejects))


@pytest.mark.filterwarnings("default::UserWarning")
def test_settings_with_which_the_calibrator_does_not_hold(files):
    """The command goes on, and says so in one line."""
    command = ("--linker", "linker", "--documents", "one.jsonl", "--budget", "0")
    assert run(tune.main, *command, "--system", "insgenel").exit_code == 0
    result = run(
        link.main,
        *("--linker", "linker", "--input", "one.jsonl", "--output", "linked.jsonl"),
        *("--set", "link_weight=2.0"),
    )
    assert result.exit_code == 0, result.output
    assert "warning: the linker's calibrator does not hold with link_weight = 2.0" in (
        result.stderr
    )


def test_the_prior_on_what_it_was_tuned_on(files):
    result = run(
        evaluate.main,
        *("--kb", "linker/kb", "--system", "prior", "--tune", "two.jsonl"),
        *("--documents", "one.jsonl", "--documents", "held_out.jsonl"),
    )
    assert result.exit_code == 0, result.output
    (warning,) = (line for line in result.output.splitlines() if "warning" in line)
    assert warning.startswith("warning: prior: held_out: of its 5 documents")


NIL = [Document("1", "Nobody in Oz", None, (Mention(10, 12, None),))]
ERRORS = {
    "no golds": ("--documents nil.jsonl", "nil: expected labelled documents with"),
    "no file": ("--documents no.jsonl", "no.jsonl: expected a file"),
    "no linker": ("--documents one.jsonl --linker kb", "kb: expected"),
    "another log": ("--documents one.jsonl --log other.jsonl", "log of the same"),
    "log in linker": ("--documents one.jsonl --log linker/log", "linker/log: expected"),
    "documents in linker": (
        "--documents linker/.docs.jsonl",
        "from linker/.docs.jsonl",
    ),
    "redirects in linker": (
        "--documents one.jsonl --redirects linker/.r.tsv",
        "apart from linker/.r.tsv",
    ),
    "not a linker": ("--documents one.jsonl --linker linker/kb", "linker/kb: expected"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_user_errors_are_one_line_and_change_nothing(files, case):
    write_documents("nil.jsonl", NIL)
    shutil.copy("one.jsonl", "linker/.docs.jsonl")
    Path("linker/.r.tsv").write_text("Alias\tTitle\n")
    Path("other.jsonl").write_text('{"linker": "another"}\n')
    before = Path("linker/linker.json").read_text()
    command, named = ERRORS[case]
    given = () if "--linker" in command else ("--linker", "linker")
    result = run(tune.main, *given, *command.split())
    assert result.exit_code == 2, (result.output, result.exception)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and named in line
    assert Path("linker/linker.json").read_text() == before


def test_the_bundled_linker_is_not_changed(files, monkeypatch):
    monkeypatch.setattr(bundled, "BUNDLED", Path("linker").resolve())
    before = Path("linker/linker.json").read_text()
    for linker in ("nano", "linker"):
        done = run(tune.main, "--documents", "one.jsonl", "--linker", linker)
        assert done.exit_code == 2 and 'linker" work/nano' in done.stderr
    assert Path("linker/linker.json").read_text() == before


def test_a_figure_needs_matplotlib(files, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    command = ("--linker", "linker", "--documents", "one.jsonl", "--figure", "a.png")
    result = run(tune.main, *command)
    assert result.exit_code == 2 and "insgenel_jax[plot]" in result.stderr


def test_an_unknown_system(files):
    command = ("--linker", "linker", "--documents", "one.jsonl", "--system", "prior")
    assert "expected one of" in run(tune.main, *command).output
