import json

import pytest

from insgenel_jax import artifact
from insgenel_jax.artifact import MANIFEST, ArtifactError

FIELDS = {"kind": "kind", "version": 1, "identity": "0"}
FIELDS |= {"counts": {}, "made_from": {}, "files": {}}


def write(path, content="one", version=1, kind="kind"):
    with artifact.create(path, kind, version) as draft:
        (draft.path / "sub").mkdir()
        (draft.path / "a.txt").write_text(content)
        (draft.path / "sub" / "b.txt").write_text("two")
        draft.counts["things"] = 2
        draft.made_from["parent"] = "p"
    return path


def test_what_is_written_can_be_opened(tmp_path):
    path = write(tmp_path / "new" / "thing")
    manifest = artifact.check(path, "kind", 1, verify=True)
    assert manifest == artifact.read(path)
    assert set(manifest.files) == {"a.txt", "sub/b.txt"}
    assert manifest.counts == {"things": 2}
    assert manifest.made_from == {"parent": "p"}
    assert [p.name for p in path.parent.iterdir()] == ["thing"]


def test_identity_is_that_of_the_content(tmp_path):
    one = artifact.identity(write(tmp_path / "one"))
    assert one == artifact.identity(write(tmp_path / "two"))
    assert one != artifact.identity(write(tmp_path / "three", "other"))
    assert one != artifact.identity(write(tmp_path / "four", version=2))


def test_a_directory_without_manifest_has_an_identity_too(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    one = artifact.identity(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text("[]")
    assert one != artifact.identity(tmp_path / "model")
    with pytest.raises(ArtifactError, match="no such directory"):
        artifact.identity(tmp_path / "none")


def test_an_artifact_is_replaced_and_a_failed_one_leaves_the_old(tmp_path):
    path = write(tmp_path / "thing")
    write(path, "new")
    assert (path / "a.txt").read_text() == "new"
    with (
        pytest.raises(RuntimeError),
        artifact.create(path, "kind", 1) as draft,
    ):
        (draft.path / "a.txt").write_text("half")
        raise RuntimeError
    assert (path / "a.txt").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["thing"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "Error writing bytes to file"),  # Arrow
        OSError("1000 requested and 496 written"),  # NumPy
        RuntimeError("writer.cc:129: MARISA_IO_ERROR: size_written <= 0"),
    ],
)
def test_a_full_disk_names_the_artifact(tmp_path, error):
    with (
        pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/thing'"),
        artifact.create(tmp_path / "thing", "kind", 1),
    ):
        raise error
    for other in (OSError(28, "No space left", "elsewhere"), RuntimeError("a bug")):
        with (
            pytest.raises(type(other)) as caught,
            artifact.create(tmp_path / "thing", "kind", 1),
        ):
            raise other
        assert caught.value is other


def test_a_link_stays_and_leads_to_what_is_new(tmp_path):
    path = write(tmp_path / "disk" / "thing")
    (tmp_path / "link").symlink_to(path)
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (path / "a.txt").read_text() == "new"


def test_other_files_are_never_replaced(tmp_path):
    other = write(tmp_path / "other", kind="another")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "n.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for path in (other, tmp_path / "notes", tmp_path / "file"):
        with pytest.raises(ArtifactError, match=str(path)):
            write(path)
    assert (tmp_path / "notes" / "n.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")


def test_damage_is_named(tmp_path):
    path = write(tmp_path / "thing")
    (path / "sub" / "b.txt").write_text("owt")
    artifact.check(path, "kind", 1)
    with pytest.raises(ArtifactError, match=r"sub/b\.txt has another sha256"):
        artifact.check(path, "kind", 1, verify=True)
    (path / "sub" / "b.txt").write_text("t")
    (path / "a.txt").unlink()
    with pytest.raises(
        ArtifactError, match=r"a\.txt is missing; sub/b\.txt has 1 bytes instead of 3"
    ):
        artifact.check(path, "kind", 1)


def test_kind_and_version_are_checked(tmp_path):
    path = write(tmp_path / "thing")
    for kind, version in (("other", 1), ("kind", 2)):
        with pytest.raises(ArtifactError, match=f"expected a '{kind}' of version"):
            artifact.check(path, kind, version)


def test_files_that_the_manifest_does_not_list_are_refused(tmp_path):
    """A reader might prefer them. What people and other processes put there may stay.

    A folder that is an artifact of its own is checked where it is opened.
    """
    path = write(tmp_path / "thing")
    (path / "README.md").write_text("for people")
    (path / "sub" / ".nfs01").write_text("hidden")
    (path / "hollow" / "deep").mkdir(parents=True)
    write(path / "own")
    artifact.check(path, "kind", 1, verify=True, beside=("own",))
    (path / "sub" / "index.json").write_text("planted")
    (path / "sub" / "README.md").write_text("not at the root")
    (path / "away").symlink_to(tmp_path)
    (path / "hollow" / "deep" / "file").symlink_to(path / "a.txt")
    with pytest.raises(ArtifactError) as told:
        artifact.check(path, "kind", 1)
    found = set(str(told.value).split(": ")[-1].split("; "))
    names = {"own", "sub/index.json", "sub/README.md", "away", "hollow"}
    assert found == {
        f"{n} is not in its manifest.json (take it away)" for n in names
    } | {"make it again"}


@pytest.mark.parametrize("name", ["../other", "/etc/hostname", "sub/../../other"])
def test_names_in_a_manifest_stay_in_the_directory(tmp_path, name):
    path = write(tmp_path / "thing")
    text = (path / MANIFEST).read_text().replace("sub/b.txt", name)
    (path / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match="expected names of files in the directory"):
        artifact.check(path, "kind", 1)


def test_an_altered_manifest_is_noticed(tmp_path):
    path = write(tmp_path / "thing")
    text = (path / MANIFEST).read_text().replace('"things": 2', '"things": 3')
    (path / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match=r"manifest\.json has another identity"):
        artifact.check(path, "kind", 1, verify=True)


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "[" * 100_000, "\xff", json.dumps({"kind": "kind"})),
        json.dumps(FIELDS | {"version": "1"}),
        json.dumps(FIELDS | {"made_from": {"kb": 1}}),
        json.dumps(FIELDS | {"counts": {"kb": "1"}}),
        json.dumps(FIELDS | {"files": {"kb": {"bytes": 1}}}),
        json.dumps(FIELDS | {"files": ["kb"]}),
    ],
)
def test_a_broken_manifest_is_an_error_by_name(tmp_path, content):
    path = write(tmp_path / "thing")
    (path / MANIFEST).write_text(content, encoding="latin-1")
    with pytest.raises(ArtifactError, match=MANIFEST):
        artifact.read(path)
    (path / MANIFEST).unlink()
    with pytest.raises(ArtifactError, match="never finished"):
        artifact.read(path)


def test_one_file_is_replaced(tmp_path):
    """The rest stays: the same files, with the hashes they were made with.

    So does what stands beside the listed files, and it stays unlisted.
    """
    path = write(tmp_path / "thing")
    before = artifact.read(path)
    inode = (path / "sub" / "b.txt").stat().st_ino
    copy = tmp_path / "copy.txt"
    copy.hardlink_to(path / "a.txt")
    (tmp_path / "manifest").hardlink_to(path / MANIFEST)
    old_manifest = (path / MANIFEST).read_text()
    (path / "extra" / "empty").mkdir(parents=True)
    (path / "extra" / "notes").write_text("not in the manifest")
    (path / "NOTICE").symlink_to("../copy.txt")
    artifact.replace_file(path, "kind", 1, "a.txt", "anew", beside=["extra"])
    after = artifact.check(path, "kind", 1, verify=True, beside=["extra"])
    assert (path / "a.txt").read_text() == "anew" and copy.read_text() == "one"
    assert (path / "sub" / "b.txt").stat().st_ino == inode
    assert after.files["sub/b.txt"] == before.files["sub/b.txt"]
    assert (after.counts, after.made_from) == (before.counts, before.made_from)
    assert after.identity != before.identity
    assert after.files.keys() == before.files.keys()
    assert (path / "extra" / "notes").read_text() == "not in the manifest"
    assert (path / "extra" / "empty").is_dir()
    assert (path / "NOTICE").readlink().as_posix() == "../copy.txt"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "copy.txt",
        "manifest",
        "thing",
    ]
    assert (tmp_path / "manifest").read_text() == old_manifest


def test_replacing_a_file_hides_no_damage(tmp_path):
    path = write(tmp_path / "thing")
    (path / "sub" / "b.txt").write_text("2wo")  # of the same size
    artifact.replace_file(path, "kind", 1, "a.txt", "anew")
    with pytest.raises(ArtifactError, match="sub/b.txt has another sha256"):
        artifact.check(path, "kind", 1, verify=True)
    (path / "sub" / "b.txt").write_text("shorter")
    with pytest.raises(ArtifactError, match="sub/b.txt has 7 bytes instead of 3"):
        artifact.replace_file(path, "kind", 1, "a.txt", "again")
    assert (path / "a.txt").read_text() == "anew"


def test_replacing_a_file_that_fails_changes_nothing(tmp_path):
    path = write(tmp_path / "thing")
    with pytest.raises(UnicodeEncodeError):
        artifact.replace_file(path, "kind", 1, "a.txt", "\ud800")
    assert (path / "a.txt").read_text() == "one"
    artifact.check(path, "kind", 1, verify=True)
    assert [p.name for p in tmp_path.iterdir()] == ["thing"]
