"""What each source of surface forms adds, and the report that shows it."""

import pyarrow as pa
import pytest

from insgenel_jax.kb import KnowledgeBase
from insgenel_jax.kb.build import report
from insgenel_jax.kb.build.coverage import ALL, SourceRow, ambiguity, source_rows
from insgenel_jax.kb.build.tables import ENTITIES, FORMS, build_from_tables
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.rejects import Rejects

TITLES = ["Ada", "Bo", "Cat"]


def forms(*pairs):
    names, titles = zip(*pairs, strict=True)
    columns = {"form": names, "title": titles, "count": [1] * len(pairs)}
    return pa.table(columns, FORMS)


SOURCES = {
    "titles": forms(("ada", "Ada"), ("bo", "Bo"), ("cat", "Cat")),
    "redirects": forms(("puss", "Cat"), ("puss", "Gone"), ("ada", "Ada")),
    "links": forms(("bo", "Ada"), ("bo", "Cat"), ("she", "Ada")),
}
DOCUMENTS = [
    Document("1", "ada bo puss x", None, (
        Mention(0, 3, "Ada"), Mention(4, 6, "Cat"), Mention(7, 11, "Cat"),
        Mention(12, 13, "Bo"), Mention(0, 3, None), Mention(0, 3, "Gone"),
    ))
]  # fmt: skip


@pytest.fixture
def kb(tmp_path):
    columns = [TITLES, ["", "", ""], [None] * 3, [0] * 3, [0] * 3]
    entities = pa.table(dict(zip(ENTITIES.names, columns, strict=True)), ENTITIES)
    build_from_tables(tmp_path / "kb", entities, pa.concat_tables(SOURCES.values()))
    return KnowledgeBase.open(tmp_path / "kb")


def test_each_source_adds_to_those_before_it(kb):
    rows = source_rows(kb, pa.chunked_array([TITLES]), SOURCES, DOCUMENTS)
    assert rows == [
        SourceRow("titles", 3, 3, 2 / 4, 1 / 4, 1.0),
        SourceRow("redirects", 4, 4, 3 / 4, 2 / 4, 1.0),
        SourceRow("links", 5, 7, 3 / 4, 3 / 4, 5 / 3),
        SourceRow(ALL, 5, 7, 3 / 4, 3 / 4, 5 / 3),
    ]
    (first, *_) = source_rows(kb, pa.chunked_array([TITLES]), SOURCES, [])
    assert first == SourceRow("titles", 3, 3, None, None, None)
    assert dict(ambiguity(kb)) == {
        "1": 4, "2": 0, "3": 1, "4-5": 0, "6-10": 0, "11-20": 0, "21-50": 0,
        "51-100": 0, "101 or more": 0,
    }  # fmt: skip


def test_the_report_is_written_as_text_and_as_a_page(kb, tmp_path):
    rows = source_rows(kb, pa.chunked_array([TITLES]), SOURCES, DOCUMENTS)
    report.write_json(tmp_path, {"entities": 1234567}, rows, ambiguity(kb))
    rejects = Rejects()
    rejects.add("a", None, "<b>bad</b>: x", "y")
    assert report.finish(tmp_path, {"redirect pages": 5}, rejects, 1.25)
    text = (tmp_path / "report.txt").read_text()
    assert "  entities        1,234,567\n" in text
    assert "  <b>bad</b>         1\n" in text
    page = (tmp_path / "report.html").read_text()
    assert "&lt;b&gt;bad&lt;/b&gt;" in page
    assert "<b>" not in page
    assert page.count("<svg") == 2
    assert "<script" not in page
    links = next(line for line in text.split("\n") if line.startswith("  links "))
    assert links.split() == ["links", "5", "7", "75.0", "75.0", "1.67"]


def test_without_libraries_for_figures_there_is_no_page(kb, tmp_path, monkeypatch):
    def missing(record):
        raise ImportError("no matplotlib")

    report.write_json(tmp_path, {}, [], ambiguity(kb))
    monkeypatch.setattr(report, "make_page", missing)
    (tmp_path / "report.html").write_text("of an earlier run")
    assert not report.finish(tmp_path, {}, Rejects(), 0.0)
    assert (tmp_path / "report.txt").exists()
    assert not (tmp_path / "report.html").exists()
