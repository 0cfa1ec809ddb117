"""ScaNN against exact search: recall@100 and the ratio of their times.

    python benchmarks/index.py [--sizes 10000 --sizes 100000 ...] [--dims 64 ...]
        [--json OUT]

Embeddings are drawn around shared centres (seeded) and rounded to bfloat16. Both
indexes are searched with the same queries in turns, `repeats` times. Times are medians;
a ratio is that of two medians of one run. Memory is what a process of its own has more
after opening an index and searching it. What 6 million entities need is reckoned from
that: both grow as the number of vectors does.
"""

from __future__ import annotations

import importlib.metadata
import json as jsonlib
import os
import platform
import subprocess
import sys
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
from insgenel_jax.retrieval.store import open_store

K = 100
MANY = 6_000_000  # entities that memory and disk are reckoned for
PART = 100_000  # vectors that are drawn at a time
FRESH = """
import sys
import numpy as np
from insgenel_jax.retrieval.index import open_index
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
queries = np.ones((8, int(sys.argv[2])), np.float32)
import scann
start = resident()
index = open_index(sys.argv[1])
index.search(queries, 100)
print((resident() - start) / 1e6)
"""
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
    memory, times = (
        [{k: v for k, v in row.items() if ("B" in k) == wanted} for row in rows]
        for wanted in (True, False)
    )
    console.print(as_table("ScaNN against exact search", times, ".3g"))
    console.print(as_table("memory, and that of 6 million entities", memory, ".3g"))
    if json is not None:
        json.write_text(jsonlib.dumps({**about, "rows": rows}, indent=1) + "\n")


def compare(size: int, dim: int, queries: int, repeats: int, seed: int) -> dict:
    """One row: recall@100 of ScaNN, and both times, in ms for all queries."""
    vectors, wanted = draw(size, dim, queries, seed)
    indexes, seconds, built = {}, {"exact": [], "scann": []}, {}
    memory, disk = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for method in seconds:
            began = time.perf_counter()
            indexes[method] = build_index(
                vectors, Path(folder) / method, made_from={}, exact=method == "exact"
            )
            built[method] = time.perf_counter() - began
            files = (Path(folder) / method).rglob("*")
            disk[method] = sum(f.stat().st_size for f in files if f.is_file()) / 1e6
            if method == "exact":
                del vectors  # the next build reads what this one wrote
                vectors = open_store(Path(folder) / method / "embeddings")
            memory[method] = measure_memory(Path(folder) / method, dim)
        del vectors
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
        "exact MB": memory["exact"],
        "scann MB": memory["scann"],
        "scann MB on disk": disk["scann"],
        "6 M: exact GB": memory["exact"] / size * MANY / 1e3,
        "6 M: scann GB": memory["scann"] / size * MANY / 1e3,
        "6 M: scann GB on disk": disk["scann"] / size * MANY / 1e3,
    }


def measure_memory(path: Path, dim: int) -> float:
    """MB that a process has more once it has opened an index and searched it."""
    command = [sys.executable, "-c", FRESH, str(path), str(dim)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return float(done.stdout.split()[-1])


def draw(size: int, dim: int, queries: int, seed: int):
    """Vectors and queries round shared centres, one for about every 30 vectors."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(size // 30, 1), dim), np.float32)
    points = np.empty((size + queries, dim), np.float32)
    for first in range(0, len(points), PART):
        part = points[first : first + PART]
        drawn = 0.5 * rng.standard_normal(part.shape, np.float32)
        drawn += centres[rng.integers(len(centres), size=len(part))]
        part[:] = drawn.astype(ml_dtypes.bfloat16)
    return points[:size], points[size:].copy()


if __name__ == "__main__":
    typer.run(main)
