"""Vectors of few bytes: what is lost of dot products, and what damage is told."""

import json

import ml_dtypes
import numpy as np
import pytest

from insgenel_jax import artifact
from insgenel_jax.retrieval import compress as module
from insgenel_jax.retrieval.approximate import measure_recall
from insgenel_jax.retrieval.compress import compress, pack, project, unpack
from insgenel_jax.retrieval.exact import search_exact
from insgenel_jax.retrieval.index import build_index, open_index


def draw(count, dim, seed=0):
    """Embeddings far from the origin, whose dimensions differ in size and overlap."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(dim, dim)) * 0.9 ** np.arange(dim)[:, None]
    points = rng.normal(size=(count, dim)) @ mixed + rng.normal(size=dim)
    return points.astype(ml_dtypes.bfloat16).astype(np.float32)


@pytest.fixture(scope="module")
def embeddings():
    return draw(3000, 20)


@pytest.fixture(scope="module")
def queries():
    return draw(3050, 20)[3000:]


@pytest.mark.parametrize("size, bits", [(1, 4), (6, 4), (15, 8), (20, 8)])
def test_no_projection_keeps_more(embeddings, size, bits, monkeypatch):
    """What is kept of the squared lengths is that of a truncated SVD.

    The rows are read some at a time.
    """
    monkeypatch.setattr(module, "ROWS", 700)
    found = compress(embeddings, size)
    numbers = size * 8 // bits
    assert found.bits == bits and found.vectors.shape == (3000, numbers)
    scales = np.linalg.norm(found.projection, axis=0)  # of orthonormal axes
    axes = found.projection / scales
    np.testing.assert_allclose(axes.T @ axes, np.eye(numbers), atol=1e-5)
    kept = np.linalg.norm(embeddings @ axes) ** 2
    values = np.linalg.svd(embeddings, compute_uv=False)[:numbers]
    np.testing.assert_allclose(kept, (values**2).sum(), rtol=1e-4)
    # each number is rounded to the nearest of its scale, or cut at the largest
    largest = {4: 7, 8: 127}[bits]
    assert (np.abs(found.vectors).max(0) == largest).all()
    exact = (embeddings @ axes) / scales
    errors = np.abs(exact.clip(-largest, largest) - found.vectors)
    assert (errors <= 0.5 + 1e-5 / scales).all()
    assert (np.abs(exact) > largest + 0.5).any() == (bits == 4)
    again = found.vectors * scales @ axes.T
    distance = ((embeddings - again) ** 2).sum() - (embeddings**2).sum()
    assert found.error == pytest.approx(distance, rel=1e-4)


def test_all_dimensions_keep_dot_products_to_rounding(embeddings, queries):
    vectors, projection, *_ = compress(embeddings, 20)
    found = project(queries, projection) @ vectors.T.astype(np.float32)
    wanted = queries @ embeddings.T
    scales = np.linalg.norm(projection, axis=0)
    allowed = np.linalg.norm(queries, axis=1) * np.linalg.norm(scales) / 2
    assert (np.abs(found - wanted).max(1) <= allowed * 1.001).all()
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.999


def test_two_numbers_in_a_byte():
    every = np.array([(a, 3, b, -7) for a in range(-7, 8) for b in range(-7, 8)])
    every = every.astype(np.int8)
    packed = pack(every, 4)
    assert packed.dtype == np.int8 and packed.shape == (225, 2)
    np.testing.assert_array_equal(unpack(packed, 4), every)
    assert pack(every, 8) is unpack(every, 8) is every


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_few_dimensions_and_few_entities(dim):
    few = draw(3, dim)
    for size in range(1, dim + 1):
        found = compress(few, size)
        assert pack(found.vectors, found.bits).shape[1] <= size
    scales = np.linalg.norm(found.projection, axis=0)  # with all bytes, nothing is lost
    again = found.vectors * scales @ (found.projection / scales).T
    assert found.bits == 8
    np.testing.assert_allclose(again, few, atol=np.abs(few).max() / 50)
    zeros = compress(np.zeros((2, dim), np.float32), dim)
    assert not zeros.vectors.any() and np.isfinite(zeros.projection).all()


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
        "bits": 4,
        "recall": None,
        "recall_k": 100,
        "recall_queries": 50,
    }
    opened = open_index(path, verify=True)
    ids, scores = opened.search(queries, 100)
    wanted, _ = search_exact(embeddings, queries, 100)
    assert opened.recall == facts["recall"] == measure_recall(ids, wanted)
    assert 0.5 < opened.recall < 1
    vectors, projection, *_ = compress(embeddings, 8)
    truth = project(queries, projection) @ vectors.T.astype(np.float32)
    np.testing.assert_array_equal(ids, np.argsort(-truth, 1, kind="stable")[:, :100])
    np.testing.assert_allclose(
        scores, np.take_along_axis(truth, ids, 1), rtol=1e-5, atol=1e-4
    )
    # in whole chunks of the array
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
    assert recalls == sorted(recalls) and recalls[0] < 0.6 and recalls[-1] > 0.95


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda p: p.astype(np.float64), r"found float64 \[20, 16\]"),
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
