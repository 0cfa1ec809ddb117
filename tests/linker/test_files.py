"""Linking a file: hostile lines, what is counted, and where the output goes."""

import json
import os
import signal

import pytest

from insgenel_jax.linker import Linker
from insgenel_jax.linker.files import link_file
from insgenel_jax.stopping import Stopped, stop_requests
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import write_documents
from insgenel_jax.text.formats.rejects import Rejects
from tests.helpers.marks import slow

MENTION = b'{"id": "n", "text": "Paris", "mentions": [{"start": %s, "entity": "x"}]}'
BAD = [
    b'{"id": "s", "text": "a \\ud800 Paris"}',
    MENTION % b'0, "end": 9',
    MENTION % b'3, "end": 2',
    MENTION % b'0.0, "end": 1',
    b"[" * 50_000,
    b'{"a":' * 50_000,
    b"\xff\xfe",
    b"null",
    b"1e999",
    b'{"id":' + b"9" * 5000 + b', "text": "Paris"}',
    b"\0" * 50,
]


@pytest.fixture(scope="module")
def linker(linker_path):
    return Linker.from_pretrained(linker_path)


@pytest.mark.parametrize("repeats", [5000, slow(500_000)])
def test_hostile_lines(linker, tmp_path, repeats):
    """The good documents between bad lines come out; the bad lines are rejects.

    The longest text has 23 characters a repeat: 115 kB, or 11 MB in the slow run.
    """
    good = [
        {"id": "1", "text": ""},
        {"id": "1", "text": "Paris and\0 Java\0Mercury."},
        {"id": "2", "text": "word and nothing else. " * repeats},
        {"id": "3", "text": "\x1b[31mParis [/red] \u2028Mercury"},
        {"id": "4", "text": "Paris"},
    ]
    lines = [json.dumps(record).encode() for record in good]
    source, out = tmp_path / "in.jsonl", tmp_path / "new" / "out.jsonl"
    source.write_bytes(b"\n".join([*lines[:2], *BAD, *lines[2:]]))
    with Rejects(None) as rejects:
        summary = link_file(linker, source, out, rejects)
    written = [json.loads(line) for line in out.read_text().split("\n")[:-1]]
    assert [(row["id"], row["text"]) for row in written] == [
        (record["id"], record["text"]) for record in good
    ]
    assert [line for _, line, _, _ in rejects.entries] == list(range(3, 3 + len(BAD)))
    assert summary.documents == summary.stats["documents"] == len(good)


def test_the_summary_is_of_this_file_alone(linker, tmp_path):
    source = tmp_path / "in.txt"
    source.write_text("Paris and Java.\n\nMercury\n")
    watched, summaries = [], []
    for _ in range(2):
        with Rejects(None) as rejects:
            summary = link_file(
                linker,
                source,
                tmp_path / "out",
                rejects,
                watch=lambda document, read: watched.append((document.text, read)),
            )
        summaries.append(summary)
    assert summaries[0].stats["calls"] > 0
    assert summaries[0].stats == summaries[1].stats
    stats = summaries[0].stats
    assert stats["documents"] == 2
    assert stats["mentions"] == 3 >= stats["decided"] >= stats["links"]
    # a paragraph ends where the blank line after it has been read, or the file ends
    assert watched == [("Paris and Java.", 17), ("Mercury", 25)] * 2


def test_what_the_retriever_leaves_is_decided_and_the_rest_counted(linker):
    """Nothing is retrieved for a text without words; then nothing can be chosen."""
    paris = Document("1", "Paris")
    for top_k in (1, 100):
        one = linker.with_settings(top_k=top_k)
        list(one.stream([paris] * 3))
        candidates = [c for found in one.candidates([paris] * 3) for c in found]
        assert one.stats["mentions"] == 3
        assert one.stats["decided"] == len(candidates)
    assert linker.with_settings(top_k=100).candidates([paris])[0]


def test_a_pipe_is_written_to_and_not_replaced(linker, tmp_path):
    source, pipe = tmp_path / "in.jsonl", tmp_path / "pipe"
    source.write_text('{"id": 1, "text": "Paris"}\n')
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with Rejects(None) as rejects:
        link_file(linker, source, pipe, rejects)
    assert json.loads(os.read(reader, 1000))["id"] == 1
    os.close(reader)
    assert pipe.is_fifo()


def test_a_job_that_is_told_to_stop_ends_as_stopped(linker, tmp_path):
    """What was read is linked, and no output is taken for a complete one."""
    write_documents(tmp_path / "in.jsonl", [Document("1", "Paris")] * 3)
    seen = []

    def watch(document):
        seen.append(document)
        os.kill(os.getpid(), signal.SIGINT)

    with stop_requests() as stop, pytest.raises(Stopped, match="3 documents"):
        link_file(
            linker,
            tmp_path / "in.jsonl",
            tmp_path / "out.jsonl",
            Rejects(),
            watch=lambda document, read: seen or watch(document),
            stop=stop,
        )
    assert stop.signal == signal.SIGINT and len(seen) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]
