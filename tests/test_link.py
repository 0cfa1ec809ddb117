"""The entry point: documents in, linked documents and rejects out; errors by name."""

import json
import os
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from insgenel_jax import link
from insgenel_jax.linker import Linker, bundled
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.documents import read_documents, write_documents
from insgenel_jax.text.formats.rejects import Rejects


def run(*arguments, input=None):
    app = typer.Typer()
    app.command()(link.main)
    return CliRunner(env={"COLUMNS": "200"}).invoke(
        app, [str(a) for a in arguments], input=input
    )


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working directory, with one good document and one bad line."""
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text('{"id": 1, "text": "Paris"}\n{\n')


def test_good_documents_are_written_and_bad_lines_rejected(linker_path):
    arguments = ("--input", "in.jsonl", "--output", "out.jsonl", "--show", "1")
    result = run("--linker", linker_path, *arguments)
    assert result.exit_code == 3, (result.output, result.exception)
    assert json.loads(Path("out.jsonl").read_text())["id"] == 1
    assert json.loads(Path("out.jsonl.rejects.jsonl").read_text())["line"] == 2
    assert "1 documents, " in result.output and "Paris" in result.output
    linked = Linker.from_pretrained(linker_path)
    linked("Paris")
    counted = "{mentions} candidate mentions, {decided} of them".format(**linked.stats)
    assert counted in result.output
    assert "1 rejected, see out.jsonl.rejects.jsonl" in result.output


def test_plain_text_on_standard_input(linker_path):
    """The rejects file of a job that writes no file stands in the working directory."""
    arguments = ("--linker", linker_path, "--input", "-", "--output", "-")
    result = run(*arguments, "--format", "text", input="Paris\nand Java.\n\nMercury\n")
    assert result.exit_code == 0, (result.output, result.exception)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["text"] for row in rows] == ["Paris\nand Java.", "Mercury"]
    assert run(*arguments, input="Paris").exit_code == 3  # JSONL, where nothing is said
    assert Path("link.rejects.jsonl").is_file()


def test_texts_are_shown_with_their_links(linker_path, monkeypatch):
    """Of the bundled linker, where none is named; in one line each where no terminal
    is."""
    monkeypatch.setattr(bundled, "BUNDLED", linker_path)
    texts = ["Paris is a city. " * 20, "[b]nobody[/b]"]
    result = run(*texts, "--set", "mention_bias=1000.0")
    assert result.exit_code == 0, (result.output, result.exception)
    linked = Linker.from_pretrained(linker_path, mention_bias=1000.0)(texts)
    assert linked[0].mentions and not linked[1].mentions
    shown = [link.highlight(document).plain for document in linked]
    assert result.stdout.splitlines() == shown
    entity = linked[0].mentions[0].entity
    assert f"Paris [{entity} 0." in shown[0] and shown[1] == texts[1]


def test_html(linker_path):
    """To a file, or to standard output; of texts, or of a file."""
    arguments = ("--linker", linker_path, "--html")
    result = run("Paris <b>", *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    assert "<!doctype html>" in result.stdout and "&lt;b&gt;" in result.stdout
    result = run("--input", "in.jsonl", "--output", "out", *arguments)
    assert result.exit_code == 3, (result.output, result.exception)
    assert Path("out").read_text().count("<article>") == 1


def test_texts_as_json(linker_path):
    arguments = ("Paris", "Java", "--linker", linker_path, "--output")
    result = run(*arguments, "-")
    assert result.exit_code == 0, (result.output, result.exception)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["id"], row["text"]) for row in rows] == [("0", "Paris"), ("1", "Java")]
    assert run(*arguments, "out").exit_code == 0
    assert Path("out").read_text() == result.stdout


def test_formats_by_their_endings_and_by_their_names(linker_path):
    """NIF out; NIF in, whose mentions are ignored; ELEVANT's out."""
    surely = ("--linker", linker_path, "--set", "mention_bias=1000.0")
    texts = [Document("0", "Paris"), Document("1", "and Java")]
    expected = Linker.from_pretrained(linker_path, mention_bias=1000.0)(texts)
    write_documents("in.ttl", expected)
    result = run(*surely, "--input", "in.ttl", "--output", "out.ttl")
    assert result.exit_code == 0, (result.output, result.exception)
    found = list(read_documents("out.ttl", Rejects()))
    assert [d.text for d in found] == ["Paris", "and Java"]
    for one, other in zip(found, expected, strict=True):
        assert [(m.start, m.end, m.entity) for m in one.mentions] == [
            (m.start, m.end, m.entity) for m in other.mentions
        ]
    as_named = ("--output-format", "elevant", "--output", "-")
    result = run(*surely, "--input", "in.ttl", *as_named)
    assert "entity_mentions" in json.loads(result.stdout.splitlines()[0])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "expected a text"),
        (["Paris", "--input", "in.jsonl"], "found 1 texts and in.jsonl"),
        (["--input", "in.jsonl"], "expects --output"),
        (["--output", "out"], "expected a text"),
        (["Paris", "--show", "2", "--format", "text"], "--format, --show: no effect"),
        (["Paris", "--given"], "--given: no effect"),
        (["Par\udcffis"], "text 0: a lone surrogate"),
    ],
)
def test_texts_and_options_that_do_not_go_together(linker_path, arguments, named):
    result = run("--linker", linker_path, *arguments)
    assert result.exit_code == 2 and named in result.stderr
    assert list(Path().iterdir()) == [Path("in.jsonl")]


def test_given_mentions_are_linked(linker_path):
    """Those of each document and no others; what else its line says comes back."""
    mentions = [{"start": s, "end": e, "entity": "x"} for s, e in ((6, 10), (0, 5))]
    record = {"id": 7, "text": "Paris Java Mercury", "mentions": mentions, "year": 1843}
    Path("in.jsonl").write_text(json.dumps(record))
    arguments = ("--linker", linker_path, "--input", "in.jsonl", "--output", "-")
    result = run(*arguments, "--given", "--set", "mention_bias=1000.0")
    assert result.exit_code == 0, (result.output, result.exception)
    row = json.loads(result.stdout)
    assert (row["id"], row["text"], row["year"]) == (7, record["text"], 1843)
    spans = [(0, 5), (6, 10)]
    linker = Linker.from_pretrained(linker_path, mention_bias=1000.0)
    linked = linker(record["text"], spans)
    assert [(m["start"], m["end"]) for m in row["mentions"]] == spans
    assert [m["entity"] for m in row["mentions"]] == [m.entity for m in linked.mentions]
    own = shutil.copytree(linker_path, "own")  # the tree of titles is added to it
    arguments = ("--linker", own, *arguments[2:], "--set", "titles=all")
    assert run(*arguments).exit_code == 2  # needs --given
    assert run(*arguments, "--given").exit_code == 0


def test_the_rejects_file_of_an_output():
    """A pipe may be in /dev, where no rejects file is put beside it."""
    os.mkfifo("pipe")
    assert link.name_rejects("in.jsonl") == Path("in.jsonl.rejects.jsonl")
    assert link.name_rejects("a/new.jsonl") == Path("a/new.jsonl.rejects.jsonl")
    for output in ("-", "pipe", "/dev/null"):
        assert link.name_rejects(output) == Path("link.rejects.jsonl")


ERRORS = {  # one of each kind; tests/test_cli.py has the others
    "no input": ("--input no.jsonl --output out", "no.jsonl"),
    "bad output": ("--input in.jsonl --output in.jsonl/out", "in.jsonl/out"),
    "output in the linker": ("--input in.jsonl --output damaged/out", "damaged/out"),
    "rejects the input": ("--input in.jsonl --output out --rejects in.jsonl", "in"),
    "no artifact": ("--input in.jsonl --output out --linker no", "no"),
    "another artifact": ("--input in.jsonl --output out --linker kb", "kb"),
    "damaged linker": ("--input in.jsonl --output out --linker damaged", "damaged"),
    "bad setting": ("--input in.jsonl --output out --set top_k=0", "top_k"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_user_errors_are_one_line_before_any_work(linker_path, monkeypatch, case):
    shutil.copytree(linker_path / "kb", "kb")
    shutil.copytree(linker_path, "damaged")
    tokens = Path("damaged/generator/tokenizer.json")
    tokens.write_bytes(tokens.read_bytes().replace(b"{", b"[", 1))  # of the same size
    before = set(Path().iterdir()), Path("in.jsonl").read_bytes()
    monkeypatch.setattr(Linker, "stream", None)
    arguments, named = ERRORS[case]
    linker = "damaged" if case == "output in the linker" else linker_path
    result = run("--linker", linker, *arguments.split())
    assert result.exit_code == 2, (result.output, result.exception)
    (line,) = result.stderr.splitlines() or result.stdout.splitlines()
    assert line.startswith("error: ") and named in line and "expected" in line
    assert (set(Path().iterdir()), Path("in.jsonl").read_bytes()) == before


def test_verify_notices_a_flipped_bit(linker_path):
    Path("in.jsonl").write_text('{"id": 1, "text": "Paris"}\n')
    shutil.copytree(linker_path, "linker")
    arguments = ["--linker", "linker", "--input", "in.jsonl", "--output", "out"]
    assert run(*arguments, "--verify").exit_code == 0
    file = Path("linker/generator/model.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert run(*arguments).exit_code == 0  # of the same size: only the hash tells
    Path("out").unlink()
    result = run(*arguments, "--verify")
    assert result.exit_code == 2 and not Path("out").exists()
    assert "generator/model.safetensors has another sha256" in result.stderr


def test_a_text_does_not_steer_the_terminal():
    text = "\x1b]0;Paris\x07\x9b\x7f [b]\n\tb"
    shown = link.highlight(Document("1", text, None, (Mention(4, 9, "P\x1b[2J"),)))
    assert shown.plain == "\ufffd]0;Paris [P\ufffd[2J]\ufffd\ufffd\ufffd [b]\n\tb"
