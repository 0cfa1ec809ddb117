"""One process at a time holds the lock of a folder; the others are told which."""

import os
import signal
import subprocess
import sys

import pytest

from insgenel_jax import lock
from insgenel_jax.text.formats.rejects import InputError

HOLD = """
import pathlib, sys, time
from insgenel_jax import lock
with lock.hold(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_holder_is_named_and_a_killed_one_holds_nothing(tmp_path):
    folder = tmp_path / "new" / "folder"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    told = f"{folder}: .* in use by process {holder.pid} on .*; wait"
    with pytest.raises(InputError, match=told), lock.hold(folder):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert (folder / lock.FILE).exists()
    with lock.hold(folder):
        assert (folder / lock.FILE).read_text().startswith(f"process {os.getpid()} on ")
        mine = pytest.raises(InputError, match=f"process {os.getpid()} ")
        with mine, lock.hold(folder):
            pass
    assert list(folder.iterdir()) == []


def test_nothing_is_left(tmp_path):
    with lock.hold(tmp_path / "new"):
        pass
    assert list(tmp_path.iterdir()) == []
    with lock.hold(tmp_path / "new"):
        (tmp_path / "new" / "file").touch()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["file"]
