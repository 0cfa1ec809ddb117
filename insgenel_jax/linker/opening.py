"""A linker directory and settings that override its own in; its open parts out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from jax.sharding import Mesh

from insgenel_jax import artifact, models
from insgenel_jax.decoding.title_trie import TitleTrie
from insgenel_jax.generator import Generator, load_generator
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.linker.bundled import locate
from insgenel_jax.linker.directory import BESIDE, VERSION, check_parts, open_retrieval
from insgenel_jax.linker.settings import (
    Settings,
    check_effect,
    expand_preset,
    read_settings,
)
from insgenel_jax.linker.titles import open_titles
from insgenel_jax.linker.tuned import (
    Calibration,
    read_calibration,
    settle,
    uncalibrated,
)
from insgenel_jax.retrieval.index import Index
from insgenel_jax.retrieval.retriever import Retriever


class Opened(NamedTuple):
    """What `Linker` is made of, in its order."""

    generator: Generator
    kb: KnowledgeBase
    retriever: Retriever | None
    index: Index | None
    settings: Settings
    titles: TitleTrie | None
    calibration: Calibration | None


def open_parts(
    path: str | os.PathLike[str],
    verify: bool,
    mesh: Mesh | None,
    calibrated: bool,
    overrides: Mapping[str, Any],
) -> Opened:
    """The parts of a linker directory; arguments and errors as `Linker` has them."""
    path = locate(path)
    manifest = artifact.check(path, "linker", VERSION, verify=verify, beside=BESIDE)
    check_parts(path, manifest.made_from)
    settings = read_settings(path, **overrides)
    check_effect(overrides, settings)
    calibration = read_calibration(path, manifest.made_from)
    named = expand_preset(overrides)
    if calibrated:
        settings = settle(calibration, settings, named)
    elif calibration is not None:
        calibration, settings = None, uncalibrated(settings, named)
    kb = KnowledgeBase.open(path / "kb", verify=verify)
    retriever, index = None, None
    if settings.system == "insgenel-r":
        retriever, index = open_retrieval(path)
    generator = load_generator(path / "generator", mesh, settings.dtype)
    generator = arrange_weights(generator, settings)
    titles = None
    if settings.titles == "all":
        titles = open_titles(path, manifest.made_from, kb, generator, verify=verify)
    return Opened(generator, kb, retriever, index, settings, titles, calibration)


def arrange_weights(generator: Generator, settings: Settings) -> Generator:
    """The generator with its weights as the settings want them; it is used up.

    Raises ValueError where they want 8 bits and layers that are not apart.
    """
    apart = settings.layers == "apart"
    apart |= settings.layers == "auto" and generator.mesh is None
    if not apart and settings.int8:
        raise ValueError(
            f'int8: expected layers apart, found layers = "{settings.layers}"'
            f"{' on a mesh' if generator.mesh else ''}; set int8 = False"
        )
    if not apart:
        return generator
    params = models.apart.split_layers(generator.params)
    if settings.int8:
        params = models.int8.quantise(params)
    return dataclasses.replace(generator, params=params)
