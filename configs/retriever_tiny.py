"""A retriever for the mini world: a bi-encoder of two small BERTs.

    python -m insgenel_jax.train --config=configs/retriever_tiny.py --workdir=DIR \
        --set data.documents=DATA/train --set data.kb=DATA/kb \
        --set model.tokenizer=DATA/tokenizers/retriever

DATA is what `prepare world` writes. Cost: about a minute on one CPU core.
Reaches: benchmarks/mini_world.py prints it.

`:wiki` is for a knowledge base of real text (`prepare wikipedia`). It uses in-batch
negatives, and takes about a quarter of an hour.
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """arg: "" or "wiki". Paths are left empty, to be set on the command line."""
    if arg not in ("", "wiki"):
        raise ValueError(f"expected '' or 'wiki', found {arg!r}")
    wiki = arg == "wiki"
    config = ml_collections.ConfigDict()
    config.task = "retriever"
    config.seed = 0
    config.model = ml_collections.ConfigDict(
        {
            "family": "bert",
            "dim": 64,
            "layers": 2,
            "heads": 2,
            "ffn": 128,
            # at 0.02, maps so narrow pass too little to [CLS] for it to learn
            "init_std": 0.07,
            "tokenizer": "",
        }
    )
    if wiki:
        config.model.update(pooling="mean", normalise=True, temperature=0.1)
    config.data = ml_collections.ConfigDict(
        {
            "documents": "",
            "kb": "",
            "dev": "",
            "batch": 64 if wiki else 128,
            "golds": 256 if wiki else 67,
            "negatives": 128 if wiki else 67,
            "mined_per_window": 1,
            "mining_pool": 20_000,
            "in_batch_negatives": wiki,
            "window_tokens": 48,
            "entity_tokens": 24 if wiki else 48,
            "refresh_steps": 500 if wiki else 125,
        }
    )
    config.optimizer = ml_collections.ConfigDict(
        {"learning_rate": 1e-3 if wiki else 2e-3, "warmup_steps": 20}
    )
    config.loop = ml_collections.ConfigDict(
        {
            "steps": 1600 if wiki else 250,
            "evaluate_steps": 250,
            "checkpoint_steps": 250,
        }
    )
    return config
