"""The linker in the box: how large it is, what it holds, and that it links."""

import json

import pytest

from insgenel_jax.kb import KnowledgeBase
from insgenel_jax.linker import Linker
from insgenel_jax.linker.bundled import BUNDLED

TEXT = "Marie Curie was born in Warsaw and studied in Paris."


def test_it_is_small_and_says_what_it_is_made_from():
    files = [file for file in BUNDLED.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 48e6
    assert {"README.md", "NOTICE"} <= {file.name for file in BUNDLED.iterdir()}


def test_it_knows_many_entities_and_no_text():
    kb = KnowledgeBase.open(BUNDLED / "kb", verify=True)
    assert len(kb) >= 100_000
    assert not any(kb.entity_text(row) for row in range(0, len(kb), 1000))
    index = json.loads((BUNDLED / "index/index.json").read_text())
    assert index["vector_bytes"] <= 64 and index["recall"] > 0.5


@pytest.fixture(scope="module")
def nano():
    return Linker.from_pretrained("nano", verify=True)


def test_it_links_a_real_sentence(nano):
    found = {(TEXT[m.start : m.end], m.entity) for m in nano(TEXT).mentions}
    assert {("Marie Curie", "Marie Curie"), ("Warsaw", "Warsaw")} <= found


def test_its_scores_are_calibrated(nano):
    assert nano.calibrator is not None
    assert all(0 <= m.score <= 1 for m in nano(TEXT).mentions)
