"""Shards against reading the whole file: the same documents, ids and rejects."""

import bz2
import contextlib
import dataclasses
import errno
import gzip
import hashlib
import random
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from insgenel_jax.jobs import shards
from insgenel_jax.jobs.read import Reader, read_shard
from insgenel_jax.jobs.shards import cut_files
from insgenel_jax.text.formats import parquet
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import InputError, Rejects
from tests.helpers.fuzz import hostile_line

BLANK = (b"", b" ", b"\t\r", "\u3000".encode(), b"\xff", b"\xef\xbb\xbf", b"a\rb", b"c")
PACKERS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}


def whole(path):
    with Rejects(None) as rejects:
        return list(read_documents(path, rejects)), rejects.entries


def by_shards(path, most, limit=None, order=list):
    """What the shards hold, read in some order and put together by their numbers."""
    cut = cut_files([str(path)], None, most, limit)
    assert [shard.number for shard in cut] == list(range(len(cut)))
    found, reader = {}, Reader()
    for shard in order(cut):
        rejects = Rejects(None)
        documents = list(read_shard(str(path), None, shard, rejects, reader))
        assert len(documents) <= most
        found[shard.number] = documents, rejects.entries
    reader.close()
    parts = [found[shard.number] for shard in cut]
    return [d for ds, _ in parts for d in ds], [e for _, es in parts for e in es]


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("kind", [".jsonl", ".txt"])
def test_shards_are_the_whole_file(tmp_path, kind, ending, monkeypatch):
    """Hostile lines, blank lines of every kind; shards of one document up."""
    path = tmp_path / f"a{kind}{ending}"
    for seed in range(6):
        chance = random.Random(seed)
        lines = [chance.choice(BLANK) for _ in range(chance.randrange(30))]
        lines += [hostile_line(i).content for i in range(seed * 30, seed * 30 + 10)]
        chance.shuffle(lines)
        path.write_bytes(PACKERS[ending](b"\n".join(lines)))
        monkeypatch.setattr(shards, "MOST_BYTES", chance.choice((100, 1 << 20)))
        order = reversed if seed % 2 else list
        assert by_shards(path, chance.randrange(1, 9), order=order) == whole(path)


def test_shards_of_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    texts = [None if i % 5 == 0 else str(i) for i in range(23)]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=4)
    for most in (1, 3, 4, 100):
        assert by_shards(path, most) == whole(path)
    path.write_bytes(b"none")
    assert by_shards(path, 3)[0] == [] and len(by_shards(path, 3)[1]) == 1


@pytest.mark.parametrize("kind", ["jsonl", "txt", "parquet"])
def test_limit(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    lines = [f'{{"id": "{i}", "text": "t"}}' for i in range(10)]
    path.write_text("\n\n".join(lines) + "\n")
    if kind == "parquet":
        pq.write_table(pa.table({"text": lines}), path)
    documents, _ = whole(path)
    for limit in (1, 4, 10, 11):
        assert by_shards(path, 3, limit)[0] == documents[:limit]
    both = cut_files([str(path), str(path)], None, 3, 13)
    assert sum(shard.documents for shard in both) == 13


@pytest.mark.parametrize("ending", [".gz", ".bz2"])
def test_a_file_cut_short_gives_what_is_whole_and_a_reject(tmp_path, ending):
    chance = random.Random(0)
    text = chance.randbytes(6000).hex()  # of which bzip2 packs 900 kB at a time
    lines = [b'{"id": %d, "text": "%s"}' % (i, text.encode()) for i in range(200)]
    path = tmp_path / f"a.jsonl{ending}"
    packed = PACKERS[ending](b"\n".join(lines))
    path.write_bytes(packed[: len(packed) // 2])
    documents, rejects = by_shards(path, 10)
    assert (documents, rejects) == whole(path) and documents
    assert rejects[-1][2].startswith("file cut short or damaged")


def test_a_file_damaged_inside_gives_what_comes_before(tmp_path):
    """How much of it gzip unpacks depends on how much is asked for at a time."""
    path = tmp_path / "a.jsonl.gz"
    chance = random.Random(0)
    words = ["Paris", "Java", "Mercury", "is", "in", "the"]
    lines = [" ".join(chance.choices(words, k=30)).encode() for _ in range(1400)]
    for count in range(1000, 1400, 20):
        packer = zlib.compressobj(wbits=31)
        packed = packer.compress(b"\n".join(lines[:count]))
        path.write_bytes(packed + packer.flush(zlib.Z_FULL_FLUSH) + b"\xff" * 9)
        (shard,) = cut_files([str(path)], None, 10_000, None)
        assert "invalid block type" in shard.damage and shard.documents > count // 2
        reader = Reader()
        content = reader.read(str(path), 0, shard.end)
        assert hashlib.sha256(content).hexdigest() == shard.sha256
        reader.close()


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O"), ConnectionError("gone")])
def test_a_disk_that_fails_is_no_damaged_file(tmp_path, monkeypatch, error):
    """Or what could not be read just then would be left out for good."""

    def fail(*_, **__):
        raise error

    lines, rows = str(tmp_path / "a.jsonl"), str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["a"]}), rows)
    (shard,) = cut_files([rows], None, 10, None)
    monkeypatch.setattr(parquet, "_batches", fail)
    with pytest.raises(type(error)):
        list(read_shard(rows, None, shard, Rejects(None), Reader()))
    monkeypatch.setattr(parquet.pq, "ParquetFile", fail)
    stream = contextlib.nullcontext(map(fail, "a"))
    monkeypatch.setattr(shards.store, "open_unpacked", lambda path: stream)
    for path in (rows, lines):
        with pytest.raises(type(error)):
            cut_files([path], None, 10, None)


def test_rows_that_changed_are_refused(tmp_path):
    """Of the same number, in a file of the same size."""
    path = tmp_path / "a.parquet"
    rows = [["a", "b"], ["a", "c"]]
    contents = []
    for texts in rows:
        pq.write_table(
            pa.table({"text": texts}), path, row_group_size=1, write_statistics=False
        )
        contents.append(path.read_bytes())
    assert len(contents[0]) == len(contents[1])
    path.write_bytes(contents[0])
    first, second = cut_files([str(path)], None, 1, None)
    path.write_bytes(contents[1])
    (document,) = read_shard(str(path), None, first, Rejects(None), Reader())
    assert document.text == "a"
    with pytest.raises(InputError, match="expected the file that the job began with"):
        list(read_shard(str(path), None, second, Rejects(None), Reader()))


@pytest.mark.parametrize("kind", [".jsonl", ".jsonl.gz"])
def test_a_file_that_changed_is_refused(tmp_path, kind):
    path = tmp_path / f"a{kind}"
    pack = PACKERS[path.suffix if path.suffix in PACKERS else ""]
    path.write_bytes(pack(b'{"id": 1, "text": "a"}\n{"id": 2, "text": "b"}\n'))
    first, second = cut_files([str(path)], None, 1, None)
    path.write_bytes(pack(b'{"id": 1, "text": "a"}\n{"id": 2, "text": "c"}\n'))
    reader = Reader()
    assert list(read_shard(str(path), None, first, Rejects(None), reader))
    with pytest.raises(InputError, match="expected the file that the job began with"):
        list(read_shard(str(path), None, second, Rejects(None), reader))
    reader.close()
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InputError, match="expected the file that the job began with"):
        list(read_shard(str(path), None, second, Rejects(None), reader))
    reader.close()


def test_a_packed_file_is_unpacked_once_when_read_in_order(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": 1, "text": "a"}\n' * 50))
    cut = cut_files([str(path)], None, 10, None)
    reader = Reader()
    streams = set()
    for shard in cut:
        list(read_shard(str(path), None, shard, Rejects(None), reader))
        streams.add(id(reader._stream))
    assert len(cut) == 5 and len(streams) == 1
    list(
        read_shard(str(path), None, dataclasses.replace(cut[0]), Rejects(None), reader)
    )
    reader.close()
