"""ScaNN against exact search: recall@100 and the ratio of their times.

    python benchmarks/index.py [--sizes 10000 --sizes 100000 ...] [--json OUT]

Embeddings are drawn around shared centres (seeded) and rounded to bfloat16. Both
indexes are searched with the same queries in turns, `repeats` times. Times are medians;
a ratio is that of two medians of one run.
"""

from __future__ import annotations

import importlib.metadata
import json as jsonlib
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Annotated

import ml_dtypes
import numpy as np
import typer
from rich.console import Console
from tables import as_table  # beside this script

from insgenel_jax.retrieval.approximate import measure_recall
from insgenel_jax.retrieval.index import build_index

K = 100
SIZES = [10_000, 100_000, 250_000]
DIMS = [64, 768]


def main(
    sizes: Annotated[list[int], typer.Option()] = SIZES,
    dims: Annotated[list[int], typer.Option()] = DIMS,
    queries: int = 64,
    repeats: int = 7,
    seed: int = 0,
    json: Annotated[Path | None, typer.Option(help="write the numbers here")] = None,
) -> None:
    """Build both indexes of each size and search them in turn."""
    console = Console()
    versions = {p: importlib.metadata.version(p) for p in ("scann", "numpy")}
    about = {
        "versions": {"python": platform.python_version(), **versions},
        "cores": os.cpu_count(),
        "queries": queries,
        "repeats": repeats,
        "seed": seed,
        "k": K,
    }
    rows = []
    for size in sizes:
        for dim in dims:
            with console.status(f"{size} x {dim}"):
                rows.append(compare(size, dim, queries, repeats, seed))
    console.print(about)
    console.print(as_table("ScaNN against exact search", rows, ".3g"))
    if json is not None:
        json.write_text(jsonlib.dumps({**about, "rows": rows}, indent=1) + "\n")


def compare(size: int, dim: int, queries: int, repeats: int, seed: int) -> dict:
    """One row: recall@100 of ScaNN, and both times, in ms for all queries."""
    vectors, wanted = draw(size, dim, queries, seed)
    indexes, seconds, built = {}, {"exact": [], "scann": []}, {}
    with tempfile.TemporaryDirectory() as folder:
        for method in seconds:
            began = time.perf_counter()
            indexes[method] = build_index(
                vectors, Path(folder) / method, made_from={}, exact=method == "exact"
            )
            built[method] = time.perf_counter() - began
        found = {name: index.search(wanted, K)[0] for name, index in indexes.items()}
        for _ in range(repeats):
            for method, index in indexes.items():
                began = time.perf_counter()
                index.search(wanted, K)
                seconds[method].append(time.perf_counter() - began)
    exact, scann = (1000 * float(np.median(s)) for s in seconds.values())
    return {
        "entities": size,
        "dim": dim,
        "recall@100": measure_recall(found["scann"], found["exact"]),
        "exact ms": exact,
        "scann ms": scann,
        "exact / scann": exact / scann,
        "build s": built["scann"],
    }


def draw(size: int, dim: int, queries: int, seed: int):
    """Vectors and queries round shared centres, one for about every 30 vectors."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(size // 30, 1), dim), np.float32)
    points = centres[rng.integers(len(centres), size=size + queries)]
    points += 0.5 * rng.standard_normal(points.shape, np.float32)
    points = points.astype(ml_dtypes.bfloat16).astype(np.float32)
    return points[:size], points[size:]


if __name__ == "__main__":
    typer.run(main)
