"""What the entry points share: checks of paths and settings, errors, exit statuses.

Paths and settings are checked before any work begins. An error that the user can fix is
printed as one line. The exit status is 0 where all went well, 2 (`WRONG`) for a wrong
argument or an input that cannot be used, and 3 (`REJECTED`) where the job is done but
some bad input was left out, 130 and 143 after SIGINT (Ctrl-C) and SIGTERM.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import io
import os
import platform
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from insgenel_jax.artifact import FULL, ArtifactError, check_replaceable
from insgenel_jax.artifact import read as read_manifest
from insgenel_jax.stopping import Stopped, unswallowed_interrupts
from insgenel_jax.text.formats.lines import PACKED_ENDINGS
from insgenel_jax.text.formats.rejects import InputError, Rejects

WRONG = 2
REJECTED = 3
LONGEST_ERROR = 2000  # characters
# Control characters but tab and line feed: what is shown must not steer the terminal.
CONTROLS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "\ufffd")


@contextlib.contextmanager
def user_errors(*others: type[Exception]) -> Iterator[None]:
    """Decorate a command: errors that its user can fix are one line and exit status 2.

    These are InputError, ArtifactError, OSError and `others`; the line goes to standard
    error. Any other exception is a bug of ours and keeps its traceback. A warning is
    one line too. Standard output and error are UTF-8, whatever the locale. Compiled
    programs are kept, see `keep_compiled`.
    """
    write_utf8()
    keep_compiled()
    fixable: tuple[type[Exception], ...]
    fixable = (InputError, ArtifactError, OSError, *others)
    try:
        with warnings.catch_warnings(), unswallowed_interrupts():
            warnings.showwarning = show_warning
            yield
    except Stopped as stopped:
        Console(stderr=True).print(Text(str(stopped), "yellow"), soft_wrap=True)
        sys.exit(128 + stopped.signal)
    except KeyboardInterrupt:  # where a command does not finish what it has begun
        Console(stderr=True).print(Text("stopped", "yellow"))
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # an OSError, but only says that nobody reads our output
        raise
    except fixable as error:
        Console(stderr=True).print(
            Text(f"error: {describe(error)}", "red"), soft_wrap=True
        )
        sys.exit(WRONG)
    except Exception as error:
        if (full := find_full_disk(error)) is None:
            raise
        Console(stderr=True).print(
            Text(f"error: {describe(full)}", "red"), soft_wrap=True
        )
        sys.exit(WRONG)


def find_full_disk(error: BaseException | None) -> BaseException | None:
    """The exception among an error and its causes that tells of a full disk, or None.

    Libraries that write files turn it into exceptions of their own.
    """
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        if number in FULL or any(os.strerror(n) in str(error) for n in FULL):
            return error
        error = error.__cause__ or error.__context__
    return None


def write_utf8() -> None:
    """Let standard output and error be UTF-8, in which all of our files are.

    In the encoding of some locales most texts cannot be written.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")


def show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    """Print a warning as one line to standard error, without its place in the code."""
    shown = " ".join(str(message).split())
    Console(stderr=True).print(Text(f"warning: {shown}", "yellow"), soft_wrap=True)


def describe(error: BaseException) -> str:
    """An error in one line that any terminal can show."""
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        remedy = "check that it is there, its kind and its permissions"
        if error.errno in FULL:
            remedy = "make room, or write elsewhere; what was there before stays"
        text = f"{error.strerror}; {remedy}"
        if error.filename is not None:
            text = f"{os.fsdecode(error.filename)}: {text}"
    # A path may hold bytes that are no UTF-8; they are shown as escapes.
    text = " ".join(text.split()).encode(errors="backslashreplace").decode()
    text = text.translate(CONTROLS)
    return text if len(text) <= LONGEST_ERROR else f"{text[:LONGEST_ERROR]}..."


def keep_compiled() -> None:
    """Let JAX keep compiled programs in the user's cache folder, for the next process.

    Where JAX_COMPILATION_CACHE_DIR is set, or the folder cannot be written to, nothing
    is changed.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if not cache.is_absolute():  # such a one is to be ignored, as its authors say
            cache = Path.home() / ".cache"
        # A folder for each machine: a program compiled for the processor of one may
        # not run on another that shares the home directory.
        folder = cache / "insgenel_jax" / "compiled" / platform.node()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home directory
        return
    if os.access(folder, os.W_OK | os.X_OK):
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
        # JAX would keep none that compiled in less than a second
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
        if "jax" in sys.modules:  # which has read the environment already
            import jax

            jax.config.update("jax_compilation_cache_dir", str(folder))
            least = float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"])
            jax.config.update("jax_persistent_cache_min_compile_time_secs", least)


@contextlib.contextmanager
def opening(path: str | os.PathLike, what: str) -> Iterator[None]:
    """Turn any exception that opening an artifact raises into an InputError.

    The libraries that read an artifact's files raise exceptions of every kind when a
    file is damaged, some of them bare Exceptions. what: the artifact's kind, for the
    message. InputError, ArtifactError and OSError pass unchanged.
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
    """Open the rejects file of a command, and report at the end what went into it.

    If anything but notes did, the process exits with status 3. After an exception the
    report is printed too, but the exception decides the status.
    """
    with Rejects(path) as rejects:
        try:
            yield rejects
        finally:
            for what, counts in (
                ("rejected", rejects.by_reason),
                ("noted", rejects.notes),
            ):
                if counts:
                    reasons = ", ".join(f"{r} ({n})" for r, n in sorted(counts.items()))
                    message = f"{counts.total()} {what}, see {path}: {reasons}"
                    console.print(Text(message, "yellow"), soft_wrap=True)
    if rejects.count:
        sys.exit(REJECTED)


def check_paths(
    inputs: Iterable[str | os.PathLike | None],
    artifacts: Iterable[str | os.PathLike | None],
    outputs: Iterable[str | os.PathLike | None],
    either: Iterable[str | os.PathLike] = (),
    packed: Iterable[str | os.PathLike] = (),
) -> None:
    """Refuse what cannot be read or written, before any work; None is left out.

    either: inputs that may be folders. packed: outputs that may be packed. An output is
    none of the rest, nor in them.
    Raises InputError, and ArtifactError for a folder that is no artifact.
    """
    inputs, artifacts, outputs = (
        [path for path in paths if path is not None]
        for paths in (inputs, artifacts, outputs)
    )
    either, packed = list(either), list(packed)
    for path in inputs:
        check_input(path)
    for path in either:
        check_input(path, folder=True)
    for path in artifacts:
        read_manifest(path)
    for path in outputs:
        check_output(path)
    for path in packed:
        check_output(path, packed=True)
    check_apart([*outputs, *packed], [*inputs, *either, *artifacts])


def check_input(path: str | os.PathLike, *, folder: bool = False) -> None:
    """Refuse a path that is no readable file, or, with `folder`, no readable folder.

    `-` is standard input, unless a folder may be given. Raises InputError.
    """
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


def check_output(path: str | os.PathLike, *, packed: bool = False) -> None:
    """Refuse a path that no file can be written to; `-` is standard output.

    packed: what writes the file packs it, where its name says so. Raises InputError.
    """
    if str(path) == "-":
        return
    if Path(path).is_dir():
        raise InputError(
            f"{path}: expected a file to write, found a folder; add a file name"
        )
    if str(path).endswith(PACKED_ENDINGS) and not packed:
        raise InputError(
            f"{path}: expected a plain file to write, found the name of a packed one; "
            "choose another name and pack it afterwards"
        )
    check_parent(path)


def check_target(path: str | os.PathLike, kind: str) -> None:
    """Refuse a path that no artifact of this kind can be written to.

    Raises ArtifactError where something of another kind stands there, InputError where
    its folder cannot be written to.
    """
    check_replaceable(path, kind)
    check_parent(path)


def check_parent(path: str | os.PathLike) -> None:
    """Refuse a path whose folder cannot be written to, or cannot be made.

    Raises InputError.
    """
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
    """Refuse an output that equals, contains or lies in an input or another output.

    Raises InputError.
    """
    # Path.resolve would raise for a link that leads to itself
    written = [(p, Path(os.path.realpath(p))) for p in outputs if str(p) != "-"]
    read = [(p, Path(os.path.realpath(p))) for p in inputs if str(p) != "-"]
    for number, (path, whole) in enumerate(written):
        for other_path, other in written[:number] + read:
            if whole == other or whole in other.parents or other in whole.parents:
                how = "the same path" if whole == other else "one inside the other"
                raise InputError(
                    f"{path}: expected an output apart from {other_path}, found {how}; "
                    "choose another path"
                )


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Parse "key=value" strings; a value is a Python literal or else a plain string.

    Raises InputError for a string without "=" and for a key that comes twice.
    """
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
    settings: dict[str, Any],
    linker: str | os.PathLike,
    *,
    new: bool = False,
    given: bool = False,
) -> dict[str, str]:
    """Refuse settings that the linker cannot be opened with.

    These are unknown names, bad values, and values that do not go with the settings
    kept in the linker's directory. new: the linker is about to be written,
    so the settings of a linker that is already at that path are ignored. given: the
    command links given mentions. Returns those that have no effect beside the others:
    name -> what it would need. Raises InputError, or ArtifactError where the kept
    settings are damaged.
    """
    from insgenel_jax.linker.settings import (
        make_settings,
        read_settings,
        without_effect,
    )

    linker = Path(linker)
    try:
        if new or not (linker / "linker.json").is_file():
            checked = make_settings(settings, linker)
        else:
            checked = read_settings(linker, **settings)
        useless = without_effect(settings, checked)
        if settings.get("titles") == "all" and not given:
            useless["titles"] = "given mentions; give --given where a command has it"
        return useless
    except ArtifactError:
        raise
    except (ValueError, TypeError) as error:
        raise InputError(f"{error}; fix --set") from error


def check_effect(
    settings: dict[str, Any], linker: str | os.PathLike, *, given: bool = False
) -> None:
    """`check_settings`, and refuse those without effect as well. Raises InputError."""
    for setting, needs in check_settings(settings, linker, given=given).items():
        raise InputError(
            f"--set {setting}: no effect, it needs {needs}; leave it out or set what "
            "it needs"
        )


def settings_option(
    explain: Callable[[], tuple[dict[str, Any], dict[str, str]]],
) -> Any:
    """The option --set of a command, of which `--set help` lists all settings.

    explain: gives the defaults and the meanings, by name; called for that list alone.
    """

    def list_settings(given: list[str] | None) -> list[str] | None:
        if given and "help" in given:
            defaults, meanings = explain()
            table = Table("setting", "default", "meaning", show_lines=True)
            for name, default in defaults.items():
                table.add_row(*map(Text, (name, str(default), meanings.get(name, ""))))
            Console().print(table)
            raise typer.Exit
        return given

    return typer.Option(
        "--set",
        help="Setting, key=value; repeatable. --set help lists all, and what they do.",
        callback=list_settings,
        is_eager=True,
    )


def linker_settings() -> tuple[dict[str, Any], dict[str, str]]:
    """The defaults and the meanings of a linker's settings, by name."""
    from insgenel_jax.linker.settings import Settings, explain_settings

    preset = 'no setting: "paper" gives many of them the values of the paper'
    defaults = {"preset": None} | dataclasses.asdict(Settings())
    return defaults, {"preset": preset} | explain_settings()


def input_size(path: str | os.PathLike) -> int | None:
    """The bytes of an input file; None where they are not known beforehand."""
    return os.stat(path).st_size if str(path) != "-" and Path(path).is_file() else None


@contextlib.contextmanager
def show_progress(
    console: Console, total: int | None, what: str = "documents"
) -> Iterator[Progress]:
    """A line that goes away at the end: how many of `what`, and how long it takes.

    total: bytes to read in all, if known; with it the line has a bar and the time that
    is left. Set the task's `completed` to the bytes read, and its field `count`.
    """
    text = TextColumn("{task.fields[count]:,} {task.fields[what]}")
    columns = (SpinnerColumn(), text)
    if total is not None:
        columns += (BarColumn(), TextColumn("{task.percentage:.0f} %"))
    columns += (TimeElapsedColumn(),)
    if total is not None:
        columns += (TextColumn("left:"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(what, total=total, count=0, what=what)
        yield progress


def count_document(progress: Progress, read: int | None = None) -> int:
    """Count a document in the line of progress; how many came before it.

    read: bytes of the input read up to it, if known.
    """
    (task,) = progress.tasks
    count = task.fields["count"]
    progress.update(task.id, count=count + 1, completed=read)
    return count
