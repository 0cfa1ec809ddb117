"""Peak host memory of loading a model, beside transformers' from_pretrained.

    python benchmarks/load.py [--layers 24] [--json OUT]

Writes a LLaMA-shaped model of random float32 weights in several safetensors files, then
loads it with this package and with transformers on PyTorch, in turns, each time in a
fresh process. Peak is that process's VmHWM, which includes memory-mapped files. Two
ratios to the bytes of the parameters are given: of the whole peak, and of the peak
without what the process held before it began to load (the libraries). Numbers are
medians. Linux only; the parameters are on the CPU.
"""

from __future__ import annotations

import importlib.metadata
import json as jsonlib
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from insgenel_jax import models
from insgenel_jax.models import hf
from insgenel_jax.models.config import ModelConfig


def main(
    layers: int = 24,
    repeats: int = 3,
    json: Annotated[Path | None, typer.Option(help="write the numbers here")] = None,
) -> None:
    """Write the model, load it in turn, print the table."""
    console = Console()
    config = ModelConfig(
        "llama",
        vocabulary=32000,
        dim=1024,
        layers=layers,
        heads=16,
        ffn=2816,
        max_positions=2048,
    )
    leaves = jax.tree.leaves(models.abstract_params(config))
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    names = ("jax", "safetensors", "torch", "transformers")
    about = {
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in names},
        "cores": os.cpu_count(),
        "parameters_mb": round(size / 1e6),
        "repeats": repeats,
    }
    loads: dict[str, list[dict]] = {"insgenel_jax": [], "transformers": []}
    with tempfile.TemporaryDirectory() as folder:
        with console.status("writing the model"):
            measure("write", folder, jsonlib.dumps(config.__dict__))
        for _ in range(repeats):
            for name, measured in loads.items():
                with console.status(f"loading with {name}"):
                    measured.append(measure(name, folder))
    rows = []
    for name, measured in loads.items():
        row = {k: statistics.median(m[k] for m in measured) for k in measured[0]}
        rows.append(
            {
                "loaded by": name,
                "before MB": round(row["before"] / 1e6),
                "peak MB": round(row["peak"] / 1e6),
                "peak / parameters": round(row["peak"] / size, 3),
                "(peak - before) / parameters": round(
                    (row["peak"] - row["before"]) / size, 3
                ),
                "seconds": round(row["seconds"], 2),
            }
        )
    table = Table(title=f"Loading a model, {about}")
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*map(str, row.values()))
    console.print(table)
    if json:
        json.write_text(jsonlib.dumps(about | {"rows": rows}, indent=1) + "\n")


def measure(what: str, *arguments: str) -> dict:
    """One of the programs below, in a process of its own. -> what it printed."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", what, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    return jsonlib.loads(done.stdout)


def child(what: str, folder: str, *arguments: str) -> dict:
    """Write or load the model. -> seconds, bytes held before and at the peak."""
    if what == "write":
        config = ModelConfig(**jsonlib.loads(arguments[0]))
        params = models.init_params(config, jax.random.key(0))
        hf.save_model(folder, config, params, shard_bytes=500_000_000)
        return {}
    if what == "transformers":
        import torch
        from transformers import LlamaForCausalLM

        before, start = memory("VmRSS"), time.perf_counter()
        model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
        checksum = sum(float(x.detach().sum()) for x in model.parameters())
    else:
        jax.devices()
        before, start = memory("VmRSS"), time.perf_counter()
        params = hf.load_params(folder, hf.load_config(folder))
        checksum = sum(float(np.asarray(x).sum()) for x in jax.tree.leaves(params))
    assert math.isfinite(checksum)  # every page has been touched
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "before": before, "peak": memory("VmHWM")}


def memory(field: str) -> int:
    """Bytes, as the kernel counts them for this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(jsonlib.dumps(child(*sys.argv[2:])))
    else:
        typer.run(main)
