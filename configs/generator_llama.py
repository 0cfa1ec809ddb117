"""The paper's generator over LLaMA-7B: `:7b` trains all of it, `:7b-lora` only LoRA.

`:7b-release` is `:7b` with the instructions of the code that the paper's authors
published, one of three at random.

    python -m insgenel_jax.train --config=configs/generator_llama.py:7b --workdir=DIR \
        --set model.pretrained=MODEL --set data.documents=DATA/train \
        --set data.kb=DATA/kb --set data.dev=DATA/dev.jsonl

MODEL is the directory of a LLaMA-7B in the Hugging Face format.

Reaches: not trained here yet.

Cost on eight GPUs of 80 GB, estimated, not measured. Time: a step of 49,152 tokens
takes 6 x parameters x tokens = 2.0e15 FLOPs, which is 2.0 s at 40 % of the peak of
A100s; with LoRA the factor is 4 in place of 6, as frozen kernels need no gradient.
Memory: at most 39 GB a GPU, and 63 GB with LoRA, where each GPU holds the whole base in
bfloat16 and nothing is gathered. That is what benchmarks/memory.py has XLA count for a
CPU.

From the paper (table 5): learning rate, a batch of 96 examples, one epoch, no clipping,
dropout, length and linear decay. From the release: LoRA on query and value, rank 8,
alpha 16, dropout 0.05. Ours: LoRA's learning rate and the share of the steps that warm
up. `--set data.packed=True` puts several examples into a row, which is faster, but a
batch then holds more than 96.
"""

import ml_collections

from insgenel_jax.text.linked_text import RELEASE_INSTRUCTIONS


def get_config(arg: str = "7b") -> ml_collections.ConfigDict:
    """arg: one of the names above. Paths are left empty, for the command line."""
    if arg not in ("7b", "7b-lora", "7b-release"):
        raise ValueError(f"expected 7b, 7b-lora or 7b-release, found {arg!r}")
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
        {
            "documents": "",
            "kb": "",
            "dev": "",
            "batch": 96,
            "packed": False,
            "max_length": 512,
        }
    )
    if arg == "7b-release":
        config.data.instruction = RELEASE_INSTRUCTIONS[0]
        config.data.more_instructions = RELEASE_INSTRUCTIONS[1:]
    config.optimizer = ml_collections.ConfigDict(
        {"learning_rate": 3e-4 if lora else 2e-5, "warmup_share": 0.03, "clip": 0.0}
    )
    config.loop = ml_collections.ConfigDict(
        {
            "epochs": 1.0,
            "microbatches": 2,
            "evaluate_steps": 1000,
            "checkpoint_steps": 1000,
            "data": 8 if lora else 1,
            "fsdp": 1 if lora else 8,
        }
    )
    return config
