"""A folder in; the lock of it, which one process at a time holds and which says who.

A killed process holds no lock any more: the operating system has given it back.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from insgenel_jax.text.formats.rejects import InputError

FILE = ".lock"  # in the folder, while the lock is held


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made where it is missing.

    Raises InputError that names the process which holds it.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FILE
    lock = FileLock(file, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{folder}: expected a folder that nothing else writes to, found it in use "
            f"by {_holder(file)}; wait until that ends, or choose another folder"
        ) from None
    try:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        who = f"process {os.getpid()} on {platform.node()} since {now}"
        file.write_text(f"{who}: {' '.join(sys.argv)}", encoding="utf-8")
        yield
    finally:
        file.unlink(missing_ok=True)  # while it is held: a contender would notice
        lock.release()
        if made:
            with contextlib.suppress(OSError):  # something is in it now
                folder.rmdir()


def _holder(file: Path) -> str:
    """What the file of a lock says of the process that holds it."""
    with contextlib.suppress(OSError):  # it may be given back by now
        return file.read_text(encoding="utf-8", errors="replace") or "another process"
    return "another process"
