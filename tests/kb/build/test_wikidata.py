"""Wikidata's ids from a page_props dump and from a table."""

import gzip

import pytest

from insgenel_jax.kb.build.wikidata import NO_IDS, read_wikidata_ids
from insgenel_jax.text.formats.rejects import InputError, Rejects

# Rows of a line; a value looks like a row, and another ends in a backslash.
VALUES = [
    rb"(9,'wikibase_item','Q90',NULL),(5,'page_image','a.jpg',NULL)",
    rb"(5,'wikibase_item','Q50',NULL),(8,'disambiguation','',NULL)",
    rb"(5,'displaytitle','It\'s (7,\'wikibase_item\',\'Q7\',NULL)',NULL)",
    rb"(3,'wikibase_item','nonsense',NULL),(2,'disambiguation','x\\',NULL)",
]
SQL = b"CREATE TABLE `page_props` (\n" + b"".join(
    b"INSERT INTO `page_props` VALUES %s;\n" % line
    for line in (VALUES[0], b",".join(VALUES[1:]))
)


def test_ids_of_pages_and_titles(tmp_path):
    sql, table = tmp_path / "p.sql.gz", tmp_path / "t.tsv"
    sql.write_bytes(gzip.compress(SQL + b"\xff\xfe"))
    table.write_text("cat\tQ146\ndog\tP31\ncat\tQ1\nEi\tQ0\n")
    rejects = Rejects()
    ids = read_wikidata_ids(sql, table, rejects)
    assert ids.disambiguation.tolist() == [2, 8]
    titles, pages = ["A", "Cat", "Cat", "B", "C", "D"], ["9", "5", None, "7", "x", ""]
    assert ids.of(titles, pages) == ["Q90", "Q50", "Q146", None, None, None]
    assert NO_IDS.of(titles, pages) == [None] * 6
    assert [line for _, line, _, _ in rejects.entries] == [2, 3, 4]


def test_a_dump_cut_short_is_read_as_far_as_it_goes(tmp_path):
    sql = tmp_path / "p.sql.gz"
    sql.write_bytes(gzip.compress(SQL * 500)[:-12])
    rejects = Rejects()
    assert read_wikidata_ids(sql, None, rejects).of(["A"], ["9"]) == ["Q90"]
    assert rejects.by_reason == {"file cut short or damaged": 1}


def test_another_file_is_refused(tmp_path):
    sql = tmp_path / "p.sql"
    sql.write_text("INSERT INTO `page` VALUES (1,0,'A');\n")
    with pytest.raises(InputError, match="expected rows of `page_props`"):
        read_wikidata_ids(sql, None, Rejects())
