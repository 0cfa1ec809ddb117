"""Artifact directories: written aside, committed last, checked when opened.

An artifact is a directory that one step writes and another reads: a knowledge base,
training documents, a model, an index, a linker. It has a `manifest.json` with its kind,
format version and counts, the size and sha256 of each file, the artifacts it was made
from, and its identity, which is a hash of all of these.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from insgenel_jax import aside

CARD = "README.md"  # of a model or linker that was trained: base, data, scores
MANIFEST = "manifest.json"
FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk, or what the user may have of it
# how NumPy and marisa say that a file could not be written to its end
_OF_LIBRARIES = re.compile(r"\d+ requested and \d+ written|MARISA_IO_ERROR: size_wr")
NOTES = ("README.md", "NOTICE")  # for people: they may stand beside the listed files


class ArtifactError(ValueError):
    """A directory is incomplete, truncated, altered or of another kind."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What an artifact directory says about itself."""

    kind: str
    version: int
    counts: dict[str, int]
    made_from: dict[str, str]  # role -> identity of that artifact
    files: dict[str, dict[str, Any]]  # relative path -> {"bytes", "sha256"}
    identity: str


@dataclasses.dataclass
class Draft:
    """An artifact that is being written: put files under `path`, fill in the rest.

    known: the facts of files that need no hashing, as a manifest has them. listed: the
    files that the manifest lists [all].
    """

    path: Path
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    made_from: dict[str, str] = dataclasses.field(default_factory=dict)
    known: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    listed: Collection[str] | None = None


@contextlib.contextmanager
def create(path: str | os.PathLike, kind: str, version: int) -> Iterator[Draft]:
    """Write an artifact aside, and move it to `path` when the `with` body succeeds.

    It replaces an artifact of the same kind. Anything else at `path` raises
    ArtifactError, so that a mistyped path never destroys a folder.
    """
    check_replaceable(path, kind)
    path = Path(os.path.realpath(path))  # a link stays, and leads to the new artifact
    path.parent.mkdir(parents=True, exist_ok=True)
    with _naming(path), aside.folder(path) as folder:
        draft = Draft(folder)
        yield draft
        aside.follow_umask(folder)
        write_manifest(
            folder,
            kind,
            version,
            draft.counts,
            draft.made_from,
            draft.known,
            draft.listed,
        )
        aside.replace_folder(folder, path)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Have errors of a full disk name the artifact; those of libraries name no file."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        full = _OF_LIBRARIES.search(str(error)) is not None
        if isinstance(error, OSError) and error.errno in FULL:
            full = error.filename is None
        if not full:
            raise
        number = errno.ENOSPC
        raise OSError(number, os.strerror(number), str(path)) from error


def replace_file(
    path: str | os.PathLike,
    kind: str,
    version: int,
    name: str,
    text: str,
    beside: Collection[str] = (),
) -> None:
    """Write one text file of an artifact anew; its other files stay.

    The whole directory is written aside and moved to `path` when it is complete, with
    hard links in place of copies. The other files keep the hashes that they had when
    they were made, so that damage since then still shows. What stands beside the listed
    files stays too, and stays unlisted. beside: as in `check`. Raises ArtifactError
    where the artifact is damaged.
    """
    path = Path(path).resolve()
    manifest = check(path, kind, version, beside=beside)
    others = {n: facts for n, facts in manifest.files.items() if n != name}
    with create(path, kind, version) as draft:
        draft.counts, draft.made_from = manifest.counts, manifest.made_from
        draft.known, draft.listed = others, {*others, name}
        shutil.copytree(
            path,
            draft.path,
            symlinks=True,
            copy_function=link_or_copy,
            dirs_exist_ok=True,
        )
        for changed in (name, MANIFEST):  # writing to a link would change the old file
            (draft.path / changed).unlink(missing_ok=True)
        (draft.path / name).write_text(text, encoding="utf-8")


def link_or_copy(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Make `target` the same file as `source`, or a copy where that cannot be."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def check_replaceable(path: str | os.PathLike, kind: str) -> None:
    """Raise ArtifactError if `path` holds anything but an artifact of this kind.

    A missing path and an empty folder are fine.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        present = read(path).kind if (path / MANIFEST).is_file() else "other files"
        if present != kind:
            raise ArtifactError(
                f"{path}: expected a new path or an artifact of kind {kind!r} to "
                f"replace, found {present!r}; choose another path"
            )


def write_manifest(
    path: Path,
    kind: str,
    version: int,
    counts: dict[str, int],
    made_from: dict[str, str],
    known: Mapping[str, dict[str, Any]] | None = None,
    listed: Collection[str] | None = None,
) -> Manifest:
    """Hash the files under `path` and write their manifest, which completes it.

    known: facts of files that are not hashed. listed: the files to list [all].
    """
    files: dict[str, dict[str, Any]] = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        name = file.relative_to(path).as_posix()
        if name != MANIFEST and (listed is None or name in listed):
            files[name] = (known or {}).get(name) or {
                "bytes": file.stat().st_size,
                "sha256": hash_file(file),
            }
    record: dict[str, Any] = {
        "kind": kind,
        "version": version,
        "counts": counts,
        "made_from": made_from,
        "files": files,
    }
    manifest = Manifest(identity=_hash_record(record), **record)
    text = json.dumps(dataclasses.asdict(manifest), indent=1)
    (path / MANIFEST).write_text(text + "\n")
    return manifest


def _hash_record(record: Mapping[str, Any]) -> str:
    """The identity of a manifest: a hash of all its other fields."""
    facts = {name: value for name, value in record.items() if name != "identity"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def read(path: str | os.PathLike) -> Manifest:
    """Read the manifest of an artifact directory; its files are not checked.

    Raises ArtifactError where there is no manifest or it cannot be read.
    """
    file = Path(path) / MANIFEST
    if not file.is_file():
        raise ArtifactError(
            f"{path}: expected an artifact directory with a {MANIFEST}, found none; "
            "it is another kind of directory or was never finished: make it again"
        )
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if problem := _problem(record):
            raise ValueError(problem)
        return Manifest(**record)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{file}: not a readable manifest ({error}); make the directory again"
        ) from error


def _problem(record: Any) -> str | None:
    """What keeps a JSON value from being a manifest; None where it is one."""
    fields = {"kind": str, "version": int, "identity": str}
    fields |= {"counts": dict, "made_from": dict, "files": dict}
    if not isinstance(record, dict) or record.keys() != fields.keys():
        return f"expected an object with {', '.join(fields)}, found {str(record)[:200]}"
    for name, kind in fields.items():
        if not isinstance(record[name], kind):
            return f"{name}: expected a {kind.__name__}, found {record[name]!r:.200}"
    for field, kind in (("counts", int), ("made_from", str)):
        for name, value in record[field].items():
            if not isinstance(value, kind):
                return f"{field}, {name}: expected a {kind.__name__}, found {value!r}"
    for name, facts in record["files"].items():
        if not isinstance(facts, dict) or [
            type(facts.get(fact)) for fact in ("bytes", "sha256")
        ] != [int, str]:
            return f"{name}: expected its bytes and sha256, found {facts!r:.200}"
        # such a name would have us read files outside the artifact
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            return f"expected names of files in the directory, found {name!r}"
    return None


def check(
    path: str | os.PathLike,
    kind: str,
    version: int,
    *,
    verify: bool = False,
    beside: Collection[str] = (),
) -> Manifest:
    """Check an artifact's kind, version and files' sizes; return its manifest.

    verify: check the hashes of the files and of the manifest too. beside: folders in it
    that are artifacts of their own, and are checked where they are opened. Raises
    ArtifactError that names every file that is missing, differs or is not listed.
    """
    manifest = read(path)
    if (manifest.kind, manifest.version) != (kind, version):
        raise ArtifactError(
            f"{path}: expected a {kind!r} of version {version}, found a "
            f"{manifest.kind!r} of version {manifest.version}; make it again with this "
            "version of insgenel_jax"
        )
    wrong = []
    for name, facts in manifest.files.items():
        file = Path(path) / name
        if not file.is_file():
            wrong.append(f"{name} is missing")
        elif file.stat().st_size != facts["bytes"]:
            size = file.stat().st_size
            wrong.append(f"{name} has {size} bytes instead of {facts['bytes']}")
        elif verify and hash_file(file) != facts["sha256"]:
            wrong.append(f"{name} has another sha256")
    if verify and manifest.identity != _hash_record(dataclasses.asdict(manifest)):
        wrong.append(f"{MANIFEST} has another identity than its content")
    wrong += [
        f"{name} is not in its {MANIFEST} (take it away)"
        for name in _unlisted(Path(path), manifest.files, {*NOTES, *beside})
    ]
    if wrong:
        raise ArtifactError(
            f"{path}: damaged {kind}: {'; '.join(wrong)}; make it again"
        )
    return manifest


def _unlisted(path: Path, files: Collection[str], beside: Collection[str]) -> list[str]:
    """The files and folders in an artifact that its manifest does not list.

    A reader might prefer one of them to a file that is listed. Left out are hidden
    ones, which no reader opens and which are put there by others (another process that
    writes aside, a file system), and folders without files.
    """
    listed = {PurePosixPath(name) for name in files}
    folders = {parent for name in listed for parent in name.parents}
    expected = listed | folders | {PurePosixPath(n) for n in (MANIFEST, *beside)}
    return [
        name.as_posix()
        for folder in sorted(folders | {PurePosixPath()})
        if (path / folder).is_dir()
        for name in sorted(folder / entry.name for entry in (path / folder).iterdir())
        if name not in expected
        and not name.name.startswith(".")
        and not _is_hollow(path / name)
    ]


def _is_hollow(path: Path) -> bool:
    """Whether a path is a folder in which there is no file at any depth."""
    if path.is_symlink() or not path.is_dir():
        return False
    return all(p.is_dir() and not p.is_symlink() for p in path.rglob("*"))


def identity(path: str | os.PathLike) -> str:
    """The identity of a directory: the one in its manifest, or a hash of all its files.

    The hash is for directories without a manifest, such as a model directory that
    Hugging Face wrote. Raises ArtifactError where there is no directory.
    """
    path = Path(path)
    if (path / MANIFEST).is_file():
        return read(path).identity
    if not path.is_dir():
        raise ArtifactError(f"{path}: no such directory")
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()} {hash_file(file)}".encode())
    return digest.hexdigest()


def read_json(file: Path, *names: str) -> dict[str, Any]:
    """The JSON object in a file of an artifact.

    names: keys that it must have. Raises ArtifactError that names the file.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{file}: expected JSON, found something else ({error}); the file is "
            "damaged: make the directory it is in again"
        ) from error
    if not isinstance(content, dict) or not content.keys() >= set(names):
        raise ArtifactError(
            f"{file}: expected a JSON object with {', '.join(names) or 'settings'}, "
            f"found {str(content)[:200]}; the file is damaged: make the directory it "
            "is in again"
        )
    return content


def hash_file(file: Path) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
