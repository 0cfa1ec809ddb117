"""Retriever directories with tiny random models, made for a test."""

from __future__ import annotations

from pathlib import Path

WORDS = ["mercury", "venus", "queen", "singer", "planet", "city", "born", "york", "old"]


def write_retriever(path: Path, seed: int = 0) -> Path:
    """Write a retriever of two random BERTs, narrow and shallow; returns `path`."""
    import jax

    from insgenel_jax import models
    from insgenel_jax.models.config import ModelConfig
    from insgenel_jax.retrieval.retriever import Retriever, save_retriever
    from insgenel_jax.tokenizer import train_wordpiece

    files = path.parent / "wp"
    texts = [" ".join(WORDS), "Ångström, 東京 (café)"]
    config = ModelConfig(
        family="bert",
        vocabulary=200,
        dim=24,
        layers=2,
        heads=3,
        ffn=48,
        max_positions=64,
        norm_eps=1e-12,
    )
    params = {}
    for number, role in enumerate(("mention", "entity")):
        fresh = models.init_params(config, jax.random.key(10 * seed + number))
        # so that position and neighbours matter to a model nobody trained
        params[role] = jax.tree.map(lambda p: p * 3 if p.ndim > 2 else p, fresh)
    retriever = Retriever(
        configs={"mention": config, "entity": config},
        params=params,
        tokenizer=train_wordpiece(texts, 200, files),
        window_length=32,
        stride=16,
        window_tokens=40,
        entity_tokens=56,
    )
    save_retriever(retriever, path, tokenizer=files)
    return path
