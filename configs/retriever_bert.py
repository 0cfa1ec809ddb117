"""The paper's retriever, two BERTs: `:base`, `:large`; or `:minilm`, `:small`.

    python -m insgenel_jax.train --config=configs/retriever_bert.py:large \
        --workdir=DIR --set model.pretrained=MODEL --set data.documents=DATA/train \
        --set data.kb=DATA/kb --set data.dev=DATA/dev.jsonl

MODEL is the directory of bert-large-uncased (or bert-base-uncased, for `:base`) in the
Hugging Face format; both encoders begin with it.

Reaches: not trained here yet.

Cost on eight GPUs of 80 GB, estimated, not measured. Time: a step reads 256 windows and
2,048 entities, up to 278,528 tokens, and takes 6 x parameters x tokens = 2e14 (base) or
6e14 FLOPs (large), which is 0.2 or 0.6 s at 40 % of the peak of A100s. Memory: at most
20 or 51 GB a GPU, as benchmarks/memory.py has XLA count for a CPU. Mining hard
negatives embeds all entities again; for six million of them that takes as long as
thousands of steps, so it is done seldom, or in a part of them (data.mining_pool).

From the paper: multi-label NCE, windows of 32 words every 16, and for each window
random negatives and its own mined ones (in EntQA, which it follows, 90 % and 10 % of 64
a window). Here the windows of a batch share 384 random ones, and each has 4 of its own.
Three epochs and a learning rate of 2e-5, as EntQA has them; ours, as the paper gives no
sizes: batch, numbers of entities, lengths.

`:minilm` is beyond the paper, for one GPU: both encoders begin with
all-MiniLM-L6-v2 of sentence-transformers (22.7 million parameters), whose vectors are
means over the tokens, of length 1; so scores lie in [-1, 1], and a temperature of 0.05
spreads them. MODEL is the directory with its config.json and model.safetensors. Cost: a
step reads up to 36,864 tokens and takes 2e12 FLOPs, estimated, not measured: too much
for a CPU. Reaches: not trained here yet.

`:small` is the same for two CPU cores: one encoder for windows and entities, smaller
batches, shorter texts, and as negatives the entities that a window's own surface forms
may name, besides mined ones. Cost: a step reads up to 9,472 tokens; 200 took 39 minutes
of two busy cores. Reaches: on 60 held-out documents recall@100 of 0.97 among 4,096
entities; among 784,936 of 0.75 on held-out articles, and 0.87, 0.63 and 0.62 on KORE50,
Reuters-128 and OKE-2015.
"""

import ml_collections


def get_config(arg: str = "large") -> ml_collections.ConfigDict:
    """arg: one of the names above. Paths are left empty, for the command line."""
    if arg not in ("base", "large", "minilm", "small"):
        raise ValueError(f"expected base, large, minilm or small, found {arg!r}")
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
            "negatives": 1408,
            "mined_per_window": 4,
            "window_length": 32,
            "stride": 16,
            "window_tokens": 64,
            "entity_tokens": 128,
            "refresh_steps": 5000,
        }
    )
    config.optimizer = ml_collections.ConfigDict(
        {
            "learning_rate": 2e-5,
            "warmup_share": 0.06,
            "clip": 1.0,
        }
    )
    config.loop = ml_collections.ConfigDict(
        {
            "epochs": 3.0,
            "evaluate_steps": 1000,
            "checkpoint_steps": 1000,
            "data": 8,
        }
    )
    if arg in ("minilm", "small"):
        _make_minilm(config)
    if arg == "small":
        _make_small(config)
    return config


def _make_minilm(config: ml_collections.ConfigDict) -> None:
    """Change the paper's settings to those of a small model on one device."""
    config.model.update(
        {"pooling": "mean", "normalise": True, "temperature": 0.05, "dtype": "float32"}
    )
    config.data.update(
        {
            "batch": 64,
            "golds": 256,
            "negatives": 256,
            "mined_per_window": 2,
            "mining_pool": 50_000,
            "in_batch_negatives": True,
            "entity_tokens": 64,
            "refresh_steps": 500,
        }
    )
    config.optimizer.update(
        {"learning_rate": 5e-5, "warmup_share": 0.0, "warmup_steps": 100}
    )
    config.loop.update({"epochs": 0.0, "steps": 2000, "data": 1})
    config.loop.update({"evaluate_steps": 500, "checkpoint_steps": 500})


def _make_small(config: ml_collections.ConfigDict) -> None:
    """Change the settings of `:minilm` to what two CPU cores can train."""
    config.model.update({"shared": True, "dropout": 0.0, "remat": "none"})
    config.data.update(
        {
            "batch": 32,
            "golds": 80,
            "negatives": 112,
            "mined_per_window": 1,
            "mining_pool": 10_000,
            "confusable_per_window": 2,
            "dev_documents": 60,
            "window_tokens": 56,
            "entity_tokens": 40,
            "refresh_steps": 100,
        }
    )
    config.optimizer.update({"learning_rate": 1e-4, "warmup_steps": 20})
    config.loop.update({"steps": 200, "evaluate_steps": 100, "checkpoint_steps": 25})
