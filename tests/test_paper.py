"""docs/paper.md: what it calls exact has a test, and its presets are what it says."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from insgenel_jax.linker.settings import Settings, expand_preset, make_settings
from insgenel_jax.text.linked_text import RELEASE_INSTRUCTIONS
from insgenel_jax.training import config
from insgenel_jax.training.settings import Config

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs/paper.md").read_text(encoding="utf-8")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
NEUTRAL = ("min_link_probability", "length_bias", "link_weight", "prior_weight")
NEUTRAL += ("retriever_weight", "threshold")


def rows() -> list[list[str]]:
    """The cells of each row that says exact or different."""
    lines = [line for line in TEXT.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if len(row) == 4 and row[2] in ("exact", "different")]


def test_what_is_exact_has_a_test_and_what_differs_a_reason():
    found = rows()
    assert len(found) > 40
    for component, _, verdict, last in found:
        named = TEST.findall(last)
        assert bool(named) == (verdict == "exact"), component
        assert verdict == "exact" or len(last.split()) > 5, component
        for file, test in named:
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
            assert test in names, f"{file} has no {test}"


def test_paths_exist():
    """Paths and settings in the second column."""
    for component, where, *_ in rows():
        for path in re.findall(r"`([\w/]+(?:\.py|/))`", where):
            roots = (ROOT, ROOT / "insgenel_jax")
            assert any((root / path).exists() for root in roots), component


@pytest.mark.parametrize("system", ["insgenel", "insgenel-r"])
def test_the_papers_linking(system):
    settings = make_settings({"system": system, "preset": "paper"}, "")
    assert (settings.top_k, settings.scope, settings.retrieval) == (
        *(100, "window", "limit"),
    )
    assert all(getattr(settings, name) == 0 for name in NEUTRAL)
    assert (settings.case, settings.capitalised_run) == ("any", "any")
    assert (settings.name_parts, settings.max_candidates) == ("off", None)
    assert (settings.matches, settings.punctuation) == ("words", "as_is")
    assert settings.rest_of_span and settings.selection == "greedy"
    assert settings.mention_bias == 0 and not settings.consider_unlinked
    if system == "insgenel":
        searched = (settings.decoder, settings.beams, settings.openings)
        assert searched == ("beam", 2, "anywhere")
    else:
        assert not settings.searches
    given = {"system": system, "preset": "paper", "mention_bias": 1.5}
    assert make_settings(given, "").mention_bias == 1.5


@pytest.mark.parametrize("system", ["insgenel", "insgenel-r"])
def test_the_releases_linking(system):
    settings = make_settings({"system": system, "preset": "release"}, "")
    assert (settings.matches, settings.punctuation) == ("substrings", "spaced")
    assert (settings.decoder, settings.beams) == ("beam", 2)
    assert settings.chunk_tokens == 175
    alone = (settings.case, settings.rest_of_span, settings.openings)
    if system == "insgenel":
        assert alone == ("any", True, "anywhere")
        assert settings.early_stopping == "never"
    else:
        assert alone == ("capitalised", False, "candidates")
        assert (settings.top_k, settings.scope) == (100, "chunk")


def test_presets_leave_nothing_to_the_linker():
    """But what changes speed or precision alone."""
    free = {"batch", "batch_tokens", "dtype", "layers", "int8"}
    odd = {
        field.name: value
        for field in dataclasses.fields(Settings)
        if (value := _other(field)) is not None and field.name not in free
    }
    for preset in ("paper", "release"):
        for system in ("insgenel", "insgenel-r"):
            meant = make_settings({"system": system, "preset": preset}, "")
            named = expand_preset({"system": system, "preset": preset})
            assert named.keys() >= odd.keys() | {"system"}
            assert make_settings(odd | named, "") == meant


def _other(field: dataclasses.Field) -> object:
    """Another value than a setting's default; None for words, which have choices."""
    if isinstance(field.default, bool):
        return not field.default
    if isinstance(field.default, int | float):
        return field.default + 1
    return 7 if field.default is None else None


def test_the_papers_training():
    """Table 5."""
    for size in ("350m", "1.3b", "2.7b", "6.7b"):
        opt = load(f"generator_opt.py:{size}")
        assert (opt.optimizer.learning_rate, opt.optimizer.clip) == (9.65e-6, 1.0)
        assert (opt.data.batch, opt.data.packed) == (128, False)
    llama = load("generator_llama.py:7b")
    assert (llama.optimizer.learning_rate, llama.optimizer.clip) == (2e-5, 0.0)
    assert (llama.data.batch, llama.data.packed) == (96, False)
    for found in (opt, llama):
        assert (found.model.dropout, found.data.max_length) == (0.1, 512)
        assert (found.loop.epochs, found.loop.steps) == (1.0, 0)
        assert (found.optimizer.weight_decay, found.data.share) == (0.0, 1.0)
        weights = (found.data.copy_loss_weight, found.data.open_loss_weight)
        weights += (found.data.span_loss_weight, found.data.title_loss_weight)
        assert weights == (1, 1, 1, 1) and not found.data.allowed_edges
        assert not (found.data.word_noise or found.data.mask_unlabelled_matches)
        assert found.data.prompt_text and not found.data.more_instructions
    retriever = load("retriever_bert.py:large")
    assert (retriever.optimizer.learning_rate, retriever.loop.epochs) == (2e-5, 3.0)
    assert (retriever.data.window_length, retriever.data.stride) == (32, 16)
    assert not (retriever.model.shared or retriever.data.in_batch_negatives)
    assert (retriever.model.pooling, retriever.model.temperature) == ("cls", 1.0)


def test_the_releases_training():
    for name in ("generator_opt.py:1.3b-release", "generator_llama.py:7b-release"):
        data = load(name).data
        assert (data.instruction, *data.more_instructions) == RELEASE_INSTRUCTIONS
        paper = load(name.removesuffix("-release")).data
        changed = {"instruction": paper.instruction, "more_instructions": ()}
        assert dataclasses.replace(data, **changed) == paper
    lora = load("generator_llama.py:7b-lora").model.lora
    assert (lora.rank, lora.alpha, lora.dropout) == (8, 16.0, 0.05)


def load(name: str) -> Config:
    """A config over a pretrained model."""
    return config.load(str(ROOT / "configs" / name), ["model.pretrained=MODEL"])
