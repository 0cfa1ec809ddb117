"""The paper's generator over LLaMA-7B: `:7b` trains all of it, `:7b-lora` only LoRA.

    python -m insgenel_jax.train --config=configs/generator_llama.py:7b --workdir=DIR \
        --set model.pretrained=MODEL --set data.documents=DATA/train \
        --set data.kb=DATA/kb --set data.dev=DATA/dev.jsonl --set loop.steps=N

MODEL is the directory of a LLaMA-7B in the Hugging Face format. The paper trains for
one epoch: the command prints at its start about how many steps that is, so start once
to read N, then again in a new workdir (a workdir keeps its settings).

Reaches: not trained here yet.

Cost on eight GPUs of 80 GB, estimated, not measured. Time: a step of 49,152 tokens
takes 6 x parameters x tokens = 2.0e15 FLOPs, which is 2.0 s at 40 % of the peak of
A100s; with LoRA the factor is 4 in place of 6, as frozen kernels need no gradient.
Memory: at most 39 GB a GPU, and 63 GB with LoRA, where each GPU holds the whole base in
bfloat16 and nothing is gathered. That is what benchmarks/memory.py has XLA count for a
CPU.

From the paper (table 5): learning rate, batch, no clipping, dropout, length and linear
decay. But rows are packed, so a batch of 96 rows holds more examples than a batch of 96
examples. From the release: LoRA on query and value, rank 8, alpha 16, dropout 0.05.
Ours: LoRA's learning rate and the number of warm-up steps.
"""

import ml_collections


def get_config(arg: str = "7b") -> ml_collections.ConfigDict:
    """arg: "7b" or "7b-lora". Paths are left empty, to be set on the command line."""
    if arg not in ("7b", "7b-lora"):
        raise ValueError(f"expected '7b' or '7b-lora', found {arg!r}")
    lora = arg == "7b-lora"
    config = ml_collections.ConfigDict()
    config.task = "generator"
    config.seed = 0
    config.model = ml_collections.ConfigDict(
        {
            "pretrained": "",
            "tokenizer": "",
            "dropout": 0.1,
            "dtype": "bfloat16",
            "param_dtype": "bfloat16" if lora else "float32",
            "remat": "dots",
        }
    )
    if lora:
        config.model.lora = ml_collections.ConfigDict(
            {"rank": 8, "alpha": 16.0, "dropout": 0.05, "targets": ("query", "value")}
        )
    config.data = ml_collections.ConfigDict(
        {"documents": "", "kb": "", "dev": "", "batch": 96, "max_length": 512}
    )
    config.optimizer = ml_collections.ConfigDict(
        {"learning_rate": 3e-4 if lora else 2e-5, "warmup_steps": 300, "clip": 0.0}
    )
    config.loop = ml_collections.ConfigDict(
        {
            "steps": 10_000,
            "microbatches": 2,
            "evaluate_steps": 1000,
            "checkpoint_steps": 1000,
            "data": 8 if lora else 1,
            "fsdp": 1 if lora else 8,
        }
    )
    return config
