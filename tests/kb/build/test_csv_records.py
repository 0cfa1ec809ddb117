"""CSV files with quotes out of place."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insgenel_jax.kb.build.csv_records import read_csv
from insgenel_jax.text.formats.rejects import InputError, Rejects


def read_titles(path):
    rejects = Rejects()
    return [record["title"] for _, record, _ in read_csv(path, rejects)], rejects


HEADER = "id,title,description,colour"
OPEN_QUOTES = {
    # an open quote that closes where the next one opens
    '2,"Bo,d\n3,Cy,d\n4,"Di, Jr",d': ([2], ["Cy", "Di, Jr"]),
    # one that never closes, one that closes far below
    '2,Bo,"d\n3,Cy,""\n4,Di,d': ([2], ["Cy", "Di"]),
    '2,Bo,"d\n' + "3,Cy,d\n" * 100 + '"': ([2, 103], ["Cy"] * 100),
    # two wrong quotes that make a field together
    '2,"Bo\n3,Cy,d\n4,Di",d': ([2, 4], ["Cy"]),
    '2,"Bo\n3,Cy\n4,Di"': ([2, 4], ["Cy"]),
    '2,Bo,"d\n3,Cy,d\n4,Di"': ([2, 4], ["Cy"]),
    '"': ([2], []),
}


@pytest.mark.parametrize("rows", OPEN_QUOTES)
def test_an_open_quote_loses_its_own_line_alone(tmp_path, rows):
    path = tmp_path / "list.csv"
    path.write_text(f"{HEADER}\n{rows}\n5,Last,d\n")
    titles, rejects = read_titles(path)
    lines, expected = OPEN_QUOTES[rows]
    assert titles == [*expected, "Last"]
    assert [line for _, line, _, _ in rejects.entries] == lines
    broken = rejects.entries[0]
    assert broken[3] == rows.split("\n")[0] and "\n" not in broken[3]


@settings(deadline=None)
@given(st.text('a,"\n', max_size=60))
def test_every_line_is_in_a_record_or_rejected(tmp_path_factory, body):
    """The lines of good records, rejected lines and empty lines are all there are."""
    path = tmp_path_factory.mktemp("csv") / "list.csv"
    path.write_text(f"title,description\n{body}")
    rejects = Rejects()
    taken = set()
    for line, _, raw in read_csv(path, rejects):
        taken |= set(range(line, line + raw.count("\n") + 1))
    rejected = {line for _, line, _, _ in rejects.entries}
    lines = dict(enumerate(body.split("\n"), 2))
    empty = {number for number, line in lines.items() if not line}
    assert not taken & rejected
    assert taken | rejected | empty == set(lines)


def test_a_description_may_be_long(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(f'title,description\na,"{"x" * 1_000_000}"\n')
    titles, rejects = read_titles(path)
    assert titles == ["a"] and not rejects.entries


def test_a_header_is_one_line_with_each_column_once(tmp_path):
    path = tmp_path / "list.csv"
    for header in ('title,"id\n"', "title,title", '"title', "\0"):
        path.write_text(f"{header}\nAda,1\n")
        with pytest.raises(InputError, match="line 1: expected a header"):
            read_titles(path)
    path.write_text("name,id\nAda,1\n")
    with pytest.raises(InputError, match=r"title.*\['name', 'id'\]"):
        read_titles(path)
    path.write_text("")
    with pytest.raises(InputError, match="line 1"):
        read_titles(path)


def test_lines_that_are_no_csv_or_no_text_are_rejected(tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(b'title\nAda\n"a" b\n\xff\nBo\n')
    titles, rejects = read_titles(path)
    assert titles == ["Ada", "Bo"]
    assert [line for _, line, _, _ in rejects.entries] == [3, 4]
    assert set(rejects.by_reason) == {"not CSV", "not UTF-8"}
