"""The folder of a job in; the right to write to it, which one process at a time has.

On disk it is the lock of a folder. In a bucket, which has no locks, it is an object
that says who holds it and until when; the holder renews it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from insgenel_jax import lock
from insgenel_jax.jobs import store
from insgenel_jax.jobs.job import join
from insgenel_jax.text.formats.rejects import InputError

RENEWED = 60.0  # seconds after which a claim is renewed
STALE = 300.0  # seconds after which one that was not renewed is void


@contextlib.contextmanager
def hold(folder: str, number: int, count: int) -> Iterator[None]:
    """Hold slice `number` of `count` of a job, or the job whole as slice 0 of 1.

    Raises InputError that names the process which holds it.
    """
    name = ".lock" if count == 1 else f".lock-{number}-of-{count}"
    if store.is_remote(folder):
        with _claim(join(folder, f"{name}.json")):
            yield
        return
    place = Path(folder) if count == 1 else Path(folder, name)
    with lock.hold(place):
        yield


@contextlib.contextmanager
def _claim(path: str) -> Iterator[None]:
    now, token = time.time(), secrets.token_hex(8)
    held = store.read_json(path)
    if held is not None and now - held["renewed"] < STALE:
        age = int(now - held["renewed"])
        raise InputError(
            f"{path}: expected a folder that nothing else writes to, found it in use "
            f"by {held['who']}, who renewed the claim {age} s ago; wait until that "
            f"ends ({STALE:.0f} s after the last renewal if it was killed), or choose "
            "another folder"
        )
    who = f"process {os.getpid()} on {platform.node()}"
    record = {"who": who, "token": token}
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEWED):
            with contextlib.suppress(OSError):  # the next renewal may go well
                store.write_json(path, {**record, "renewed": time.time()})

    store.write_json(path, {**record, "renewed": now})
    if store.read_json(path)["token"] != token:
        raise InputError(f"{path}: another process claimed it just now; wait for that")
    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        store.open_path(path).unlink(missing_ok=True)
