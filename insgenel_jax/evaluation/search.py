"""Settings to choose from in; the best ones on labelled documents out.

A search goes coordinate by coordinate: it tries every value of one setting while the
others stay, keeps the best, and goes on with the next setting, round after round.
Every point is scored on the same documents, so differences are paired.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from insgenel_jax.evaluation import scoring
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.rejects import InputError

Sets = Mapping[str, Sequence[Document]]
# settings in; the documents of each set, linked with them, out
Link = Callable[[Mapping[str, Any]], Sequence[Sequence[Document]]]

LEAST_GAIN = 0.001  # of mean micro F1; a round that gains less is the last


@dataclasses.dataclass(frozen=True)
class Point:
    """Settings, and how good they are.

    counts: for each set, tp, fp and fn of each document, [documents, 3]. seconds: what
    linking took.
    """

    settings: Mapping[str, Any]
    counts: Sequence[np.ndarray]
    seconds: float = 0.0

    @property
    def f1(self) -> float:
        """What is made as high as possible: the mean of the sets' micro F1."""
        return scoring.mean_f1(self.counts)


class Step(NamedTuple):
    """One setting that changed.

    before, after: mean micro F1 of the sets. interval: of its difference, paired.
    seconds: what trying the setting's values took.
    """

    setting: str
    old: Any
    new: Any
    before: float
    after: float
    interval: scoring.Interval
    seconds: float


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search gives.

    points: how many points it looked at, each counted once. stopped: why it ended.
    seconds: of these points, those from the log included.
    """

    best: Point
    steps: Sequence[Step]
    points: int
    seconds: float
    stopped: str


class Log:
    """The points that were evaluated so far, kept in a JSONL file.

    The first line says of what linker and documents they are. A file of others raises
    InputError. A last line that was not finished is taken away.
    """

    def __init__(self, path: str | os.PathLike | None, header: Mapping[str, Any]):
        self.path = None if path is None else Path(path)
        self.header = dict(header)
        self.points: dict[str, Point] = {}
        if self.path is not None:
            self._read(self.path)

    def _read(self, path: Path) -> None:
        lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
        if lines.pop():  # what follows the last line break
            with path.open("r+b") as stream:
                stream.truncate(sum(len(line) + 1 for line in lines))
        if not lines:
            self._append(path, self.header)
            return
        try:
            header, *records = map(json.loads, lines)
            header = dict(header)
            points = [_point_from_json(record) for record in records]
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path}: expected the log of a tuning run, found another file "
                f"({error!r}); give another path"
            ) from error
        if header != self.header:
            names = sorted(self.header.keys() | header.keys())
            differs = [n for n in names if self.header.get(n) != header.get(n)]
            raise InputError(
                f"{path}: expected a log of the same {' and '.join(differs)}, found "
                "one of others; give another --log, or remove this one"
            )
        self.points = {_key(point.settings): point for point in points}

    def get(self, settings: Mapping[str, Any]) -> Point | None:
        """The point of these settings, where it was evaluated before."""
        return self.points.get(_key(settings))

    def add(self, point: Point) -> None:
        """Keep a point, in the file too."""
        self.points[_key(point.settings)] = point
        if self.path is not None:
            counts = [of_set.tolist() for of_set in point.counts]
            record = {"settings": dict(point.settings), "f1": point.f1}
            record |= {"seconds": point.seconds, "counts": counts}
            self._append(self.path, record)

    @staticmethod
    def _append(path: Path, record: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")


def _point_from_json(record: Any) -> Point:
    counts = [np.array(rows, np.int64).reshape(-1, 3) for rows in record["counts"]]
    return Point(dict(record["settings"]), counts, float(record["seconds"]))


def _key(settings: Mapping[str, Any]) -> str:
    return json.dumps(dict(settings), sort_keys=True)


def search(
    link: Link,
    sets: Sets,
    space: Mapping[str, Sequence[Any]],
    starts: Mapping[str, Mapping[str, Any]],
    *,
    same: scoring.Same | None = None,
    possible: Callable[[Mapping[str, Any]], bool] = lambda settings: True,
    nearest: int | None = None,
    budget: float = math.inf,
    most: int | None = None,
    log: Log | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> Found:
    """The settings with the highest mean of the sets' micro F1 that a search finds.

    space: setting -> the values to try, in an order in which neighbours are alike.
    starts: name -> settings to begin with; the best of them is taken, of equal ones the
    first. same: whether two mentions name one entity. possible: whether settings go
    together; others are passed over. nearest: how many values beside the present one a
    round tries. budget: seconds of linking; most: points; the first start is evaluated
    in any case. log: points that are known already, and where new ones go. tell: told
    of each point.

    The search ends where a round gains less than LEAST_GAIN, or the budget is spent.
    """
    run = _Run(link, sets, same, budget, most, log or Log(None, {}), tell)
    (first, settings), *others = starts.items()
    best = run.point(settings)
    steps: list[Step] = []
    for name, settings in others:
        if possible(settings) and not run.spent:
            point = run.point(settings)
            if point.f1 > best.f1:
                took = point.seconds
                steps.append(make_step("start", first, name, best, point, took))
                first, best = name, point
    gain = math.inf
    while gain >= LEAST_GAIN and not run.spent:
        at_first = best.f1
        for name, values in space.items():
            before, began = best, run.seconds
            for settings in _variants(best.settings, name, values)[:nearest]:
                if possible(settings) and not run.spent:
                    best = max(best, run.point(settings), key=lambda point: point.f1)
            if best is not before:
                old, new = before.settings[name], best.settings[name]
                took = run.seconds - began
                steps.append(make_step(name, old, new, before, best, took))
        gain = best.f1 - at_first
    stopped = "the budget is spent" if run.spent else "a round gained too little"
    return Found(best, steps, run.points, run.seconds, stopped)


def _variants(
    settings: Mapping[str, Any], name: str, values: Sequence[Any]
) -> list[dict[str, Any]]:
    """The settings with each other value of one setting, the nearest values first."""
    now = settings[name]
    at = list(values).index(now) if now in values else 0
    order = sorted(range(len(values)), key=lambda i: abs(i - at))
    return [{**settings, name: values[i]} for i in order if values[i] != now]


def make_step(
    setting: str, old: Any, new: Any, before: Point, after: Point, seconds: float = 0.0
) -> Step:
    """What going from one point to another gains."""
    interval = scoring.compare_means(after.counts, before.counts)
    return Step(setting, old, new, before.f1, after.f1, interval, seconds)


class _Run:
    """Evaluates points within a budget."""

    def __init__(
        self,
        link: Link,
        sets: Sets,
        same: scoring.Same | None,
        budget: float,
        most: int | None,
        log: Log,
        tell: Callable[[str], None],
    ):
        self.link, self.sets, self.same, self.log = link, sets, same, log
        self.budget, self.most, self.tell = budget, most, tell
        self.seen: dict[str, Point] = {}
        self.seconds = 0.0

    @property
    def points(self) -> int:
        """How many points were looked at."""
        return len(self.seen)

    @property
    def spent(self) -> bool:
        """Whether the budget is spent."""
        return self.seconds >= self.budget or self.points == self.most

    def point(self, settings: Mapping[str, Any]) -> Point:
        """Score settings, or find them in the log; free where this run knows them."""
        key = _key(settings)
        if key in self.seen:
            return self.seen[key]
        point = self.log.get(settings)
        if point is None:
            began = time.perf_counter()
            linked = self.link(settings)
            counts = score_sets(self.sets, linked, self.same)
            point = Point(dict(settings), counts, time.perf_counter() - began)
            self.log.add(point)
        self.seen[key] = point
        self.seconds += point.seconds
        self.tell(f"{self.points} points, {self.seconds:.0f} s, F1 {point.f1:.3f}")
        return point


def score_sets(
    sets: Sets, linked: Sequence[Sequence[Document]], same: scoring.Same | None
) -> list[np.ndarray]:
    """For each set, tp, fp and fn of each document."""
    return [
        scoring.score(golds, documents, same=same).per_document
        for golds, documents in zip(sets.values(), linked, strict=True)
    ]


def split(sets: Sets, linked: Sequence[Document]) -> list[list[Document]]:
    """The documents of all sets, one after the other, set by set."""
    remaining = iter(linked)
    return [[next(remaining) for _ in documents] for documents in sets.values()]
