"""SIGTERM: how a scheduler tells training to save its state and stop."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils


class Preempted(Exception):
    """The process was told to stop; the state after `step` steps is saved."""

    def __init__(self, step: int):
        super().__init__(f"stopped after step {step}; the same command goes on")
        self.step = step


class ReadingStopped(BaseException):
    """SIGTERM came while data was being read."""


class StopRequests:
    """Whether SIGTERM has come, to this process or, of many, to any of them."""

    def __init__(self) -> None:
        self._requested = self._reading = False

    def arrived(self, step: int) -> bool:
        """Whether to stop after `step`. Of many processes, all get the same answer."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._requested

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """While this is open SIGTERM raises ReadingStopped: a batch may never come.

        With many processes it does nothing, because no process may leave the others
        waiting for its batch.
        """
        self._reading = jax.process_count() == 1
        try:
            if self._reading and self._requested:
                raise ReadingStopped
            yield
        finally:
            self._reading = False

    def receive(self, *_: object) -> None:
        """Handle the signal."""
        self._requested = True
        if self._reading:
            raise ReadingStopped


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequests]:
    """Listen for SIGTERM. With many processes, jax's own preemption service does."""
    requests = StopRequests()
    if jax.process_count() > 1:
        yield requests
        return
    before = signal.signal(signal.SIGTERM, requests.receive)
    try:
        yield requests
    finally:
        signal.signal(signal.SIGTERM, before)
