"""The entry point: what it keeps, changes and refuses."""

import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from insgenel_jax import artifact, set
from insgenel_jax.linker import Linker, bundled


def run(*arguments):
    app = typer.Typer()
    app.command()(set.main)
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(a) for a in arguments])


@pytest.fixture(autouse=True)
def folder(linker_path, tmp_path, monkeypatch):
    """The working directory, with a linker."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(linker_path, "linker")


def test_settings_are_changed_and_the_rest_stays():
    before = json.loads(Path("linker/linker.json").read_text())["settings"]
    result = run("linker", "system=insgenel", "prior_weight=2", "titles=all")
    assert result.exit_code == 0, (result.output, result.exception)
    after = json.loads(Path("linker/linker.json").read_text())["settings"]
    changes = {"system": "insgenel", "prior_weight": 2, "titles": "all"}
    assert after == before | changes
    artifact.check("linker", "linker", 1, verify=True)
    assert Linker.from_pretrained("linker").settings.prior_weight == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["linker", "top_kk=1"], "top_kk"),
        (["linker", "top_k"], "expected key=value"),
        (["linker", "system=insgenel", "top_k=3"], "top_k: no effect"),
        (["no", "top_k=3"], "no: expected an artifact"),
        (["nano", "top_k=3"], "found the one that comes with the package"),
        (["bare", "system=insgenel-r"], "expects retriever/, found none"),
    ],
)
def test_errors_change_nothing(linker_path, monkeypatch, arguments, named):
    monkeypatch.setattr(bundled, "BUNDLED", linker_path)
    with artifact.create("bare", "linker", 1) as draft:
        (draft.path / "linker.json").write_text('{"settings": {"system": "insgenel"}}')
    before = [Path(p, "linker.json").read_text() for p in ("linker", "bare")]
    result = run(*arguments)
    assert result.exit_code == 2 and named in result.stderr, result.output
    assert before == [Path(p, "linker.json").read_text() for p in ("linker", "bare")]
