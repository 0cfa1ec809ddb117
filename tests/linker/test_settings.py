"""Settings: checks, presets, those of older versions, those without effect."""

import dataclasses
import itertools
import json
import shutil

import numpy as np
import pytest

from insgenel_jax import artifact
from insgenel_jax.linker import Linker
from insgenel_jax.linker.settings import (
    DECODERS,
    Settings,
    check_effect,
    make_settings,
    read_settings,
    without_effect,
)


def test_numbers_of_numpy_are_numbers():
    settings = Settings(threshold=np.float32(0.5), top_k=np.int64(3))
    assert settings == Settings(threshold=0.5, top_k=3)
    assert type(settings.threshold) is float and type(settings.top_k) is int


NAMES = [field.name for field in dataclasses.fields(Settings)]
# what a setting needs to change anything; every other setting always has an effect
NEEDS_RETRIEVER = {"top_k", "scope", "retrieval", "retriever_weight"}
NEEDS_BEAM = {"beams", "openings", "early_stopping"}


@pytest.mark.parametrize("name", NAMES)
def test_settings_without_effect_are_told(name):
    """Every setting, with every system and decoder."""
    for system, decoder, titles in itertools.product(
        ("insgenel-r", "insgenel"), ("auto", *DECODERS), ("candidates", "all")
    ):
        if titles == "all" and decoder not in ("auto", "step"):
            continue
        settings = Settings(system=system, decoder=decoder, titles=titles)
        asked = settings.decoder_name
        assert asked in DECODERS
        useless = (name in NEEDS_RETRIEVER and system == "insgenel") or (
            name in NEEDS_BEAM and asked != "beam"
        )
        assert (name in without_effect([name], settings)) == useless
        if useless:
            with pytest.raises(ValueError, match=f"no effect: {name} needs"):
                check_effect([name], settings)
        else:
            check_effect([name], settings)


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"beams": 4}, "beams needs decoder = 'beam'"),
        ({"system": "insgenel", "top_k": 5}, 'top_k needs system = "insgenel-r"'),
        ({"decoder": "step", "openings": "candidates"}, "openings needs decoder"),
    ],
)
def test_a_call_that_names_one_is_an_error(linker_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        Linker.from_pretrained(linker_path, **overrides)
    linker = Linker.from_pretrained(linker_path)
    with pytest.raises(ValueError, match=message):
        linker.with_settings(**overrides)


OTHER = {
    "top_k": 3,
    "scope": "document",
    "retrieval": "rank",
    "retriever_weight": 5.0,
    "beams": 5,
    "openings": "first_token",
    "early_stopping": "never",
}


@pytest.mark.parametrize("name", OTHER)
def test_those_told_do_change_nothing(linker_path, name):
    """Another value of such a setting leaves the links as they are."""
    text = "Paris, where Jordan met Apollo and Mercury"
    opened = Linker.from_pretrained(linker_path, mention_bias=3.0)
    for system, decoder in (("insgenel", "speculative"), ("insgenel-r", "tree")):
        base = dataclasses.replace(opened.settings, system=system, decoder=decoder)
        if name not in without_effect([name], base):
            continue
        links = [
            Linker(
                opened.generator, opened.kb, opened.retriever, opened.index, settings
            )(text)
            for settings in (base, dataclasses.replace(base, **{name: OTHER[name]}))
        ]
        assert links[0].mentions
        assert links[0] == links[1]


def test_neutral_values_may_be_named(linker_path, tmp_path):
    """A linker that stores "marginal" can be asked for another decoder."""
    copy = with_stored(linker_path, tmp_path, selection="marginal")
    with pytest.raises(ValueError, match="cannot do selection = 'marginal'"):
        Linker.from_pretrained(copy, decoder="step")
    linker = Linker.from_pretrained(copy, decoder="step", selection="greedy")
    assert linker.settings.decoder_name == "step"
    assert Linker.from_pretrained(copy).settings.decoder_name == "tree"


def test_stored_ones_and_those_of_a_preset_are_not_complained_of(linker_path, tmp_path):
    copy = with_stored(linker_path, tmp_path, beams=4, top_k=7, scope="window")
    linker = Linker.from_pretrained(copy, system="insgenel")
    assert linker.settings.beams == 4
    assert Linker.from_pretrained(copy, preset="paper").settings.scope == "window"


def with_stored(linker_path, tmp_path, **settings):
    """A copy of a linker that stores these settings."""
    copy = tmp_path / "linker"
    shutil.copytree(linker_path, copy)
    stored = json.loads((copy / "linker.json").read_text())["settings"]
    text = json.dumps({"settings": stored | settings})
    (copy / "linker.json").unlink()  # it may be a hard link
    (copy / "linker.json").write_text(text)
    manifest = artifact.read(copy)
    artifact.write_manifest(copy, "linker", 1, manifest.counts, manifest.made_from)
    return copy


def test_directories_of_release_0_1_open(linker_path, tmp_path):
    copy = with_stored(linker_path, tmp_path, decoder="verify", vocabulary_scores=True)
    linker = Linker.from_pretrained(copy)
    assert linker.settings.decoder == "speculative"
    assert linker("Paris").text == "Paris"
    with pytest.raises(ValueError, match="decoder: expected one of .* found 'verify'"):
        Linker.from_pretrained(copy, decoder="verify")
    with pytest.raises(ValueError, match="unknown settings .'vocabulary_scores'"):
        Linker.from_pretrained(copy, vocabulary_scores=True)


@pytest.mark.parametrize("old, new", [(True, "new"), (False, "off")])
def test_directories_of_release_0_2_open(linker_path, tmp_path, old, new):
    """They store `name_parts` as a bool."""
    copy = with_stored(linker_path, tmp_path, name_parts=old)
    assert Linker.from_pretrained(copy).settings.name_parts == new
    with pytest.raises(ValueError, match="name_parts: expected str, found True"):
        Linker.from_pretrained(copy, name_parts=True)


def test_presets(linker_path):
    """A preset overrides what is stored; a setting given beside it wins."""
    settings = read_settings(linker_path, preset="paper")
    assert (settings.case, settings.chunk_tokens) == ("any", None)
    assert (settings.top_k, settings.scope) == (100, "window")
    assert (settings.rest_of_span, settings.decoder_name) == (True, "tree")
    settings = read_settings(linker_path, preset="paper", system="insgenel", beams=3)
    assert (settings.decoder, settings.beams) == ("beam", 3)
    settings = read_settings(linker_path, preset="release")
    assert (settings.case, settings.chunk_tokens) == ("capitalised", 175)
    assert (settings.decoder, settings.early_stopping) == ("beam", "heuristic")
    assert (settings.rest_of_span, settings.matches) == (False, "substrings")
    settings = read_settings(linker_path, preset="release", system="insgenel")
    assert (settings.case, settings.punctuation) == ("any", "spaced")
    assert (settings.openings, settings.early_stopping) == ("anywhere", "never")
    with pytest.raises(ValueError, match="preset: expected one of .* found 'papers'"):
        read_settings(linker_path, preset="papers")


@pytest.mark.parametrize(
    "record, message",
    [
        ({"top_kk": 1}, "unknown settings .'top_kk'"),
        ({"scope": "all"}, "scope: expected one of .* found 'all'"),
        ({"batch": 0}, "batch: expected at least 1, found 0"),
        ({"max_candidates": 0}, "max_candidates: expected at least 1, found 0"),
        ({"max_candidates": 1.5}, "max_candidates: expected int"),
        ({"retrieval": "all"}, "retrieval: expected one of .* found 'all'"),
        ({"capitalised_run": "all"}, "capitalised_run: expected one of"),
        ({"name_parts": "on"}, "name_parts: expected one of .* found 'on'"),
        ({"rest_of_span": "false"}, "rest_of_span: expected bool, found 'false'"),
        ({"top_k": True}, "top_k: expected int, found True"),
        ({"threshold": float("nan")}, "threshold: expected float, found nan"),
        ({"threshold": np.float32("nan")}, "threshold: expected float, found nan"),
        ({"threshold": 1.1}, "threshold: expected at most 1, found 1.1"),
        ({"top_k": np.float32(3)}, "top_k: expected int, found 3.0"),
        ({"mention_bias": -float("inf")}, "mention_bias: expected float, found -inf"),
        ({"prior_weight": 1e308}, "prior_weight: expected at most 1,000,000 eit"),
        ({"preset": ["paper"]}, "preset: expected one of"),
        ({"selection": "marginal", "decoder": "step"}, "decoders that can: 'tree'"),
        ({"titles": "all", "decoder": "tree"}, "decoders that can: 'step'"),
        ({"titles": "all", "consider_unlinked": True}, "there is none"),
    ],
)
def test_bad_values_are_named(record, message):
    with pytest.raises(ValueError, match=message):
        make_settings(record, "linker.json")


def test_with_settings_shares_the_parts(linker_path):
    linker = Linker.from_pretrained(linker_path)
    strict = linker.with_settings(threshold=0.9)
    assert strict.kb is linker.kb and strict.generator is linker.generator
    assert (linker.settings.threshold, strict.settings.threshold) == (0.0, 0.9)
    assert linker.with_settings(preset="release").settings.chunk_tokens == 175
    linker("Paris")
    assert linker.stats["documents"] == 1 and not strict.stats
    with pytest.raises(ValueError, match="dtype: .* open with 'float32'"):
        linker.with_settings(dtype="bfloat16")
    with pytest.raises(ValueError, match="needs the tree of all titles"):
        linker.with_settings(titles="all")
    alone = Linker.from_pretrained(linker_path, system="insgenel")
    with pytest.raises(ValueError, match="needs a retriever and an index"):
        alone.with_settings(system="insgenel-r")
