"""The paper's generator over OPT: `:350m`, `:1.3b`, `:2.7b` or `:6.7b`.

`:1.3b-release` is the same with the instructions of the code that the paper's authors
published, one of three at random, and so for every size.

    python -m insgenel_jax.train --config=configs/generator_opt.py:1.3b --workdir=DIR \
        --set model.pretrained=MODEL --set data.documents=DATA/train \
        --set data.kb=DATA/kb --set data.dev=DATA/dev.jsonl

MODEL is the directory of facebook/opt-... in the Hugging Face format.

Reaches: not trained here yet.

Cost on eight GPUs of 80 GB, estimated, not measured. Time: a step of 65,536 tokens
takes 6 x parameters x tokens = 1.3e14, 5.2e14, 1.0e15 or 2.6e15 FLOPs, which is 0.1,
0.5, 1.0 or 2.6 s at 40 % of the peak of A100s. Memory: at most 13, 22, 36 or 43 GB a
GPU, as benchmarks/memory.py has XLA count for a CPU.

From the paper (table 5): learning rate, a batch of 128 examples, one epoch, clipping,
dropout, length and linear decay. Ours: the share of the steps that warm up. `--set
data.packed=True` puts several examples into a row, which is faster, but a batch then
holds more than 128.
"""

import ml_collections

from insgenel_jax.text.linked_text import RELEASE_INSTRUCTIONS

SIZES = ("350m", "1.3b", "2.7b", "6.7b")


def get_config(arg: str = "1.3b") -> ml_collections.ConfigDict:
    """arg: one of SIZES, or with "-release". Paths are left empty, for the command."""
    size, _, variant = arg.partition("-")
    if size not in SIZES or variant not in ("", "release"):
        raise ValueError(f"expected one of {SIZES}, or with -release, found {arg!r}")
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
        {
            "documents": "",
            "kb": "",
            "dev": "",
            "batch": 128,
            "packed": False,
            "max_length": 512,
        }
    )
    if variant == "release":
        config.data.instruction = RELEASE_INSTRUCTIONS[0]
        config.data.more_instructions = RELEASE_INSTRUCTIONS[1:]
    config.optimizer = ml_collections.ConfigDict(
        {"learning_rate": 9.65e-6, "warmup_share": 0.03, "clip": 1.0}
    )
    config.loop = ml_collections.ConfigDict(
        {
            "epochs": 1.0,
            "microbatches": 2 if size == "6.7b" else 1,
            "evaluate_steps": 1000,
            "checkpoint_steps": 1000,
            "fsdp": 8,
        }
    )
    return config
