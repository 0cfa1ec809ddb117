"""What a model was trained from and reached, as a README for its directory."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import insgenel_jax
from insgenel_jax.training.settings import Config


def make_card(config: Config, made_from: Mapping[str, str], workdir: Path) -> str:
    """The card of a model that `config` trained in a workdir, in Markdown.

    made_from: role -> identity of what it was trained from.
    """
    base = config.model.pretrained
    rows = [
        ("task", config.task),
        ("base", f"`{Path(base).name}`" if base else "none: from scratch"),
        ("trained", "LoRA, merged" if config.model.lora else "all parameters"),
        ("documents", f"`{Path(config.data.documents).name}`"),
        *((role, f"`{identity[:16]}`") for role, identity in sorted(made_from.items())),
    ]
    return "\n".join(
        [
            "---",
            "library_name: insgenel_jax",
            "tags: [entity-linking]",
            "---",
            "",
            f"# {config.task} of an entity linker",
            "",
            (
                f"Trained by insgenel_jax {insgenel_jax.__version__}. Hexadecimal "
                "numbers are the beginnings of hashes of what it was made from."
            ),
            "",
            *table(("what", "value"), rows),
            "",
            "## Scores on the development set",
            "",
            *_scores(config, workdir),
            "",
            "## Settings",
            "",
            "```json",
            json.dumps(_settings(config), indent=1),
            "```",
            "",
        ]
    )


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _settings(config: Config) -> dict[str, Any]:
    """The settings, without the paths, which mean nothing elsewhere."""
    record = dataclasses.asdict(config)
    for name in ("documents", "kb", "dev"):
        record["data"].pop(name, None)
    for name in ("pretrained", "tokenizer"):
        record["model"].pop(name, None)
    return record


def _scores(config: Config, workdir: Path) -> list[str]:
    """The evaluation with the lowest loss, whose parameters are kept."""
    file, found = workdir / "metrics.jsonl", []
    if file.is_file():
        lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
        found = [line for line in lines if "evaluation" in line]
    if not found:
        return ["None was given."]
    best = min(found, key=lambda line: line["evaluation"]["loss"])
    rows = [(name, f"{value:.4f}") for name, value in best["evaluation"].items()]
    step = f"After step {best['step']}, which had the lowest loss:"
    return [step, "", *table(("measure", "value"), rows)]
