"""Overlapping candidate mentions, merged into decision spans or decided one by one.

    python benchmarks/merging.py [--documents 200] [--noise 0,0.25,0.5] [--json OUT]

What is compared is said in insgenel_jax/studies/merging.py; `insgenel study merging`
draws it.
"""

from __future__ import annotations

import importlib.metadata
import json as jsonlib
import platform
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from tables import as_table

from insgenel_jax.studies.merging import study_merging


def main(
    documents: int = 200,
    names: int = 10,
    noise: str = "0,0.25,0.5",
    seed: int = 0,
    json: Annotated[Path | None, typer.Option(help="write the numbers here")] = None,
) -> None:
    """Decode the same texts in every way, at each level of noise."""
    console = Console(width=120)
    noises = [float(level) for level in noise.split(",")]
    rows = study_merging(documents, names, noises, seed)
    about = {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("jax", "numpy")},
        "documents": documents,
        "names in each": names,
        "seed": seed,
    }
    console.print(about)
    console.print(as_table("overlapping candidate mentions", rows))
    if json is not None:
        json.write_text(jsonlib.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
