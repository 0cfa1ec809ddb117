"""The linker directory: settings, and all that linking needs, checked and put together.

linker.json  generator/  kb/  and, for INSGENEL-R,  retriever/  index/
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
from pathlib import Path
from typing import Any

from insgenel_jax import artifact, models
from insgenel_jax.decoding import decisions, step
from insgenel_jax.kb.occurrences import CASES
from insgenel_jax.models import hf
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.tokenizer import Tokenizer, load_tokenizer

VERSION = 1


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a linker does; kept in `linker.json`, any of it may be set when opening.

    system: "insgenel-r" allows the entities that the retriever finds for the text,
    "insgenel" all that the knowledge base has for a surface form. top_k: entities
    retrieved for a window. scope: which windows' entities a mention may take ("window",
    "chunk", "document": see retrieval.scope). case, min_link_probability: filters of
    candidate mentions. mention_bias, prior_weight, retriever_weight, rest_of_span: see
    decoding.decisions.Weights. threshold: links below this score are left out.
    chunk_tokens: source tokens the generator is given at once (*paper*: 175). batch:
    chunks decoded together. block: forced tokens that one call takes along.
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
    threshold: float = 0.0
    chunk_tokens: int = 175
    batch: int = 16
    block: int = 8

    def __post_init__(self):
        _check_choice("system", self.system, ("insgenel-r", "insgenel"))
        _check_choice("scope", self.scope, ("window", "chunk", "document"))
        _check_choice("case", self.case, CASES)
        for name in ("top_k", "chunk_tokens", "batch", "block"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name}: expected at least 1, found {getattr(self, name)}"
                )

    @functools.cached_property
    def weights(self) -> decisions.Weights:
        """The part of the settings that the transition tables depend on."""
        names = [field.name for field in dataclasses.fields(decisions.Weights)]
        return decisions.Weights(**{name: getattr(self, name) for name in names})


@dataclasses.dataclass(frozen=True)
class Generator:
    """The instruction-tuned language model and its tokenizer."""

    model: step.Model
    params: Any
    tokenizer: Tokenizer
    instruction: str


def load_generator(path: str | os.PathLike) -> Generator:
    """Open a generator's model directory."""
    path = Path(path)
    config = hf.load_config(path)
    settings = json.loads((path / "insgenel.json").read_text())
    return Generator(
        model=decoder_model(config),
        params=hf.load_params(path, config),
        tokenizer=load_tokenizer(path),
        instruction=settings["instruction"],
    )


@functools.cache  # the same functions again, so that nothing is compiled twice
def decoder_model(config: ModelConfig) -> step.Model:
    """The functions that a decoder needs of a model."""
    module = models.build(config)
    return step.Model(
        forward=lambda params, *args: module.apply({"params": params}, *args),
        unembed=functools.partial(models.unembed, config),
        init_cache=functools.partial(models.init_cache, config),
    )


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
        if "index" in parts:
            check_index(draft.path)
        record = dataclasses.asdict(make_settings(settings or {}, path))
        text = json.dumps({"settings": record}, indent=1) + "\n"
        (draft.path / "linker.json").write_text(text)


def read_settings(path: Path, **overrides: Any) -> Settings:
    """The settings of a linker directory, with some of them replaced."""
    kept = json.loads((path / "linker.json").read_text())["settings"]
    return make_settings(kept | overrides, path)


def make_settings(record: dict[str, Any], path: str | os.PathLike) -> Settings:
    """Settings from their names. Raises ValueError for an unknown name or bad value."""
    known = {field.name for field in dataclasses.fields(Settings)}
    if unknown := sorted(record.keys() - known):
        raise ValueError(
            f"{path}: unknown settings {unknown}; expected some of {sorted(known)}"
        )
    return Settings(**record)


def check_index(path: Path) -> None:
    """Refuse an index that was made from another knowledge base or retriever."""
    made_from = artifact.read(path / "index").made_from
    for role, part in (("knowledge-base", "kb"), ("retriever", "retriever")):
        found = artifact.identity(path / part)
        if made_from.get(role) != found:
            raise artifact.ArtifactError(
                f"{path}/index: made from the {role} {str(made_from.get(role))[:12]}, "
                f"found the {role} {found[:12]} beside it; index again"
            )


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _check_choice(name: str, found: str, known: tuple[str, ...]) -> None:
    if found not in known:
        raise ValueError(f"{name}: expected one of {known}, found {found!r}")
