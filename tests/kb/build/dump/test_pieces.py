"""A dump cut into pieces: whatever its packing, each page is in one of them."""

import bz2
import gzip

import pytest

from insgenel_jax.kb.build.dump import pieces
from insgenel_jax.kb.build.dump.export import cut_pages
from insgenel_jax.text.formats.rejects import Rejects

HEADER = b"<mediawiki><siteinfo></siteinfo>"
PAGES = [
    b"<page>%d" % i + bytes(range(97, 123)) * (i % 7) + b"</page>" for i in range(60)
]
XML = HEADER + b"\n".join(PAGES) + b"</mediawiki>"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 500)
    monkeypatch.setattr(pieces, "PACKED_PIECE", 200)
    monkeypatch.setattr(pieces, "_BLOCK", 64)


def read(file, rejects=None):
    rejects = rejects or Rejects()
    cut = list(pieces.cut_file(file, rejects))
    assert [piece.number for piece in cut] == list(range(len(cut)))
    pages = [p for piece in cut for p in cut_pages(*pieces.read_piece(piece, rejects))]
    assert pieces.read_header(file) == HEADER
    return len(cut), pages, [reason for _, _, reason, _ in rejects.entries]


def streams(size):
    """XML as bzip2 streams that end anywhere, also within a page or a tag."""
    return [bz2.compress(XML[i : i + size]) for i in range(0, len(XML), size)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xml", XML),
        ("a.xml.gz", gzip.compress(XML)),
        ("a.xml.bz2", bz2.compress(XML)),
        ("b.xml.bz2", b"".join(streams(37))),
        ("c.xml.bz2", b"".join(streams(400))),
    ],
)
def test_pages_do_not_depend_on_packing(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    count, pages, rejected = read(tmp_path / name)
    assert count > 2
    assert pages == PAGES
    assert not rejected


@pytest.mark.parametrize("packing", [bytes, bz2.compress])
def test_the_index_of_a_multistream_dump_is_used_if_it_fits(tmp_path, packing):
    parts = streams(400)
    offsets = [sum(map(len, parts[:i])) for i in range(len(parts))]
    file, index = tmp_path / "w.xml.bz2", tmp_path / "w-index.txt"
    if packing is bz2.compress:
        index = tmp_path / "w-index.txt.bz2"
    file.write_bytes(b"".join(parts))
    lines = [f"{offset}:{i}:Title: {i}" for offset in offsets[1::2] for i in (1, 2)]
    index.write_bytes(packing("\n".join(lines).encode()))
    assert pieces.find_streams(file, Rejects()) == [0, *offsets[1::2]]
    assert read(file)[1:] == (PAGES, [])
    index.write_bytes(packing(b"13:1:Title\nnonsense"))
    _, pages, rejected = read(file)
    assert pages == PAGES
    assert rejected == [
        "not a line of an index: expected offset:id:title",
        "index of another dump: searched the dump itself instead",
    ]


@pytest.mark.parametrize("name", ["a.xml.bz2", "a.xml.gz"])
def test_a_truncated_file_gives_what_can_be_read(tmp_path, name):
    content = (gzip if name.endswith("gz") else bz2).compress(XML)
    if name.endswith("bz2"):
        content = b"".join(streams(300))
    (tmp_path / name).write_bytes(content[: len(content) * 3 // 4])
    _, pages, rejected = read(tmp_path / name)
    good = [page for page in pages if isinstance(page, bytes)]
    assert good == PAGES[: len(good)]
    assert len(good) > 20
    assert any(reason.startswith("file cut short") for reason in rejected)


def test_a_damaged_stream_costs_its_own_pages_alone(tmp_path):
    parts = streams(300)
    parts[3] = parts[3][:40] + b"\xff" * 20 + parts[3][60:]
    file = tmp_path / "a.xml.bz2"
    file.write_bytes(b"".join(parts))
    _, pages, rejected = read(file)
    good = [page for page in pages if isinstance(page, bytes)]
    lost = [page for page in PAGES if page not in good]
    begin = XML.index(lost[0])
    assert good == [page for page in PAGES if page not in lost]
    assert 900 - len(lost[0]) < begin < 1200
    assert XML.index(lost[-1]) < 1200
    assert any(reason.startswith("bzip2 stream damaged") for reason in rejected)


def test_which_files_are_a_dump(tmp_path):
    for name in ("b.xml.bz2", "a.xml", ".c.xml", "w-index.txt.bz2", "wiki_00"):
        (tmp_path / name).write_bytes(b"")
    found = [file.name for file in pieces.dump_files(tmp_path)]
    assert found == ["a.xml", "b.xml.bz2"]
    assert pieces.dump_files(tmp_path / "wiki_00") == []
    assert pieces.find_streams(tmp_path / "b.xml.bz2", Rejects()) == []
