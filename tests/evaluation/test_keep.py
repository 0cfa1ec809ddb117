"""Kept links: what is there is not linked again, and is of these documents alone."""

import dataclasses
import json

import pytest

from insgenel_jax import evaluation
from insgenel_jax.evaluation import Predictions, System, Unopened, files, keep, linking
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.documents import read_documents, write_documents
from insgenel_jax.text.formats.rejects import InputError, Rejects

TEXT = "Ann met Bob."
ANN = Mention(0, 3, "Ann Lee", None, 0.9)
GOLD = [Document(str(i), TEXT, None, (ANN,)) for i in range(3)]


class Stopped(Exception):
    pass


class World:
    """A system that counts what it links, and can be told to stop before a call."""

    def __init__(self, stop_before=None):
        self.linked, self.opened, self.calls = [], 0, 0
        self.stop_before = stop_before

    def link(self, documents):
        if len(self.linked) == self.stop_before:
            raise Stopped
        self.linked += [d.id for d in documents]
        self.calls += 5
        low = Mention(8, 11, "Bob Hope", None, 0.2)
        return [dataclasses.replace(d, mentions=(ANN, low)) for d in documents]

    def candidates(self, documents):
        return [{(0, 3): {2}, (8, 11): {0}} for _ in documents]

    def open(self):
        self.opened += 1
        return System(
            "one",
            self.link,
            self.candidates,
            lambda: self.calls,
            {"top_k": 3},
            "tree",
            0.5,
            lambda documents, wanted: [[None] * len(w) for w in wanted],
        )


@pytest.fixture
def run(bobs, tmp_path, monkeypatch):
    monkeypatch.setattr(linking, "GROUP", 1)

    def run(world, gold=GOLD, identity="a", resolve=None):
        system = Unopened("one", world.open, bobs, resolve, identity)
        return evaluation.run({"news": gold}, [system], out=tmp_path).results[0]

    return run


def same(a, b):
    """Whether two results are equal but for the time that they took."""
    assert a.seconds > 0 and b.seconds > 0
    told = [json.dumps(dataclasses.asdict(r), default=str) for r in (a, b)]
    seconds = [json.dumps(r.seconds) for r in (a, b)]
    told = [t.replace(s, "") for t, s in zip(told, seconds, strict=True)]
    return told[0] == told[1]


def test_a_stopped_run_goes_on(run, tmp_path):
    world = World(stop_before=2)
    with pytest.raises(Stopped):
        run(world)
    log, predictions = tmp_path / "one/news.log", tmp_path / "one/news.jsonl"
    assert world.linked == ["0", "1"] and not predictions.exists()
    with log.open("a") as stream:
        stream.write('{"documents": [')  # a kill in the middle of a line
    world = World()
    result = run(world)
    assert world.linked == ["2"]
    assert result.calls == 15 and result.settings == {"top_k": 3}
    assert result.ranks == [None] * 3 and result.decoder == "tree"
    assert [len(d.mentions) for d in result.predicted] == [1, 1, 1]
    assert result.link_scores.tolist() == [0.9, 0.2] * 3  # below the threshold too
    assert result.link_right.tolist() == [True, False] * 3
    rejects = Rejects(None)
    kept = list(read_documents(predictions, rejects))
    assert [d.mentions for d in kept] == [(ANN,)] * 3

    world = World()
    again = run(world)
    assert world.opened == 0 and same(result, again)
    predictions.unlink()
    run(world)
    assert predictions.exists()


def test_nothing_is_kept_unless_asked_for(bobs):
    world = World()
    system = dataclasses.replace(world.open(), kb=bobs)
    result = evaluation.run({"news": GOLD}, [system]).results[0]
    assert result.scores.counts == (3, 0, 0) and world.calls == 5


def test_links_of_others_are_refused(run, tmp_path):
    run(World())
    log = tmp_path / "one/news.log"
    for change, named in (
        ({"identity": "b"}, "another identity"),
        ({"gold": [dataclasses.replace(GOLD[0], mentions=())]}, "another documents"),
        ({"resolve": lambda title: "Bob Hope"}, "another redirects"),
    ):
        with pytest.raises(InputError, match=named):
            run(World(), **change)
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join([lines[0], lines[2]]))
    with pytest.raises(InputError, match="found others"):
        run(World())
    deep = "[" * 100_000 + "]" * 100_000 + "\n"
    for text in ("no JSON\n", "{}\n", "[1]\n", lines[0] + "{}\n", deep):
        log.write_text(text)
        with pytest.raises(InputError, match="news.log: expected the log"):
            run(World())
    log.unlink()
    kept = tmp_path / "one/news.jsonl"
    whole = kept.read_bytes()
    kept.write_text("of another system")
    run(World())
    assert kept.read_bytes() == whole


def test_a_kept_folder_is_a_system(run, bobs, tmp_path):
    """With its seconds and calls; of other labels, with its predictions alone."""
    result = run(World())
    sets, folder = {"news": GOLD}, tmp_path / "one"
    (given,) = files.read_predictions([folder], sets, [], Rejects(None))
    again = evaluation.run(sets, predictions=[given], kb=bobs).results[0]
    assert given.system == "one" and same(result, again)
    redirected = evaluation.run(
        sets, predictions=[given], kb=bobs, resolve=lambda title: "Bob Hope"
    )
    assert redirected.results[0].ranks is None  # they are those of other entities
    bare = {"news": [dataclasses.replace(d, mentions=()) for d in GOLD]}
    (given,) = files.read_predictions([folder], bare, [], Rejects(None))
    assert given.kept is None and len(given.documents) == 3
    with pytest.raises(InputError, match=r"old.jsonl: expected the links of old"):
        files.read_predictions([folder], {"old": GOLD}, [], Rejects(None))


def test_reading_a_log_that_is_being_written_changes_nothing(run, tmp_path):
    run(World())
    log = tmp_path / "one/news.log"
    with log.open("a") as stream:
        stream.write('{"documents": [')
    before = log.read_bytes()
    files.read_predictions([tmp_path / "one"], {"news": GOLD}, [], Rejects(None))
    assert log.read_bytes() == before


def test_names_of_systems(tmp_path):
    def name(paths, sets, taken=()):
        for path in paths:
            write_documents(tmp_path / path, GOLD)
        given = [tmp_path / path for path in paths]
        return files.name_systems(given, sets, taken)

    assert name(["a.x.linked_articles.jsonl", "a.y.jsonl"], ["x", "y"]) == ["a", "a"]
    assert name(["a.x.jsonl", "b.x.jsonl"], ["x"]) == ["a", "b"]
    assert name(["p.jsonl", "q.jsonl"], ["x", "y"]) == ["p", "q"]
    taken = name(["a.x.jsonl"], ["x"], ["a"])
    assert taken == ["a.x"]
    assert files.name_files([tmp_path / "k.benchmark.jsonl"]) == ["k"]


def test_names_that_no_file_can_have():
    names = ["../up", "a/b", ".hidden", "x" * 200, "a b", "", "a_b"]
    made = [keep.file_name(name) for name in names]
    assert len(set(made)) == len(names) and made[-1] == "a_b"
    assert all("/" not in m and 0 < len(m) < 100 and m[0] != "." for m in made)


def test_predictions_are_of_the_set(tmp_path):
    write_documents(tmp_path / "p.jsonl", GOLD[:2])
    with pytest.raises(InputError, match=r"p.jsonl: .* 1 \('2'\) missing"):
        files.read_predictions([tmp_path / "p.jsonl"], {"x": GOLD}, [], Rejects(None))
    given = [Predictions("x", "p", GOLD[:2])]
    with pytest.raises(InputError, match="missing"):
        evaluation.run({"x": GOLD}, predictions=given)
