"""Configs and labelled documents in; a generator trained by each, and its F1, out.

These are the paper's figures 2 (a share of the data) and 3 (sizes of the model), and
its open question about instructions. All generators link with the other parts and the
settings of one linker.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from insgenel_jax.evaluation.scoring import Resolve, same_entity, score
from insgenel_jax.generator import load_generator
from insgenel_jax.linker import Linker
from insgenel_jax.studies.rows import Progress, Row, silent
from insgenel_jax.studies.runtime import bare, count_parameters
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.rejects import InputError, Rejects
from insgenel_jax.text.linked_text import RELEASE_INSTRUCTIONS
from insgenel_jax.training import run
from insgenel_jax.training.settings import Config, GeneratorData

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A config to train by, and the columns that tell it from others."""

    name: str
    columns: Mapping[str, Any]
    config: Config


def of_shares(config: Config, shares: Sequence[float]) -> list[Variant]:
    """A variant for each share of the training pages (*paper*, figure 2)."""
    return [
        Variant(
            f"share-{share:g}",
            {"data, %": 100.0 * share, "trained on": "shares"},
            _with_data(config, share=share),
        )
        for share in sorted(set(shares))
    ]


def of_sizes(configs: Mapping[str, Config]) -> list[Variant]:
    """A variant for each config, by its name (*paper*, figure 3)."""
    return [
        Variant(f"size-{number}", {"model": name, "trained on": "all"}, config)
        for number, (name, config) in enumerate(configs.items())
    ]


def of_instructions(
    config: Config, several: Sequence[str] = RELEASE_INSTRUCTIONS
) -> list[Variant]:
    """No instruction, the config's, one of several; the text in the prompt or not.

    several: instructions besides the config's.
    """
    assert isinstance(config.data, GeneratorData)
    ways: dict[str, dict[str, Any]] = {
        "none": {"instruction": "", "more_instructions": ()},
        "one": {"more_instructions": ()},
        "several": {"more_instructions": tuple(several)},
    }
    return [
        Variant(
            f"{name}-{'text' if text else 'bare'}",
            {"instruction": name, "text in the prompt": "yes" if text else "no"},
            _with_data(config, prompt_text=text, **changes),
        )
        for text in (True, False)
        for name, changes in ways.items()
    ]


def _with_data(config: Config, **changes: Any) -> Config:
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **changes))


def study_trained(
    variants: Sequence[Variant],
    linker: Linker,
    sets: Mapping[str, Sequence[Document]],
    resolve: Resolve,
    workdir: Path,
    progress: Progress = silent,
) -> list[Row]:
    """Train by each config, unless that is done, and link every set: a row for each.

    workdir: has a folder for each variant; the same study goes on where it stopped.
    linker: without a calibrator. Raises InputError for a config of a retriever, and
    what training raises.
    """
    same, rows = same_entity(resolve), []
    for variant in variants:
        if not isinstance(variant.config.data, GeneratorData):
            raise InputError(f"{variant.name}: expected a generator, found a retriever")
        folder = workdir / variant.name
        made_from = run.begin(variant.config, folder)
        if not (folder / "model").is_dir():
            progress(f"training {variant.name}")
            with Rejects(folder / "rejects.jsonl") as rejects:
                run.train(variant.config, folder, made_from, rejects)
        trained = Linker(
            load_generator(folder / "model"),
            linker.kb,
            linker.retriever,
            linker.index,
            linker.settings,
        )
        for name, documents in sets.items():
            progress(f"linking {name} with {variant.name}")
            micro = score(documents, trained(bare(documents)), same=same).micro
            rows.append(
                {
                    "documents": name,
                    **variant.columns,
                    "parameters": count_parameters(trained),
                    **read_cost(folder, variant.config, count_parameters(trained)),
                    "precision, %": 100 * micro.precision,
                    "recall, %": 100 * micro.recall,
                    "F1, %": 100 * micro.f1,
                }
            )
    return rows


def read_cost(workdir: Path, config: Config, parameters: int) -> dict[str, float]:
    """Steps, slots for tokens, and FLOPs (10^12) that a training run took in all.

    FLOPs are 6 a parameter and slot, for the passes forward and backward. (What XLA
    counts for the step has the body of the loop over layers once.)
    """
    log = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = max(json.loads(line)["step"] for line in log)
    slots = steps * config.data.batch * config.data.max_length
    return {
        "steps": steps,
        "million tokens": slots / 1e6,
        "TFLOPs": 6 * parameters * slots / 1e12,
    }
