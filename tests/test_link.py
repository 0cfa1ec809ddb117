"""The entry point: documents in, linked documents and rejects out; errors by name."""

import json
import os
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from insgenel_jax import link
from insgenel_jax.linker import Linker
from insgenel_jax.text.document import Document, Mention

BAD = [
    b'{"id": "s", "text": "a \\ud800 Paris"}',
    b'{"id": "n", "text": "Paris", "mentions": [{"start": 0, "end": 9, "entity": "x"}]}',
    b'{"id": "n", "text": "Paris", "mentions": [{"start": 3, "end": 2, "entity": "x"}]}',
    b'{"id": "n", "text": "Paris", "mentions": [{"start": 0.0, "end": 1, "entity": 1}]}',
    b"[" * 50_000,
    b'{"a":' * 50_000,
    b"\xff\xfe",
    b"null",
    b"1e999",
    b'{"id":' + b"9" * 5000 + b', "text": "Paris"}',
    b"\0" * 50,
]
GOOD = [
    {"id": "1", "text": ""},
    {"id": "1", "text": "Paris and\0 Java\0Mercury."},
    {"id": "2", "text": "word and nothing else. " * 500_000},
    {"id": "3", "text": "\x1b[31mParis [/red] \u2028Mercury"},
    {"id": "4", "text": "Paris"},
]


def run(*arguments, input=None):
    app = typer.Typer()
    app.command()(link.main)
    return CliRunner(env={"COLUMNS": "200"}).invoke(
        app, [str(a) for a in arguments], input=input
    )


def test_hostile_lines(linker_path, tmp_path):
    """Whatever stands between them, the good documents come out, the bad are kept."""
    lines = [json.dumps(record).encode() for record in GOOD]
    source, out = tmp_path / "in.jsonl", tmp_path / "new" / "out.jsonl"
    source.write_bytes(b"\n".join([*lines[:2], *BAD, *lines[2:]]))
    result = run("--linker", linker_path, "--input", source, "--output", out)
    assert result.exit_code == 3, (result.output, result.exception)
    found = [json.loads(line) for line in out.read_text().split("\n")[:-1]]
    assert [(row["id"], row["text"]) for row in found] == [
        (record["id"], record["text"]) for record in GOOD
    ]
    rows = out.with_name("out.jsonl.rejects.jsonl").read_text().splitlines()
    assert [json.loads(row)["line"] for row in rows] == list(range(3, 3 + len(BAD)))
    assert f"{len(BAD)} rejected, see {out}.rejects.jsonl" in result.output


def test_a_pipe_is_written_to_and_not_replaced(linker_path, tmp_path, monkeypatch):
    """Nor is a rejects file put beside it, which might be in /dev."""
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text('{"id": 1, "text": "Paris"}\n{')
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    arguments = ("--linker", linker_path, "--input", "in.jsonl", "--output")
    result = run(*arguments, "pipe")
    assert result.exit_code == 3, (result.output, result.exception)
    assert json.loads(os.read(reader, 1000))["id"] == "1"
    os.close(reader)
    assert Path("pipe").is_fifo()
    Path("link.rejects.jsonl").unlink()
    result = run(*arguments, "-")
    assert result.exit_code == 3 and Path("link.rejects.jsonl").is_file()
    assert json.loads(result.stdout)["id"] == "1"


ERRORS = {
    "input missing": ("--input no.jsonl --output out", "no.jsonl"),
    "input a folder": ("--input folder --output out", "folder"),
    "output a folder": ("--input in.jsonl --output folder", "folder"),
    "output the input": ("--input in.jsonl --output ./in.jsonl", "in.jsonl"),
    "output in a file": ("--input in.jsonl --output in.jsonl/out", "in.jsonl/out"),
    "output packed": ("--input in.jsonl --output out.gz", "out.gz"),
    "output in the linker": ("--input in.jsonl --output damaged/out", "damaged/out"),
    "rejects the input": ("--input in.jsonl --output out --rejects in.jsonl", "in"),
    "linker missing": ("--input in.jsonl --output out --linker no", "no"),
    "linker a file": ("--input in.jsonl --output out --linker in.jsonl", "in.jsonl"),
    "another artifact": ("--input in.jsonl --output out --linker kb", "kb"),
    "linker damaged": ("--input in.jsonl --output out --linker damaged", "damaged"),
    "unknown setting": ("--input in.jsonl --output out --set verify=True", "verify"),
    "bad setting": ("--input in.jsonl --output out --set top_k=0", "top_k"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_user_errors_are_one_line_before_any_work(
    linker_path, tmp_path, monkeypatch, case
):
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text('{"id": 1, "text": "Paris"}\n')
    Path("folder").mkdir()
    shutil.copytree(linker_path / "kb", "kb")
    shutil.copytree(linker_path, "damaged")
    tokens = Path("damaged/generator/tokenizer.json")
    tokens.write_bytes(tokens.read_bytes().replace(b"{", b"[", 1))  # of the same size
    monkeypatch.setattr(Linker, "stream", None)
    arguments, named = ERRORS[case]
    linker = "damaged" if case == "output in the linker" else linker_path
    result = run("--linker", linker, *arguments.split())
    assert result.exit_code == 2, (result.output, result.exception)
    (line,) = result.stderr.splitlines() or result.stdout.splitlines()
    assert line.startswith("error: ") and named in line and "expected" in line
    assert sorted(path.name for path in Path().iterdir()) == [
        "damaged",
        "folder",
        "in.jsonl",
        "kb",
    ]
    assert Path("in.jsonl").read_text() == '{"id": 1, "text": "Paris"}\n'


def test_plain_text_on_standard_input(linker_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ("--linker", linker_path, "--input", "-", "--output", "-")
    result = run(*arguments, "--format", "text", input="Paris\nand Java.\n\nMercury\n")
    assert result.exit_code == 0, (result.output, result.exception)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["text"] for row in rows] == ["Paris\nand Java.", "Mercury"]
    assert run(*arguments, input="Paris").exit_code == 3  # JSONL, where nothing is said


def test_verify_finds_a_flipped_bit(linker_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
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
    shown = link.highlight(Document("1", text, None, (Mention(4, 9, "P"),)))
    assert shown.plain == "\ufffd]0;Paris [P]\ufffd\ufffd\ufffd [b]\n\tb"
