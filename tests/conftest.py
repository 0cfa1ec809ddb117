"""Fixtures that tests of several packages share, and what is set before any import.

JAX runs on eight virtual CPU devices and keeps compiled programs from run to run, and
every annotation of the package is checked when it is used.
"""

import gc
import os
import sys
import tempfile
from pathlib import Path

# JAX reads these when it is imported, so they stand before the imports below.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(Path(tempfile.gettempdir()) / f"insgenel_jax-{os.getuid()}"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
# Python keeps its compiled modules, too, where the environment says otherwise: else
# every process that a test starts compiles the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

import jax
import jaxtyping
import pytest

# Types and array shapes are checked wherever a function of the package is called. The
# hook changes modules as they are imported, so it stands before their first import.
# INSGENEL_CHECK_TYPES=0 turns it off, for example to time the tests without it.
if os.environ.get("INSGENEL_CHECK_TYPES", "1") != "0":
    import tests.helpers.runtime_types  # noqa: F401 (the hook goes by its name)

    jaxtyping.install_import_hook("insgenel_jax", "tests.helpers.runtime_types.check")

from insgenel_jax import mini_world
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.text.formats.rejects import Rejects
from insgenel_jax.tokenizer import Tokenizer, train_bpe
from tests.helpers.linkers import add_random_models
from tests.helpers.marks import TEXTS

pytest_plugins = ["tests.helpers.training"]


def pytest_collection_finish() -> None:
    """Leave modules and tests, a million objects, out of garbage collections."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _few_programs():
    """Forget compiled programs before there are too many for a process.

    Each takes some of the 65,530 memory maps that Linux allows; without more, XLA ends
    with a segmentation fault.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
        gc.collect()


DATA = Path(os.environ.get("INSGENEL_DATA", Path(__file__).parents[2] / "shared/data"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data, INSGENEL_DATA; tests that need it skip without it."""
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
    root = tmp_path_factory.mktemp("linker")
    with Rejects(root / "rejects.jsonl") as rejects:
        build_from_entities(
            root / "kb",
            mini_world.entities(),
            rejects,
            documents=mini_world.paragraphs("train", 200),
        )
    return add_random_models(root)
