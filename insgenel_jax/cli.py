"""What the entry points share: paths and settings checked before any work, one line for
what a user can mend, and the exit statuses.

0 all is well; 2 a wrong argument or an input that cannot be used; 3 (`REJECTED`) the job
is done, but some bad input was left out.
"""

from __future__ import annotations

import ast
import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from insgenel_jax.artifact import ArtifactError, check_replaceable
from insgenel_jax.text.formats.lines import PACKED_ENDINGS
from insgenel_jax.text.formats.rejects import InputError, Rejects

WRONG = 2
REJECTED = 3
_LONGEST = 2000  # characters of an error


@contextlib.contextmanager
def user_errors(*others: type[Exception]) -> Iterator[None]:
    """Decorates a command: what its user can mend is one line on stderr and status 2.

    That is InputError, ArtifactError, OSError and `others`. Anything else is a mistake of
    ours and keeps its traceback.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of our output has had enough
        raise
    except (InputError, ArtifactError, OSError, *others) as error:
        Console(stderr=True).print(
            Text(f"error: {describe(error)}", "red"), soft_wrap=True
        )
        sys.exit(WRONG)


def describe(error: BaseException) -> str:
    """An error in one line that any terminal can show."""
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}; check that it is there, its kind and its permissions"
        if error.filename is not None:
            text = f"{os.fsdecode(error.filename)}: {text}"
    # a path may hold anything; what UTF-8 cannot hold is shown as an escape
    text = " ".join(text.split()).encode(errors="backslashreplace").decode()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


@contextlib.contextmanager
def opening(path: str | os.PathLike, what: str) -> Iterator[None]:
    """Whatever goes wrong while a user's artifact is opened is the artifact's fault.

    The libraries that read one raise errors of every kind, some bare Exceptions.
    """
    try:
        yield
    except (InputError, ArtifactError, OSError):
        raise
    except Exception as error:
        raise InputError(
            f"{path}: expected a {what}, found one that cannot be opened "
            f"({type(error).__name__}: {error}); make it again, or give another"
        ) from error


@contextlib.contextmanager
def rejecting(path: str | os.PathLike, console: Console) -> Iterator[Rejects]:
    """The rejects file of a command; where anything went into it, it says so and exits
    with status 3. After an error too it is said, but the error decides the status."""
    with Rejects(path) as rejects:
        try:
            yield rejects
        finally:
            if rejects.count:
                reasons = ", ".join(
                    f"{reason} ({count})"
                    for reason, count in sorted(rejects.by_reason.items())
                )
                told = f"{rejects.count} rejected, see {path}: {reasons}"
                console.print(Text(told, "yellow"), soft_wrap=True)
    if rejects.count:
        sys.exit(REJECTED)


def check_input(path: str | os.PathLike, *, folder: bool = False) -> None:
    """Refuse a path that is no readable file (or, if it may be one, folder); `-` is
    standard input."""
    if str(path) == "-" and not folder:
        return
    path = Path(path)
    expected = "a file or a folder" if folder else "a file"
    if not path.exists():
        raise InputError(f"{path}: expected {expected}, found nothing; check the path")
    if path.is_dir() and not folder:
        raise InputError(
            f"{path}: expected {expected}, found a folder; give a file in it"
        )
    if not os.access(path, os.R_OK):
        raise InputError(
            f"{path}: expected {expected} that you may read, found one that you may "
            "not; change its permissions"
        )


def check_output(path: str | os.PathLike) -> None:
    """Refuse a path that no file can be written to; `-` is standard output."""
    if str(path) == "-":
        return
    if Path(path).is_dir():
        raise InputError(
            f"{path}: expected a file to write, found a folder; add a file name"
        )
    if str(path).endswith(PACKED_ENDINGS):
        raise InputError(
            f"{path}: expected a plain file to write, found the name of a packed one; "
            "choose another name and pack it afterwards"
        )
    check_parent(path)


def check_target(path: str | os.PathLike, kind: str) -> None:
    """Refuse a path that no artifact of this kind can be written to."""
    check_replaceable(path, kind)
    check_parent(path)


def check_parent(path: str | os.PathLike) -> None:
    """Refuse a path in whose folder, there or to be made, nothing can be written."""
    parent = Path(path).absolute().parent
    while not os.path.lexists(parent):
        parent = parent.parent
    if not parent.is_dir():
        raise InputError(
            f"{path}: expected a folder at {parent}, found something else; choose "
            "another path"
        )
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(
            f"{path}: expected a folder {parent} that you may write to, found one that "
            "you may not; change its permissions or choose another path"
        )


def check_apart(
    outputs: Iterable[str | os.PathLike], inputs: Iterable[str | os.PathLike]
) -> None:
    """Refuse an output that is an input or another output, or lies in one, or holds one."""
    named = [(path, Path(path).resolve()) for path in outputs if str(path) != "-"]
    inputs = [(path, Path(path).resolve()) for path in inputs if str(path) != "-"]
    for number, (given, output) in enumerate(named):
        for other, at in named[:number] + inputs:
            if output == at or output in at.parents or at in output.parents:
                found = "the same path" if output == at else "one inside the other"
                raise InputError(
                    f"{given}: expected an output apart from {other}, found {found}; "
                    "choose another path"
                )


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """key=value strings to settings; values are Python literals or plain strings."""
    parsed: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting}: expected key=value, found no =")
        if key in parsed:
            raise InputError(f"--set {setting}: expected {key} once, found it twice")
        try:
            parsed[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            parsed[key] = value
    return parsed


def check_settings(
    settings: dict[str, Any], linker: str | os.PathLike, *, new: bool = False
) -> None:
    """Refuse unknown names, bad values, and what clashes with the settings the linker
    keeps; `new`: one that is to be written, in place of another perhaps."""
    from insgenel_jax.linker.directory import make_settings, read_settings

    linker = Path(linker)
    try:
        if new or not (linker / "linker.json").is_file():
            make_settings(settings, linker)
        else:
            read_settings(linker, **settings)
    except ArtifactError:
        raise
    except (ValueError, TypeError) as error:
        raise InputError(f"{error}; mend --set") from error
