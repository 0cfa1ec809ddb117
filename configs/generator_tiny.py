"""A generator for the mini world: learns which entity is meant from the words around.

    python -m insgenel_jax.train --config=configs/generator_tiny.py --workdir=DIR \
        --set data.documents=DATA/train --set data.kb=DATA/kb \
        --set model.tokenizer=DATA/tokenizers/generator

DATA is what `prepare world` writes. Cost: about a minute on two CPU cores.
Reaches: benchmarks/mini_world.py prints it.

`:wiki` is for a knowledge base of real text (`prepare wikipedia`). Its chunks are
longer, and it takes about a quarter of an hour. So small a model cannot learn what the
link counts know: it learns what to add to them, and is used with prior_weight=1 or
more.
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """arg: "" or "wiki". Paths are left empty, to be set on the command line."""
    if arg not in ("", "wiki"):
        raise ValueError(f"expected '' or 'wiki', found {arg!r}")
    wiki = arg == "wiki"
    config = ml_collections.ConfigDict()
    config.task = "generator"
    config.seed = 0
    config.model = ml_collections.ConfigDict(
        {
            "family": "llama",
            "dim": 64,
            "layers": 2,
            "heads": 2,
            "ffn": 128,
            "tie_embeddings": True,
            "tokenizer": "",
        }
    )
    config.data = ml_collections.ConfigDict(
        {
            "documents": "",
            "kb": "",
            "dev": "",
            "batch": 16,
            "max_length": 192 if wiki else 128,
            "instruction": "Link:",
            # so small a model does better without learning what is forced anyway
            "copy_loss_weight": 0.0,
            "word_noise": 0.05,
            "scored": 96 if wiki else 40,
        }
    )
    if wiki:
        config.data.update(
            {"allowed_edges": True, "prior_weight": 1.0, "max_candidates": 20}
        )
    config.optimizer = ml_collections.ConfigDict(
        {"learning_rate": 5e-3, "warmup_steps": 30, "b2": 0.98}
    )
    config.loop = ml_collections.ConfigDict(
        {
            "steps": 1800 if wiki else 1000,
            "evaluate_steps": 500,
            "checkpoint_steps": 500,
        }
    )
    return config
