"""The index: exact search against a sort, ScaNN against exact search, and its files."""

import dataclasses
import warnings

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insgenel_jax import artifact
from insgenel_jax.retrieval import exact, index
from insgenel_jax.retrieval.approximate import measure_recall
from insgenel_jax.retrieval.exact import search_exact
from insgenel_jax.retrieval.index import build_index, open_index

MADE_FROM = {"knowledge-base": "k", "retriever": "r"}


def clustered(n, dim, queries, seed=0):
    """n vectors and some queries round shared centres, exact in bfloat16."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(round(n**0.5), dim))
    points = centres[rng.integers(len(centres), size=n + queries)]
    points = points + rng.normal(size=points.shape)
    points = points.astype(ml_dtypes.bfloat16).astype(np.float32)
    return points[:n], points[n:]


def brute_force(vectors, queries, k):
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    order = [sorted(range(len(vectors)), key=lambda i: (-row[i], i)) for row in scores]
    return np.array(order).reshape(len(queries), -1)[:, :k]


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 90),
    queries=st.integers(1, 40),
    k=st.integers(1, 90),
    at_a_time=st.sampled_from([7, 32, 1000]),
    group=st.sampled_from([3, 1000]),
    seed=st.integers(0, 9),
)
def test_exact_is_a_sort_with_ties_by_id(n, queries, k, at_a_time, group, seed):
    rng = np.random.default_rng(seed)
    # small integers: many exact ties, and float32 products without rounding
    vectors = rng.integers(-2, 3, (n, 3)).astype(np.float32)
    wanted = rng.integers(-2, 3, (queries, 3)).astype(np.float32)
    k = min(k, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "VECTORS", at_a_time)
        patch.setattr(exact, "QUERIES", group)
        ids, scores = search_exact(vectors, wanted, k)
    np.testing.assert_array_equal(ids, brute_force(vectors, wanted, k))
    np.testing.assert_array_equal(
        scores, np.take_along_axis(wanted @ vectors.T, ids, 1)
    )


@pytest.fixture(scope="module")
def vectors():
    return clustered(20_000, 48, 64)


@pytest.fixture(scope="module")
def scann_path(vectors, tmp_path_factory):
    pytest.importorskip("scann")
    path = tmp_path_factory.mktemp("scann") / "index"
    build_index(vectors[0], path, made_from=MADE_FROM, exact=False)
    return path


@pytest.fixture(scope="module")
def exact_path(vectors, tmp_path_factory):
    path = tmp_path_factory.mktemp("exact") / "index"
    build_index(vectors[0], path, made_from=MADE_FROM)
    return path


def test_scann_finds_what_exact_search_finds(vectors, scann_path):
    opened = open_index(scann_path)
    assert opened.method == "scann" and opened.recall >= 0.95
    ids, scores = opened.search(vectors[1], 100)
    wanted, _ = search_exact(*vectors, 100)
    assert measure_recall(ids, wanted) >= 0.95
    truth = np.take_along_axis(vectors[1] @ vectors[0].T, ids, 1)
    np.testing.assert_allclose(scores, truth, rtol=1e-4, atol=1e-4)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len(set(row)) == 100 for row in ids.tolist())


@pytest.mark.parametrize("method", ["exact", "scann"])
def test_rows_do_not_depend_on_their_batch(method, vectors, exact_path, scann_path):
    opened = open_index({"exact": exact_path, "scann": scann_path}[method])
    queries = vectors[1]
    ids, scores = opened.search(queries, 100)
    assert ids.dtype == np.int32 and scores.dtype == np.float32
    for size in (1, 3, 16, 17):
        parts = [
            opened.search(queries[i : i + size], 100)
            for i in range(0, len(queries), size)
        ]
        np.testing.assert_array_equal(np.concatenate([p[0] for p in parts]), ids)
        np.testing.assert_array_equal(np.concatenate([p[1] for p in parts]), scores)
    order = np.random.default_rng(1).permutation(len(queries))
    np.testing.assert_array_equal(opened.search(queries[order], 100)[0], ids[order])


@pytest.mark.parametrize("method", ["exact", "scann"])
def test_more_than_there_are(method, vectors, exact_path, scann_path):
    opened = open_index({"exact": exact_path, "scann": scann_path}[method])
    ids, scores = opened.search(vectors[1][:2], 50_000)
    assert ids.shape == scores.shape == (2, 20_000)
    assert (np.sort(ids, 1) == np.arange(20_000)).all()
    assert np.isfinite(scores).all()
    # more than the leaves searched hold, less than all
    ids, scores = opened.search(vectors[1][:2], 15_000)
    assert all(len(set(row)) == 15_000 for row in ids.tolist())
    assert np.isfinite(scores).all()
    ids, scores = opened.search(vectors[1][:0], 5)
    assert ids.shape == scores.shape == (0, 5)


@pytest.mark.parametrize("method", ["exact", "scann", "compressed"])
def test_score_is_what_search_gives(method, vectors, exact_path, scann_path, tmp_path):
    """And so for entities that no query finds, in any order, more than once."""
    paths = {"exact": exact_path, "scann": scann_path, "compressed": tmp_path / "i"}
    if method == "compressed":
        build_index(vectors[0], paths[method], made_from={}, vector_bytes=40)
    opened = open_index(paths[method])
    queries = vectors[1][:5]
    ids, scores = opened.search(queries, 100)
    for row, (one, expected) in enumerate(zip(ids, scores, strict=True)):
        found = opened.score(queries[row : row + 1], one)
        assert found.shape == (1, 100) and found.dtype == np.float32
        np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-4)
    some = np.array([7, 19_999, 0, 7])
    found = opened.score(queries, some)
    truth = queries @ vectors[0][some].T
    np.testing.assert_allclose(found, truth, **TOLERANCES[method])
    assert opened.score(queries[:0], some).shape == (0, 4)
    assert opened.score(queries, some[:0]).shape == (5, 0)
    with pytest.raises(ValueError, match=r"queries \[N, 48\]"):
        opened.score(queries[:, 1:], some)


# the numbers of few bytes differ from the embeddings; they are tested in test_compress
TOLERANCES = {
    "exact": {"rtol": 1e-5, "atol": 1e-5},
    "scann": {"rtol": 1e-5, "atol": 1e-5},
    "compressed": {"atol": 25},
}


def test_scann_reads_the_embeddings_at_the_first_score(scann_path):
    read, opened = [], open_index(scann_path)
    real = opened.read_vectors
    counted = dataclasses.replace(opened, read_vectors=lambda: read.append(1) or real())
    queries = np.ones((2, 48), np.float32)
    counted.search(queries, 3)
    assert not read
    for _ in range(2):
        counted.score(queries, np.arange(3))
    assert read == [1]


def test_the_same_files_twice(vectors, scann_path, tmp_path):
    build_index(vectors[0], tmp_path / "again", made_from=MADE_FROM, exact=False)
    assert artifact.identity(tmp_path / "again") == artifact.identity(scann_path)
    assert not list(scann_path.rglob("*.pkl"))


def test_what_the_index_says_of_itself(vectors, exact_path):
    manifest = artifact.check(exact_path, "index", 1, verify=True)
    assert manifest.counts == {"entities": 20_000, "dimensions": 48}
    assert manifest.made_from == MADE_FROM
    opened = open_index(exact_path)
    assert (opened.method, opened.recall, opened.entities) == ("exact", 1.0, 20_000)
    assert opened.made_from == MADE_FROM


@pytest.mark.parametrize("damage", ["truncate", "remove", "flip"])
def test_damaged_files_are_named(vectors, tmp_path, damage):
    path = tmp_path / "index"
    build_index(vectors[0][:500], path, made_from=MADE_FROM)
    file = path / "embeddings" / "c" / "0" / "0"
    content = bytearray(file.read_bytes())
    if damage == "truncate":
        file.write_bytes(content[:-1])
    elif damage == "remove":
        file.unlink()
    else:
        content[3] ^= 1
        file.write_bytes(content)
        open_index(path)  # equal sizes: only the hash tells
    with pytest.raises(artifact.ArtifactError, match="embeddings/c/0/0"):
        open_index(path, verify=damage == "flip")


def test_another_artifact_is_refused(vectors, tmp_path):
    with artifact.create(tmp_path / "kb", "knowledge-base", 1):
        pass
    with pytest.raises(artifact.ArtifactError, match="knowledge-base"):
        open_index(tmp_path / "kb")


def test_exact_where_scann_is_missing(vectors, scann_path, tmp_path, monkeypatch):
    wanted, _ = search_exact(*vectors, 10)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.warns(UserWarning, match="ScaNN cannot be imported"):
        opened = open_index(scann_path)
    assert opened.method == "exact"
    np.testing.assert_array_equal(opened.search(vectors[1], 10)[0], wanted)
    with pytest.warns(UserWarning, match="ScaNN cannot be imported"):
        built = build_index(
            vectors[0][:300], tmp_path / "i", made_from=MADE_FROM, exact=False
        )
    assert built.method == "exact"


def test_choice_by_size(vectors, tmp_path, monkeypatch):
    def method(count, exact=None):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            path = tmp_path / f"{count}{exact}"
            return build_index(
                vectors[0][:count], path, made_from=MADE_FROM, exact=exact
            ).method

    pytest.importorskip("scann")
    monkeypatch.setattr(index, "SCANN_FROM", 400)
    assert [method(399), method(400), method(500, True)] == ["exact", "scann", "exact"]
    assert method(300, False) == "scann"
    with pytest.warns(UserWarning, match="at least 256"):
        few = build_index(
            vectors[0][:9], tmp_path / "few", made_from=MADE_FROM, exact=False
        )
    assert few.method == "exact" and few.search(vectors[1], 20)[0].shape == (64, 9)


def test_bad_input_is_refused(vectors, tmp_path):
    embeddings = vectors[0][:300].copy()
    opened = build_index(embeddings, tmp_path / "good", made_from=MADE_FROM)
    with pytest.raises(ValueError, match=r"queries \[N, 48\]"):
        opened.search(np.zeros((2, 47)), 3)
    with pytest.raises(ValueError, match="k = 0"):
        opened.search(vectors[1], 0)
    with pytest.raises(ValueError, match=r"rows \[1\] are not finite"):
        opened.search(np.array([[0.0] * 48, [np.nan] * 48]), 3)
    embeddings[7, 3] = np.inf
    with pytest.raises(ValueError, match=r"entities \[7\] are not finite"):
        build_index(embeddings, tmp_path / "bad", made_from=MADE_FROM)
    assert not (tmp_path / "bad").exists()


def test_scann_takes_vectors_of_one_length(vectors, tmp_path):
    """As `normalise` and a temperature of 0.05 make them, rounded to bfloat16."""
    pytest.importorskip("scann")
    points, queries = (
        x[:3000] / np.linalg.norm(x[:3000], axis=1, keepdims=True) / 0.05**0.5
        for x in vectors
    )
    built = build_index(points, tmp_path / "i", made_from=MADE_FROM, exact=False)
    assert built.method == "scann" and built.recall >= 0.98
    ids, scores = built.search(queries, 10)
    exact_ids, exact_scores = search_exact(points, queries, 10)
    shared = [len(set(a) & set(b)) for a, b in zip(ids, exact_ids, strict=True)]
    assert np.mean(shared) >= 9.5
    np.testing.assert_allclose(scores[:, 0], exact_scores[:, 0], atol=0.1)  # of 20
