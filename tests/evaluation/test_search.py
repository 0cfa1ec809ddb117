"""The search on functions whose best point is known, its budget and its log."""

import json

import numpy as np
import pytest

from insgenel_jax.evaluation import scoring
from insgenel_jax.evaluation.search import Log, search
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.rejects import InputError

TEXT = "a" * 40
GOLDS = tuple(Mention(i, i + 1, "A") for i in range(20))
SETS = {
    "one": [Document("1", TEXT, None, GOLDS), Document("2", TEXT, None, GOLDS)],
    "two": [Document("3", TEXT, None, GOLDS)],
}
SPACE = {"x": (0, 1, 2, 3, 4), "y": ("p", "q"), "z": (None, 1, 2)}
START = {"x": 0, "y": "p", "z": None}


class Links:
    """Links so many golds that F1 is highest at x = 3, y = "q", z = 1."""

    def __init__(self, fails_at=None):
        self.asked, self.fails_at = [], fails_at

    def __call__(self, settings):
        if len(self.asked) == self.fails_at:
            raise KeyboardInterrupt
        self.asked.append(dict(settings))
        right = 9 - 2 * abs(settings["x"] - 3) + 4 * (settings["y"] == "q")
        right += 3 * (settings["z"] == 1)
        mentions = tuple(Mention(i, i + 1, "A") for i in range(right))
        return [
            [Document(d.id, TEXT, None, mentions) for d in documents]
            for documents in SETS.values()
        ]


def run(links, **options):
    return search(links, SETS, SPACE, {"start": START}, **options)


def test_the_best_point_and_its_steps():
    links = Links()
    found = run(links)
    assert found.best.settings == {"x": 3, "y": "q", "z": 1}
    assert found.best.f1 == pytest.approx(2 * 16 / (16 + 20))
    changes = [(step.setting, step.old, step.new) for step in found.steps]
    assert changes == [("x", 0, 3), ("y", "p", "q"), ("z", None, 1)]
    assert [step.before for step in found.steps[1:]] == [
        step.after for step in found.steps[:-1]
    ]
    for step in found.steps:
        assert step.interval.difference == pytest.approx(step.after - step.before)
    # the start, then a round of 4 + 1 + 2 points; the next one gains nothing, and knows
    # its last two points
    assert found.points == 1 + 7 + 5
    assert found.stopped == "a round gained too little"


def test_no_point_is_linked_twice():
    links = Links()
    run(links)
    keys = [json.dumps(settings, sort_keys=True) for settings in links.asked]
    assert len(set(keys)) == len(keys)


def test_each_point_is_charged_once(tmp_path):
    """A point seen before in a run costs nothing; one from the log what it took."""
    log = Log(tmp_path / "log.jsonl", {})
    links = Links()
    found = run(links, log=log)
    assert found.points == len(links.asked) == len(log.points)
    took = sum(point.seconds for point in log.points.values())
    assert found.seconds == pytest.approx(took) and took > 0
    again = run(links, log=Log(tmp_path / "log.jsonl", {}))
    assert (again.points, again.seconds) == (found.points, found.seconds)


def test_nearest_values_first_and_impossible_ones_never():
    links = Links()
    found = run(links, nearest=1, possible=lambda s: s["x"] != 2)
    assert found.best.settings["x"] == 1  # 2 is in the way
    assert all(settings["x"] != 2 for settings in links.asked)
    links = Links()
    run(links, most=3)
    assert [settings["x"] for settings in links.asked] == [0, 1, 2]


def test_the_best_start():
    starts = {"a": START, "b": START | {"x": 3}, "c": START | {"x": 3, "z": 2}}
    found = search(Links(), SETS, {"y": ("p", "q")}, starts)
    assert found.best.settings == {"x": 3, "y": "q", "z": None}
    assert [step[:3] for step in found.steps] == [("start", "a", "b"), ("y", "p", "q")]


def test_a_budget():
    found = run(Links(), most=3)
    assert (found.points, found.stopped) == (3, "the budget is spent")
    assert found.best.settings["x"] == 2
    assert found.steps[-1].new == 2  # what was gained until then counts
    found = run(Links(), budget=0)
    assert found.points == 1 and found.best.settings == START


def test_a_killed_search_goes_on(tmp_path):
    """Killed at any point, also in the middle of writing a line."""
    whole = Links()
    expected = run(whole)
    for number in range(1, len(whole.asked)):
        path = tmp_path / f"{number}.jsonl"
        with pytest.raises(KeyboardInterrupt):
            run(Links(fails_at=number), log=Log(path, {"linker": "a"}))
        with path.open("a") as stream:
            stream.write('{"settings": {"x"')
        links = Links()
        found = run(links, log=Log(path, {"linker": "a"}))
        assert found.best.settings == expected.best.settings
        assert [step[:6] for step in found.steps] == [s[:6] for s in expected.steps]
        assert links.asked == whole.asked[number:]
    assert len(path.read_text().splitlines()) == 1 + len(whole.asked)
    links = Links()
    assert run(links, log=Log(path, {"linker": "a"})).points == expected.points
    assert not links.asked


def test_another_log_is_refused(tmp_path):
    path = tmp_path / "log.jsonl"
    run(Links(), log=Log(path, {"linker": "a", "documents": "b"}))
    with pytest.raises(InputError, match="log of the same documents, found"):
        Log(path, {"linker": "a", "documents": "c"})
    with pytest.raises(InputError, match="same documents and linker, found"):
        Log(path, {"linker": "b", "documents": "c"})
    path.write_text("[1]\n{}\n")
    with pytest.raises(InputError, match="log.jsonl: expected the log of a tuning"):
        Log(path, {})
    path.write_text("[1]\n")
    with pytest.raises(InputError, match="log.jsonl: expected"):
        Log(path, {"linker": "b"})


def test_mean_f1_and_its_interval():
    """Each set weighs the same, and keeps its own documents in the bootstrap."""
    good, bad = np.array([[2, 0, 0]]), np.array([[0, 1, 1]])
    many = np.repeat(bad, 5, axis=0)
    assert scoring.mean_f1([good, many]) == 0.5
    interval = scoring.compare_means([good, many], [bad, many])
    assert interval == (0.5, 0.5, 0.5)  # one document: always drawn
    rng = np.random.default_rng(1)
    a, b = (rng.integers(0, 5, (7, 3)) for _ in range(2))
    alone = scoring.compare_means([a], [b], samples=1000)
    twice = scoring.compare_means([a, a], [b, b], samples=1000)
    assert alone.difference == pytest.approx(twice.difference)
    assert twice.high - twice.low < alone.high - alone.low
    assert alone.low < alone.difference < alone.high
