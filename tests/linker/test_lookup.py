"""Large weights make of INSGENEL the lookup baseline, whatever the generator says."""

import pytest

from insgenel_jax import mini_world
from insgenel_jax.decoding.table import LARGEST_BIAS
from insgenel_jax.linker import Linker
from tests.helpers.lookup import LARGE, compare
from tests.helpers.marks import slow

WEIGHTS = ("mention_bias", "length_bias", "prior_weight")


@pytest.fixture(scope="module")
def documents():
    return list(mini_world.paragraphs("dev", 60))


@pytest.mark.parametrize(
    "options",
    [
        {"decoder": "tree"},
        slow({"case": "capitalised", "min_link_probability": 0.3}),
        slow({"selection": "marginal"}),
        {"decoder": "speculative", "min_link_probability": 0.1},
        slow(dict.fromkeys(WEIGHTS, LARGEST_BIAS)),
        slow({"decoder": "step", "chunk_tokens": 20, "case": "capitalised"}),
    ],
)
def test_large_weights_are_the_lookup_baseline(linker_path, documents, options):
    linker = Linker.from_pretrained(linker_path, **LARGE | options)
    found = compare(linker, documents)
    assert found.cut == linker.stats["dropped"] + linker.stats["cut"]
    assert found.exceptions == []
    assert found.links > 100 and found.ambiguous - found.ties > 50


@pytest.mark.parametrize("name", WEIGHTS)
def test_each_of_them_is_needed(linker_path, documents, name):
    """The generator's decisions are noise wherever no weight settles them."""
    linker = Linker.from_pretrained(linker_path, **LARGE | {name: 0.0})
    assert compare(linker, documents).exceptions
