"""What the entry points share: errors in one line, paths and settings checked."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from insgenel_jax import artifact, cli
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import read_documents, write_documents
from insgenel_jax.text.formats.rejects import InputError, Rejects


def run(error: BaseException, *others):
    app = typer.Typer()

    @app.command()
    @cli.user_errors(*others)
    def main(word: str = "") -> None:
        raise error

    return CliRunner().invoke(app, ["--word", "the options of the command stay"])


def test_compiled_programs_are_kept(tmp_path, monkeypatch):
    """In the user's cache folder, unless the user names another; none where none is."""
    name = "JAX_COMPILATION_CACHE_DIR"
    used, least = jax.config.jax_compilation_cache_dir, 0.1
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", str(least))
    monkeypatch.setenv(name, "mine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cli.keep_compiled()
    assert os.environ[name] == "mine" and not (tmp_path / "cache").exists()
    monkeypatch.delenv(name)
    cli.keep_compiled()
    assert Path(os.environ[name]).is_dir()
    assert Path(os.environ[name]).is_relative_to(tmp_path / "cache/insgenel_jax")
    assert jax.config.jax_compilation_cache_dir == os.environ[name]  # loaded before
    jax.config.update("jax_compilation_cache_dir", used)
    (tmp_path / "file").write_text("")
    monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cli.keep_compiled()
    assert name not in os.environ
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "file")  # no absolute path: ignored
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cli.keep_compiled()
    assert Path(os.environ[name]).is_relative_to(tmp_path / "home/.cache")


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (InputError("a\nb"), "a b"),
        (artifact.ArtifactError("x: damaged"), "x: damaged"),
        (FileNotFoundError("f: found nothing"), "f: found nothing"),
        (
            OSError(28, "No space left on device", "some/[red]/file"),
            "some/[red]/file: No space left on device",
        ),
        (InputError("a\x1b[2Jb"), "a\ufffd[2Jb"),
        (InputError("a\udcff.jsonl"), "a\\udcff.jsonl"),
        (InputError("x" * 10_000), f"{'x' * 2000}..."),
    ],
)
def test_what_a_user_can_fix_is_one_line_and_status_2(error, shown):
    done = run(error)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {shown}") and done.stderr.count("\n") == 1


def test_a_full_disk_is_one_line_that_names_the_file(monkeypatch):
    """Also where a library says it in an exception of its own."""
    first = OSError(28, "No space left on device", "some/file")
    library = ValueError(
        "RESOURCE_EXHAUSTED: writing some/file: No space left on device"
    )
    other = RuntimeError("cannot write")
    other.__cause__ = first
    for error in (first, library, other):
        done = run(error)
        assert done.exit_code == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ") and "some/file" in line
    monkeypatch.setattr(sys, "stdout", open("/dev/full", "w"))  # noqa: SIM115
    for path, name in (("/dev/full", "/dev/full"), ("-", "standard output")):
        with pytest.raises(OSError, match=f"No space left on device: '{name}'"):
            write_documents(path, [Document("1", "Paris")])
    with contextlib.suppress(OSError):
        sys.stdout.close()
    with pytest.raises(OSError, match="device: '/dev/full'"), Rejects("/dev/full") as r:
        r.add("in", 1, "odd", "line")


def test_ctrl_c_has_its_status():
    done = run(KeyboardInterrupt())
    assert (done.exit_code, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_output_is_utf_8_whatever_the_locale():
    program = """
from rich.console import Console
from insgenel_jax import cli
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import write_documents

@cli.user_errors()
def main():
    Console(stderr=True).print("K\u00f6ln", "\u6771")
    write_documents("-", [Document("1", "K\u00f6ln"), Document("2", "\u6771")])

main()
"""
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        env=environment,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert [row["text"] for row in rows] == ["K\u00f6ln", "\u6771"]
    assert done.stderr.decode() == "K\u00f6ln \u6771\n"


def test_a_process_may_be_started_without_standard_streams(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(InputError, match="standard input, found it closed"):
        list(read_documents("-", Rejects()))
    with pytest.raises(InputError, match="standard output, found it closed"):
        write_documents("-", [])


def test_our_own_bugs_keep_their_traceback():
    done = run(ValueError("a bug"))
    assert done.exit_code == 1 and str(done.exception) == "a bug"
    assert run(ZeroDivisionError("0"), ZeroDivisionError).exit_code == 2


def test_opening_names_the_path_whatever_a_library_raises():
    for error in (KeyError("model"), Exception("bare"), RecursionError("deep")):
        expected = pytest.raises(InputError, match="here: expected a thing")
        with expected as caught, cli.opening("here", "thing"):
            raise error
        assert type(error).__name__ in str(caught.value)
    with (
        pytest.raises(artifact.ArtifactError, match="^as it is$"),
        cli.opening("here", "thing"),
    ):
        raise artifact.ArtifactError("as it is")


def test_rejects_decide_the_status_where_no_error_does(tmp_path, capsys):
    file = tmp_path / "[b]" / "rejects.jsonl"
    console = Console(width=20)
    with pytest.raises(SystemExit) as stopped, cli.rejecting(file, console) as rejects:
        rejects.add("f", 1, "odd: this", "x")
    assert stopped.value.code == cli.REJECTED == 3
    assert capsys.readouterr().out == f"1 rejected, see {file}: odd (1)\n"
    with pytest.raises(InputError), cli.rejecting(file, Console()) as rejects:
        rejects.add("f", 1, "odd", "x")
        assert file.read_text().count("\n") == 1  # nothing waits in a buffer
        raise InputError("stop")
    assert "1 rejected" in capsys.readouterr().out
    with cli.rejecting(file, Console()):
        pass
    assert capsys.readouterr().out == "" and not file.exists()


def test_inputs(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for path in ("-", file, "/dev/null"):
        cli.check_input(path)
    cli.check_input(tmp_path, folder=True)
    for path in (tmp_path, tmp_path / "no", file / "no"):
        with pytest.raises(InputError, match=f"^{path}: expected a file, found"):
            cli.check_input(path)
    with pytest.raises(InputError, match="a file or a folder, found nothing"):
        cli.check_input(tmp_path / "no", folder=True)


def test_outputs(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for path in ("-", file, tmp_path / "new" / "new", "new", "/dev/null"):
        cli.check_output(path)
    for path, named in (
        (tmp_path, "found a folder"),
        (file / "x", f"a folder at {file}"),
        (tmp_path / "x.gz", "packed"),
    ):
        with pytest.raises(InputError, match=f"^{path}: expected .*{named}"):
            cli.check_output(path)
    cli.check_target(tmp_path / "new", "kind")
    for path in (file, tmp_path):
        with pytest.raises(artifact.ArtifactError, match="found 'other files'"):
            cli.check_target(path, "kind")
    with pytest.raises(InputError, match="expected a folder at"):
        cli.check_target(file / "x", "kind")


def test_permissions(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="that you may read"):
        cli.check_input(tmp_path / "file")
    with pytest.raises(InputError, match=f"folder {tmp_path} that you may write to"):
        cli.check_output(tmp_path / "a" / "b")


def test_outputs_are_apart_from_inputs_and_each_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("in")
    cli.check_apart(["-", "out", "out2"], ["-", "in", "in/two"])
    Path("loop").symlink_to("loop")
    cli.check_apart(["loop"], ["in"])
    for outputs, inputs in (
        (["in"], ["in"]),
        (["./link"], ["in"]),
        ([tmp_path / "in" / "out"], ["in"]),
        (["out"], ["out/in"]),
        (["out", "out"], []),
    ):
        with pytest.raises(InputError, match="expected an output apart from"):
            cli.check_apart(outputs, inputs)


def test_progress_has_a_total_and_the_time_left():
    """Where the size of the input is known, which that of a pipe is not."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100)
    for total in (100, None):
        with cli.show_progress(console, total) as progress:
            assert [cli.count_document(progress, read) for read in (25, 75)] == [0, 1]
            (task,) = progress.tasks
            assert (task.total, task.completed) == (total, 75)
            progress.refresh()
        shown = stream.getvalue()
        assert "2 documents" in shown
        assert ("75 %" in shown and "left:" in shown) == (total is not None)
        stream.seek(0)
        stream.truncate()
    assert cli.input_size("-") is None and cli.input_size("/dev/null") is None


def test_settings():
    parsed = cli.parse_settings(["a=1", "b=x=y", "c=", "d=(1,", "e={[]: 1}"])
    assert parsed == {"a": 1, "b": "x=y", "c": "", "d": "(1,", "e": "{[]: 1}"}
    for deep in ("(" * 9000, "-" * 100_000, "[" * 150 + "]" * 150):
        assert cli.parse_settings([f"a={deep}"]).keys() == {"a"}
    for bad in (["a"], ["a=1", "a=2"]):
        with pytest.raises(InputError, match=f"--set {bad[-1]}: expected"):
            cli.parse_settings(bad)
    assert cli.check_settings({"top_k": 3}, "linker") == {}
    assert "given mentions" in cli.check_settings({"titles": "all"}, "linker")["titles"]
    with pytest.raises(InputError, match="--set beams: no effect"):
        cli.check_effect({"beams": 3}, "linker")
    for bad in ({"top_kk": 3}, {"verify": True}, {"top_k": "x"}, {"scope": []}):
        with pytest.raises(InputError, match="fix --set"):
            cli.check_settings(bad, "linker")


def test_settings_are_checked_with_those_the_linker_keeps(tmp_path):
    file = tmp_path / "linker.json"
    file.write_text('{"settings": {"system": "insgenel", "consider_unlinked": true}}')
    for good in ({}, {"decoder": "tree"}, {"decoder": "step", "preset": "paper"}):
        cli.check_settings(good, tmp_path)
    with pytest.raises(InputError, match="decoder = 'step' .*; fix --set"):
        cli.check_settings({"decoder": "step"}, tmp_path)
    cli.check_settings({"decoder": "step"}, tmp_path, new=True)
    file.write_text('{"settings": {"top_k": 0}}')
    with pytest.raises(artifact.ArtifactError, match=f"^{file}: .* found 0"):
        cli.check_settings({"decoder": "step"}, tmp_path)
