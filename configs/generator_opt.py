"""The paper's generator over OPT: `:350m`, `:1.3b`, `:2.7b` or `:6.7b`.

    python -m insgenel_jax.train --config=configs/generator_opt.py:1.3b --workdir=DIR \
        --set model.pretrained=MODEL --set data.documents=DATA/train \
        --set data.kb=DATA/kb --set data.dev=DATA/dev.jsonl --set loop.steps=N

MODEL is the directory of facebook/opt-... in the Hugging Face format. The paper trains
for one epoch: the command prints at its start about how many steps that is, so start
once to read N, then again in a new workdir (a workdir keeps its settings).

Reaches: not trained here yet.

Cost on eight GPUs of 80 GB, estimated, not measured. Time: a step of 65,536 tokens
takes 6 x parameters x tokens = 1.3e14, 5.2e14, 1.0e15 or 2.6e15 FLOPs, which is 0.1,
0.5, 1.0 or 2.6 s at 40 % of the peak of A100s. Memory: at most 13, 22, 36 or 43 GB a
GPU, as benchmarks/memory.py has XLA count for a CPU.

From the paper (table 5): learning rate, batch, clipping, dropout, length and linear
decay. But rows are packed, so a batch of 128 rows holds more examples than a batch of
128 examples. Ours: the number of warm-up steps.
"""

import ml_collections

SIZES = ("350m", "1.3b", "2.7b", "6.7b")


def get_config(arg: str = "1.3b") -> ml_collections.ConfigDict:
    """arg: one of SIZES. Paths are left empty, to be set on the command line."""
    if arg not in SIZES:
        raise ValueError(f"expected one of {SIZES}, found {arg!r}")
    config = ml_collections.ConfigDict()
    config.task = "generator"
    config.seed = 0
    config.model = ml_collections.ConfigDict(
        {
            "pretrained": "",
            "tokenizer": "",
            "dropout": 0.1,
            "dtype": "bfloat16",
            "param_dtype": "float32",
            "remat": "dots",
        }
    )
    config.data = ml_collections.ConfigDict(
        {"documents": "", "kb": "", "dev": "", "batch": 128, "max_length": 512}
    )
    config.optimizer = ml_collections.ConfigDict(
        {"learning_rate": 9.65e-6, "warmup_steps": 300, "clip": 1.0}
    )
    config.loop = ml_collections.ConfigDict(
        {
            "steps": 10_000,
            "microbatches": 2 if arg == "6.7b" else 1,
            "evaluate_steps": 1000,
            "checkpoint_steps": 1000,
            "fsdp": 8,
        }
    )
    return config
