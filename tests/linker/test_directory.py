"""The linker directory: parts that fit each other, or are refused."""

import json
import shutil

import pytest

from insgenel_jax import artifact
from insgenel_jax.artifact import ArtifactError
from insgenel_jax.generator import load_generator
from insgenel_jax.linker import Linker, assemble


def test_parts_that_do_not_fit_are_refused(linker_path, tmp_path):
    parts = {part: linker_path / part for part in ("generator", "kb", "index")}
    other = tmp_path / "retriever"
    shutil.copytree(linker_path / "retriever", other)
    artifact.write_manifest(other, "retriever", 1, {"another": 1}, {})
    with pytest.raises(ArtifactError, match="index: made from the retriever"):
        assemble(tmp_path / "linker", **parts, retriever=other)
    assert not (tmp_path / "linker").exists()


def test_a_part_put_in_later_is_refused(linker_path, tmp_path):
    """A part of the same size with another identity is refused."""
    copy = tmp_path / "linker"
    shutil.copytree(linker_path, copy)
    file = copy / "generator" / "manifest.json"
    text = file.read_text()
    identity = artifact.identity(copy / "generator")
    file.write_text(text.replace(identity, identity[::-1]))
    with pytest.raises(ArtifactError, match="generator: expected the part .* found"):
        Linker.from_pretrained(copy)


def test_a_generator_without_settings_is_refused(linker_path, tmp_path):
    shutil.copytree(linker_path / "generator", tmp_path / "generator")
    (tmp_path / "generator" / "manifest.json").unlink()
    file = tmp_path / "generator" / "insgenel.json"
    for wrong in ({}, {"chunk_tokens": 0}, {"chunk_tokens": 1.5}):
        file.write_text(json.dumps({"instruction": "link"} | wrong))
        with pytest.raises(ValueError, match="insgenel.json: expected .* chunk_tokens"):
            load_generator(tmp_path / "generator")
    file.unlink()
    with pytest.raises(FileNotFoundError, match="insgenel.json: no such file"):
        load_generator(tmp_path / "generator")


def test_a_truncated_part_is_refused(linker_path, tmp_path):
    copy = tmp_path / "linker"
    shutil.copytree(linker_path, copy)
    file = copy / "kb" / "entities.arrow"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ArtifactError, match="entities.arrow has .* bytes instead of"):
        Linker.from_pretrained(copy)
    shutil.rmtree(copy / "kb")
    with pytest.raises(ArtifactError, match="kb/.* is missing"):
        Linker.from_pretrained(copy)


def test_generator_with_a_larger_tokenizer(linker_path, tmp_path):
    """An error names the size of the tokenizer and that of the embedding."""
    shutil.copytree(linker_path / "generator", tmp_path / "generator")
    (tmp_path / "generator" / "manifest.json").unlink()
    file = tmp_path / "generator" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"vocab_size": 10}))
    with pytest.raises(ValueError, match=r"tokenizer has \d+ ids, .* has 10 rows"):
        load_generator(tmp_path / "generator")


@pytest.mark.parametrize(
    "name", ["linker.json", "index/index.json", "retriever/retriever.json"]
)
@pytest.mark.parametrize("damage", ["no JSON", "no object", "no settings"])
def test_damaged_json_of_the_right_size_is_named(linker_path, tmp_path, name, damage):
    copy = tmp_path / "linker"
    shutil.copytree(linker_path, copy)
    size = (copy / name).stat().st_size
    content = {
        "no JSON": "{",
        "no object": "[]",
        "no settings": '{"settings": {"a":1}}',
    }
    (copy / name).write_text(content[damage].ljust(size))
    assert (copy / name).stat().st_size == size
    expected = ValueError if name.startswith("retriever") else ArtifactError
    with pytest.raises(expected, match=f"{name}: .*expected"):
        Linker.from_pretrained(copy)
