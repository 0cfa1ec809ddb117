"""The wheel: built, installed away from the checkout, and linking a text by itself."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from insgenel_jax.linker import assemble

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(linker_path, tmp_path_factory) -> Path:
    """The wheel of a copy of the checkout; without a bundled linker, of a stand-in."""
    pytest.importorskip("setuptools")
    pytest.importorskip("pip")
    copy = tmp_path_factory.mktemp("copy")
    for file in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    leave = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "insgenel_jax", copy / "insgenel_jax", ignore=leave)
    nano = copy / "insgenel_jax/assets/nano"
    if not (nano / "manifest.json").is_file():
        make_stand_in(linker_path, copy / "stand-in")
        shutil.copytree(copy / "stand-in", nano, dirs_exist_ok=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", copy / "wheels", copy]
    subprocess.run(command, check=True)
    (file,) = (copy / "wheels").iterdir()
    return file


def make_stand_in(linker_path: Path, path: Path) -> None:
    """A linker with random models, which marks mentions whatever these say."""
    names = ("generator", "kb", "retriever", "index")
    parts = {name: linker_path / name for name in names}
    assemble(path, **parts, settings={"mention_bias": 1000.0})


def test_every_file_of_the_assets_is_in_it(wheel):
    assets = wheel.parents[1] / "insgenel_jax/assets"
    expected = {
        f"insgenel_jax/assets/{file.relative_to(assets).as_posix()}"
        for file in assets.rglob("*")
        if file.is_file()
    }
    assert any("/nano/kb/" in name for name in expected)
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    assert {name for name in names if "/assets/" in name} == expected


def test_it_links_a_text_away_from_the_checkout(wheel, tmp_path):
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*command, "--target", installed, wheel], check=True)
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    environment["PYTHONPATH"] = str(installed)
    done = subprocess.run(
        [installed / "bin/insgenel", "link", "Paris is the capital of France."],
        cwd=elsewhere,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Paris [") and "\n" not in done.stdout.strip()
    assert not any(elsewhere.iterdir())
    where = "import insgenel_jax; print(insgenel_jax.__file__)"
    command = [sys.executable, "-c", where]
    found = subprocess.check_output(command, cwd=elsewhere, env=environment, text=True)
    assert Path(found.strip()).is_relative_to(installed)
