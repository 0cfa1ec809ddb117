"""The linker of the name "nano": a folder here goes before the bundled one."""

import shutil
from pathlib import Path

import pytest

from insgenel_jax.artifact import ArtifactError
from insgenel_jax.linker import Linker, bundled
from insgenel_jax.linker.bundled import is_bundled, locate


@pytest.fixture(autouse=True)
def box(linker_path, tmp_path, monkeypatch):
    """A bundled linker, with what stands beside the files that its manifest lists."""
    box = tmp_path / "package/nano"
    shutil.copytree(linker_path, box)
    (box / "README.md").write_text("A model card.\n")
    (box / "NOTICE").write_text("Licences.\n")
    monkeypatch.setattr(bundled, "BUNDLED", box)
    monkeypatch.chdir(tmp_path)
    return box


def test_a_folder_of_that_name_goes_before(box, tmp_path):
    Path("other").mkdir()
    Path("nano").write_text("a file")
    assert locate("nano") == locate(Path("nano")) == box
    for path in ("other/nano", tmp_path / "nano", "missing", "package"):
        assert locate(path) == Path(path)
    Path("nano").unlink()
    Path("nano").mkdir()
    assert locate("nano") == Path("nano")


def test_it_opens_by_its_name_whatever_stands_beside_its_files(box, linker_path):
    text = "Jordan met an unknown in Paris."
    expected = Linker.from_pretrained(linker_path)(text)
    assert Linker.from_pretrained("nano", verify=True)(text) == expected


def test_an_installation_without_it(box):
    (box / "manifest.json").unlink()  # the folder alone, say with its NOTICE
    for use in (locate, Linker.from_pretrained):
        with pytest.raises(
            ArtifactError, match="^nano: expected .* found none"
        ) as told:
            use("nano")
        assert str(box) in str(told.value) and "install" in str(told.value)


def test_what_is_bundled(box):
    assert is_bundled(box) and is_bundled("package/../package/nano")
    Path("link").symlink_to(box)
    assert is_bundled("link")
    assert not is_bundled("nano") and not is_bundled("package")
