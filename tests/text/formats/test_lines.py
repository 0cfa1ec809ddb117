"""Lines of packed files, whole and damaged."""

import bz2
import gzip
import json

import pytest

from insgenel_jax.text.document import Document, dumps
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.lines import read_lines
from insgenel_jax.text.formats.rejects import Rejects


@pytest.mark.parametrize(
    ("ending", "pack"), [("", bytes), (".bz2", bz2.compress), (".gz", gzip.compress)]
)
def test_packed_files_are_unpacked(tmp_path, ending, pack):
    path = tmp_path / f"story.txt{ending}"
    path.write_bytes(pack(b"One\n\nTwo"))
    assert list(read_lines(path)) == [(1, b"One"), (2, b""), (3, b"Two")]
    assert [d.id for d in read_documents(path, Rejects())] == ["story:1", "story:2"]


@pytest.mark.parametrize("ending", [".bz2", ".gz"])
def test_a_packed_file_cut_short_gives_what_is_whole_and_a_reject(tmp_path, ending):
    lines = b"".join(
        dumps(Document(str(i), str(i * 7919 % 104_729))).encode() + b"\n"
        for i in range(10_000)
    )
    pack = {".bz2": lambda text: bz2.compress(text, 1), ".gz": gzip.compress}[ending]
    packed = pack(lines)
    path = tmp_path / f"documents.jsonl{ending}"
    path.write_bytes(packed[: len(packed) * 3 // 4])
    rejects = Rejects()
    found = list(read_documents(path, rejects))
    assert 0 < len(found) < 10_000
    assert [document.id for document in found] == [str(i) for i in range(len(found))]
    assert set(rejects.by_reason) == {"file cut short or damaged"}


def test_bytes_that_are_no_utf_8_are_kept(tmp_path):
    path, kept = tmp_path / "text.jsonl", tmp_path / "rejects.jsonl"
    line = b"caf\xe9 \xff" * 1000
    path.write_bytes(line + b"\n")
    with Rejects(kept) as rejects:
        assert list(read_documents(path, rejects)) == []
    content = json.loads(kept.read_text())["content"]
    assert content.encode("utf-8", "surrogateescape") == line
