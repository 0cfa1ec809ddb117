"""Parquet: documents there and back, rows that are none, files that are none."""

import dataclasses
import datetime
import decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from insgenel_jax.text.document import Candidate, Document, Mention
from insgenel_jax.text.formats.documents import read_documents, write_documents
from insgenel_jax.text.formats.parquet import open_parquet, read_rows
from insgenel_jax.text.formats.rejects import Rejects

LINKED = Mention(0, 5, "Paris", "Q90", 0.75, (Candidate("Paris, Texas", 0.25),), 0.0)


def read(path):
    with Rejects(None) as rejects:
        return list(read_documents(path, rejects)), rejects.entries


def test_documents_there_and_back(tmp_path):
    """Further fields come back as JSON; more rows than are written at a time."""
    path = tmp_path / "a.parquet"
    documents = [
        Document("0", "Paris \U0001f680\0", "T", (LINKED, Mention(1, 2, None)))
    ]
    documents += [Document(str(i), "") for i in range(1, 2001)]
    documents[7] = dataclasses.replace(documents[7], extra={"x": ["\ud800"]})
    assert write_documents(path, documents) == 2001
    found, rejected = read(path)
    assert found == documents and not rejected
    assert found[7].extra == {"extra": '{"x": ["\\ud800"]}'}
    before = path.read_bytes()
    write_documents(path, documents)
    assert path.read_bytes() == before


def test_rows_without_ids_and_of_any_kind(tmp_path):
    path = tmp_path / "name.parquet"
    day = datetime.date(1843, 5, 1)
    columns = {
        "text": ["a", None, "b"],
        "day": [day, None, day],
        "more": [{"x": [b"\xff"], "y": float("nan")}, None, None],
        "price": [decimal.Decimal("1.50")] * 3,
    }
    pq.write_table(pa.table(columns), path)
    found, rejected = read(path)
    assert [(d.id, d.text) for d in found] == [("name:1", "a"), ("name:3", "b")]
    (first, _) = found
    assert first.extra == {
        "day": "1843-05-01",
        "more": {"x": ["\\xff"], "y": None},
        "price": "1.50",
    }
    ((_, row, reason, _),) = rejected
    assert row == 2 and reason.startswith("not a document: text: expected a string")


def test_text_that_is_no_utf8_is_one_rejected_row(tmp_path):
    path = tmp_path / "a.parquet"
    bad = pa.array([b"a", b"\xff", b"c"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": bad, "id": [1, 2, 3]}), path)
    found, rejected = read(path)
    assert [d.id for d in found] == ["1", "3"]
    assert [row for _, row, _, _ in rejected] == [2]


@pytest.mark.parametrize("rows", [(0, 10), (3, 4), (2, 9), (4, 4), (9, 10)])
def test_some_rows_of_several_groups(tmp_path, rows):
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [str(i) for i in range(10)]})
    pq.write_table(table, path, row_group_size=3)
    with path.open("rb") as file:
        found = list(read_rows(open_parquet(file), path, *rows, Rejects(None)))
    assert [d.id for d in found] == [f"a:{i + 1}" for i in range(*rows)]


def test_files_that_are_none(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 and no more")
    assert read(path)[0] == [] and "not Parquet" in read(path)[1][0][2]
    pq.write_table(pa.table({"body": ["a"]}), path)
    assert read(path)[0] == [] and "found body" in read(path)[1][0][2]
    table = pa.table({"text": [f"{i} word" * 50 for i in range(2000)]})
    pq.write_table(table, path, row_group_size=1000, compression="zstd")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :][:3000] = b"x" * 3000
    content[len(content) * 6 // 10 : len(content) * 6 // 10 + 3000] = b"x" * 3000
    path.write_bytes(content)
    found, rejected = read(path)
    assert 0 < len(found) < 2000  # what is whole before the damage
    assert len(rejected) == 1 and rejected[0][1] == len(found) + 1
    assert rejected[0][2].startswith("cannot be read: rows")
