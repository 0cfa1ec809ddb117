"""Bytes a device for parameters, optimiser state, gradient and cache of large models.

    python benchmarks/memory.py [--json FILE]

Shapes and shardings alone, on eight virtual devices: nothing is allocated. Activations
are not counted. Training keeps float32 parameters and AdamW's two moments, the cache is
bfloat16.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import jax
from jax.sharding import Mesh

from insgenel_jax import models, sharding
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.training import loop, objectives, optimizer
from insgenel_jax.training.config import OptimizerSettings

DEVICES = 8
MESHES = ((2, 4), (1, 8))  # fsdp x tensor
ROWS, SLOTS = 16, 2048  # of the cache

CONFIGS = {
    "LLaMA-7B": ModelConfig(
        "llama",
        vocabulary=32000,
        dim=4096,
        layers=32,
        heads=32,
        ffn=11008,
        max_positions=2048,
    ),
    "OPT-6.7B": ModelConfig(
        "opt",
        vocabulary=50272,
        dim=4096,
        layers=32,
        heads=32,
        ffn=16384,
        max_positions=2048,
        tie_embeddings=True,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the numbers here")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", DEVICES)
    jax.config.update("jax_platforms", "cpu")
    rows = [
        {"model": name, "mesh": f"{fsdp} x {tensor}"}
        | measure(config, sharding.make_mesh(fsdp=fsdp, tensor=tensor))
        for name, config in CONFIGS.items()
        for fsdp, tensor in MESHES
    ]
    facts = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "mesh": "fsdp x tensor",
        "cache": f"{ROWS} rows x {SLOTS} slots, bfloat16",
        "bytes a device": rows,
    }
    print(", ".join(f"{name} {facts[name]}" for name in ("python", "jax", "cache")))
    print("GB (1e9 bytes) a device; training = parameters + optimiser + gradient")
    print("  ".join(f"{name:>10}" for name in rows[0]))
    for row in rows:
        cells = (v if isinstance(v, str) else f"{v / 1e9:.2f}" for v in row.values())
        print("  ".join(f"{cell:>10}" for cell in cells))
    if arguments.json:
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n")


def measure(config: ModelConfig, mesh: Mesh) -> dict[str, int]:
    """Bytes on each device of what training and decoding keep."""
    task = objectives.generator_task(config)
    tx = optimizer.build(OptimizerSettings(learning_rate=2e-5, warmup_steps=1), steps=2)
    state = loop.abstract_state(task, tx)
    placed = loop.state_shardings(task, tx, mesh)
    cache = jax.eval_shape(lambda: models.init_cache(config, ROWS, SLOTS, "bfloat16"))
    parameters = sharding.bytes_per_device(state.params, placed.params)
    optimiser = sharding.bytes_per_device(state.opt_state, placed.opt_state)
    return {
        "parameters": parameters,
        "optimiser": optimiser,
        "gradient": parameters,  # as many numbers, laid out as the parameters are
        "training": 2 * parameters + optimiser,
        "cache": sharding.bytes_per_device(cache, models.cache_shardings(cache, mesh)),
    }


if __name__ == "__main__":
    main()
