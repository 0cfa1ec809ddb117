"""Segments of an index against one exact index of all; their building, and resuming."""

import ml_dtypes
import numpy as np
import pytest

from insgenel_jax import artifact
from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.kb.build.overlay import write_overlay
from insgenel_jax.retrieval import build, retriever, store
from insgenel_jax.retrieval.build import index_entities
from insgenel_jax.retrieval.index import build_index, build_segments, open_index
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.text.formats.rejects import InputError, Rejects
from tests.helpers.retrievers import WORDS, write_retriever


def draw(count, dim, seed=0):
    points = np.random.default_rng(seed).normal(size=(count, dim))
    return points.astype(ml_dtypes.bfloat16).astype(np.float32)


@pytest.mark.parametrize("method", ["exact", "scann"])
@pytest.mark.parametrize("gone", [0, 3, 400])
def test_the_same_rows_as_one_index_of_all(tmp_path, method, gone):
    vectors, queries = draw(700, 16), draw(20, 16, seed=1)
    base, added = vectors[:600], vectors[600:]
    exact = method == "exact"
    build_index(base, tmp_path / "base", made_from={}, exact=exact)
    removed = np.random.default_rng(2).choice(600, gone, replace=False)
    removed = np.sort(removed).astype(np.int32)
    index = build_segments(
        tmp_path / "base", added, removed, tmp_path / "i", made_from={}
    )
    left = np.delete(np.arange(700), removed)
    build_index(vectors[left], tmp_path / "whole", made_from={}, exact=True)
    wanted, scores = open_index(tmp_path / "whole").search(queries, 30)
    ids, found = index.search(queries, 30)
    assert not np.isin(ids, removed).any()
    recall = np.mean(
        [np.isin(w, i).mean() for w, i in zip(left[wanted], ids, strict=True)]
    )
    assert recall == 1 if exact else recall > 0.95
    if exact:
        np.testing.assert_array_equal(ids, left[wanted])
        np.testing.assert_array_equal(found, scores)
    alone = [index.search(queries[i : i + 1], 30)[0] for i in range(20)]
    np.testing.assert_array_equal(np.concatenate(alone), ids)
    every, _ = index.search(queries, 5000)
    assert (np.sort(every, 1) == left).all()
    some = np.array([650, 3, 699])
    np.testing.assert_allclose(
        index.score(queries, some), queries @ vectors[some].T, rtol=1e-5, atol=1e-5
    )


@pytest.fixture
def parts(tmp_path):
    """A base with its index, an overlay of it, and the retriever."""
    words = [f"{a} {b}" for a in WORDS for b in WORDS if a != b]
    entities = [(Entity(word, f"{word} of old"), []) for word in words]
    build_from_entities(tmp_path / "base", entities, Rejects())
    model = Retriever.load(write_retriever(tmp_path / "retriever"))
    base = KnowledgeBase.open(tmp_path / "base")
    made_from = {"knowledge-base": base.identity, "retriever": "r"}
    index_entities(base, model, tmp_path / "base index", made_from=made_from)
    return tmp_path, base, model


def add(root, base, titles, removed=""):
    (root / "own.csv").write_text("\n".join(["title", *titles]))
    (root / "gone.txt").write_text(removed)
    source = root / "own.csv" if titles else None
    write_overlay(base, root / "kb", Rejects(), source=source, remove=root / "gone.txt")
    return KnowledgeBase.open(root / "kb")


@pytest.mark.parametrize(
    ("added", "removed", "method"),
    [
        (["A city"], "queen singer\n", "segments"),
        (["A city"], "", "segments"),
        ([f"City {i}" for i in range(9)], "", "exact"),  # past a tenth
        ([f"City {i}" for i in range(9)], "old york\n", "segments"),
    ],
)
def test_only_what_was_added_is_embedded(parts, monkeypatch, added, removed, method):
    root, base, model = parts
    kb = add(root, base, added, removed)
    made_from = {"knowledge-base": kb.identity, "retriever": "r"}
    whole = index_entities(kb, model, root / "whole", made_from=made_from)
    seen, tokenize = [], retriever.encoder.tokenize_entities
    monkeypatch.setattr(
        retriever.encoder,
        "tokenize_entities",
        lambda *a: seen.extend(a[2]) or tokenize(*a),
    )
    there = root / "base index"
    index = index_entities(
        kb, model, root / "index", made_from=made_from, base=there
    ).index
    assert index.method == method and index.made_from == made_from
    assert seen == list(range(len(base), len(kb)))
    queries = model.embed_windows(["queen of york", "city 3", "old mercury"])
    for k in (5, 100):
        wanted = whole.index.search(queries, k)[0]
        np.testing.assert_array_equal(index.search(queries, k)[0], wanted)
    assert not (root / ".index.embeddings").exists()


def test_another_base_is_refused(parts):
    root, base, model = parts
    kb = add(root, base, ["A city"])
    there = root / "base index"
    for made_from, role in (({"retriever": "other"}, "retriever"), ({}, "retriever")):
        with pytest.raises(InputError, match=f"expected an index of the {role}"):
            index_entities(kb, model, root / "i", made_from=made_from, base=there)
    with pytest.raises(InputError, match="found one without"):
        index_entities(base, model, root / "i", made_from={}, base=there)


def test_embeddings_are_gone_on_with(parts, monkeypatch):
    root, base, model = parts
    monkeypatch.setattr(store, "ROWS", 10)
    made_from = {"knowledge-base": base.identity, "retriever": "r"}
    seen, embed = [], Retriever.embed_tokens

    def fail(self, role, ids):
        if len(seen) == 5:
            raise KeyboardInterrupt
        seen.append(len(ids))
        return embed(self, role, ids)

    with monkeypatch.context() as patch:
        patch.setattr(Retriever, "embed_tokens", fail)
        with pytest.raises(KeyboardInterrupt):
            index_entities(base, model, root / "i", made_from=made_from)
    assert seen == [10] * 5 and (root / ".i.embeddings").is_dir()
    first, again = list(seen), []
    monkeypatch.setattr(
        Retriever,
        "embed_tokens",
        lambda self, role, ids: (
            again.append((role, len(ids))) or embed(self, role, ids)
        ),
    )
    index_entities(base, model, root / "i", made_from=made_from)
    shards = [size for role, size in again if role == "entity"]
    assert len(shards) <= 4 and sum(shards) + sum(first) >= len(base)
    whole = artifact.read(root / "base index").files
    old = np.asarray(store.open_store(root / "base index" / "embeddings"))
    new = np.asarray(store.open_store(root / "i" / "embeddings"))
    np.testing.assert_array_equal(old, new)
    assert whole and not (root / ".i.embeddings").exists()
    # other work at the same path begins anew
    (root / ".i.embeddings").mkdir()
    (root / ".i.embeddings" / "made_from.json").write_text("{}")
    (root / ".i.embeddings" / "embeddings").mkdir()
    with build._kept_folder(root / "i", {"retriever": "x"}) as folder:
        assert not (folder / "embeddings").exists()
