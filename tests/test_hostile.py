"""Hostile documents and tampered artifacts by chance: nothing lost, nothing let in."""

import json
import shutil

import pytest

from insgenel_jax import artifact
from insgenel_jax.jobs.run import run_job
from insgenel_jax.linker import Linker
from insgenel_jax.linker.files import link_file
from insgenel_jax.text.formats.rejects import Rejects
from tests.helpers.fuzz import hostile_line, tamper
from tests.helpers.marks import slow

LOUD = {"mention_bias": 1000.0, "retrieval": "rank"}  # links wherever it can


def link_whole(linker_path, source):
    """A file as one output: its rows, and the numbers of the rejected lines."""
    linker, out = Linker.from_pretrained(linker_path, **LOUD), source.with_name("out")
    with Rejects(None) as rejects:
        link_file(linker, source, out, rejects)
    written = [json.loads(line) for line in out.read_bytes().split(b"\n")[:-1]]
    return written, {number for _, number, _, _ in rejects.entries}


def link_parts(linker_path, source):
    """The same of a batch job."""
    out = source.with_name("out")
    run_job(linker_path, [str(source)], str(out), settings=LOUD)
    rows, rejects = (
        [
            json.loads(line)
            for part in sorted(out.glob(f"{kind}-*.jsonl"))
            for line in part.read_bytes().split(b"\n")[:-1]
        ]
        for kind in ("part", "rejects")
    )
    return rows, {entry["line"] for entry in rejects}


@pytest.mark.parametrize(
    ("seeds", "link"), [(range(40), link_whole), slow(range(10_000), link_parts)]
)
def test_hostile_documents(linker_path, tmp_path, seeds, link):
    """Each line is an output or a reject; what was good comes back whole, in order."""
    lines = [hostile_line(seed) for seed in seeds]
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"\n".join(line.content for line in lines))
    written, rejected = link(linker_path, source)
    rows = iter(written)
    for number, line in enumerate(lines, 1):
        if number in rejected:
            assert line.record is None, (seeds[number - 1], line)
            continue
        row = next(rows)
        check_links(row)
        if not line.unsure:
            assert line.record is not None, (seeds[number - 1], line)
            assert {k: v for k, v in row.items() if k != "mentions"} == {
                k: v for k, v in line.record.items() if k != "mentions"
            }
    assert next(rows, None) is None and len(written) > len(seeds) // 2
    assert sum(len(row["mentions"]) for row in written) > len(seeds) // 10


def check_links(row):
    reached = 0
    for mention in row["mentions"]:
        assert reached <= mention["start"] < mention["end"] <= len(row["text"])
        assert isinstance(mention["entity"], str) and 0 <= mention["score"] <= 1
        reached = mention["end"]


@pytest.mark.parametrize("seeds", [range(25), slow(range(1000))], ids=len)
def test_tampered_artifacts(linker_path, tmp_path, seeds):
    """Nothing is opened under verify that differs from what was made."""
    folder = tmp_path / "linker"
    shutil.copytree(linker_path, folder)
    made = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    manifests = {
        p.parent: artifact.read(p.parent) for p in made if p.name == artifact.MANIFEST
    }
    for seed in seeds:
        undo = tamper(folder, seed)
        now = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        try:
            Linker.from_pretrained(folder, verify=True)
        except (ValueError, OSError):
            pass
        else:  # the same content, or white space of a manifest
            differing = {p for p in {*made, *now} if made.get(p) != now.get(p)}
            assert {p.name for p in differing} <= {artifact.MANIFEST}, seed
            assert {p: artifact.read(p) for p in manifests} == manifests, seed
        undo()
    Linker.from_pretrained(folder, verify=True)
