"""A file of rejects is created with the first entry and never left from before."""

import json
import os

import pytest

from insgenel_jax.text.formats.rejects import InputError, Rejects


def test_a_file_is_created_with_the_first_entry_and_removed_before(tmp_path):
    path = tmp_path / "rejects.jsonl"
    with Rejects(path) as rejects:
        rejects.add("here", None, "odd: 7", "\ud800")
    assert json.loads(path.read_text())["content"] == "\ud800"
    with Rejects(path):
        pass
    assert not path.exists()


def test_without_a_file_the_entries_are_kept():
    rejects = Rejects()
    rejects.add("here", 3, "odd: 7", "text")
    assert rejects.entries == [("here", 3, "odd: 7", "text")]


def test_a_file_of_anything_else_stays(tmp_path):
    path = tmp_path / "notes"
    for content in (
        b"mine\n",
        b'{"id": 1, "text": "Paris"}\n',
        b"[" * 100_000,
        b"\xff",
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match="notes: expected a new file for rejects"):
            Rejects(path)
        assert path.read_bytes() == content
    path.write_bytes(b"")
    Rejects(path)
    os.mkfifo(tmp_path / "pipe")
    Rejects(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_all_of_the_input_is_kept(tmp_path):
    path = tmp_path / "rejects.jsonl"
    with Rejects(path) as rejects:
        rejects.add("-", 1, "odd", "x" * 10_000 + "y")
        assert path.read_text().endswith("}\n")  # at once: a kill loses none
    assert json.loads(path.read_text())["content"] == "x" * 10_000 + "y"


def test_notes_are_no_rejects(tmp_path):
    """They are written down and counted apart."""
    path = tmp_path / "rejects.jsonl"
    with Rejects(path) as rejects:
        rejects.add("a", 1, "title taken: made 'Ada (2)'", "Ada")
        rejects.add("a", 2, "anchor refused: empty name", "<a>")
        rejects.add("a", 3, "anchor refused: over-long name", "<a>")
    assert rejects.notes == {"title taken": 1, "anchor refused": 1}
    assert rejects.by_reason == {"anchor refused": 1} and rejects.count == 1
    assert len(path.read_text().splitlines()) == 3
