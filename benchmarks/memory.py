"""Bytes a device for parameters, optimiser state, gradient and cache of large models.

    python benchmarks/memory.py [--json FILE]

Only shapes and shardings are used, on eight virtual devices: nothing is allocated. In
the first table training keeps float32 parameters and AdamW's two moments (with LoRA,
those of LoRA alone, over a bfloat16 base), and the cache is bfloat16; activations are
not counted. The second table has them: it is of the compiled training step of each
config of the paper's models. Its bytes are XLA's count for a CPU, which has no bfloat16
products and keeps more in float32 than a GPU does, so they are too high for a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax

from insgenel_jax import models, sharding
from insgenel_jax.ahead.programs import batch_shapes, place
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.models.hf.config import from_hf
from insgenel_jax.models.lora import Lora
from insgenel_jax.training import loop
from insgenel_jax.training import run as experiment
from insgenel_jax.training.config import load
from insgenel_jax.training.generator import generator_task
from insgenel_jax.training.retriever import retriever_task
from insgenel_jax.training.settings import Config, LoopSettings, OptimizerSettings

FILES = Path(__file__).resolve().parents[1] / "configs"
DEVICES = 8
MESHES = ((2, 4), (1, 8))  # fsdp x tensor
ROWS, SLOTS = 16, 2048  # of the cache


def _opt(dim: int, layers: int, heads: int, **others: Any) -> dict[str, Any]:
    return {
        "model_type": "opt",
        "vocab_size": 50272,
        "max_position_embeddings": 2048,
        "hidden_size": dim,
        "word_embed_proj_dim": dim,
        "ffn_dim": 4 * dim,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "do_layer_norm_before": True,
        **others,
    }


def _bert(dim: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "model_type": "bert",
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "hidden_size": dim,
        "intermediate_size": 4 * dim,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


# What the config.json of published models says of their shape.
PUBLISHED: dict[str, dict[str, Any]] = {
    "OPT-350M": _opt(1024, 24, 16, word_embed_proj_dim=512, do_layer_norm_before=False),
    "OPT-1.3B": _opt(2048, 24, 32),
    "OPT-2.7B": _opt(2560, 32, 32),
    "OPT-6.7B": _opt(4096, 32, 32),
    "LLaMA-7B": {
        "model_type": "llama",
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "BERT-base": _bert(768, 12, 12),
    "BERT-large": _bert(1024, 24, 16),
}
# The paper's configs, each with the model that it begins with.
PAPER = {
    "generator_opt.py:350m": "OPT-350M",
    "generator_opt.py:1.3b": "OPT-1.3B",
    "generator_opt.py:2.7b": "OPT-2.7B",
    "generator_opt.py:6.7b": "OPT-6.7B",
    "generator_llama.py:7b": "LLaMA-7B",
    "generator_llama.py:7b-lora": "LLaMA-7B",
    "retriever_bert.py:base": "BERT-base",
    "retriever_bert.py:large": "BERT-large",
}
MODELS = {name: from_hf(PUBLISHED[name]) for name in ("LLaMA-7B", "OPT-6.7B")}
MODELS["LLaMA-7B LoRA"] = dataclasses.replace(
    MODELS["LLaMA-7B"], lora=Lora(), param_dtype="bfloat16"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the numbers here")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", DEVICES)
    jax.config.update("jax_platforms", "cpu")
    rows = [
        {"model": name, "mesh": f"{fsdp} x {tensor}"}
        | measure_model(config, fsdp, tensor)
        for name, config in MODELS.items()
        for fsdp, tensor in MESHES
    ]
    steps = [{"config": name} | measure_step(name) for name in PAPER]
    facts = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "mesh": "fsdp x tensor",
        "cache": f"{ROWS} rows x {SLOTS} slots, bfloat16",
        "bytes a device": rows,
        "bytes a device of the paper's training steps": steps,
    }
    print(", ".join(f"{name} {facts[name]}" for name in ("python", "jax", "cache")))
    print("GB (1e9 bytes) a device; training = parameters + optimiser + gradient")
    show(rows)
    print("GB a device of the compiled step; whole = arguments + temporary")
    show(steps)
    if arguments.json:
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n")


def show(rows: list[dict]) -> None:
    """A table of bytes, in GB."""
    width = max(len(v) for row in rows for v in row.values() if isinstance(v, str))
    print("  ".join(f"{name:>{width}}" for name in rows[0]))
    for row in rows:
        cells = (v if isinstance(v, str) else f"{v / 1e9:.2f}" for v in row.values())
        print("  ".join(f"{cell:>{width}}" for cell in cells))


class Opened(NamedTuple):
    """A config of the paper, its model, and the plan of its training."""

    config: Config
    model: ModelConfig
    plan: loop.Plan


def open_config(name: str) -> Opened:
    """One of PAPER over the shape of its published model, without its weights."""
    with tempfile.TemporaryDirectory() as folder:
        record = json.dumps(PUBLISHED[PAPER[name]])
        (Path(folder) / "config.json").write_text(record)
        config = load(str(FILES / name), [f"model.pretrained={folder}"])
        data = config.data
        if config.task == "generator":
            model = experiment.model_config(config, 512, data.max_length)
            task = generator_task(model, data.scored)
        else:
            longest = max(data.window_tokens, data.entity_tokens)
            model = experiment.model_config(config, 512, longest)
            task = retriever_task(model, pad=0)
    return Opened(config, model, loop.make_plan(task, config.optimizer, config.loop))


def measure_step(name: str) -> dict[str, int]:
    """Bytes on each device of the training step of one of PAPER, by XLA's count."""
    config, _, plan = open_config(name)
    task, mesh = plan.task, plan.mesh
    frozen = place(
        task.split(task.abstract_params())[1],
        task.split(task.param_shardings(mesh))[1],
    )
    batch = batch_shapes(config)
    batch = place(batch, dict.fromkeys(batch, sharding.batch_sharding(mesh)))
    with jax.set_mesh(mesh):
        step = loop.compile_step(plan, frozen, batch)
    analysis = step.memory_analysis()
    kept = analysis.argument_size_in_bytes
    temporary = analysis.temp_size_in_bytes
    return {"arguments": kept, "temporary": temporary, "whole": kept + temporary}


def measure(plan: loop.Plan) -> dict[str, int]:
    """Bytes on each device of what training keeps, activations apart."""
    task, state, placed = plan.task, plan.abstract, plan.places
    parameters = sharding.bytes_per_device(
        task.abstract_params(), task.param_shardings(plan.mesh)
    )
    optimiser = sharding.bytes_per_device(state.opt_state, placed.opt_state)
    # of what is trained: as many numbers, laid out as those parameters are
    gradient = sharding.bytes_per_device(state.params, placed.params)
    return {
        "parameters": parameters,
        "optimiser": optimiser,
        "gradient": gradient,
        "training": parameters + optimiser + gradient,
    }


def measure_model(config: ModelConfig, fsdp: int, tensor: int) -> dict[str, int]:
    """The same of a generator, and of what decoding keeps."""
    plan = loop.make_plan(
        generator_task(config),
        OptimizerSettings(learning_rate=2e-5, warmup_steps=1),
        LoopSettings(steps=2, fsdp=fsdp, tensor=tensor),
    )
    cache = jax.eval_shape(lambda: models.init_cache(config, ROWS, SLOTS, "bfloat16"))
    places = models.cache_shardings(cache, plan.mesh)
    return {**measure(plan), "cache": sharding.bytes_per_device(cache, places)}


if __name__ == "__main__":
    main()
