"""A little of the mini world, prepared for training, and configs of tiny models."""

from pathlib import Path

import pytest

from insgenel_jax import mini_world
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.kb.build.training_documents import write_training_documents
from insgenel_jax.text.formats.documents import write_documents
from insgenel_jax.text.formats.rejects import Rejects
from insgenel_jax.tokenizer import train_bpe, train_wordpiece
from insgenel_jax.training import config
from insgenel_jax.training.settings import Config


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    """kb, train, dev.jsonl, generator and retriever tokenizers in one folder."""
    root = tmp_path_factory.mktemp("prepared")
    documents = mini_world.paragraphs("train", 60)
    with Rejects(None) as rejects:
        build_from_entities(
            root / "kb",
            mini_world.entities(),
            rejects,
            documents=documents,
        )
    write_training_documents(root / "train", documents, root / "kb")
    write_documents(root / "dev.jsonl", mini_world.paragraphs("dev", 8))
    texts = [document.text for document in documents]
    train_bpe(texts, 600, root / "generator")
    train_wordpiece(texts, 600, root / "retriever")
    return root


@pytest.fixture(scope="session")
def make_config(prepared):
    """make_config(task, {"section.key": value}) -> a checked Config of a tiny model."""

    def make(task: str, changes: dict | None = None) -> Config:
        record = {
            "task": task,
            "model": {
                "family": "llama" if task == "generator" else "bert",
                "dim": 16,
                "layers": 2,
                "heads": 2,
                "ffn": 32,
                "tokenizer": str(prepared / task),
            },
            "data": {
                "documents": str(prepared / "train"),
                "kb": str(prepared / "kb"),
                "batch": 4,
            },
            "optimizer": {"learning_rate": 1e-2, "warmup_steps": 2},
            "loop": {
                "steps": 6,
                "log_steps": 1,
                "checkpoint_steps": 100,
                "evaluate_steps": 100,
            },
        }
        if task == "generator":
            record["data"] |= {"max_length": 256, "instruction": "Link:"}
        else:
            record["data"] |= {
                "golds": 12,
                "negatives": 8,
                "mined_per_window": 1,
                "refresh_steps": 4,
                "window_tokens": 32,
                "entity_tokens": 16,
            }
        for key, value in (changes or {}).items():
            section, _, name = key.rpartition(".")
            (record[section] if section else record)[name] = value
        return config.parse(record)

    return make
