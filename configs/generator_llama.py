"""The paper's generator over LLaMA-7B: `:7b` trains all of it, `:7b-lora` LoRA alone.

    python -m insgenel_jax.train --config=configs/generator_llama.py:7b --workdir=DIR \
        --set model.pretrained=MODEL --set data.documents=DATA/train \
        --set data.kb=DATA/kb --set data.dev=DATA/dev.jsonl --set loop.steps=N

MODEL is a directory of a LLaMA of 7B as Hugging Face has it. Set N to one epoch, as the
paper trains: the command tells at its start about how many steps that is (a workdir
keeps its settings, so begin again in a fresh one).

Reaches: not trained here yet.

Cost on eight GPUs of 80 GB, estimated, not measured: a step of 49,152 tokens takes
6 x parameters x tokens = 2.0e15 FLOPs, 2.0 s at 40 % of the peak of A100s; with LoRA
4 x, as no gradient of a frozen kernel is formed. At most 39 GB a GPU, with LoRA 63, as
benchmarks/memory.py has XLA count for a CPU: there each GPU has all of the base, in
bfloat16, and gathers nothing.

Rate, batch, no clipping, dropout, length and the linear decay are the paper's (table 5),
but rows are packed: a batch of 96 rows holds more examples than one of 96 examples. LoRA
on query and value, rank 8, alpha 16, dropout 0.05 is the release's; its rate and the
steps of the warm-up are ours.
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
