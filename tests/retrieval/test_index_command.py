"""The entry point: a knowledge base and a retriever in, an index that fits them out."""

import typer
from typer.testing import CliRunner

from insgenel_jax import artifact, index
from insgenel_jax.formats import Rejects
from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.entity_list import build_from_entities
from insgenel_jax.retrieval.embed import Retriever
from insgenel_jax.retrieval.index import open_index
from tests.retrieval.test_embed import write_retriever


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


def test_index_and_linker(tmp_path, monkeypatch):
    kb, retriever = make_kb(tmp_path / "kb"), write_retriever(tmp_path / "retriever")
    out = tmp_path / "new folder" / "index"
    assembled = []
    monkeypatch.setattr(
        "insgenel_jax.linker.assemble", lambda *a, **k: assembled.append((a, k))
    )
    parts = ("--kb", kb, "--retriever", retriever, "--out", out)
    result = run(
        *parts,
        *("--generator", tmp_path, "--linker", tmp_path / "linker"),
        *("--set", "top_k=7", "--set", "scope=window"),
    )
    assert result.exit_code == 0, (result.output, result.exception)
    opened = open_index(out, verify=True)
    assert opened.made_from == {
        "knowledge-base": KnowledgeBase.open(kb).identity,
        "retriever": artifact.identity(retriever),
    }
    assert (opened.entities, opened.dim, opened.method) == (3, 24, "exact")
    assert list(out.parent.iterdir()) == [out]  # nothing left beside it
    # what it finds is what the two models say
    model = Retriever.load(retriever)
    queries = model.embed_windows(["the planet", "queen of york"])
    entities = model.embed_entities(KnowledgeBase.open(kb)).read().result()
    scores = queries @ entities.astype("float32").T
    ids, _ = opened.search(queries, 3)
    assert ids.tolist() == (-scores).argsort(1).tolist()
    ((path,), kept) = assembled[0]
    assert path == tmp_path / "linker"
    assert kept == {
        "generator": tmp_path,
        "retriever": retriever,
        "kb": kb,
        "index": out,
        "settings": {"top_k": 7, "scope": "window"},
    }
    before = artifact.identity(out)
    assert run(*parts).exit_code == 0
    assert artifact.identity(out) == before


def test_bad_options(tmp_path):
    parts = ("--kb", tmp_path, "--retriever", tmp_path, "--out", tmp_path / "index")
    result = run(*parts, "--linker", tmp_path / "linker")
    assert result.exit_code == 2 and "--generator" in result.output


def test_sample_windows(tmp_path):
    kb = KnowledgeBase.open(make_kb(tmp_path / "kb"))
    texts = index.sample_windows(kb, 5, 10)
    assert sorted(texts) == ["A band of Freddie Mercury", "The smallest planet of many"]
    assert len(index.sample_windows(kb, 5, 1)) == 1
