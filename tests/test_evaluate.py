"""The entry point: files in, tables and JSON out; bad options and bad lines."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from insgenel_jax import cli, evaluate, evaluation, lock
from insgenel_jax.evaluation import chosen
from insgenel_jax.kb import Entity
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.linker import Linker
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.documents import write_documents
from insgenel_jax.text.formats.rejects import InputError, Rejects

TEXT = "Ann met Bob in Rome."
GOLD = [
    Document("1", TEXT, None, (Mention(0, 3, "Ann Lee"), Mention(8, 11, "Robert"))),
    Document("2", "Nobody in Oz", None, (Mention(10, 12, "Oz (land)"),)),
]
PREDICTED = [
    Document("2", "Nobody in Oz"),
    Document("1", TEXT, None, (Mention(0, 3, "Ann Lee"), Mention(8, 11, "Bob Lee"))),
]


def run(*arguments):
    app = typer.Typer()
    app.command()(evaluate.main)
    return CliRunner(env={"COLUMNS": "240"}).invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def kb(tmp_path_factory):
    entities = [(Entity("Ann Lee"), ["Ann"]), (Entity("Bob Lee"), ["Bob"])]
    path = tmp_path_factory.mktemp("kb") / "kb"
    build_from_entities(path, entities, Rejects())
    return path


@pytest.fixture
def files(kb, tmp_path, monkeypatch):
    """The working directory, with all that an evaluation reads."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(kb, "kb")
    write_documents("gold.jsonl", GOLD)
    write_documents("linked.jsonl", PREDICTED)
    Path("redirects.tsv").write_text("Robert\tBob Lee\n")
    return tmp_path


def test_predictions_and_prior_side_by_side(files):
    result = run(
        *("--documents", "gold.jsonl", "--predictions", "linked.jsonl"),
        *("--kb", "kb", "--system", "prior", "--tune", "gold.jsonl"),
        *("--redirects", "redirects.tsv", "--json", "out/scores.json"),
    )
    assert result.exit_code == 0, result.output
    assert "not checked" in result.output and "linked" in result.output
    assert not Path("out/scores.json.rejects.jsonl").exists()
    record = json.loads(Path("out/scores.json").read_text())
    prior, linked = record["results"]
    for row in (prior, linked):
        # Oz is in-KB to the benchmark, and unknown to our knowledge base
        assert (row["tp"], row["fp"], row["fn"]) == (2, 0, 1)
        assert (row["documents"], row["golds"]) == (2, 3)
        assert row["within_our_kb"]["golds"] == 2
        assert row["within_our_kb"]["micro"]["f1"] == 1
        assert row["losses"]["not in KB"] == sum(row["losses"].values()) == 1
        assert row["per_document"] == [[2, 0, 0], [0, 0, 1]]
    assert prior["seconds"] > 0 and linked["seconds"] is None
    (comparison,) = record["comparisons"]
    assert (comparison["system"], comparison["against"]) == ("prior", "linked")
    assert comparison["difference"] == comparison["low"] == comparison["high"] == 0


def test_without_redirects_and_with_titles(files):
    Path("titles.txt").write_text("ann Lee\nRobert\n\n")
    result = run(
        *("--documents", "gold.jsonl", "--predictions", "linked.jsonl"),
        *("--titles", "titles.txt", "--json", "scores.json"),
    )
    assert result.exit_code == 0, result.output
    (row,) = json.loads(Path("scores.json").read_text())["results"]
    assert (row["tp"], row["fp"], row["fn"]) == (1, 0, 1)
    assert row["titles_checked"] and row["golds"] == 2
    assert row["within_our_kb"] is None and row["losses"] is None


def test_a_linker_is_opened_with_its_options(files, monkeypatch):
    manifest = {"kind": "linker", "version": 1, "counts": {}, "made_from": {}}
    manifest |= {"files": {}, "identity": "stands in"}
    Path("linker").mkdir()
    shutil.copytree("kb", "linker/kb")
    Path("linker/manifest.json").write_text(json.dumps(manifest))
    opened = []

    def from_pretrained(path, **settings):
        opened.append((path, settings))
        raise KeyError("damaged")

    monkeypatch.setattr(Linker, "from_pretrained", staticmethod(from_pretrained))
    result = run(
        *("--documents", "gold.jsonl", "--linker", "linker"),
        *("--system", "insgenel", "--set", "batch=3", "--verify"),
    )
    settings = {"verify": True, "system": "insgenel", "batch": 3}
    assert opened == [(Path("linker"), settings)]
    assert result.exit_code == 2 and "linker: expected a linker" in result.stderr


def test_the_linker_gets_the_gold_spans(linker_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "Paris and Java and Mercury."
    golds = (Mention(0, 5, "Paris"), Mention(10, 14, "Java"))
    write_documents("gold.jsonl", [Document("1", text, None, golds)])
    result = run(
        *("--documents", "gold.jsonl", "--linker", linker_path, "--given"),
        *("--set", "mention_bias=1000.0", "--json", "scores.json"),
    )
    assert result.exit_code == 0, (result.output, result.exception)
    (row,) = json.loads(Path("scores.json").read_text())["results"]
    assert row["system"] == "insgenel-r, gold spans"
    assert row["detection"]["precision"] == row["detection"]["recall"] == 1
    with pytest.raises(InputError, match="--given: expected a linker"):
        chosen.check_settings(Path("linker"), ["prior"], [], True)


def test_verify_notices_a_flipped_bit(files):
    content = bytearray(Path("kb/entities.arrow").read_bytes())
    content[-1] ^= 1
    Path("kb/entities.arrow").write_bytes(content)
    result = run(
        *("--documents", "gold.jsonl", "--predictions", "linked.jsonl"),
        *("--kb", "kb", "--verify"),
    )
    assert result.exit_code == 2, (result.output, result.exception)
    assert "entities.arrow" in result.stderr and "sha256" in result.stderr


def test_bad_lines_of_every_input_are_in_the_rejects_file(files):
    Path("titles.txt").write_text("Ann Lee\n")
    shutil.copy("gold.jsonl", "dev.jsonl")
    bad = {
        "gold.jsonl": b'{"id": 3, "text": "a", "mentions": [[]]}\n',
        "dev.jsonl": b'{"id": 3}\n',
        "linked.jsonl": b"{broken\n",
        "redirects.tsv": b"no tab here\n\n",
        "titles.txt": b"\xff\n",
    }
    for name, line in bad.items():
        with Path(name).open("ab") as stream:
            stream.write(line)
    arguments = (
        *("--documents", "gold.jsonl", "--predictions", "linked.jsonl"),
        *("--kb", "kb", "--system", "prior", "--tune", "dev.jsonl"),
        *("--redirects", "redirects.tsv", "--titles", "titles.txt"),
    )
    result = run(*arguments)
    assert result.exit_code == 3
    assert "5 rejected, see evaluate.rejects.jsonl" in result.output
    lines = Path("evaluate.rejects.jsonl").read_text().splitlines()
    rows = [(row["source"], row["line"]) for row in map(json.loads, lines)]
    documents = [("gold.jsonl", 3), ("dev.jsonl", 3), ("linked.jsonl", 3)]
    assert rows == [*documents, ("redirects.tsv", 2), ("titles.txt", 2)]
    assert run(*arguments, "--rejects", "here/bad").exit_code == 3
    assert len(Path("here/bad").read_text().splitlines()) == 5


def test_files_of_one_name_stay_apart(files):
    """Also from a system: a file called prior. The name [b] is no markup."""
    Path("[b]").mkdir()
    write_documents("[b]/gold.jsonl", GOLD[:1])
    write_documents("prior.jsonl", PREDICTED[1:])
    result = run(
        *("--documents", "gold.jsonl", "--documents", "[b]/gold.jsonl"),
        *("--predictions", "linked.jsonl", "--predictions", "prior.jsonl"),
        *("--kb", "kb", "--system", "prior", "--tune", "gold.jsonl"),
        *("--json", "scores.json"),
    )
    assert result.exit_code == 0, (result.output, result.exception)
    rows = json.loads(Path("scores.json").read_text())["results"]
    assert [(row["set"], row["system"], row["documents"]) for row in rows] == [
        ("gold.jsonl", "prior", 2),
        ("gold.jsonl", "linked.jsonl", 2),
        ("[b]/gold.jsonl", "prior", 1),
        ("[b]/gold.jsonl", "prior.jsonl", 1),
    ]
    assert "[b]" in result.output


ERRORS = {  # one of each kind
    "no such file": ("--predictions linked.jsonl --titles no.txt", "no.txt"),
    "nothing to read": ("--system prior --kb kb --tune empty.jsonl", "empty.jsonl"),
    "lost documents": ("--predictions half.jsonl", "half.jsonl"),
    "damaged kb": ("--predictions linked.jsonl --kb damaged", "damaged"),
    "no linker": ("--linker kb", "kb"),
    "bad report": ("--predictions linked.jsonl --report kb", "kb"),
    "out is a file": ("--predictions linked.jsonl --out gold.jsonl", "gold.jsonl"),
    "bad setting": ("--linker kb --set top_kk=1", "top_kk"),
    "output an input": ("--predictions linked.jsonl --json gold.jsonl", "gold.jsonl"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_user_errors_are_one_line_before_any_work(files, case, monkeypatch):
    Path("empty.jsonl").touch()
    write_documents("half.jsonl", PREDICTED[:1])
    shutil.copytree("kb", "damaged")
    Path("damaged/entities.arrow").write_bytes(b"short")
    before = set(Path().rglob("*"))
    monkeypatch.setattr(evaluation, "run", None)  # no system runs
    command, named = ERRORS[case]
    result = run("--documents", "gold.jsonl", *command.split())
    assert result.exit_code == 2, (result.output, result.exception)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and named in line
    assert set(Path().rglob("*")) == before


def test_two_processes_do_not_keep_links_in_one_folder(files):
    command = ("--documents", "gold.jsonl", "--predictions", "linked.jsonl")
    with lock.hold(Path("out")):
        result = run(*command, "--out", "out")
        assert result.exit_code == 2 and "out: expected a folder" in result.stderr
        assert f"in use by process {os.getpid()}" in result.stderr
    assert run(*command, "--out", "out").exit_code == 0


def test_paths_are_checked_before_any_is_read(files):
    inputs = [Path("gold.jsonl"), None]
    cli.check_paths(inputs, [Path("kb"), None], [Path("new.json"), None])
    for paths in (
        ([Path("no.jsonl")], [], []),
        ([Path("kb")], [], []),
        (inputs, [Path("no")], []),
        (inputs, [], [Path("kb")]),
        (inputs, [], [Path("gold.jsonl/x")]),
        (inputs, [Path("kb")], [Path("kb/scores.json")]),
    ):
        with pytest.raises(ValueError, match="expected"):
            cli.check_paths(*paths)


def test_settings_are_checked_with_the_systems():
    check, linker = chosen.check_settings, Path("linker")
    both = check(linker, ["insgenel", "insgenel-r", "prior"], ["top_k=3", "batch=2"])
    assert both == {
        "insgenel": {"batch": 2},  # it has no retriever
        "insgenel-r": {"top_k": 3, "batch": 2},
    }
    assert check(linker, ["prior"], []) == {}
    for names, given, named in (
        (["insgenel"], ["system=insgenel-r"], "--system"),
        (["insgenel"], ["top_k"], "key=value"),
        (["insgenel"], ["top_k=1", "top_k=2"], "twice"),
        (["prior"], ["top_k=1"], "top_k=1"),
        (["insgenel"], ["top_k=1"], "top_k: no effect"),
        (["insgenel", "insgenel-r"], ["beams=3"], "beams: no effect"),
    ):
        with pytest.raises(InputError, match=named):
            check(linker, names, given)


def test_names_and_systems_of_linkers(monkeypatch):
    own = {"a/linker": "insgenel", "b": "insgenel-r"}
    monkeypatch.setattr(chosen, "read_system", lambda path: own[str(path)])
    a, b = map(Path, own)

    def choose(linkers, names=(), given=()):
        found = chosen.choose_systems(linkers, names, given)
        return [(each.name, each.path, each.system) for each in found]

    assert choose([a]) == [("insgenel", a, "insgenel")]
    assert choose([a, b]) == [("a", a, "insgenel"), ("b", b, "insgenel-r")]
    assert choose([b], ["prior", "insgenel"]) == [
        ("prior", None, "prior"),
        ("insgenel", b, "insgenel"),
    ]
    assert [name for name, *_ in choose([a, b], ["insgenel", "insgenel-r"])] == [
        *("a insgenel", "b insgenel", "a insgenel-r", "b insgenel-r")
    ]
    assert chosen.name_linkers([Path("x/b"), Path("y/b")]) == ["x/b", "y/b"]
    (only,) = chosen.choose_systems([b], [], ["top_k=3"])
    assert only.settings == {"top_k": 3}
    with pytest.raises(InputError, match="top_k"):
        chosen.choose_systems([a], [], ["top_k=3"])


ARTICLE = {"id": 7, "text": TEXT, "labels": [{"id": 0, "span": [0, 3]}]}
ARTICLE["labels"][0] |= {"entity_id": "Q3", "name": "Ann"}


def test_elevant_with_a_report_and_kept_links(files):
    """Twice: what is kept is taken from the folder, and gives the same numbers."""
    pytest.importorskip("jinja2")
    Path("news.benchmark.jsonl").write_text(json.dumps(ARTICLE) + "\n")
    Path("ids.tsv").write_text("Ann Lee\tQ3\nno id\n")
    command = (
        *("--mode", "elevant", "--documents", "news.benchmark.jsonl"),
        *("--system", "prior", "--tune", "gold.jsonl", "--kb", "kb", "--out", "out"),
        *("--ids", "ids.tsv", "--report", "report.html", "--json", "out/scores.json"),
    )
    for _ in range(2):
        result = run(*command)
        assert result.exit_code == 3, (result.output, result.exception)
        assert "elevant mode" in result.output and "1 rejected" in result.output
        assert re.search(r"tuned on 2 documents to a mean F1 of \d", result.output)
        record = json.loads(Path("out/scores.json").read_text())
        row = record["results"][0]
        assert record["mode"] == "elevant" and row["set"] == "news"
        assert row["elevant"]["all"] == [1, 1, 0]  # "Bob" has no gold
        assert row["links_without_id"] == 1
        assert row["losses_per_document"] == [{}]
        assert "<h1>Evaluation</h1>" in Path("report.html").read_text()
    assert Path("out/prior/news.log").exists()
    (line,) = Path("out/prior/news.jsonl").read_text().splitlines()
    assert [m["entity"] for m in json.loads(line)["mentions"]] == ["Ann Lee", "Bob Lee"]
    result = run("--documents", "news.benchmark.jsonl", "--predictions", "out/prior")
    assert result.exit_code == 0 and "gerbil mode" in result.output


BAD = {  # what a file of predictions may have, and what is said of it
    "offsets outside the text": ({"start": 0, "end": 99, "entity": "A"}, "missing"),
    "no such document": (None, "extra"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_predictions_are_refused_with_their_reason(files, case):
    mention, named = BAD[case]
    records = [{"id": d.id, "text": d.text} for d in GOLD]
    if mention is None:
        records.append({"id": "3", "text": "new"})
    else:
        records[0]["mentions"] = [mention]
    Path("bad.jsonl").write_text("\n".join(map(json.dumps, records)))
    result = run("--documents", "gold.jsonl", "--predictions", "bad.jsonl")
    assert result.exit_code == 2 and "bad.jsonl" in result.stderr
    assert f"1 ('{'3' if mention is None else '1'}') {named}" in result.stderr
    if mention:
        rejected = Path("evaluate.rejects.jsonl").read_text()
        assert "0 <= start < end <= 20" in rejected


def test_modes_and_libraries_are_checked(files, monkeypatch):
    for mode, titles in (("strict", None), ("elevant", ANY)):
        with pytest.raises(typer.BadParameter):
            evaluate.check_mode(mode, titles, None)
    monkeypatch.setattr(evaluate.importlib.util, "find_spec", lambda name: None)
    evaluate.check_mode("gerbil", ANY, None)
    with pytest.raises(InputError, match=r"jinja2 and matplotlib .*\[report\]"):
        evaluate.check_mode("gerbil", None, ANY)


ANY = Path("any")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (([ANY], [], None, [], [], []), "nothing to score"),
        (([ANY], [], None, ["insgenel"], [], []), "expects --linker"),
        (([ANY], [ANY], None, ["insgenel-x"], [], []), "insgenel-x"),
        (([ANY], [], None, ["prior"], [], []), "expects --kb or --linker"),
        (([ANY], [], ANY, ["prior"], [], []), "expects --tune"),
        (([ANY, Path("b")], [], None, [], [ANY], []), "one --predictions for each"),
        (([ANY, Path("./any")], [], None, [], [ANY], []), "given 2 times"),
        (([ANY], [ANY, ANY], None, [], [], []), "--linker any is given 2 times"),
        (([ANY], [], None, [], [ANY, ANY], []), "--predictions any is given 2 times"),
        (([ANY], [ANY], None, ["insgenel", "insgenel"], [], []), "system once"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(typer.BadParameter, match=message):
        evaluate.check_options(*options)


def test_options_are_checked_by_the_command(files):
    assert run("--documents", "gold.jsonl").exit_code == 2
