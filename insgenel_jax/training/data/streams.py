"""Streams: parts of the training documents, each read and batched by itself.

A run has a fixed number of streams, whose batches, one after the other, are its batch.
So the data is the same however many processes share the streams: one that was begun by
two processes goes on in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import grain
import jax
import numpy as np

from insgenel_jax.training.settings import ConfigError


class Stream(NamedTuple):
    """Stream `number` of `count`."""

    number: int
    count: int


WHOLE = Stream(0, 1)


def own_streams(count: int) -> list[Stream]:
    """The streams of this process. Raises ConfigError where they cannot be shared."""
    processes = jax.process_count()
    if count % processes:
        raise ConfigError(
            f"data.streams = {count}: expected a multiple of the {processes} "
            "processes; a workdir keeps the streams that it was begun with, so begin "
            "with --set data.streams=N, N being the most processes it may ever have"
        )
    each = count // processes
    first = jax.process_index() * each
    return [Stream(number, count) for number in range(first, first + each)]


class Joined(grain.DatasetIterator):
    """The batches of this process's streams, one below the other, as one batch.

    Its state has those of its streams by their numbers, and may be given those of other
    streams, too.
    """

    def __init__(self, parts: dict[int, grain.DatasetIterator]):
        super().__init__()
        self._parts = parts

    def __next__(self) -> dict[str, Any]:
        batches = [next(part) for part in self._parts.values()]
        return {name: _join([batch[name] for batch in batches]) for name in batches[0]}

    def get_state(self) -> dict[str, Any]:
        return {str(number): part.get_state() for number, part in self._parts.items()}

    def set_state(self, state: dict[str, Any]) -> None:
        for number, part in self._parts.items():
            part.set_state(state[str(number)])

    def refresh(self, step: int, params: dict) -> None:
        """Let each stream mine; see negatives.py."""
        for part in self._parts.values():
            part.refresh(step, params)

    def mines(self, step: int) -> bool:
        """Whether the streams mine at this step."""
        return any(part.mines(step) for part in self._parts.values())


def join_streams(
    parts: dict[int, grain.DatasetIterator], count: int
) -> grain.DatasetIterator:
    """One iterator over the own streams, number -> iterator, of `count` in all."""
    return parts[0] if count == 1 else Joined(parts)


def _join(leaves: Sequence[Any]) -> Any:
    """Rows of several batches as those of one; a leaf may be a list."""
    if isinstance(leaves[0], list):
        return [row for leaf in leaves for row in leaf]
    return np.concatenate(leaves)
