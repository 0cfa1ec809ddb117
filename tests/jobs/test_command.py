"""The command line of jobs: what is a job, slices, and how far it is in words."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from insgenel_jax import link
from insgenel_jax.jobs.command import clock, read_slice, summary_lines, warning_lines
from insgenel_jax.jobs.run import JobSummary, Progress


def run(*arguments):
    app = typer.Typer()
    app.command()(link.main)
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(a) for a in arguments])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text('{"id": 1, "text": "Paris"}\n{\n')


def test_a_folder_of_parts(linker_path):
    """Exit status 3 for the bad line, each time; a job that is done is skipped."""
    Path("in").mkdir()
    Path("a.jsonl").rename("in/a.jsonl")
    arguments = ("--linker", linker_path, "--input", "in", "--output", "out")
    for _ in range(2):
        result = run(*arguments, "--part-documents", 1)
        assert result.exit_code == 3, (result.output, result.exception)
        assert "1 documents, " in result.output and "in 2 parts" in result.output
        assert "1 rejected" in result.output and "not JSON (1)" in result.output
    assert "0 documents in 0.0 s (0.0/s); 2 parts were there" in result.output
    assert json.loads(Path("out/part-000000.jsonl").read_text())["id"] == 1
    result = run(*arguments, "--part-documents", 2)
    assert result.exit_code == 2 and "documents: 1 then, 2 now" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (
            "--input a.jsonl --output b.jsonl --workers 2",
            "--workers: expected an output",
        ),
        (
            "--input a.jsonl --input a.jsonl --output b.jsonl",
            "a.jsonl a.jsonl: expected",
        ),
        ("--input *.jsonl --output -", "expected an output folder, found -"),
        ("--input a.jsonl --output o/ --show 2", "--show: no effect on a job"),
        ("--input a.jsonl --output o/ --rejects r", "--rejects: no effect on a job"),
        ("--input a.jsonl --output o/ --slice 2/2", "--slice 2/2: expected I/N"),
        ("--input no.jsonl --output o/", "no.jsonl: expected files of documents"),
        ("--input a.ttl --output o/", "found nif"),
        (
            "--input a.jsonl --output o/ --output-format nif",
            "o: expected parts in jsonl",
        ),
        ("--input a.jsonl --output o/ --set top_k=0", "top_k"),
        ("--input . --output o/", "one inside the other"),
    ],
)
def test_options_that_do_not_go_together(linker_path, arguments, named):
    Path("a.ttl").touch()
    result = run("--linker", linker_path, *arguments.split())
    assert result.exit_code == 2, (result.output, result.exception)
    assert named in " ".join(result.stderr.replace("\u2502", " ").split())
    assert {p.name for p in Path().iterdir()} == {"a.jsonl", "a.ttl"}


def test_limit_and_packed_output_of_a_file(linker_path):
    """The output of a single file, as before."""
    arguments = ("--linker", linker_path, "--input", "a.jsonl", "--limit", 1)
    assert run(*arguments, "--output", "b.parquet").exit_code == 0  # no bad line
    assert Path("b.parquet").read_bytes()[:4] == b"PAR1"


SLURM = {"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_MIN": "5"}
SLURM |= {"SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_STEP": "2"}
TASKS = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "3"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (SLURM, (2, 4)),
        (TASKS, (1, 3)),
        (SLURM | TASKS, (7, 12)),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, (0, 1)),
        ({"TPU_WORKER_ID": "3", "TPU_WORKER_HOSTNAMES": "a,b,c,d"}, (3, 4)),
    ],
)
def test_slices_of_slurm_and_tpu_hosts(environment, expected):
    assert read_slice("auto", environment) == expected


def test_slices():
    assert read_slice(None, SLURM) == (0, 1) and read_slice("3/4", SLURM) == (3, 4)
    for wrong in ("4/4", "1", "-1/3", "a/b", ""):
        with pytest.raises(typer.BadParameter, match="expected I/N"):
            read_slice(wrong, {})
    with pytest.raises(typer.BadParameter, match="found none"):
        read_slice("auto", {})


def test_progress_and_summary_in_words():
    progress = Progress(100, 60, 10, 6, 20, 45, 10.0)
    assert (progress.rate, progress.left) == (2.0, 20.0)
    assert Progress(100, 60, 10, 6, 0, 0, 0.0).left is None
    assert clock(3661.9) == "1:01:01"
    summary = JobSummary(
        "out", 10, 6, {3: "cut"}, 90, 1, {"x": 1}, {}, 5.0, 30, ["n"], 2
    )
    assert summary_lines(summary)[1].startswith(
        "this run: 30 documents in 5.0 s (6.0/s)"
    )
    assert [line.split()[0] for line in warning_lines(summary)] == [
        "part",
        "note:",
        "1",
        "2",
    ]
