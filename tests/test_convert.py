"""The entry point: a file in one format in, one in another out."""

import typing
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from insgenel_jax import convert
from insgenel_jax.kb import Entity
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats import documents
from insgenel_jax.text.formats.documents import read_documents, write_documents
from insgenel_jax.text.formats.rejects import Rejects

TOKENS = "-DOCSTART- (1)\nAnn\tB\tAnn\tAnn_Lee\nis\nin\nBern\tB\tBern\tBern\n\nBad\tI\n"


def run(*arguments):
    app = typer.Typer()
    app.command()(convert.main)
    runner = CliRunner(env={"COLUMNS": "200"})
    return runner.invoke(app, [str(a) for a in arguments])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in.conll").write_text(TOKENS)
    Path("ids.tsv").write_text("Ann L.\tQ1\n")
    Path("redirects.tsv").write_text("Ann Lee\tAnn L.\n")


def test_ids_come_from_tables_and_a_knowledge_base():
    with Rejects() as rejects:
        listed = [(Entity("Bern", external_id="Q70"), [])]
        build_from_entities(Path("kb"), listed, rejects)
    names = ("--ids", "ids.tsv", "--redirects", "redirects.tsv", "--kb", "kb")
    result = run("in.conll", "out.ttl", *names)
    assert result.exit_code == 3, (result.output, result.exception)
    assert "1 rejected, see out.ttl.rejects.jsonl: not a mention (1)" in result.output
    expected = Document(
        "1",
        "Ann is in Bern\nBad",
        None,
        (Mention(0, 3, "Ann Lee", "Q1"), Mention(10, 14, "Bern", "Q70")),
    )
    assert list(read_documents("out.ttl", Rejects())) == [expected]
    for name in ("out.jsonl", "out.linked_articles.jsonl"):
        result = run("out.ttl", name, *names)
        assert result.exit_code == 0, (result.output, result.exception)
    assert list(read_documents("out.jsonl", Rejects())) == [expected]
    assert run("out.linked_articles.jsonl", "-", *names).exit_code == 0


def test_the_names_of_formats():
    """Those of the options are those of the table."""
    read = {name for name, how in documents.FORMATS.items() if how.read}
    assert {*typing.get_args(documents.FormatName)} == read
    written = {name for name, how in documents.FORMATS.items() if how.written}
    assert {*typing.get_args(documents.WrittenName)} == written


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.ttl.gz", "nif"),
        ("a.benchmark.jsonl", "elevant"),
        ("a.jsonl", "jsonl"),
        ("-", "jsonl"),
        ("a.txt.bz2", "text"),
        ("AIDA-YAGO2-dataset.tsv", "aida"),
        ("a.pubtator", "pubtator"),
        ("a.html", "jsonl"),  # which is only written
    ],
)
def test_endings(name, format):
    assert documents.find_format(name) == format


def test_a_format_that_is_only_read():
    assert documents.find_format("out.txt", written=True) == "jsonl"
    with pytest.raises(ValueError, match="'html', 'jsonl'\\], found 'aida'"):
        write_documents("out", [], format="aida")
    with pytest.raises(ValueError, match="format: expected one of"):
        next(read_documents("in.conll", Rejects(), format="brat"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nowhere", "out.jsonl"], "nowhere"),
        (["in.conll", "in.conll"], "apart from in.conll"),
        (["in.conll", "out", "--redirects", "redirects.tsv"], "--ids"),
        (["in.conll", "out", "--kb", "nowhere"], "nowhere"),
    ],
)
def test_wrong_arguments(arguments, named):
    result = run(*arguments)
    assert result.exit_code == 2 and named in result.output
