"""Seconds and memory of this process. Shared by the scripts beside it."""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path


def time_median(
    function: Callable, repeats: int, clock: Callable = time.process_time
) -> tuple[float, object]:
    """Median seconds of a call, and what the last one returned."""
    seconds, result = [], None
    for _ in range(repeats):
        result = None  # not two at once in memory
        began = clock()
        result = function()
        seconds.append(clock() - began)
    return statistics.median(seconds), result


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def most_resident() -> int:
    """The most bytes this process has had in memory (getrusage counts its parent's)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])
