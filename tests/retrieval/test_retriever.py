"""Embeddings: against a plain call of the model, row by row, and on many devices."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from insgenel_jax import artifact, models
from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.retrieval import store
from insgenel_jax.retrieval.retriever import Retriever, save_retriever
from insgenel_jax.sharding import make_mesh
from insgenel_jax.text.formats.rejects import Rejects
from tests.helpers.retrievers import WORDS, write_retriever


def text(rng, longest):
    return " ".join(rng.choice(WORDS, rng.integers(1, longest)))


@pytest.fixture(scope="module")
def kb(tmp_path_factory):
    """Entities with titles and descriptions of very different lengths."""
    rng = np.random.default_rng(3)
    rows = [Entity(f"{text(rng, 4)} {i}", text(rng, 70)) for i in range(36)]
    rows.insert(1, Entity("Only {title}", ""))
    path = tmp_path_factory.mktemp("kb") / "kb"
    build_from_entities(path, [(row, []) for row in rows], Rejects())
    return KnowledgeBase.open(path)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_retriever(tmp_path_factory.mktemp("retriever") / "model")


@pytest.fixture(scope="module")
def retriever(path):
    return Retriever.load(path)


def reference(retriever, role, ids):
    """The [CLS] states of padded rows, all in one call of one shape."""
    seen = ids != retriever.tokenizer.pad
    mask = np.repeat(seen[:, None], ids.shape[1], 1)
    positions = np.arange(ids.shape[1])[None].repeat(len(ids), 0)
    apply = jax.jit(models.build(retriever.configs[role]).apply)
    params = {"params": retriever.params[role]}
    return np.asarray(apply(params, jnp.array(ids), positions, mask)[0][:, 0])


def brackets(text):
    return text.replace("{", "(").replace("}", ")")


def test_windows_against_a_plain_call(retriever):
    rng = np.random.default_rng(0)
    texts = [text(rng, 45) for _ in range(21)] + ["", "{braces}", "東京 café"]
    embedded = retriever.embed_windows(texts)
    assert embedded.shape == (24, 24) and embedded.dtype == np.float32
    ids = retriever.tokenizer.encode([brackets(text) for text in texts], 40)
    expected = reference(retriever, "mention", ids)
    np.testing.assert_allclose(embedded, expected, atol=2e-5)
    # padding is not seen: a row alone, without any
    row = ids[-1][ids[-1] != retriever.tokenizer.pad]
    assert len(row) < 40
    alone = reference(retriever, "mention", row[None])
    np.testing.assert_allclose(embedded[-1:], alone, atol=2e-5)
    assert retriever.embed_windows([]).shape == (0, 24)


def test_windows_do_not_depend_on_their_batch(retriever):
    rng = np.random.default_rng(1)
    texts = [text(rng, 45) for _ in range(50)]
    together = retriever.embed_windows(texts)
    alone = np.concatenate([retriever.embed_windows([one]) for one in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    order = rng.permutation(50)
    moved = retriever.embed_windows([texts[i] for i in order])
    np.testing.assert_allclose(moved, together[order], atol=1e-5)


def test_entities_against_a_plain_call(retriever, kb, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "ROWS", 16)  # several parts, the last one short
    embeddings = retriever.embed_entities(kb, tmp_path / "embeddings")
    assert embeddings.shape == (37, 24) and embeddings.dtype.name == "bfloat16"
    rows = embeddings.read().result()
    titles = [brackets(kb.title(i)) for i in range(37)]
    descriptions = [brackets(kb.description(i)) for i in range(37)]
    ids = retriever.tokenizer.encode(titles, 56, pairs=descriptions)
    expected = reference(retriever, "entity", ids)
    # half a unit in the last place of bfloat16, and rounding
    np.testing.assert_allclose(rows.astype(np.float32), expected, rtol=2**-8)
    again = store.open_store(tmp_path / "embeddings").read().result()
    in_memory = np.asarray(retriever.embed_entities(kb))
    assert in_memory.dtype == ml_dtypes.bfloat16
    assert again.tobytes() == rows.tobytes() == in_memory.tobytes()


def test_the_two_models_share_nothing(retriever):
    same = retriever.tokenizer.encode(["queen"], 8)
    mention, entity = (
        retriever.embed_tokens(role, same) for role in ("mention", "entity")
    )
    assert np.abs(mention - entity).max() > 0.1


def test_many_devices(path, retriever):
    if len(jax.devices()) < 4:
        pytest.skip("needs four devices")
    spread = Retriever.load(path, mesh=make_mesh(data=2, fsdp=2))
    rng = np.random.default_rng(2)
    texts = [text(rng, 45) for _ in range(30)]
    np.testing.assert_allclose(
        spread.embed_windows(texts), retriever.embed_windows(texts), atol=1e-5
    )


def test_what_is_saved_comes_back(path, retriever, tmp_path):
    save_retriever(retriever, tmp_path / "again", tokenizer=path, made_from={"a": "b"})
    again = Retriever.load(tmp_path / "again", verify=True)
    assert artifact.read(tmp_path / "again").made_from == {"a": "b"}
    for name in ("window_length", "stride", "window_tokens", "entity_tokens"):
        assert getattr(again, name) == getattr(retriever, name)
    np.testing.assert_array_equal(
        again.embed_windows(["queen of york"]),
        retriever.embed_windows(["queen of york"]),
    )


def test_how_vectors_are_made_is_stored(path, retriever, tmp_path):
    vectors = {"pooling": "mean", "normalise": True, "temperature": 0.05}
    changed = dataclasses.replace(
        retriever,
        configs={
            role: dataclasses.replace(config, **vectors)
            for role, config in retriever.configs.items()
        },
    )
    save_retriever(changed, tmp_path / "mean", tokenizer=path)
    again = Retriever.load(tmp_path / "mean")
    found = again.embed_windows(["queen of york"])
    np.testing.assert_array_equal(found, changed.embed_windows(["queen of york"]))
    np.testing.assert_allclose((found**2).sum(), 20, rtol=1e-5)
    file = tmp_path / "mean" / "retriever.json"
    assert vectors.items() <= json.loads(file.read_text()).items()


def with_settings(path, **changes):
    """A new retriever whose settings are changed by hand."""
    file = write_retriever(path) / "retriever.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    artifact.write_manifest(path, "retriever", 1, {}, {})
    return path


def test_directories_of_older_releases_open(tmp_path):
    file = write_retriever(tmp_path / "old") / "retriever.json"
    sizes = {"window_length": 32, "stride": 16, "window_tokens": 40}
    old = sizes | {"entity_tokens": 56, "measured": {"loss": 0.5}}
    file.write_text(json.dumps(old))
    artifact.write_manifest(file.parent, "retriever", 1, {}, {})
    opened = Retriever.load(file.parent, verify=True)
    assert opened.window_length == 32
    for config in opened.configs.values():
        found = config.pooling, config.normalise, config.temperature
        assert found == ("cls", False, 1.0)


def test_bad_directories_are_named(path, tmp_path):
    with pytest.raises(ValueError, match="window_length: expected an integer"):
        Retriever.load(with_settings(tmp_path / "a", window_length=0))
    for name, value, message in (
        ("pooling", "max", "pooling is 'max', known are"),
        ("temperature", 0, "temperature is 0, must be above 0"),
        ("temperature", "1", "temperature: expected float, found '1'"),
        ("normalise", 1, "normalise: expected bool, found 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Retriever.load(
                with_settings(tmp_path / f"b{message[:30]}", **{name: value})
            )
    broken = write_retriever(tmp_path / "c")
    (broken / "entity" / "model.safetensors").unlink()
    with pytest.raises(artifact.ArtifactError, match="entity/model.safetensors"):
        Retriever.load(broken)
    with pytest.raises(artifact.ArtifactError):
        Retriever.load(tmp_path / "nothing")


def test_one_encoder_for_both_roles_is_written_once(tmp_path, retriever, path):
    configs = {"shared": retriever.configs["mention"]}
    params = {"shared": retriever.params["mention"]}
    one = dataclasses.replace(retriever, configs=configs, params=params)
    save_retriever(one, tmp_path / "one", tokenizer=path)
    folders = {file.name for file in (tmp_path / "one").iterdir() if file.is_dir()}
    assert folders == {"shared"}
    opened = Retriever.load(tmp_path / "one")
    ids = opened.tokenizer.encode(["queen of york"], 40)
    expected = retriever.embed_tokens("mention", ids)
    for role in ("mention", "entity"):
        np.testing.assert_array_equal(opened.embed_tokens(role, ids), expected)
    assert opened.dim == retriever.dim


def test_shared_must_be_true_or_false(tmp_path, path):
    shutil.copytree(path, tmp_path / "bad")
    settings = json.loads((tmp_path / "bad/retriever.json").read_text())
    settings["shared"] = "yes"
    (tmp_path / "bad/retriever.json").write_text(json.dumps(settings))
    with pytest.raises((ValueError, artifact.ArtifactError), match="shared|size"):
        Retriever.load(tmp_path / "bad")


def test_texts_of_entities_may_come_from_another_knowledge_base(
    tmp_path, retriever, kb
):
    """Some of them are not there; those have their own."""
    rows = [Entity(kb.title(i)) for i in range(5, len(kb))]
    bare = [Entity("Unheard of", "queen"), *rows]
    build_from_entities(tmp_path / "kb", [(row, []) for row in bare], Rejects())
    other = KnowledgeBase.open(tmp_path / "kb")
    found = retriever.embed_entities(other, texts=kb).read().result()
    own = retriever.embed_entities(other).read().result()
    full = retriever.embed_entities(kb).read().result()
    for row in range(len(other)):
        known = kb.find(other.title(row))
        expected = own[row] if known is None else full[known]
        np.testing.assert_allclose(
            found[row].astype(np.float32), expected.astype(np.float32), atol=1e-2
        )
    assert not np.allclose(found.astype(np.float32), own.astype(np.float32), atol=1e-2)
