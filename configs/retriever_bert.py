"""The paper's retriever, a bi-encoder of two BERTs: `:base` or `:large`.

    python -m insgenel_jax.train --config=configs/retriever_bert.py:large \
        --workdir=DIR --set model.pretrained=MODEL --set data.documents=DATA/train \
        --set data.kb=DATA/kb --set data.dev=DATA/dev.jsonl --set loop.steps=N

MODEL is the directory of bert-large-uncased (or bert-base-uncased, for `:base`) in the
Hugging Face format; both encoders begin with it.

Reaches: not trained here yet.

Cost on eight GPUs of 80 GB, estimated, not measured. Time: a step reads 256 windows and
1,024 entities, up to 147,456 tokens, and takes 6 x parameters x tokens = 1e14 (base) or
3e14 FLOPs (large), which is 0.1 or 0.3 s at 40 % of the peak of A100s. Memory: at most
12 or 32 GB a GPU, as benchmarks/memory.py has XLA count for a CPU. Mining hard
negatives embeds all entities again; for six million of them that takes as long as
thousands of steps, so it is done seldom.

From the paper: multi-label NCE, 90 % random and 10 % mined negatives, windows of 32
words every 16. Ours, as the paper gives no sizes: learning rate, batch, numbers of
entities and lengths.
"""

import ml_collections


def get_config(arg: str = "large") -> ml_collections.ConfigDict:
    """arg: "base" or "large". Paths are left empty, to be set on the command line."""
    if arg not in ("base", "large"):
        raise ValueError(f"expected 'base' or 'large', found {arg!r}")
    config = ml_collections.ConfigDict()
    config.task = "retriever"
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
            "batch": 256,
            "golds": 640,
            "negatives": 384,
            "mined_share": 0.1,
            "window_length": 32,
            "stride": 16,
            "window_tokens": 64,
            "entity_tokens": 128,
            "refresh_steps": 5000,
        }
    )
    config.optimizer = ml_collections.ConfigDict(
        {
            "learning_rate": 2e-5 if arg == "base" else 1e-5,
            "warmup_steps": 500,
            "clip": 1.0,
        }
    )
    config.loop = ml_collections.ConfigDict(
        {
            "steps": 20_000,
            "evaluate_steps": 1000,
            "checkpoint_steps": 1000,
            "data": 8,
        }
    )
    return config
