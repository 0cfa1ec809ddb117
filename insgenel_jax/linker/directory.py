"""The linker directory: settings, and all that linking needs, checked and put together.

linker.json  generator/  kb/  and, for INSGENEL-R,  retriever/  index/
titles/ is made where it is wanted (see linker_titles).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import shutil
import typing
from pathlib import Path
from typing import Any

from insgenel_jax import artifact
from insgenel_jax.decoding import table as decisions
from insgenel_jax.decoding.options import OPENINGS
from insgenel_jax.kb.occurrences import CASES
from insgenel_jax.models.config import DTYPES

VERSION = 1
MOST_WEIGHT = 1e6  # beyond this float32 has no room for logits beside a bias


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a linker does; kept in `linker.json`, any of it may be set when opening.

    system: "insgenel-r" allows the entities that the retriever finds for the text,
    "insgenel" all that the knowledge base has for a surface form. top_k: entities
    retrieved for a window. scope: which windows' entities a mention may take: those it
    touches ("window"), its chunk does ("chunk"), all of its "document". case,
    min_link_probability: filters of candidate mentions. mention_bias, prior_weight,
    retriever_weight, rest_of_span: see decoding.decisions.Weights.

    titles: "all" lets a given mention that has no candidates take any title of the
    knowledge base (with the step decoder); "candidates": it stays NIL.

    decoder: "tree", "verify" and "step" give the same answer, "auto" takes the fastest
    of them; "beam" searches with `beams` over whole targets (openings: see
    decoding.whole_target). selection: "greedy" or "marginal" (see decoding.blocks; with
    the tree decoder). threshold: links below this score are left out.
    consider_unlinked: the best link that each block passed over counts like those
    taken, so that the threshold can move both ways (with the tree decoder).
    vocabulary_scores: `Linker.explain` gives the probabilities over the whole vocabulary
    too; linking takes longer then (with the tree decoder). name_parts: once a name is
    linked, its unambiguous parts are candidates in the rest of the document.

    chunk_tokens: source tokens the generator is given at once; None takes what it was
    trained with. batch, batch_tokens: chunks, and cache slots, decoded together. dtype:
    what the generator computes in and keeps its weights and cache in.
    """

    system: str = "insgenel-r"
    top_k: int = 100
    scope: str = "chunk"
    case: str = "any"
    min_link_probability: float = 0.0
    mention_bias: float = 0.0
    prior_weight: float = 0.0
    retriever_weight: float = 0.0
    rest_of_span: bool = True
    titles: str = "candidates"
    decoder: str = "auto"
    beams: int = 2
    openings: str = "candidates"
    selection: str = "greedy"
    threshold: float = 0.0
    consider_unlinked: bool = False
    vocabulary_scores: bool = False
    name_parts: bool = False
    chunk_tokens: int | None = None
    batch: int = 16
    batch_tokens: int = 32_768
    dtype: str = "float32"

    def __post_init__(self):
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            found = getattr(self, field.name)
            _check_type(field.name, found, hints[field.name])
            if field.name in CHOICES and found not in CHOICES[field.name]:
                raise ValueError(
                    f"{field.name}: expected one of {CHOICES[field.name]}, found "
                    f"{found!r}"
                )
        for name in ("top_k", "beams", "chunk_tokens", "batch", "batch_tokens"):
            if (found := getattr(self, name)) is not None and found < 1:
                raise ValueError(f"{name}: expected at least 1, found {found}")
        for name in ("mention_bias", "prior_weight", "retriever_weight"):
            if abs(found := getattr(self, name)) > MOST_WEIGHT:
                raise ValueError(
                    f"{name}: expected at most {MOST_WEIGHT:,.0f} either way, found {found}"
                )
        if self.needs_tree and self.decoder not in ("auto", "tree"):
            raise ValueError(
                f'decoder = {self.decoder!r}: expected "tree" or "auto" with '
                f"selection = {self.selection!r}, consider_unlinked = "
                f"{self.consider_unlinked} and vocabulary_scores = "
                f"{self.vocabulary_scores}, which no other decoder can do"
            )

        if self.titles == "all" and (
            self.needs_tree or self.decoder not in ("auto", "step")
        ):
            raise ValueError(
                f'titles = "all": expected decoder = "step" or "auto", and nothing '
                f"that only the tree decoder can do; found decoder = {self.decoder!r}, "
                f"selection = {self.selection!r}, consider_unlinked = "
                f"{self.consider_unlinked}, vocabulary_scores = "
                f"{self.vocabulary_scores}"
            )

    @property
    def needs_tree(self) -> bool:
        """Whether only the tree decoder can do what is asked."""
        scores = self.consider_unlinked or self.vocabulary_scores
        return scores or self.selection == "marginal"

    @functools.cached_property
    def weights(self) -> decisions.Weights:
        """The part of the settings that the transition tables depend on."""
        names = [field.name for field in dataclasses.fields(decisions.Weights)]
        return decisions.Weights(**{name: getattr(self, name) for name in names})


CHOICES = {
    "system": ("insgenel-r", "insgenel"),
    "scope": ("window", "chunk", "document"),
    "case": CASES,
    "decoder": ("auto", "tree", "verify", "step", "beam"),
    "openings": OPENINGS,
    "titles": ("candidates", "all"),
    "dtype": DTYPES,
    "selection": ("greedy", "marginal"),
}

# What `preset` stands for. "paper": every departure from it set back.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "scope": "chunk",
        "case": "capitalised",
        "min_link_probability": 0.0,
        "mention_bias": 0.0,
        "prior_weight": 0.0,
        "retriever_weight": 0.0,
        "rest_of_span": False,
        "titles": "candidates",
        "selection": "greedy",
        "threshold": 0.0,
        "consider_unlinked": False,
        "vocabulary_scores": False,
        "name_parts": False,
        "chunk_tokens": 175,
        "decoder": "auto",
    }
}


def assemble(
    path: str | os.PathLike,
    *,
    generator: str | os.PathLike,
    kb: str | os.PathLike,
    retriever: str | os.PathLike | None = None,
    index: str | os.PathLike | None = None,
    settings: dict[str, Any] | None = None,
) -> None:
    """Put a linker directory together from its parts (hard links where possible).

    Raises ArtifactError when the index was not made from this knowledge base and this
    retriever.
    """
    parts = {"generator": generator, "kb": kb, "retriever": retriever, "index": index}
    parts = {name: Path(part) for name, part in parts.items() if part is not None}
    with artifact.create(path, "linker", VERSION) as draft:
        for name, part in parts.items():
            shutil.copytree(part, draft.path / name, copy_function=_link_or_copy)
            draft.made_from[name] = artifact.identity(part)
        record = dataclasses.asdict(make_settings(settings or {}, path))
        text = json.dumps({"settings": record}, indent=1) + "\n"
        (draft.path / "linker.json").write_text(text)
        check_parts(draft.path, draft.made_from)


def read_settings(path: Path, **overrides: Any) -> Settings:
    """The settings of a linker directory, with some of them replaced.

    Raises ArtifactError for a damaged linker.json, ValueError for a bad override.
    """
    file = path / "linker.json"
    kept = artifact.read_json(file, "settings")["settings"]
    try:
        system = {"system": make_settings(kept, file).system}
    except (ValueError, TypeError, AttributeError) as error:
        raise artifact.ArtifactError(
            f"{file}: expected the settings of a linker, found others ({error}); put "
            "it together again"
        ) from error
    return make_settings(kept | expand_preset(system | overrides), path)


def expand_preset(record: dict[str, Any]) -> dict[str, Any]:
    """Settings with `preset` spelled out; the others given go before it.

    "paper" sets every departure from the paper back: INSGENEL is decoded with two beams
    that may walk into dead ends, INSGENEL-R greedily. Raises ValueError for another.
    """
    if record.get("preset") is None:
        return {name: value for name, value in record.items() if name != "preset"}
    if record["preset"] not in PRESETS:
        raise ValueError(
            f"preset: expected one of {tuple(PRESETS)}, found {record['preset']!r}"
        )
    meant = PRESETS[record["preset"]]
    if record.get("system") == "insgenel":
        meant = meant | {"decoder": "beam", "beams": 2, "openings": "first_token"}
    return meant | {name: value for name, value in record.items() if name != "preset"}


def make_settings(record: dict[str, Any], path: str | os.PathLike) -> Settings:
    """Settings from their names, `preset` among them.

    Raises ValueError for an unknown name or bad value.
    """
    record = expand_preset(record)
    known = {field.name for field in dataclasses.fields(Settings)}
    if unknown := sorted(record.keys() - known):
        raise ValueError(
            f"{path}: unknown settings {unknown}; expected some of {sorted(known)}"
        )
    return Settings(**record)


def check_parts(path: Path, made_from: dict[str, str]) -> None:
    """Refuse a linker whose parts are not those it was put together from.

    made_from: part -> identity. Raises ArtifactError; also for an index that was made
    from another knowledge base or retriever than those beside it.
    """
    for part, identity in made_from.items():
        # a model directory without a manifest is told by its files' sizes alone
        if not (path / part / artifact.MANIFEST).is_file():
            continue
        found = artifact.identity(path / part)
        if found != identity:
            raise artifact.ArtifactError(
                f"{path}/{part}: expected the part {identity[:12]} that the linker was "
                f"put together from, found {found[:12]}; put it together again"
            )
    if not (path / "index").is_dir():
        return
    index_from = artifact.read(path / "index").made_from
    for role, part in (("knowledge-base", "kb"), ("retriever", "retriever")):
        found = artifact.identity(path / part)
        if index_from.get(role) != found:
            raise artifact.ArtifactError(
                f"{path}/index: made from the {role} {str(index_from.get(role))[:12]}, "
                f"found the {role} {found[:12]} beside it; index again"
            )


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _check_type(name: str, found: Any, hint: Any) -> None:
    allowed = typing.get_args(hint) or (hint,)
    fits = type(found) in allowed or (found is None and type(None) in allowed)
    if float in allowed and type(found) in (int, float):
        fits = math.isfinite(found)
    if not fits:
        expected = " or ".join(getattr(t, "__name__", str(t)) for t in allowed)
        raise ValueError(f"{name}: expected {expected}, found {found!r}")
