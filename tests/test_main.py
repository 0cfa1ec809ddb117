"""The console script: every entry point as a subcommand; help and version at once."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from insgenel_jax import __main__, __version__

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("prepare", "base", "train", "index", "link", "ask", "evaluate", "study")
COMMANDS += ("tune", "set")


def run(*arguments):
    return CliRunner(env={"COLUMNS": "100"}).invoke(__main__.app, arguments)


def test_help_and_version():
    shown = run("--help")
    assert shown.exit_code == 0
    assert all(command in shown.output for command in COMMANDS)
    shown = run("--version")
    assert (shown.exit_code, shown.output) == (0, f"insgenel_jax {__version__}\n")
    assert run("nonsense").exit_code == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_the_options_of_its_module(command):
    shown = run(command, "--help")
    assert shown.exit_code == 0, shown.exception
    assert f"Usage: insgenel {command}" in shown.output
    option = {"prepare": "wikipedia", "train": "--workdir", "index": "--retriever"}
    option |= {"study": "surface-forms", "base": "--dtype", "set": "KEY=VALUE"}
    assert option.get(command, "--linker") in shown.output


def test_a_command_decides_the_exit_status(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("evaluate", "--documents", "no.jsonl", "--predictions", "-")
    assert done.exit_code == 2 and "no.jsonl: expected a file" in done.stderr
    assert run("link", "--nonsense").exit_code == 2


def test_help_and_version_load_no_jax():
    """Nor anything else that takes long: they answer in a fraction of a second."""
    code = (
        "import sys\n"
        "from insgenel_jax.__main__ import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "heavy = {'jax', 'numpy', 'pyarrow', 'transformers'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_version_of_the_package_is_that_of_the_distribution():
    pytest.importorskip("setuptools")
    command = [sys.executable, "setup.py", "--quiet", "--version"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split() == [__version__]
