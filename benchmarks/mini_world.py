"""The quickstart from beginning to end: seconds, and the scores of every system.

python benchmarks/mini_world.py [--runs 1] [--json FILE]
The environment must be set up already (launch/test.sh does it), so that no installation
is timed; compiled programs are not kept between runs.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    seconds, scores = [], []
    for _ in range(arguments.runs):
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {
                "VENV": sys.prefix,
                "JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled",
            }
            began = time.perf_counter()
            subprocess.run(
                ["bash", ROOT / "launch/quickstart.sh", f"{folder}/work"],
                check=True,
                env=environment,
            )
            seconds.append(time.perf_counter() - began)
            scores.append(json.loads(Path(f"{folder}/work/scores.json").read_text()))
    facts = {
        "python": platform.python_version(),
        **{p: importlib.metadata.version(p) for p in ("jax", "flax", "optax")},
        "cores": os.cpu_count(),
        "seconds": seconds,
        "median seconds": statistics.median(seconds),
        "scores": scores,
    }
    print(json.dumps(facts, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
