"""Shared fixtures. Eight virtual CPU devices; compiled programs are kept between runs."""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(Path(tempfile.gettempdir()) / f"insgenel_jax-{os.getuid()}"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import pytest

from insgenel_jax.tokenizer import Tokenizer, train_bpe

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

TEXTS = [
    "Mercury is the smallest planet, and the closest to the Sun.",
    "The singer (Freddie Mercury) was born in Stone Town; he led Queen.",
    "New York City's mayor flew from New York to York in 1999 - twice!",
    "Ångström and 東京 met naïve café-goers: “why not?”",
]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data; tests that need it skip without it."""
    if not DATA.is_dir():
        pytest.skip(f"needs the data folder {DATA}")
    return DATA


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory) -> Tokenizer:
    """A byte-level BPE of 400 tokens."""
    return train_bpe(TEXTS * 5, 400, tmp_path_factory.mktemp("tokenizer") / "bpe")
