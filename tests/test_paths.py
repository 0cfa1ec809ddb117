"""Paths that a command is given: what cannot be read or written is refused."""

import os
from pathlib import Path

import pytest

from insgenel_jax import artifact, paths
from insgenel_jax.text.formats.rejects import InputError


def test_inputs(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for path in ("-", file, "/dev/null"):
        paths.check_input(path)
    paths.check_input(tmp_path, folder=True)
    for path in (tmp_path, tmp_path / "no", file / "no"):
        with pytest.raises(InputError, match=f"^{path}: expected a file, found"):
            paths.check_input(path)
    with pytest.raises(InputError, match="a file or a folder, found nothing"):
        paths.check_input(tmp_path / "no", folder=True)


def test_outputs(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for path in ("-", file, tmp_path / "new" / "new", "new", "/dev/null"):
        paths.check_output(path)
    for path, named in (
        (tmp_path, "found a folder"),
        (file / "x", f"a folder at {file}"),
        (tmp_path / "x.gz", "packed"),
    ):
        with pytest.raises(InputError, match=f"^{path}: expected .*{named}"):
            paths.check_output(path)
    paths.check_target(tmp_path / "new", "kind")
    for path in (file, tmp_path):
        with pytest.raises(artifact.ArtifactError, match="found 'other files'"):
            paths.check_target(path, "kind")
    with pytest.raises(InputError, match="expected a folder at"):
        paths.check_target(file / "x", "kind")


def test_permissions(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="that you may read"):
        paths.check_input(tmp_path / "file")
    with pytest.raises(InputError, match=f"folder {tmp_path} that you may write to"):
        paths.check_output(tmp_path / "a" / "b")


def test_outputs_are_apart_from_inputs_and_each_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("in")
    paths.check_apart(["-", "out", "out2"], ["-", "in", "in/two"])
    Path("loop").symlink_to("loop")
    paths.check_apart(["loop"], ["in"])
    for outputs, inputs in (
        (["in"], ["in"]),
        (["./link"], ["in"]),
        ([tmp_path / "in" / "out"], ["in"]),
        (["out"], ["out/in"]),
        (["out", "out"], []),
    ):
        with pytest.raises(InputError, match="expected an output apart from"):
            paths.check_apart(outputs, inputs)
