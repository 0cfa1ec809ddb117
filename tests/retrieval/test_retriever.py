"""Embeddings: against a plain call of the model, row by row, and on many devices."""

import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from insgenel_jax import artifact, models
from insgenel_jax.models import attention, hf
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.retrieval import retriever as embed
from insgenel_jax.retrieval.retriever import Retriever, batches, buckets
from insgenel_jax.sharding import make_mesh
from insgenel_jax.tokenizer import train_wordpiece

WORDS = ["mercury", "venus", "queen", "singer", "planet", "city", "born", "york", "old"]


def text(rng, longest):
    return " ".join(rng.choice(WORDS, rng.integers(1, longest)))


def write_retriever(path, seed=0, **settings):
    """A retriever of two random BERTs, narrow and shallow."""
    settings = {
        "window_length": 32,
        "stride": 16,
        "window_tokens": 40,
        "entity_tokens": 56,
        "pooling": "cls",
        **settings,
    }
    train_wordpiece([" ".join(WORDS), "Ångström, 東京 (café)"], 200, path.parent / "wp")
    with artifact.create(path, "retriever", 1) as draft:
        tokenizer = path.parent / "wp" / "tokenizer.json"
        (draft.path / "tokenizer.json").write_bytes(tokenizer.read_bytes())
        (draft.path / "retriever.json").write_text(json.dumps(settings))
        for number, role in enumerate(("mention", "entity")):
            config = ModelConfig(
                family="bert",
                vocabulary=200,
                dim=24,
                layers=2,
                heads=3,
                ffn=48,
                max_positions=64,
                norm_eps=1e-12,
            )
            params = models.init_params(config, jax.random.key(10 * seed + number))
            # so that position and neighbours matter to a model nobody trained
            params = jax.tree.map(lambda p: p * 3 if p.ndim > 2 else p, params)
            hf.save_model(draft.path / role, config, params)
    return path


class FakeKB:
    """Titles and descriptions of very different lengths."""

    def __init__(self, count):
        rng = np.random.default_rng(3)
        self.rows = [(f"{text(rng, 4)} {i}", text(rng, 70)) for i in range(count)]
        self.rows[1] = ("Only {title}", "")

    def __len__(self):
        return len(self.rows)

    def title(self, i):
        return self.rows[i][0]

    def description(self, i):
        return self.rows[i][1]


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


def test_padding_is_said_by_lengths(retriever, monkeypatch):
    """So that cuDNN may compute the attention."""
    seen = []
    attend = attention.attend
    monkeypatch.setattr(
        attention,
        "attend",
        lambda q, k, v, mask, b: seen.append(mask) or attend(q, k, v, mask, b),
    )
    ids = jnp.array([[2, 3, 4, retriever.tokenizer.pad]])
    config, params = retriever.configs["mention"], retriever.params["mention"]
    embed.encode.__wrapped__(config, None, params, ids, retriever.tokenizer.pad)
    query = jnp.zeros((1, 4, 3, 8), jnp.bfloat16)
    assert seen
    for mask in seen:
        assert not attention.objections("cudnn", mask, query, query, "gpu")


def test_windows_do_not_depend_on_their_batch(retriever):
    rng = np.random.default_rng(1)
    texts = [text(rng, 45) for _ in range(50)]
    together = retriever.embed_windows(texts)
    alone = np.concatenate([retriever.embed_windows([one]) for one in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    order = rng.permutation(50)
    moved = retriever.embed_windows([texts[i] for i in order])
    np.testing.assert_allclose(moved, together[order], atol=1e-5)


def test_entities_against_a_plain_call(retriever, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "ROWS", 16)  # several blocks, the last one short
    kb = FakeKB(37)
    store = retriever.embed_entities(kb, tmp_path / "embeddings")
    assert store.shape == (37, 24) and store.dtype.name == "bfloat16"
    rows = store.read().result()
    titles, descriptions = ([brackets(t) for t in part] for part in zip(*kb.rows))
    ids = retriever.tokenizer.encode(titles, 56, pairs=descriptions)
    expected = reference(retriever, "entity", ids)
    # half a unit in the last place of bfloat16, and rounding
    np.testing.assert_allclose(rows.astype(np.float32), expected, rtol=2**-8)
    again = embed.open_store(tmp_path / "embeddings").read().result()
    in_memory = np.asarray(retriever.embed_entities(kb))
    assert in_memory.dtype == ml_dtypes.bfloat16
    assert again.tobytes() == rows.tobytes() == in_memory.tobytes()


def test_the_two_models_share_nothing(retriever):
    same = retriever.tokenizer.encode(["queen"], 8)
    mention, entity = (retriever._embed(role, same) for role in ("mention", "entity"))
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


def test_buckets_and_batches():
    assert buckets(56) == [16, 24, 32, 48, 56]
    assert buckets(10) == [10]
    for count in (1, 7, 8, 9, 31, 32, 33, 500, 3000):
        rows = np.arange(count)
        found = list(batches(rows, 64, parts=3))
        np.testing.assert_array_equal(np.concatenate([b for b, _ in found]), rows)
        assert all(size % 3 == 0 and len(b) <= size for b, size in found)
        assert all(size == 9 or 2 * len(b) >= size for b, size in found)
        assert len({size for _, size in found}) <= 3


def test_bad_directories_are_named(path, tmp_path):
    with pytest.raises(ValueError, match="window_length: expected an integer"):
        Retriever.load(write_retriever(tmp_path / "a", window_length=0))
    with pytest.raises(ValueError, match="pooling"):
        Retriever.load(write_retriever(tmp_path / "b", pooling="mean"))
    broken = write_retriever(tmp_path / "c")
    (broken / "entity" / "model.safetensors").unlink()
    with pytest.raises(artifact.ArtifactError, match="entity/model.safetensors"):
        Retriever.load(broken)
    with pytest.raises(artifact.ArtifactError):
        Retriever.load(tmp_path / "nothing")
