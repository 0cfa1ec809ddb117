"""Vectors of few bytes: what is lost of dot products, and what damage is told."""

import json

import ml_dtypes
import numpy as np
import pytest

from insgenel_jax import artifact
from insgenel_jax.retrieval import compress as module
from insgenel_jax.retrieval.approximate import measure_recall
from insgenel_jax.retrieval.compress import compress, project
from insgenel_jax.retrieval.exact import search_exact
from insgenel_jax.retrieval.index import build_index, open_index


def draw(count, dim, seed=0):
    """Embeddings far from the origin, whose dimensions differ in size and overlap."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(dim, dim)) * 0.7 ** np.arange(dim)[:, None]
    points = rng.normal(size=(count, dim)) @ mixed + rng.normal(size=dim)
    return points.astype(ml_dtypes.bfloat16).astype(np.float32)


@pytest.fixture(scope="module")
def embeddings():
    return draw(3000, 20)


@pytest.fixture(scope="module")
def queries():
    return draw(3050, 20)[3000:]


@pytest.mark.parametrize("size", [1, 6, 20])
def test_no_projection_keeps_more(embeddings, size, monkeypatch):
    """What is kept of the squared lengths is that of a truncated SVD, but for rounding.

    The rows are read some at a time.
    """
    monkeypatch.setattr(module, "ROWS", 700)
    vectors, projection = compress(embeddings, size)
    assert vectors.dtype == np.int8 and vectors.shape == (3000, size)
    assert (np.abs(vectors).max(0) == 127).all()
    scales = np.linalg.norm(projection, axis=0)  # of orthonormal axes
    axes = projection / scales
    np.testing.assert_allclose(axes.T @ axes, np.eye(size), atol=1e-5)
    kept = (np.linalg.norm(embeddings @ axes, axis=0) ** 2).tolist()
    values = np.linalg.svd(embeddings, compute_uv=False)[:size]
    np.testing.assert_allclose(kept, values**2, rtol=1e-4)
    # each number is rounded to the nearest of its scale
    errors = np.abs(embeddings @ axes - vectors * scales).max(0)
    assert (errors <= 0.5 * scales + 1e-5).all()


def test_all_dimensions_keep_dot_products_to_rounding(embeddings, queries):
    vectors, projection = compress(embeddings, 20)
    found = project(queries, projection) @ vectors.T.astype(np.float32)
    wanted = queries @ embeddings.T
    scales = np.linalg.norm(projection, axis=0)
    allowed = np.linalg.norm(queries, axis=1) * np.linalg.norm(scales) / 2
    assert (np.abs(found - wanted).max(1) <= allowed * 1.001).all()
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.999


def test_fewer_entities_than_dimensions():
    few = draw(3, 20)
    vectors, projection = compress(few, 20)
    again = few @ projection / np.linalg.norm(projection, axis=0) ** 2
    np.testing.assert_allclose(again[:, :3], vectors[:, :3], atol=0.51)
    zeros, projection = compress(np.zeros((2, 4), np.float32), 3)
    assert not zeros.any() and np.isfinite(projection).all()


def test_an_index_of_few_bytes(embeddings, queries, tmp_path):
    path = tmp_path / "i"
    built = build_index(
        embeddings, path, made_from={"a": "b"}, queries=queries, vector_bytes=8
    )
    assert (built.method, built.entities, built.dim) == ("compressed", 3000, 20)
    facts = json.loads((path / "index.json").read_text())
    assert facts | {"recall": None} == {
        "method": "compressed",
        "vector_bytes": 8,
        "recall": None,
        "recall_k": 100,
        "recall_queries": 50,
    }
    opened = open_index(path, verify=True)
    ids, scores = opened.search(queries, 100)
    wanted, _ = search_exact(embeddings, queries, 100)
    assert opened.recall == facts["recall"] == measure_recall(ids, wanted)
    assert 0.5 < opened.recall < 1
    vectors, projection = compress(embeddings, 8)
    truth = project(queries, projection) @ vectors.T.astype(np.float32)
    np.testing.assert_array_equal(ids, np.argsort(-truth, 1, kind="stable")[:, :100])
    np.testing.assert_allclose(
        scores, np.take_along_axis(truth, ids, 1), rtol=1e-5, atol=1e-4
    )
    # a byte for each number, in whole chunks of the array
    stored = sum(f.stat().st_size for f in (path / "embeddings").rglob("c/*/*"))
    assert stored == 16_384 * 8
    build_index(
        embeddings,
        tmp_path / "j",
        made_from={"a": "b"},
        queries=queries,
        vector_bytes=8,
    )
    assert artifact.identity(tmp_path / "j") == artifact.identity(path)


def test_rows_do_not_depend_on_their_batch(embeddings, queries, tmp_path):
    opened = build_index(embeddings, tmp_path / "i", made_from={}, vector_bytes=8)
    together = opened.search(queries, 30)
    for size in (1, 7):
        parts = [opened.search(queries[i : i + size], 30) for i in range(0, 50, size)]
        for all_rows, some in zip(together, zip(*parts, strict=True), strict=True):
            np.testing.assert_array_equal(np.concatenate(some), all_rows)


def test_more_bytes_find_more(embeddings, queries, tmp_path):
    recalls = [
        build_index(
            embeddings, tmp_path / str(n), made_from={}, queries=queries, vector_bytes=n
        ).recall
        for n in (2, 5, 10, 20)
    ]
    assert recalls == sorted(recalls) and recalls[0] < 0.5 and recalls[-1] > 0.95


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda p: p.astype(np.float64), r"found float64 \[20, 8\]"),
        (lambda p: p[:, :7], r"found float32 \[20, 7\]"),
        (lambda p: p * np.float32(np.nan), "not finite"),
        (None, "found something else"),
    ],
)
def test_a_damaged_projection_is_named(embeddings, tmp_path, damage, message):
    path = tmp_path / "i"
    build_index(embeddings[:300], path, made_from={}, vector_bytes=8)
    file = path / "projection.npy"
    if damage is None:
        file.write_bytes(b"x" * file.stat().st_size)
    else:
        np.save(file, damage(np.load(file)))
    artifact.write_manifest(path, "index", 1, artifact.read(path).counts, {})
    with pytest.raises(artifact.ArtifactError, match=rf"projection.npy.*{message}"):
        open_index(path)
    file.unlink()
    with pytest.raises(artifact.ArtifactError, match=r"projection.npy is missing"):
        open_index(path)


@pytest.mark.parametrize("size", [0, 21])
def test_bytes_that_cannot_be(embeddings, tmp_path, size):
    with pytest.raises(ValueError, match=f"expected 1 to 20, .* found {size}"):
        build_index(embeddings, tmp_path / "i", made_from={}, vector_bytes=size)
    with pytest.raises(ValueError, match="ScaNN"):
        build_index(
            embeddings, tmp_path / "i", made_from={}, exact=False, vector_bytes=8
        )
    embeddings = embeddings.copy()
    embeddings[7, 3] = np.inf
    with pytest.raises(ValueError, match=r"entities \[7\] are not finite"):
        build_index(embeddings, tmp_path / "i", made_from={}, vector_bytes=8)
    assert not (tmp_path / "i").exists()
