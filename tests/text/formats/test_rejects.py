"""A file of rejects is created with the first entry and never left from before."""

import json

from insgenel_jax.text.formats.rejects import Rejects


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
