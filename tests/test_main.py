"""The console script: every entry point as a subcommand; help and version at once."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from insgenel_jax import __main__, __version__

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("prepare", "base", "train", "index", "link", "ask", "evaluate", "study")
COMMANDS += ("tune", "set", "finetune")


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


SUBCOMMANDS = [(name,) for name in COMMANDS if name not in ("prepare", "study")]
SUBCOMMANDS += [("prepare", name) for name in ("wikipedia", "entities", "subset")]
SUBCOMMANDS += [("study", name) for name in ("surface-forms", "given-mentions")]


@pytest.mark.parametrize("command", SUBCOMMANDS, ids=" ".join)
def test_help_shows_all_of_each_hint(command):
    """Also what stands in brackets, which rich would take for markup."""
    module = importlib.import_module(f"insgenel_jax.{command[0]}")
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False)
        app.command()(module.main)
    group = typer.main.get_command(app)
    found = group.commands[command[1]] if len(command) > 1 else group
    runner = CliRunner(env={"COLUMNS": "400"})
    shown = runner.invoke(__main__.app, [*command, "--help"]).output
    words = re.sub(r"[^\w\[\]]", "", shown)
    for option in found.params:
        hint = re.sub(r"[^\w\[\]]", "", getattr(option, "help", None) or "")
        assert hint in words, option.name
        told = getattr(option, "show_default", None)
        assert not isinstance(told, str) or re.sub(r"\W", "", told) in words


@pytest.mark.parametrize(
    ("command", "name"),
    [("link", "min_link_probability"), ("train", "data.golds"), ("ask", "bad_cases")],
)
def test_the_settings_are_listed_with_their_meaning(command, name):
    shown = run(command, "--set", "help")
    assert shown.exit_code == 0, (shown.output, shown.exception)
    assert name in shown.output and "meaning" in shown.output
    assert "--set help" in run(command, "--help").output


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
