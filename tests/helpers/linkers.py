"""Linkers with tiny random models over a few entities, made for a test."""

import json
from pathlib import Path

SHAPE = {"dim": 32, "layers": 2, "heads": 4, "ffn": 64, "max_positions": 512}


def add_random_models(root: Path, family: str = "llama") -> Path:
    """Put tiny random models beside the knowledge base root/kb; returns the linker.

    family: of the generator.
    """
    import jax

    from insgenel_jax import artifact, models, tokenizer
    from insgenel_jax.kb import KnowledgeBase
    from insgenel_jax.linker import assemble
    from insgenel_jax.models import hf
    from insgenel_jax.models.config import ModelConfig
    from insgenel_jax.retrieval import index
    from insgenel_jax.retrieval import retriever as embed

    kb = KnowledgeBase.open(root / "kb")
    texts = [kb.description(i) for i in range(min(len(kb), 2000))]

    words = tokenizer.train_bpe(texts, 500, root / "bpe")
    add_generator(root, words.size, family)
    with artifact.create(root / "retriever", "retriever", 1) as draft:
        words = tokenizer.train_wordpiece(texts, 500, root / "wordpiece")
        config = ModelConfig("bert", words.size, **SHAPE)
        for seed, role in enumerate(("mention", "entity")):
            params = models.init_params(config, jax.random.key(seed))
            hf.save_model(draft.path / role, config, params)
        tokenizer.copy_tokenizer(root / "wordpiece", draft.path)
        settings = {
            "window_length": 32,
            "stride": 16,
            "window_tokens": 64,
            "entity_tokens": 48,
        }
        (draft.path / "retriever.json").write_text(json.dumps(settings))
    embeddings = embed.Retriever.load(root / "retriever").embed_entities(kb)
    made_from = {
        "knowledge-base": kb.identity,
        "retriever": artifact.identity(root / "retriever"),
    }
    index.build_index(embeddings, root / "index", made_from=made_from)
    parts = ("generator", "kb", "retriever", "index")
    assemble(root / "linker", **{part: root / part for part in parts})
    return root / "linker"


def add_entities(root: Path, entities: dict, vocabulary: int, family: str = "llama"):
    """INSGENEL over entities {title: further names} beside root/bpe; its directory."""
    from insgenel_jax.kb.build.entity_list import build_from_entities
    from insgenel_jax.kb.knowledge_base import Entity
    from insgenel_jax.linker import assemble
    from insgenel_jax.text.formats.rejects import Rejects

    with Rejects(None) as rejects:
        listed = [(Entity(title), names) for title, names in entities.items()]
        build_from_entities(root / "kb", listed, rejects)
    add_generator(root, vocabulary, family)
    parts = {"generator": root / "generator", "kb": root / "kb"}
    assemble(root / "linker", **parts, settings={"system": "insgenel"})
    return root / "linker"


def add_generator(root: Path, vocabulary: int, family: str = "llama") -> None:
    """Make root/generator, tiny and random, with the tokenizer of root/bpe."""
    import jax

    from insgenel_jax import artifact, models, tokenizer
    from insgenel_jax.models import hf
    from insgenel_jax.models.config import ModelConfig

    with artifact.create(root / "generator", "generator", 1) as draft:
        config = ModelConfig(family, vocabulary, **SHAPE)
        params = models.init_params(config, jax.random.key(0))
        params = jax.tree.map(lambda p: p * 5, params)
        hf.save_model(draft.path, config, params)
        tokenizer.copy_tokenizer(root / "bpe", draft.path)
        settings = {"instruction": "link", "chunk_tokens": 175}
        (draft.path / "insgenel.json").write_text(json.dumps(settings))
