"""A folder in; a profile of five steps in it, for TensorBoard or xprof, out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax

SKIPPED = 1  # steps of a run before those profiled: the first waits for its compiling
PROFILED = 5


class Profile:
    """Profiles steps of this run, in the first process; without a folder, nothing.

    wait: called before the profile ends, to wait for the steps that were dispatched.
    """

    def __init__(self, folder: Path | None, wait: Callable[[], None]):
        self._folder = folder if jax.process_index() == 0 else None
        self._wait, self._steps, self._running = wait, 0, False

    def count(self) -> None:
        """Take note that a step was dispatched."""
        if self._folder is None:
            return
        self._steps += 1
        if self._steps == SKIPPED:
            self._wait()
            jax.profiler.start_trace(self._folder)
            self._running = True
        elif self._steps == SKIPPED + PROFILED:
            self.close()

    def close(self) -> None:
        """End a profile that is running."""
        if self._running:
            self._running = False
            self._wait()
            jax.profiler.stop_trace()
