"""Programs compiled for slices of TPUs that are not here: the table of docs/train.md.

    python benchmarks/compile_only.py [--only NAME] [--json FILE]

Needs the extra `tpu`; nothing is run and no weight is read. A compile takes half a
minute to some minutes of two cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

import jax
from memory import FILES, PAPER, PUBLISHED  # beside this script

from insgenel_jax.ahead import programs
from insgenel_jax.ahead.report import Report
from insgenel_jax.ahead.slices import slice_devices
from insgenel_jax.models.hf.config import from_hf
from insgenel_jax.training.config import load

# OPT-66B, of which no config of the paper is: the shape that its config.json has
OPT_66B = PUBLISHED["OPT-6.7B"] | {
    "hidden_size": 9216,
    "word_embed_proj_dim": 9216,
    "ffn_dim": 4 * 9216,
    "num_hidden_layers": 64,
    "num_attention_heads": 72,
}
CONFIGS = (
    "generator_llama.py:7b",
    "generator_llama.py:7b-lora",
    "generator_opt.py:6.7b",
    "retriever_bert.py:large",
)
SLICES = {"v5e:4x8": 32, "v5e:8x16": 128, "v5p:2x2x2": 8}
BATCH = {32: 96, 128: 128, 8: 96}
RETRIEVER_BATCH = 128


def cases() -> list[tuple[str, str]]:
    """Every program and slice of the table."""
    steps = [(config, name) for name in SLICES for config in CONFIGS]
    return [*steps, ("call", "v5e:2x4"), ("66b", "v5e:8x16"), ("66b", "v5e:16x16")]


def compile_case(program: str, topology: str) -> Report:
    """Compile one of `cases`."""
    devices = slice_devices(topology)
    if program == "call":
        shape = from_hf(PUBLISHED["LLaMA-7B"])
        half = dataclasses.replace(shape, dtype="bfloat16", param_dtype="bfloat16")
        return programs.compile_linking(half, 16, devices)
    published, config = PUBLISHED[PAPER.get(program, "OPT-6.7B")], program
    if program == "66b":
        published, config = OPT_66B, "generator_opt.py:6.7b"
    chips = len(devices)
    sets = [f"loop.fsdp={chips}", "loop.data=1", "loop.tensor=1", "data.kb=-"]
    sets += ["loop.microbatches=1", "data.documents=-"]
    batch = RETRIEVER_BATCH if "retriever" in program else BATCH.get(chips, chips)
    sets += [f"data.batch={max(batch, chips)}"]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(published))
        settings = load(str(FILES / config), [f"model.pretrained={folder}", *sets])
        return programs.compile_training(settings, devices)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="programs and slices with this name")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    wanted = [case for case in cases() if arguments.only in "@".join(case)]
    names = ("kept, a chip", "temporary, a chip", "fits", "attention", "collectives")
    print(f"jax {jax.__version__}")
    print(f"| program | slice | FLOPs | {' | '.join(names)} |")
    print("|---" * (3 + len(names)) + "|")
    rows = []
    for program, topology in wanted:
        row = compile_case(program, topology).rows()
        rows.append({"slice": topology, **row})
        cells = " | ".join(row.get(name, "-") for name in names)
        print(
            f"| {row['program']} | {topology} | {row['FLOPs']} | {cells} |", flush=True
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
