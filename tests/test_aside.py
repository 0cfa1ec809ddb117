"""Modes follow the umask; what a killed process left goes, and other files stay."""

import fcntl
import os
import signal
import subprocess
import sys

import pytest

from insgenel_jax import artifact, aside
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import write_documents

KILLED = """
import os, signal, sys
from pathlib import Path
from insgenel_jax import aside
path = Path(sys.argv[1])
with aside.file(path) as one, aside.folder(path) as two:
    one.write_text("half")
    (two / "half").write_text("half")
    if len(sys.argv) > 2:
        path.rename(two / aside.REPLACED)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_while_writing(path, *more):
    done = subprocess.run([sys.executable, "-c", KILLED, path, *more], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(path.parent.glob(f".{path.name}.*.part"))) == 2


def test_what_the_killed_left_is_removed_at_the_next_start(tmp_path):
    path, others = (
        tmp_path / "out",
        [".out.settings", ".out.0123456789abcdef", ".a.part"],
    )
    for name in others:
        (tmp_path / name).write_text("mine")
    kill_while_writing(path)
    with aside.file(tmp_path / "another"):
        assert len(list(tmp_path.iterdir())) == len(others) + 3
    with aside.file(path) as one, aside.folder(path) as two:
        assert one.is_file() and two.is_dir()  # the lock of the first is seen
        held = {*others, one.name, two.name}
        assert {p.name for p in tmp_path.iterdir()} == held
    assert {p.name for p in tmp_path.iterdir()} == set(others)


def test_what_another_process_took_for_a_leftover_is_made_again(tmp_path, monkeypatch):
    """It begins to write the same path before the first has taken its lock."""
    locked, began = fcntl.flock, []

    def flock(descriptor, operation):
        if operation == fcntl.LOCK_EX and len(began) < 2:
            began.append(operation)
            with aside.folder(tmp_path / "out") as other:
                assert other.is_dir()
        locked(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with aside.folder(tmp_path / "out") as made:
        assert made.is_dir() and len(began) == 2
        assert [path.name for path in tmp_path.iterdir()] == [made.name]
    assert not list(tmp_path.iterdir())


def test_what_was_about_to_be_replaced_goes_back(tmp_path):
    path = tmp_path / "out"
    path.mkdir()
    (path / "a").write_text("old")
    kill_while_writing(path, "replaced")
    assert not path.exists()
    with aside.folder(path):
        assert (path / "a").read_text() == "old"
    with pytest.raises(FileNotFoundError):
        aside.replace_folder(tmp_path / "none", path)
    assert (path / "a").read_text() == "old"


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o002])
def test_modes_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        with artifact.create(tmp_path / "made", "kind", 1) as draft:
            (draft.path / "sub").mkdir()
            (draft.path / "sub" / "weights").touch(0o600)
            (draft.path / "open").touch()
            (draft.path / "open").chmod(0o666)
        (tmp_path / "part").touch(0o640)
        with artifact.create(tmp_path / "linked", "kind", 1) as draft:
            (draft.path / "part").hardlink_to(tmp_path / "part")
        write_documents(tmp_path / "out.jsonl", [Document("1", "Paris")])
    finally:
        os.umask(before)
    files = ("made/sub/weights", "made/open", "made/manifest.json", "out.jsonl")
    assert {(tmp_path / f).stat().st_mode & 0o777 for f in files} == {0o666 & ~umask}
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o777 & ~umask
    assert (tmp_path / "part").stat().st_mode & 0o777 == 0o640 & ~umask
