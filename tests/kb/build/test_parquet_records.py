"""Entity lists in Parquet."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from insgenel_jax.kb import Entity
from insgenel_jax.kb.build.entity_list import read_entities
from insgenel_jax.text.formats.rejects import InputError, Rejects


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def read(path):
    rejects = Rejects()
    listed = [
        (entity, names, line) for entity, names, line in read_entities(path, rejects)
    ]
    return listed, [
        (line, reason.split(":")[0]) for _, line, reason, _ in rejects.entries
    ]


@pytest.mark.parametrize(
    "aliases", [[["A", "B"], None, [], None], ["A|| B", "", None, ""]]
)
def test_rows_are_entities(tmp_path, aliases):
    path = write(
        tmp_path / "list.parquet",
        Title=["Ada", None, "Bo", "Cy"],
        id=[1, 2, 1, None],
        description=["x" * 1_000_000, None, None, "d"],
        aliases=aliases,
        colour=["red", "blue", None, "x"],
    )
    listed, rejected = read(path)
    (ada, names, line), cy = listed
    assert (ada.title, ada.external_id, len(ada.description)) == ("Ada", "1", 1_000_000)
    assert ([name.strip() for name in names], line) == (["A", "B"], 1)
    assert cy == (Entity("Cy", "d"), (), 4)
    assert rejected == [(2, "bad title"), (3, "id taken by an earlier entity")]


def test_only_a_title_is_needed(tmp_path):
    path = write(tmp_path / "list.parquet", title=pa.array(["Ada"]).dictionary_encode())
    assert read(path) == ([(Entity("Ada"), (), 1)], [])


@pytest.mark.parametrize(
    "columns", [{"name": ["Ada"]}, {"title": ["a"], "Title": ["b"]}]
)
def test_missing_columns(tmp_path, columns):
    path = write(tmp_path / "list.parquet", **columns)
    with pytest.raises(InputError, match="expected the columns id, title"):
        read(path)


def test_what_is_no_parquet(tmp_path):
    path = tmp_path / "list.parquet"
    with pytest.raises(FileNotFoundError):
        read(path)
    path.write_text("title")
    with pytest.raises(InputError, match="expected a Parquet file"):
        read(path)


def test_a_damaged_part_goes_to_the_rejects(tmp_path):
    path = tmp_path / "list.parquet"
    titles = [f"Entity {i} {i * 7919 % 1000003}" for i in range(30_000)]
    pq.write_table(pa.table({"title": titles}), path, row_group_size=10_000)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20_000] = bytes(20_000)
    path.write_bytes(content)
    listed, rejected = read(path)
    assert 10_000 <= len(listed) < 30_000
    assert rejected == [(len(listed) + 1, "file cut short or damaged")]
