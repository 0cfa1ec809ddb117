"""A service over the tiny linker, which tests share."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from insgenel_jax.linker import Linker
from tests.helpers.service import serving

# many candidate mentions are linked, by the noise of a random generator
SETTINGS = {"system": "insgenel", "mention_bias": 4.0, "length_bias": 4.0}


@pytest.fixture(scope="session")
def linker(linker_path):
    return Linker.from_pretrained(linker_path, **SETTINGS)


@pytest.fixture(scope="session")
def running(linker):
    """A service; tests that change nothing share it."""
    with serving(linker, seconds=300) as running:
        yield running
