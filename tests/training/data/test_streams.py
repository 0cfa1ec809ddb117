"""Streams: shared by processes, joined to one batch, their places kept apart."""

import grain
import numpy as np
import pytest

from insgenel_jax.training.data import streams
from insgenel_jax.training.data.streams import WHOLE, Joined, Stream
from insgenel_jax.training.settings import ConfigError


class Counting(grain.DatasetIterator):
    """Batches of two rows, which count on from `first`."""

    def __init__(self, first):
        super().__init__()
        self.at = first

    def __next__(self):
        self.at += 2
        rows = [self.at - 2, self.at - 1]
        return {"tokens": np.array(rows), "ids": [[str(row)] for row in rows]}

    def get_state(self):
        return {"at": self.at}

    def set_state(self, state):
        self.at = state["at"]


def test_processes_share_the_streams(monkeypatch):
    assert streams.own_streams(3) == [Stream(n, 3) for n in range(3)]
    monkeypatch.setattr(streams.jax, "process_count", lambda: 2)
    monkeypatch.setattr(streams.jax, "process_index", lambda: 1)
    assert streams.own_streams(4) == [Stream(2, 4), Stream(3, 4)]
    with pytest.raises(ConfigError, match="data.streams = 1: .* the 2 processes"):
        streams.own_streams(WHOLE.count)


def test_two_processes_read_what_one_reads():
    """Joined by one process, or each in its own; places go from one to the other."""
    one = Joined({0: Counting(0), 1: Counting(100)})
    two = [Joined({0: Counting(0)}), Joined({1: Counting(100)})]
    for _ in range(3):
        batch, halves = next(one), [next(half) for half in two]
        assert batch["tokens"].tolist() == [
            row for half in halves for row in half["tokens"].tolist()
        ]
        assert batch["ids"] == halves[0]["ids"] + halves[1]["ids"]
    places = two[0].get_state() | two[1].get_state()
    assert places == one.get_state()
    again = Joined({1: Counting(0)})
    again.set_state(one.get_state())
    assert next(again)["tokens"].tolist() == [106, 107]
    assert streams.join_streams({0: two[0]}, 1) is two[0]
