"""Inputs on disk and in a bucket; files that appear there whole."""

import errno
from pathlib import Path

import pytest

from insgenel_jax.jobs import claim, store
from insgenel_jax.jobs.inputs import find_files, is_several
from insgenel_jax.jobs.job import part_ending
from insgenel_jax.text.formats.rejects import InputError


def fill(folder):
    for name in ("b.jsonl", "a.txt", "c/d.parquet", "e.jsonl.gz", "_x.jsonl", "z.csv"):
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"{}\n")
    (folder / ".hidden").mkdir()
    (folder / ".hidden/a.jsonl").touch()


def names(found, folder):
    return [file.removeprefix(f"{folder}/") for file in found]


def test_folders_globs_and_files(tmp_path, monkeypatch):
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    every = ["a.txt", "b.jsonl", "c/d.parquet", "e.jsonl.gz"]
    assert names(find_files(["."], None), tmp_path) == every
    assert names(find_files([str(tmp_path)], "text"), tmp_path) == [*every, "z.csv"]
    assert names(find_files(["*.jsonl*", "**/*.parquet"], None), tmp_path) == [
        "_x.jsonl",
        "b.jsonl",
        "e.jsonl.gz",
        "c/d.parquet",
    ]
    assert names(find_files(["b.jsonl", "./b.jsonl", "a.txt"], None), tmp_path) == [
        "b.jsonl",
        "a.txt",
    ]
    assert is_several(".") and is_several("*") and not is_several("b.jsonl")
    Path("[x].jsonl").touch()
    assert names(find_files(["[x].jsonl"], None), tmp_path) == ["[x].jsonl"]
    for wrong in ("no", "*.no", "c/*.jsonl"):
        with pytest.raises(InputError, match="expected files of documents"):
            find_files([wrong], None)


def test_packings_that_are_not_read_are_not_passed_over(tmp_path):
    """In a folder they would be left out, and as lines they would all be rejected."""
    fill(tmp_path)
    other = tmp_path / "c" / "g.jsonl.zst"
    other.touch()
    for path in (tmp_path, other):
        with pytest.raises(InputError, match="g.jsonl.zst: expected .* found .zst"):
            find_files([str(path)], None)
    with pytest.raises(InputError, match="x.jsonl.zst: expected parts"):
        part_ending("x.jsonl.zst", None)


def test_buckets(bucket):
    fill(bucket)
    at = "gs://bucket"
    every = ["a.txt", "b.jsonl", "c/d.parquet", "e.jsonl.gz"]
    assert names(find_files([at], None), at) == every
    assert names(find_files([f"{at}/*.jsonl"], None), at) == ["_x.jsonl", "b.jsonl"]
    assert find_files([f"{at}/b.jsonl"], None) == [f"{at}/b.jsonl"]
    with pytest.raises(InputError, match="expected files"):
        find_files([f"{at}/no"], None)
    with pytest.raises(InputError, match="insgenel_jax\\[buckets\\]"):
        find_files(["nowhere://a"], None)


def test_what_is_written_appears_whole(bucket, tmp_path):
    """Or not at all; what was there stays. Nothing is left beside it."""

    def fail(stream):
        stream.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    for path, place in (
        ("gs://bucket/a", bucket / "a"),
        (tmp_path / "b", tmp_path / "b"),
    ):
        with pytest.raises(OSError, match="No space"):
            store.write_whole(path, fail)
        assert not place.exists() and store.file_size(path) is None
        facts = store.write_whole(path, lambda stream: stream.write(b"whole"))
        with pytest.raises(OSError, match="No space"):
            store.write_whole(path, fail)
        assert place.read_bytes() == b"whole" and store.file_size(path) == 5
        assert store.hash_at(path) == facts["sha256"] and facts["bytes"] == 5
        store.write_json(path, {"a": [1]})
        assert store.read_json(path) == {"a": [1]}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "bucket"]


def test_a_claim_on_a_bucket(bucket, monkeypatch):
    """It says who has it; a killed holder's is void after a while."""
    clock = [1000.0]
    monkeypatch.setattr(claim.time, "time", lambda: clock[0])
    with claim.hold("gs://bucket/out", 0, 1):
        with pytest.raises(InputError, match=r"in use by process \d+ on .* 7 s ago"):
            clock[0] += 7
            with claim.hold("gs://bucket/out", 0, 1):
                pass
        with claim.hold("gs://bucket/out", 1, 2):  # another slice
            pass
        clock[0] += claim.STALE
        with claim.hold("gs://bucket/out", 0, 1):
            pass
    assert not [p for p in (bucket / "out").rglob("*") if p.is_file()]
