"""The entry point: a knowledge base and a retriever in, an index that fits them out."""

import shutil
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from insgenel_jax import artifact, index
from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.linker import Linker
from insgenel_jax.retrieval.index import open_index
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.text.formats.rejects import Rejects
from tests.helpers.retrievers import write_retriever


def run(*arguments):
    app = typer.Typer()
    app.command()(index.main)
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(a) for a in arguments])


def make_kb(path):
    entities = [
        (Entity("Mercury (planet)", "The smallest planet " + "of many " * 20), []),
        (Entity("Queen", "A band of Freddie Mercury"), []),
        (Entity("York", ""), []),
    ]
    build_from_entities(path, entities, Rejects())
    return path


@pytest.mark.slow
def test_index_and_linker(tmp_path, monkeypatch, linker_path):
    kb, retriever = make_kb(tmp_path / "kb"), write_retriever(tmp_path / "retriever")
    out = tmp_path / "new folder" / "index"
    assembled = []
    monkeypatch.setattr(
        "insgenel_jax.linker.assemble",
        lambda *a, **k: assembled.append((a, k)),
    )
    parts = ("--kb", kb, "--retriever", retriever, "--out", out)
    result = run(
        *parts,
        *("--generator", linker_path / "generator", "--linker", tmp_path / "linker"),
        *("--set", "top_k=7", "--set", "scope=window"),
    )
    assert result.exit_code == 0, (result.output, result.exception)
    opened = open_index(out, verify=True)
    assert opened.made_from == {
        "knowledge-base": KnowledgeBase.open(kb).identity,
        "retriever": artifact.identity(retriever),
    }
    ((path,), kept) = assembled[0]
    assert path == tmp_path / "linker"
    assert kept == {
        "generator": linker_path / "generator",
        "retriever": retriever,
        "kb": kb,
        "index": out,
        "settings": {"top_k": 7, "scope": "window"},
    }
    before = artifact.identity(out)
    assert run(*parts).exit_code == 0
    assert artifact.identity(out) == before
    result = run(*parts, "--vector-bytes", 3)
    assert result.exit_code == 0 and "of 3 numbers, rounded" in result.output
    assert open_index(out).method == "compressed"


def test_bad_options(tmp_path):
    parts = ("--kb", tmp_path, "--retriever", tmp_path, "--out", tmp_path / "index")
    result = run(*parts, "--linker", tmp_path / "linker")
    assert result.exit_code == 2 and "--generator" in result.output
    result = run(*parts, "--vector-bytes", 8, "--scann")
    assert result.exit_code == 2 and "--scann" in result.output
    result = run(*parts, "--set", "top_k=1")
    assert result.exit_code == 2 and "--linker" in result.output
    assert "needs --out" in run(*parts[:4]).output
    assert "needs --retriever and --out" in run(*parts[:2]).output
    linker = ("--generator", tmp_path, "--linker", tmp_path / "linker")
    result = run(*parts[:2], *linker, "--exact", "--vector-bytes", 8)
    assert "--vector-bytes, --exact/--scann: no effect" in result.output
    result = run(*parts[:2], *linker, "--set", "system=insgenel-r")
    assert "system=insgenel-r: add --retriever" in result.output
    there = ("--index", tmp_path)
    result = run(*parts, *linker, *there, "--vector-bytes", 8)
    assert "--vector-bytes, --out: no effect with --index" in result.output
    result = run(*parts[:2], *linker, *there)
    assert "--index goes with --retriever and --linker" in result.output


def test_a_linker_without_a_retriever(linker_path, tmp_path):
    """It is INSGENEL, and keeps the settings."""
    parts = ("--kb", linker_path / "kb", "--generator", linker_path / "generator")
    path = tmp_path / "linker"
    result = run(*parts, "--linker", path, "--set", "prior_weight=2")
    assert result.exit_code == 0, (result.output, result.exception)
    opened = Linker.from_pretrained(path, verify=True)
    assert (opened.settings.system, opened.settings.prior_weight) == ("insgenel", 2)
    assert opened.retriever is None
    assert {p.name for p in path.iterdir() if p.is_dir()} == {"kb", "generator"}


def test_an_index_that_is_there_is_used(linker_path, tmp_path):
    """Nothing is embedded; one that was made from other parts is refused."""
    names = ("kb", "retriever", "index", "generator")
    parts = [x for name in names for x in (f"--{name}", linker_path / name)]
    result = run(*parts, "--linker", tmp_path / "linker", "--set", "top_k=9")
    assert result.exit_code == 0, (result.output, result.exception)
    opened = Linker.from_pretrained(tmp_path / "linker", verify=True)
    assert (opened.settings.system, opened.settings.top_k) == ("insgenel-r", 9)
    assert opened.index.entities == len(opened.kb)
    parts[1] = make_kb(tmp_path / "kb")
    result = run(*parts, "--linker", tmp_path / "other")
    assert result.exit_code == 2 and "made from the knowledge-base" in result.output
    assert not (tmp_path / "other").exists()


PARTS = "--kb kb --retriever retriever --out index"
LINKER = f"{PARTS} --linker linker"
ERRORS = {
    "unknown setting": (f"{LINKER} --generator generator --set top_kk=1", "top_kk"),
    "bad setting": (f"{LINKER} --generator generator --set scope=all", "scope"),
    "generator missing": (f"{LINKER} --generator no", "no/insgenel.json"),
    "generator damaged": (f"{LINKER} --generator damaged", "damaged"),
    "another generator": (f"{LINKER} --generator retriever", "retriever"),
    "linker something": (f"{PARTS} --linker folder --generator generator", "folder"),
    "linker the kb": (f"{PARTS} --linker kb --generator generator", "kb"),
    "linker the index": (f"{PARTS} --linker index --generator generator", "index"),
    "index in the kb": ("--kb kb --retriever retriever --out kb/index", "kb/index"),
    "index in a file": ("--kb kb --retriever retriever --out file/x", "file/x"),
    "index a file": ("--kb kb --retriever retriever --out file", "file"),
    "no byte": (f"{PARTS} --vector-bytes 0", "vector bytes"),
    "many bytes": (f"{PARTS} --vector-bytes 9999", "vector bytes"),
    "kb missing": ("--kb no --retriever retriever --out index", "no"),
    "kb another": ("--kb retriever --retriever retriever --out index", "retriever"),
    "retriever missing": ("--kb kb --retriever no --out index", "no"),
    "retriever another": ("--kb kb --retriever generator --out index", "generator"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_user_errors_are_one_line_before_any_work(
    linker_path, tmp_path, monkeypatch, case
):
    monkeypatch.chdir(tmp_path)
    for part in ("kb", "retriever", "generator"):
        Path(part).symlink_to(linker_path / part)
    shutil.copytree("generator", "damaged")
    Path("damaged/tokenizer.json").write_text("[")
    Path("damaged/manifest.json").unlink()
    Path("file").touch()
    Path("folder").mkdir()
    Path("folder/mine").touch()
    before = sorted(Path().rglob("*"))
    monkeypatch.setattr(Retriever, "embed_entities", None)
    arguments, named = ERRORS[case]
    result = run(*arguments.split())
    assert result.exit_code == 2, (result.output, result.exception)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and "expected" in line and named in line
    assert sorted(Path().rglob("*")) == before


FLIPPED = {
    "kb": "entities.arrow",
    "retriever": "mention/model.safetensors",
    "generator": "model.safetensors",
}


@pytest.mark.parametrize("part", FLIPPED)
def test_verify_finds_a_flipped_bit(linker_path, tmp_path, monkeypatch, part):
    monkeypatch.chdir(tmp_path)
    for name in FLIPPED:
        shutil.copytree(linker_path / name, name)
    monkeypatch.setattr(Retriever, "embed_entities", None)
    arguments = f"{LINKER} --generator generator --verify".split()
    result = run(*arguments)
    assert isinstance(result.exception, TypeError)  # all is well: it begins to embed
    file = Path(part, FLIPPED[part])
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    result = run(*arguments)
    assert result.exit_code == 2 and not Path("index").exists()
    assert f"{part}: damaged" in result.stderr and "another sha256" in result.stderr


def test_insgenel_is_the_default_where_the_retriever_finds_almost_nothing(capsys):
    console = Console(width=300)
    assert index._choose_system(0.4, {"top_k": 7}, console) == {"top_k": 7}
    assert capsys.readouterr().out == ""
    chosen = index._choose_system(0.01, {"top_k": 7}, console)
    assert chosen == {"top_k": 7, "system": "insgenel"}
    asked = {"system": "insgenel-r"}
    assert index._choose_system(0.01, asked, console) == asked
    assert "finds 1% of entities by their titles" in capsys.readouterr().out
