"""The settings of a linker: their meaning, their defaults, presets, and every check."""

from __future__ import annotations

import dataclasses
import functools
import os
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from insgenel_jax import artifact
from insgenel_jax.decoding import beam, speculative, step, tree
from insgenel_jax.decoding.options import EARLY_STOPPING, OPENINGS
from insgenel_jax.decoding.table import LARGEST_BIAS, Weights
from insgenel_jax.kb.occurrences import CAPITALISED_RUNS, CASES, MATCHES, NAME_PARTS
from insgenel_jax.models.config import DTYPES
from insgenel_jax.models.fields import expected_type, meanings

DECODERS: dict[str, ModuleType] = {
    "tree": tree,
    "speculative": speculative,
    "step": step,
    "beam": beam,
}
# "auto" prefers this one. Of the decoders that give the same answer it is the fastest,
# or nearly so, on CPU and GPU, at any batch, from some 10 M parameters up (measured by
# benchmarks/decoding.py, systems.py and large.py). Below that, on a CPU, `step` decodes
# in two thirds of the time, but compiles so much more that only thousands of documents
# repay it.
FASTEST = "tree"
# The settings that are weights or biases in decoding, each a field of Weights.
WEIGHTS = (
    "mention_bias",
    "length_bias",
    "link_weight",
    "prior_weight",
    "retriever_weight",
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a linker does. `linker.json` stores it; opening may override any of it.

    system: "insgenel-r" asks the retriever for the entities of the text; "insgenel"
    allows all that the knowledge base has for a surface form. top_k: the number of
    entities retrieved for a window. scope: which windows count for a mention: those
    that overlap the mention ("window"), its chunk ("chunk") or any of its document
    ("document"). retrieval: with "limit" (*paper*) only the retrieved entities are
    allowed; with "rank" all of the surface form's are, and the retriever's score of
    each, retrieved or not, only weighs it (by retriever_weight). max_candidates: the
    most entities of a mention, those of highest prior; None is no limit. "limit" counts
    only those retrieved; "rank" allows those retrieved beyond the limit too.

    matches: where surface forms are looked for: "words", or "substrings" for places
    inside words too (*release*). punctuation: with "spaced" the generator and the
    retriever read the text with a space before punctuation (*release*), see
    linker.spacing; with "as_is" they read it as it is.
    case: with "capitalised", what begins in lower case is no candidate mention.
    min_link_probability: what is linked in a smaller share of the documents that it
    occurs in is none. capitalised_run: with "whole", what lies inside a longer run of
    capitalised words is none; for all three see kb.occurrences.passes. name_parts: once
    a name is linked (whatever its score), its unambiguous words mean its entity in the
    rest of the document, where no candidate mention stands ("new") or also where one
    does ("override"), see kb.occurrences.find_name_parts. mention_bias, length_bias,
    link_weight, prior_weight, retriever_weight, rest_of_span: see
    decoding.table.Weights, which `explain_settings` quotes.

    titles: with "all" a given mention that has no candidates may take any title of the
    knowledge base (this needs the `step` decoder); with "candidates" it stays NIL.

    decoder: "tree", "speculative" and "step" give the same answer, and "auto" takes the
    fastest of them; "beam" is beam search over whole targets. beams: how many beam
    search keeps. openings: how beam search begins titles, see decoding.whole_target.
    early_stopping: when beam search ends, see decoding.options.
    selection: "greedy" or "marginal", see decoding.selection; "marginal" needs the tree
    decoder. threshold: a link whose score (calibrated where the linker has a
    calibrator) is below this is left out, at the very end; from 0 to 1.
    consider_unlinked: the best link that each block passed over is a result too, so
    that the threshold can move both ways (this needs the tree decoder).
    other_candidates: the most other candidates that a mention comes with, the most
    probable ones, each with its probability; with them comes the probability that the
    mention is none (this needs the tree decoder). 0 gives neither.

    chunk_tokens: source tokens of a chunk; None takes what the generator was trained
    with. batch: chunks that are decoded together. batch_tokens: the most slots of the
    KV cache that they may take together. dtype: what the generator computes in and
    keeps its weights and its KV cache in. layers: "apart" keeps the weights of each
    layer as arrays of their own, so that no call copies them, and runs the layers one
    by one; "stacked" runs them in a loop of one program, as a generator that is spread
    over a mesh needs; "auto" takes "apart" but for a mesh. int8: keep the linear maps
    of the layers in 8 bits, with a scale for each output channel, in a quarter of the
    memory of float32; what is computed is computed in `dtype`. It needs layers apart.
    """

    system: str = "insgenel-r"
    top_k: int = 100
    scope: str = "chunk"
    retrieval: str = "limit"
    max_candidates: int | None = None
    matches: str = "words"
    punctuation: str = "as_is"
    case: str = "any"
    min_link_probability: float = 0.0
    capitalised_run: str = "any"
    name_parts: str = "off"
    mention_bias: float = 0.0
    length_bias: float = 0.0
    link_weight: float = 0.0
    prior_weight: float = 0.0
    retriever_weight: float = 0.0
    rest_of_span: bool = True
    titles: str = "candidates"
    decoder: str = "auto"
    beams: int = 2
    openings: str = "candidates"
    early_stopping: str = "heuristic"
    selection: str = "greedy"
    threshold: float = 0.0
    consider_unlinked: bool = False
    other_candidates: int = 0
    chunk_tokens: int | None = None
    batch: int = 16
    batch_tokens: int = 32_768
    dtype: str = "float32"
    layers: str = "auto"
    int8: bool = False

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for name, hint in hints.items():
            value = getattr(self, name)
            if isinstance(value, np.generic):  # a number of NumPy's is a number
                value = value.item()
                object.__setattr__(self, name, value)
            if expected := expected_type(value, hint):
                raise ValueError(f"{name}: expected {expected}, found {value!r}")
            if name in CHOICES and value not in CHOICES[name]:
                raise ValueError(
                    f"{name}: expected one of {CHOICES[name]}, found {value!r}"
                )
        for name in COUNTS:
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, found {value}")
        if self.other_candidates < 0:
            raise ValueError(
                f"other_candidates: expected at least 0, found {self.other_candidates}"
            )
        for name in WEIGHTS:
            if abs(value := getattr(self, name)) > LARGEST_BIAS:
                raise ValueError(
                    f"{name}: expected at most {LARGEST_BIAS:,.0f} either way, found "
                    f"{value}"
                )
        if self.threshold > 1:
            raise ValueError(
                f"threshold: expected at most 1, found {self.threshold}: no score is "
                "higher, and nothing would be linked"
            )
        self._check_decoder()

    def _check_decoder(self) -> None:
        """Refuse a decoder that cannot do what the other settings ask for."""
        able = [repr(name) for name in DECODERS if self._can(name)]
        if repr(self.decoder_name) not in able:
            asked = ", ".join(
                f"{name} = {getattr(self, name)!r}"
                for name, neutral in NEUTRAL.items()
                if getattr(self, name) != neutral
            )
            raise ValueError(
                f"decoder = {self.decoder!r} cannot do {asked}; "
                f"decoders that can: {', '.join(able) or 'there is none'}"
            )

    def _can(self, decoder: str) -> bool:
        """Whether a decoder honours what is asked beyond the neutral values."""
        return all(
            getattr(self, name) == neutral or OPTIONS[name] in DECODERS[decoder].HONOURS
            for name, neutral in NEUTRAL.items()
        )

    @property
    def decoder_name(self) -> str:
        """The decoder that is named; for "auto", the first that does what is asked."""
        if self.decoder != "auto":
            return self.decoder
        return next(filter(self._can, DECODERS), FASTEST)

    @property
    def searches(self) -> bool:
        """Whether the decoder is beam search, which differs from all the others."""
        return "beams" in DECODERS[self.decoder_name].HONOURS

    @functools.cached_property
    def weights(self) -> Weights:
        """The part of the settings that the transition tables depend on."""
        names = [field.name for field in dataclasses.fields(Weights)]
        return Weights(**{name: getattr(self, name) for name in names})


CHOICES = {
    "system": ("insgenel-r", "insgenel"),
    "scope": ("window", "chunk", "document"),
    "retrieval": ("limit", "rank"),
    "matches": MATCHES,
    "punctuation": ("as_is", "spaced"),
    "case": CASES,
    "capitalised_run": CAPITALISED_RUNS,
    "name_parts": NAME_PARTS,
    "decoder": ("auto", *DECODERS),
    "openings": OPENINGS,
    "early_stopping": EARLY_STOPPING,
    "titles": ("candidates", "all"),
    "dtype": DTYPES,
    "layers": ("auto", "apart", "stacked"),
    "selection": ("greedy", "marginal"),
}
# the settings that count something, of which there must be at least one
COUNTS = ("top_k", "max_candidates", "beams", "chunk_tokens", "batch", "batch_tokens")

# A setting of the decoders -> the name that decoding.options.Options has for it.
OPTIONS = {
    "selection": "selection",
    "consider_unlinked": "unlinked",
    "other_candidates": "titles_scored",
    "beams": "beams",
    "openings": "openings",
    "early_stopping": "early_stopping",
    "titles": "titles",
}
# The values that say what every decoder does anyway; another asks for one that can.
NEUTRAL = {
    "selection": "greedy",
    "consider_unlinked": False,
    "other_candidates": 0,
    "titles": "candidates",
}
# These do not change the features of a link. (The decoders but beam search, which
# `Settings.searches` tells, give the same answer; titles is for given mentions.)
_NO_FEATURES = ("threshold", "consider_unlinked", "decoder", "titles", "batch")
_NO_FEATURES += ("batch_tokens", "dtype", "layers", "int8", "other_candidates")
_RETRIEVAL = ("top_k", "scope", "retrieval", "retriever_weight")

# Preset name -> the settings that it stands for, all but those that change the speed
# or the precision alone; `expand_preset` adds those that depend on the system. What
# docs/paper.md says of them, tests/test_paper.py checks.
_PAPER: dict[str, Any] = {
    "top_k": 100,
    "scope": "window",
    "retrieval": "limit",
    "max_candidates": None,
    "matches": "words",
    "punctuation": "as_is",
    "case": "any",
    "min_link_probability": 0.0,
    "capitalised_run": "any",
    "name_parts": "off",
    # the paper has a constant offset here, whose value is unpublished
    "mention_bias": 0.0,
    "length_bias": 0.0,
    "link_weight": 0.0,
    "prior_weight": 0.0,
    "retriever_weight": 0.0,
    "rest_of_span": True,
    "titles": "candidates",
    "selection": "greedy",
    "threshold": 0.0,
    "consider_unlinked": False,
    "other_candidates": 0,
    "chunk_tokens": None,
    "decoder": "auto",
    "beams": 2,
    "openings": "candidates",
    "early_stopping": "heuristic",
}
_RELEASE = {
    **_PAPER,
    "scope": "chunk",
    "matches": "substrings",
    "punctuation": "spaced",
    "rest_of_span": False,
    "chunk_tokens": 175,
    "decoder": "beam",
    "early_stopping": "never",
}
PRESETS = {"paper": _PAPER, "release": _RELEASE}
# preset and system -> settings in which the system differs
_OF_SYSTEM = {
    ("paper", "insgenel"): {"decoder": "beam", "openings": "anywhere"},
    ("release", "insgenel"): {"openings": "anywhere", "rest_of_span": True},
    ("release", "insgenel-r"): {"case": "capitalised", "early_stopping": "heuristic"},
}


def explain_settings() -> dict[str, str]:
    """Setting -> its meaning, for users of the command line."""
    of_weights = meanings(Weights)
    return {n: of_weights.get(n, told) for n, told in meanings(Settings).items()}


def make_settings(record: Mapping[str, Any], path: str | os.PathLike) -> Settings:
    """Settings from their names, among which may be `preset`.

    path: what an error names. Raises ValueError for an unknown name or a bad value.
    """
    record = expand_preset(record)
    known = {field.name for field in dataclasses.fields(Settings)}
    if unknown := sorted(record.keys() - known):
        raise ValueError(
            f"{path}: unknown settings {unknown}; expected some of {sorted(known)}"
        )
    return Settings(**record)


def read_settings(path: Path, **overrides: Any) -> Settings:
    """The settings that a linker directory stores, with some of them overridden.

    Raises ArtifactError for a damaged linker.json, ValueError for a bad override.
    """
    file = path / "linker.json"
    stored = current_names(artifact.read_json(file, "settings")["settings"])
    try:
        system = {"system": make_settings(stored, file).system}
    except (ValueError, TypeError, AttributeError) as error:
        raise artifact.ArtifactError(
            f"{file}: expected the settings of a linker, found others ({error}); put "
            "it together again"
        ) from error
    return make_settings(stored | expand_preset(system | overrides), path)


def scoring_settings(settings: Settings) -> dict[str, Any]:
    """The settings that a link's features depend on: those that a calibrator holds for.

    Left out are those that change the speed or the precision alone, those that say
    which scored links are results, and those without effect.
    """
    record = dataclasses.asdict(settings) | {"searches": settings.searches}
    useless = without_effect(record, settings)
    return {k: v for k, v in record.items() if k not in {*_NO_FEATURES, *useless}}


def current_names(stored: Any) -> Any:
    """Stored settings of versions 0.1 and 0.2 in today's names and values."""
    if not isinstance(stored, dict):
        return stored
    stored = {k: v for k, v in stored.items() if k != "vocabulary_scores"}
    if stored.get("decoder") == "verify":
        stored["decoder"] = "speculative"
    if isinstance(parts := stored.get("name_parts"), bool):
        stored["name_parts"] = "new" if parts else "off"
    return stored


def expand_preset(record: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in which `preset` is spelled out. Those given beside it win.

    "paper" gives settings the values of the paper: INSGENEL is decoded with two beams
    that may walk into dead ends, INSGENEL-R greedily. "release" gives them those of
    the code that its authors published. Raises ValueError for an unknown preset.
    """
    given = {name: value for name, value in record.items() if name != "preset"}
    preset = record.get("preset")
    if preset is None:
        return given
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ValueError(f"preset: expected one of {tuple(PRESETS)}, found {preset!r}")
    system = record.get("system", Settings.system)
    return PRESETS[preset] | _OF_SYSTEM.get((preset, system), {}) | given


def without_effect(names: Collection[str], settings: Settings) -> dict[str, str]:
    """Those of the named settings that change nothing: name -> what it would need.

    A setting of `NEUTRAL` is never among them: its neutral value holds for every
    decoder, and a decoder that cannot do another value is refused.
    """
    honours = DECODERS[settings.decoder_name].HONOURS
    useless = {}
    for name in names:
        option = OPTIONS.get(name)
        if name in _RETRIEVAL and settings.system == "insgenel":
            useless[name] = 'system = "insgenel-r"'
        elif option and name not in NEUTRAL and option not in honours:
            able = [repr(name) for name in DECODERS if option in DECODERS[name].HONOURS]
            useless[name] = f"decoder = {' or '.join(able)}"
    return useless


def check_effect(names: Collection[str], settings: Settings) -> None:
    """Raise ValueError where a setting that a call names would change nothing."""
    if useless := without_effect(names, settings):
        raise ValueError(
            "no effect: "
            + "; ".join(f"{name} needs {needs}" for name, needs in useless.items())
            + f"; found system = {settings.system!r}, decoder = "
            f"{settings.decoder_name!r}. Leave it out, or set what it needs"
        )
