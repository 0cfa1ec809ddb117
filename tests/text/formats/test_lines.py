"""Lines of packed files, whole and damaged."""

import bz2
import gzip
import io
import json
import sys
from types import SimpleNamespace

import pytest

from insgenel_jax.text.document import Document, dumps
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.lines import Place, read_lines, write_lines
from insgenel_jax.text.formats.rejects import Rejects


@pytest.mark.parametrize(
    ("ending", "pack"), [("", bytes), (".bz2", bz2.compress), (".gz", gzip.compress)]
)
def test_packed_files_are_unpacked(tmp_path, ending, pack):
    path = tmp_path / f"story.txt{ending}"
    path.write_bytes(pack(b"One\n\nTwo"))
    assert list(read_lines(path)) == [(1, b"One"), (2, b""), (3, b"Two")]
    assert [d.id for d in read_documents(path, Rejects())] == ["story:1", "story:2"]


@pytest.mark.parametrize("size", [0, 3, 100_000])
def test_standard_input_may_be_packed_with_gzip(monkeypatch, size):
    lines = [b"%d" % (i * 7919) for i in range(size)]
    whole = b"".join(line + b"\n" for line in lines)
    half = len(whole) // 2
    for sent in (whole, gzip.compress(whole[:half]) + gzip.compress(whole[half:])):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(sent)))
        assert [line for _, line in read_lines("-")] == lines


def test_the_place_in_a_file_is_known(tmp_path):
    path, packed = tmp_path / "a", tmp_path / "a.gz"
    path.write_bytes(b"One\nTwo\n")
    packed.write_bytes(gzip.compress(b"One\nTwo\n"))
    place = Place()
    assert [place.bytes for _ in read_lines(path, place)] == [4, 8]
    assert [place.bytes for _ in read_lines(packed, place)][-1] == packed.stat().st_size


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


@pytest.mark.parametrize("ending", [".gz", ".bz2", ""])
def test_lines_are_packed_where_the_name_says_so(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    contents = []
    for _ in range(2):
        assert write_lines(path, ["One", "\u6771\u4eac", ""]) == 3
        contents.append(path.read_bytes())
    assert [line for _, line in read_lines(path)] == [
        b"One",
        "\u6771\u4eac".encode(),
        b"",
    ]
    assert contents[0] == contents[1] and (contents[0][:3] == b"One") == (not ending)
