"""Jobs whose processes are killed: run again, the parts are those of one whole run.

Each run is the command itself, on 2,000 documents and a linker of random models.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
COUNT, EACH = 2000, 50
NAMES = ("Paris", "Java", "Mercury", "Paris and Java", "nothing", "")


@pytest.fixture(scope="module")
def job(linker_path, tmp_path_factory):
    """The arguments of a job but for its output, and the parts of a whole run."""
    folder = tmp_path_factory.mktemp("kills")
    chance = random.Random(0)
    with (folder / "in.jsonl").open("w") as file:
        for i in range(COUNT):
            text = " ".join(chance.choices(NAMES, k=4))
            file.write(json.dumps({"id": i, "text": f"{text} {i}."}) + "\n")
            if i % 400 == 7:
                file.write("{bad\n")
    arguments = ["--linker", linker_path, "--input", folder / "in.jsonl"]
    arguments += ["--part-documents", EACH, "--set", "mention_bias=1000.0"]
    assert start(arguments, folder / "whole").wait() == 3
    return arguments, parts(folder / "whole")


STARTED = []


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    for process in STARTED:
        process.kill()
        process.wait()
    STARTED.clear()


def start(arguments, output, *more):
    """Begin a run of the job."""
    command = [sys.executable, "-m", "insgenel_jax.link", *arguments, *more]
    command += ["--output", f"{output}/"]
    process = subprocess.Popen(
        [str(word) for word in command],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    STARTED.append(process)
    return process


def parts(folder):
    """The parts and rejects of a job: name -> content."""
    return {path.name: path.read_bytes() for path in folder.glob("*-*.jsonl")}


def committed(folder):
    return len(list(folder.glob("part-*[0-9].json")))


def wait_for(condition, process, seconds=300):
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.002)


def descendants(pid, word):
    """The processes below one whose command has a word."""
    found, parents = [], {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
            command = status.with_name("cmdline").read_bytes()
        except OSError:  # it ended just now
            continue
        parents[int(status.parent.name)] = int(fields[1]), command
    for child, (parent, command) in parents.items():
        while parent in parents and parent != pid:
            parent = parents[parent][0]
        if parent == pid and word in command:
            found.append(child)
    return found


def check(folder, expected):
    """Every document once, byte for byte; nothing of the killed runs is left."""
    found = parts(folder)
    assert found == expected
    rows = [
        json.loads(line)
        for name in sorted(found)
        if "rejects" not in name
        for line in found[name].splitlines()
    ]
    assert [row["id"] for row in rows] == list(range(COUNT))
    assert sum(len(row["mentions"]) for row in rows) > COUNT
    hidden = {path.name for path in folder.glob(".*")}
    assert not hidden - {".lock"}


def test_a_job_killed_ten_times(job, tmp_path):
    arguments, expected = job
    chance = random.Random(1)
    out = tmp_path / "out"
    for kill in range(10):
        process, before = start(arguments, out), committed(out)
        if kill % 5 == 4:  # while it starts
            time.sleep(chance.uniform(0.1, 3))
        else:
            more = chance.randrange(1, 4)
            wait_for(lambda: committed(out) >= before + more, process)  # noqa: B023
            time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.wait()
        assert before <= committed(out) < COUNT // EACH
    assert start(arguments, out).wait() == 3
    check(out, expected)


def test_workers_and_their_parent_are_killed(job, tmp_path):
    """A killed worker is replaced; with their parent the others end by themselves."""
    arguments, expected = job
    out = tmp_path / "out"
    process = start(arguments, out, "--workers", 2)
    wait_for(lambda: committed(out) >= 2, process)
    workers = descendants(process.pid, b"multiprocessing.spawn")
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    wait_for(lambda: committed(out) >= 6, process)
    process.kill()
    process.wait()
    end = time.monotonic() + 60
    while Path(f"/proc/{workers[1]}").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert committed(out) < COUNT // EACH
    assert start(arguments, out, "--workers", 2).wait() == 3
    check(out, expected)


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # Ray starts by it
def test_actors_and_their_driver_are_killed(job, tmp_path, monkeypatch):
    """On a cluster of Ray with two nodes of one core."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    arguments, expected = job
    out = tmp_path / "out"
    node = {"num_cpus": 1, "object_store_memory": 100_000_000}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(**node)
        more = ("--cluster", cluster.address)
        process = start(arguments, out, *more)
        wait_for(lambda: committed(out) >= 2, process)
        actors = descendants(os.getpid(), b"ray::Actor")
        assert actors
        os.kill(actors[0], signal.SIGKILL)
        before = committed(out)
        wait_for(lambda: committed(out) >= before + 4, process)
        process.kill()
        process.wait()
        assert committed(out) < COUNT // EACH
        assert start(arguments, out, *more).wait() == 3
    finally:
        cluster.shutdown()
    check(out, expected)
