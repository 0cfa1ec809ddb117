"""Jobs in this process: parts, restarts, refusals, stops, and all that goes wrong."""

import errno
import json
import shutil
import threading

import pytest

from insgenel_jax import lock
from insgenel_jax.jobs import part, run, store, workers
from insgenel_jax.jobs.run import How, run_job
from insgenel_jax.linker import Linker
from insgenel_jax.linker.files import link_file
from insgenel_jax.stopping import Stopped, StopRequests
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.documents import read_documents, write_documents
from insgenel_jax.text.formats.rejects import InputError, Rejects

LOUD = {"mention_bias": 1000.0}
COUNT = 23


@pytest.fixture(scope="module")
def opened(linker_path):
    return Linker.from_pretrained(linker_path, **LOUD)


@pytest.fixture
def here(opened, tmp_path, monkeypatch):
    """A folder with two files, 23 documents and a bad line; the linker is open."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Linker, "from_pretrained", lambda *_, **__: opened)
    folder = tmp_path / "in"
    folder.mkdir()
    names = ("Paris", "Java and Paris", "", "Mercury")
    documents = [Document(str(i), f"{names[i % 4]} {i}") for i in range(COUNT)]
    write_documents(folder / "a.jsonl.gz", documents[:16])
    write_documents(folder / "b.jsonl", documents[16:])
    with (folder / "b.jsonl").open("a") as file:
        file.write("{\n")
    (folder / "README.md").write_text("no documents")
    return tmp_path


def link(linker_path, output="out", inputs=("in",), documents=4, **options):
    options = {"settings": LOUD, **options}
    return run_job(linker_path, inputs, output, documents=documents, **options)


def files(folder):
    """The parts and rejects of a job: name -> content."""
    paths = sorted(folder.glob("*-*.jsonl"))
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.slow
def test_parts_in_order_are_the_whole_output(here, linker_path):
    """Links of every document as if it were linked alone; the summary; the progress."""
    seen = []
    summary = link(linker_path, watch=seen.append)
    made = files(here / "out")
    assert list(made) == [
        *(f"part-{n:06}.jsonl" for n in range(6)),
        "rejects-000005.jsonl",
    ]
    rejected = json.loads(made.pop("rejects-000005.jsonl"))
    assert rejected["source"] == str(here / "in/b.jsonl") and rejected["line"] == 8
    linker, rejects = Linker.from_pretrained(), Rejects(None)
    for name in ("a.jsonl.gz", "b.jsonl"):
        link_file(linker, here / "in" / name, here / f"{name}.out", rejects)
    expected = (here / "a.jsonl.gz.out").read_text() + (
        here / "b.jsonl.out"
    ).read_text()
    found = [json.loads(line) for line in b"".join(made.values()).splitlines()]
    expected = [json.loads(line) for line in expected.splitlines()]
    assert len(found) == len(expected) == COUNT
    for one, other in zip(found, expected, strict=True):
        scores = [
            [mention.pop("score") for mention in row["mentions"]]
            for row in (one, other)
        ]
        assert one == other and scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert summary.documents == summary.linked == COUNT and summary.rejects == 1
    assert summary.reasons == {"not JSON": 1} and summary.shards == 6
    links = sum(len(row["mentions"]) for row in found)
    assert summary.stats["links"] == links == seen[-1].links > 0
    last = seen[-1]
    assert (last.done, last.documents) == (24, 24) and last.shards_done == 6
    assert last.rate > 0 and last.left == 0 and seen[0].left > 0


def test_a_restart_links_what_is_missing_and_reads_nothing_else(
    here, linker_path, monkeypatch
):
    link(linker_path)
    made, out = files(here / "out"), here / "out"
    (here / "in/b.jsonl").write_bytes(b"x" * (here / "in/b.jsonl").stat().st_size)
    with monkeypatch.context() as patch:
        patch.setattr(run, "open_alone", None)  # nothing is opened
        summary = link(linker_path)
        assert (summary.skipped, summary.linked) == (6, 0)
        assert summary.documents == COUNT and summary.stats["links"] > 0
    (out / "part-000001.json").unlink()
    (out / "part-000002.jsonl").write_bytes(b"cut short")
    (out / "part-000003.jsonl").unlink()
    (out / "part-000000.json").write_text('{"documents": 4}')
    summary = link(linker_path)
    assert (summary.skipped, summary.linked, summary.documents) == (2, 16, COUNT)
    assert summary.redone.keys() == {0, 2, 3} and files(out) == made
    assert "expected" in summary.redone[2] and "found nothing" in summary.redone[3]
    content = made["part-000001.jsonl"]
    (out / "part-000001.jsonl").write_bytes(content.replace(b"P", b"Q"))
    assert not link(linker_path).redone
    assert link(linker_path, how=How(verify=True)).redone.keys() == {1}
    assert files(out) == made
    (out / "part-000005.jsonl").unlink()  # of the file that changed
    with pytest.raises(InputError, match="found another"):
        link(linker_path)


REFUSED = [
    ({"settings": {**LOUD, "threshold": 0.5}}, r"threshold: 0\S+ then, 0.5 now"),
    ({"settings": {}}, "mention_bias"),
    ({"documents": 5}, "documents: 4 then, 5 now"),
    ({"limit": 3}, "limit: None then, 3 now"),
    ({"given": True}, "given: False then, True now"),
    ({"output_format": "parquet"}, "parts: '.jsonl' then, '.parquet' now"),
    ({"inputs": ["in/b.jsonl"]}, "a.jsonl.gz is missing"),
    ({"inputs": ["in/b.jsonl", "in/a.jsonl.gz"]}, "another order"),
]


def test_other_settings_and_inputs_are_refused(here, linker_path):
    link(linker_path)
    before = files(here / "out")
    for change, named in REFUSED:
        with pytest.raises(InputError, match=named):
            link(linker_path, **change)
    assert files(here / "out") == before


def test_other_linkers_changed_inputs_and_other_folders_are_refused(here, linker_path):
    link(linker_path)
    with (here / "in/b.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(InputError, match=r"b.jsonl: \d+ bytes then, \d+ now"):
        link(linker_path)
    shutil.copytree(linker_path, "linker")
    manifest = here / "linker/manifest.json"
    record = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**record, "identity": "f" * 64}))
    with pytest.raises(InputError, match=r"linker: '\S+' then, 'ffffffffffff' now"):
        link(here / "linker")
    (here / "out/job.json").write_text("{}")
    with pytest.raises(InputError, match="expected the plan of a batch job"):
        link(linker_path)
    (here / "out/job.json").unlink()
    with pytest.raises(InputError, match="expected a new or empty folder"):
        link(linker_path)


def test_two_jobs_on_one_output(here, linker_path):
    with lock.hold(here / "out"), pytest.raises(InputError, match="in use by process"):
        link(linker_path)
    link(linker_path)
    assert not (here / "out/.lock").exists()


@pytest.mark.slow
def test_a_job_is_asked_to_stop_and_goes_on(here, linker_path):
    """By a thread that watches it, say; what is there stays."""
    link(linker_path, "whole")
    stop = StopRequests()

    def watch(progress):
        if progress.shards_done == 2:
            thread = threading.Thread(target=stop.ask)
            thread.start()
            thread.join()

    with pytest.raises(Stopped, match="2 of 6 parts are there"):
        link(linker_path, watch=watch, stop=stop)
    assert len(files(here / "out")) == 2
    assert link(linker_path).skipped == 2
    assert files(here / "out") == files(here / "whole")


def test_a_full_disk_ends_the_job_and_not_the_parts(here, linker_path, monkeypatch):
    link(linker_path, "whole")
    written = store._write

    def write(path, content):
        if path.name == "part-000003.jsonl":
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(store, "_write", write)
        with pytest.raises(OSError, match=r"No space .*part-000003.jsonl"):
            link(linker_path)
    assert len(files(here / "out")) == 3
    link(linker_path)
    assert files(here / "out") == files(here / "whole")


@pytest.mark.slow
def test_slices_take_turns(here, linker_path, monkeypatch):
    """The first plans, the second waits for that; together they are the whole job."""
    link(linker_path, "whole")
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop = StopRequests()
        patch.setattr(run.time, "sleep", lambda seconds: stop.ask())
        link(linker_path, how=How(slice=(1, 2)), stop=stop)
    summary = link(linker_path, how=How(slice=(0, 2)))
    assert (summary.shards, summary.others) == (3, 3)
    summary = link(linker_path, how=How(slice=(1, 2)))
    assert (summary.shards, summary.others) == (3, 0)
    assert files(here / "out") == files(here / "whole")


@pytest.mark.slow
def test_parquet_and_packed_parts(here, linker_path):
    link(linker_path, "plain", limit=9)
    link(linker_path, "packed.jsonl.bz2", limit=9)
    link(linker_path, "x.parquet", limit=9)

    def read(folder):
        with Rejects(None) as rejects:
            parts = [p for p in (here / folder).glob("part-*") if p.suffix != ".json"]
            assert len(parts) == 3
            found = [d for p in sorted(parts) for d in read_documents(p, rejects)]
            assert not rejects.entries
            return found

    documents = read("plain")
    assert len(documents) == 9 and any(d.mentions for d in documents)
    assert read("packed.jsonl.bz2") == documents == read("x.parquet")
    link(linker_path, "again", inputs=["x.parquet"])  # Parquet in, too
    assert read("again") == documents


@pytest.mark.slow
def test_from_a_bucket_to_a_bucket(here, linker_path, bucket):
    """The same parts, and nothing that a rename would need; then a restart."""
    link(linker_path, "whole")
    shutil.copytree(here / "in", bucket / "in")
    ends = {"output": "gs://bucket/out", "inputs": ["gs://bucket/in"]}
    summary = link(linker_path, **ends)
    assert summary.linked == COUNT and summary.rejects == 1
    expected = files(here / "whole")
    expected["rejects-000005.jsonl"] = expected["rejects-000005.jsonl"].replace(
        str(here).encode(), b"gs://bucket"
    )
    assert files(bucket / "out") == expected
    assert not list((bucket / "out").glob(".*"))
    (bucket / "out/part-000001.jsonl").write_bytes(b"damaged")
    assert link(linker_path, **ends).skipped == 5
    assert files(bucket / "out") == expected


def test_given_mentions(here, linker_path):
    (here / "given").mkdir()
    document = Document("1", "Paris Java", None, (Mention(6, 10, None),))
    write_documents(here / "given/a.jsonl", [document])
    link(linker_path, "out", inputs=["given"], given=True)
    (found,) = read_documents(here / "out/part-000000.jsonl", Rejects(None))
    assert [(m.start, m.end) for m in found.mentions] == [(6, 10)]


def test_a_document_that_cannot_be_linked_is_a_reject(here, linker_path, monkeypatch):
    """Those beside it are linked; where none can be, the documents are not at fault."""
    whole = part.link_documents

    def fail(linker, documents, given):
        if any(d.text.endswith(" 17") or d.text.endswith(" 3") for d in documents):
            raise KeyError("a bug")
        return whole(linker, documents, given)

    monkeypatch.setattr(part, "link_documents", fail)
    summary = link(linker_path)
    assert summary.documents == COUNT - 2
    assert summary.reasons == {"cannot be linked": 2, "not JSON": 1}
    entry = json.loads((here / "out/rejects-000000.jsonl").read_text())
    assert json.loads(entry["content"])["id"] == "3" and "KeyError" in entry["reason"]
    monkeypatch.setattr(part, "link_documents", lambda *_: {}["no"])
    with pytest.raises(KeyError, match="no"):
        link(linker_path, "out2")


class JaxRuntimeError(RuntimeError):
    """By its name, what JAX raises."""


def test_out_of_memory_takes_half_the_batch_and_says_so(here, linker_path, monkeypatch):
    whole = part.link_documents

    def fail(linker, documents, given):
        if linker.settings.batch > 4 and documents[0].id == "4":
            raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating")
        return whole(linker, documents, given)

    monkeypatch.setattr(part, "link_documents", fail)
    summary = link(linker_path)
    assert summary.documents == COUNT and summary.rejects == 1
    assert summary.notes == [
        "shard 1: out of memory with batch 16: linked with 8",
        "shard 1: out of memory with batch 8: linked with 4",
    ]
    assert link(linker_path).notes == summary.notes  # kept with the part


def test_an_empty_input(here, linker_path):
    (here / "empty.jsonl").write_text("")
    summary = link(linker_path, inputs=["empty.jsonl"])
    assert (summary.shards, summary.documents) == (0, 0)
    assert link(linker_path, inputs=["empty.jsonl"]).documents == 0


@pytest.mark.slow
def test_the_batch_is_measured_once(here, linker_path, monkeypatch):
    """The found size goes with the job, and to every shard."""
    monkeypatch.setattr(run, "SAMPLE", 8)
    monkeypatch.setattr(
        workers, "measure_batch", lambda *_: run.Measured(4, {"4": 1.0, "16": 0.5})
    )
    link(linker_path)
    record = json.loads((here / "out/job.json").read_text())
    assert (record["batch"], record["measured"]) == (4, {"4": 1.0, "16": 0.5})
    assert Linker.from_pretrained().settings.batch == 4
    monkeypatch.setattr(workers, "measure_batch", None)
    (here / "out/part-000000.json").unlink()
    assert link(linker_path).linked == 4
    link(linker_path, "own", settings={**LOUD, "batch": 8})
    assert json.loads((here / "own/job.json").read_text())["batch"] is None
