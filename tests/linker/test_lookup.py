"""Large weights make of INSGENEL the lookup baseline, whatever the generator says."""

import json
from collections import Counter

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from insgenel_jax import mini_world
from insgenel_jax.decoding.table import LARGEST_BIAS
from insgenel_jax.linker import Linker
from insgenel_jax.text.document import Document
from insgenel_jax.tokenizer import load_tokenizer
from insgenel_jax.tokenizer.tokenizer import BOUNDARIES
from tests.helpers.linkers import add_entities
from tests.helpers.lookup import LARGE, compare
from tests.helpers.marks import slow

WEIGHTS = ("mention_bias", "length_bias", "prior_weight")
RULES = {"capitalised_run": "whole", "name_parts": "override"}


@pytest.fixture(scope="module")
def documents():
    return list(mini_world.paragraphs("dev", 60))


@pytest.mark.parametrize(
    "options",
    [
        {"decoder": "tree"},
        slow({"case": "capitalised", "min_link_probability": 0.3}),
        slow({"selection": "marginal"}),
        slow({"decoder": "speculative", "min_link_probability": 0.1}),
        slow(dict.fromkeys(WEIGHTS, LARGEST_BIAS)),
        slow({"decoder": "step", "chunk_tokens": 20, "case": "capitalised"}),
        slow(RULES),
        slow(RULES | {"decoder": "step", "chunk_tokens": 20}),
        slow({"name_parts": "new", "max_candidates": 1}),
    ],
)
def test_large_weights_are_the_lookup_baseline(linker_path, documents, options):
    linker = Linker.from_pretrained(linker_path, **LARGE | options)
    found = compare(linker, documents)
    if linker.settings.name_parts == "off":
        assert found.cut.total() == linker.stats["dropped"] + linker.stats["cut"]
    assert found.exceptions == []
    assert found.links > 100 and found.ambiguous - found.ties > 50


@pytest.mark.parametrize("name", [WEIGHTS[0], *map(slow, WEIGHTS[1:])])
def test_each_of_them_is_needed(linker_path, documents, name):
    """The generator's decisions are noise wherever no weight settles them."""
    linker = Linker.from_pretrained(linker_path, **LARGE | {name: 0.0})
    assert compare(linker, documents[:6]).exceptions


def make_tokenizer(path):
    """A BPE without a cut at spaces, for which " New York" is one token."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<pad>", "<s>", "</s>", *BOUNDARIES.values()],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([" New York"] * 20 + [" a red Sun"], trainer)
    path.mkdir()
    backend.save(str(path / "tokenizer.json"))
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    (path / "tokenizer_config.json").write_text(json.dumps(named))
    return load_tokenizer(path)


TEXT = (
    "New York and York, Ann York. York, Lake of the Red Sun; Red Sun. Bob Sun, "
    "then Sun. New York"
)
NAMES = {
    "York": [],
    "Ann York": [],
    "Lake of the Red Sun": [],
    "Red Sun": [],
    "Sun": [],
    "Sun (star)": ["Sun"],
    "Bob Sun": [],
}


@pytest.mark.parametrize(
    "options, cut, reasons",
    [
        # "York" within the token " New York", twice
        ({}, {"token": 2}, {"token": 2}),
        # "Lake of the Red Sun" has 15 tokens; in its place "Red Sun" is linked
        ({"chunk_tokens": 12}, {"token": 2, "chunk": 1}, {"token": 2, "chunk": 2}),
    ],
)
@pytest.mark.parametrize("rules, parts", [({}, 0), slow(RULES, 2)])
def test_what_tokens_and_chunks_cut_is_told(
    tmp_path, options, cut, reasons, rules, parts
):
    """A dictionary in which names start inside tokens and outgrow chunks."""
    size = make_tokenizer(tmp_path / "bpe").size
    linker = Linker.from_pretrained(
        add_entities(tmp_path, NAMES, size), **LARGE | options | rules
    )
    found = compare(linker, [Document("1", TEXT)])
    assert (found.exceptions, found.ties, found.parts) == ([], 1, parts)
    assert found.cut == cut
    assert found.reasons - Counter(tie=1) == reasons  # a tie may go either way
