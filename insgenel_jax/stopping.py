"""SIGINT and SIGTERM in a job over many items: what was begun is finished first.

Python's own KeyboardInterrupt can come inside a callback of JAX, which swallows it: the
job would go on, or end as if all were well.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

Item = TypeVar("Item")

AGAIN = 0.01  # seconds until a signal that was swallowed is sent again


class Stopped(BaseException):
    """The job was told to stop, by `signal`, and has finished what it had begun."""

    def __init__(self, signal: int, message: str = "stopped"):
        super().__init__(message)
        self.signal = signal


class StopRequests:
    """The first signal that has come, in `signal`. A second one acts as it always does.

    Pass the job's input through `inputs`, and its results through `results`.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._reading = False

    def inputs(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items until a signal comes, also where the next one may never come."""
        iterator = iter(items)
        while self.signal is None:
            self._reading = True
            try:
                item = next(iterator)
            except (StopIteration, Stopped):
                return
            finally:
                self._reading = False
            yield item

    def results(self, items: Iterable[Item]) -> Iterator[Item]:
        """All items. Raises Stopped after the last if a signal came before."""
        count = 0
        for item in items:
            yield item
            count += 1
        self.check(f"stopped after {count} documents")

    def ask(self) -> None:
        """Ask the job to stop, as SIGINT does; from any thread."""
        self.signal = signal.SIGINT

    def check(self, message: str = "stopped") -> None:
        """Raise Stopped if a signal has come."""
        if self.signal is not None:
            raise Stopped(self.signal, message)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self.signal = number
        signal.signal(number, _DEFAULT[number])
        if self._reading:
            raise Stopped(number)


_DEFAULT = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


@contextlib.contextmanager
def unswallowed_interrupts() -> Iterator[None]:
    """Send Ctrl-C again where it came in a callback, whose exceptions Python drops.

    JAX has one for the garbage collector.
    """
    before = sys.unraisablehook

    def drop(dropped: sys.UnraisableHookArgs) -> None:
        if not isinstance(dropped.exc_value, KeyboardInterrupt):
            before(dropped)
            return
        # to the main thread, so that a wait there ends
        main = threading.main_thread().ident
        send = threading.Timer(AGAIN, signal.pthread_kill, [main, signal.SIGINT])
        send.daemon = True
        send.start()

    sys.unraisablehook = drop
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequests]:
    """Listen for SIGINT and SIGTERM; not outside of the main thread, which cannot."""
    requests = StopRequests()
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    before = {n: signal.signal(n, requests.receive) for n in _DEFAULT}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
