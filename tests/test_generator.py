"""A generator's directory: what is saved comes back, and its manifest is checked."""

import json
import shutil

import jax
import numpy as np
import pytest

from insgenel_jax import artifact, models
from insgenel_jax.generator import load_generator, load_language_model, save_generator
from insgenel_jax.linker import Linker


@pytest.fixture
def path(linker_path, tmp_path):
    return shutil.copytree(linker_path / "generator", tmp_path / "generator")


def test_what_is_saved_comes_back(path, tmp_path):
    generator = load_generator(path)
    copy = tmp_path / "copy"
    save_generator(generator, copy, tokenizer=path, made_from={"a": "b"})
    again = load_generator(copy, verify=True)
    assert artifact.read(copy).made_from == {"a": "b"}
    for name in ("config", "instruction", "chunk_tokens", "max_positions"):
        assert getattr(again, name) == getattr(generator, name)
    jax.tree.map(np.testing.assert_array_equal, again.params, generator.params)
    # by these, generation in transformers begins, stops and pads
    record = json.loads((copy / "config.json").read_text())
    for role in ("bos", "eos", "pad"):
        assert record[f"{role}_token_id"] == getattr(generator.tokenizer, role)


@pytest.mark.parametrize("int8", [False, True])
def test_the_generator_of_a_linker_is_saved(linker_path, path, tmp_path, int8):
    """Its layers are apart; the file has them as they were, 8 bits as floats."""
    linker = Linker.from_pretrained(linker_path, int8=int8)
    assert models.apart.are_apart(linker.generator.params)
    save_generator(linker.generator, tmp_path / "copy", tokenizer=path)
    found, given = load_generator(tmp_path / "copy"), load_generator(path)
    if int8:
        own = models.apart.split_layers(dict(given.params))
        given = models.apart.join_layers(models.int8.quantise(own))
    else:
        given = given.params
    jax.tree.map(np.testing.assert_array_equal, found.params, given)


def test_directories_of_older_releases_open(path):
    file = path / "insgenel.json"
    older = {"max_length": 512, "measured": {"loss": 1.0}}
    file.write_text(json.dumps(json.loads(file.read_text()) | older))
    artifact.write_manifest(path, "generator", 1, {}, {})
    assert load_generator(path, verify=True).chunk_tokens == 175


@pytest.mark.parametrize("verify", [False, True])
def test_a_manifest_is_checked_where_there_is_one(path, verify):
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "model.safetensors").write_bytes(content[: None if verify else -1])
    with pytest.raises(artifact.ArtifactError, match="damaged generator"):
        load_generator(path, verify=verify)
    artifact.write_manifest(path, "generator", 2, {}, {})
    with pytest.raises(artifact.ArtifactError, match="of version 1, found"):
        load_generator(path, verify=verify)


def test_a_directory_without_a_manifest_opens(path):
    (path / "manifest.json").unlink()
    load_generator(path)
    with pytest.raises(artifact.ArtifactError, match="found none"):
        load_generator(path, verify=True)


def test_a_model_that_was_not_trained_to_link_opens(path):
    """With what is in it, whatever its manifest says that it is."""
    trained = load_generator(path)
    (path / "insgenel.json").unlink()
    artifact.write_manifest(path, "base", 1, {}, {})
    model = load_language_model(path)
    assert (model.instruction, model.config) == ("", trained.config)
    jax.tree.map(np.testing.assert_array_equal, model.params, trained.params)
    with pytest.raises(ValueError):
        load_generator(path)
