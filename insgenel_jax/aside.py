"""A path in; a file or folder beside it out, written first and then moved to the path.

The names are hidden: `.NAME.0123456789abcdef.part`. What a killed process left under
such a name is removed when the same path is written again. A lock says which are still
being written. Modes follow the umask, unlike those of `tempfile`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

REPLACED = ".replaced"  # in a folder aside: what stood at the path before


@contextlib.contextmanager
def file(path: Path) -> Iterator[Path]:
    """An empty file beside `path`. If it is still there at the end it is removed."""
    with _locked(path, lambda aside: aside.touch(exist_ok=False)) as aside:
        yield aside


@contextlib.contextmanager
def folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`. If it is still there at the end it is removed."""
    with _locked(path, lambda aside: aside.mkdir()) as aside:
        yield aside


def replace_folder(aside: Path, path: Path) -> None:
    """Move a folder to `path`, in place of the one that may stand there."""
    if not path.exists():
        aside.rename(path)
        return
    with folder(path) as old:
        path.rename(old / REPLACED)
        aside.rename(path)


def follow_umask(folder: Path) -> None:
    """Give the files in a folder the mode that new files get, whatever wrote them.

    Some libraries write files that only their owner may read. Files that other
    directories share, by hard links, keep theirs.
    """
    mode = folder.stat().st_mode & 0o666  # the folder was made under the umask
    for path in folder.rglob("*"):
        facts = path.lstat()
        if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:
            path.chmod(mode)


@contextlib.contextmanager
def _locked(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Make something beside `path`, hold its lock while it is used, then discard it."""
    path = path.absolute()  # "." has no name
    _discard_leftovers(path)
    aside, lock = _make_locked(path, make)
    try:
        yield aside
    finally:
        os.close(lock)
        _discard(aside, path)


def _make_locked(path: Path, make: Callable[[Path], None]) -> tuple[Path, int]:
    """Make something beside `path`, and take its lock: its path, and a descriptor.

    Another process may have taken it for a leftover before it was locked: then again.
    """
    while True:
        aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        make(aside)
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(aside, os.O_RDONLY)
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            if aside.exists():
                return aside, lock
            os.close(lock)


def _discard_leftovers(path: Path) -> None:
    """Discard what processes that are no more have left beside `path`."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}\.part")
    for left in list(path.parent.iterdir()):
        if name.fullmatch(left.name) and _is_unlocked(left):
            _discard(left, path)


def _is_unlocked(path: Path) -> bool:
    """Whether no process holds the lock of something. False where that is unknown."""
    try:
        lock = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(lock)


def _discard(aside: Path, path: Path) -> None:
    """Remove a file or folder aside; what it replaced goes back if nothing followed."""
    if (aside / REPLACED).exists() and not path.exists():
        (aside / REPLACED).rename(path)
    if aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)
