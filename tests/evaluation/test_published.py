"""The published figures, by the names that files of benchmarks have."""

import pytest

from insgenel_jax.evaluation import published


@pytest.mark.parametrize(
    ("file", "dataset"),
    [
        ("kore50", "KORE50"),
        ("KORE-50.benchmark", "KORE50"),
        ("reuters128", "Reuters-128"),
        ("oke2015_eval", "OKE15"),
        ("oke-2016-eval", "OKE16"),
        ("oke2015_train", None),
        ("mintaka_dev", None),
    ],
)
def test_a_set_is_known_by_its_file(file, dataset):
    found = published.find(file)
    assert {row.dataset for row in found} == ({dataset} if dataset else set())


def test_the_table():
    """One F1 for a system and set, both scorers, and table 3 in full."""
    rows = [row for name in ("aida", "kore50", "oke16") for row in published.find(name)]
    main = [(row.system, row.dataset) for row in rows if row.k is None]
    assert len(main) == len(set(main))
    assert {row.scorer for row in rows} == {"GERBIL", "ELEVANT"}
    assert {row.k for row in rows if row.k} == {5, 10, 20, 50, 100}
    assert all(0 < row.f1 < 100 and row.source for row in rows)
