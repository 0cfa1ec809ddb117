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
from tests.helpers.linkers import add_random_models
from tests.helpers.marks import TEXTS

pytest_plugins = ["tests.helpers.training"]

# the folder of real data; tests that need it skip where it is missing
DATA = Path(os.environ.get("INSGENEL_DATA", Path(__file__).parents[2] / "shared/data"))


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


@pytest.fixture(scope="session")
def linker_path(tmp_path_factory) -> Path:
    """A linker over the mini world with random models: its decisions are noise."""
    from insgenel_jax import mini_world
    from insgenel_jax.kb.build.entity_list import build_from_entities
    from insgenel_jax.text.formats.rejects import Rejects

    root, names = tmp_path_factory.mktemp("linker"), mini_world.aliases()
    with Rejects(root / "rejects.jsonl") as rejects:
        build_from_entities(
            root / "kb",
            [(entity, names.get(entity.title, ())) for entity in mini_world.entities()],
            rejects,
            documents=mini_world.paragraphs("train", 200),
        )
    return add_random_models(root)
