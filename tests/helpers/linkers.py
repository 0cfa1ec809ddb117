"""Linkers for tests: tiny random models over a knowledge base of a few entities."""

from collections.abc import Iterable
from pathlib import Path

import jax

from insgenel_jax import artifact, models, tokenizer
from insgenel_jax.generator import Generator, save_generator
from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.linker import assemble
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.retrieval.index import build_index
from insgenel_jax.retrieval.retriever import Retriever, save_retriever
from insgenel_jax.text.formats.rejects import Rejects

SHAPE = {"dim": 32, "layers": 2, "heads": 4, "ffn": 64, "max_positions": 512}


def add_random_models(root: Path, family: str = "llama") -> Path:
    """Make an INSGENEL-R linker from the knowledge base `root/kb` and random models.

    family: the generator's. Returns the linker's directory; its parts lie beside it.
    """
    kb = KnowledgeBase.open(root / "kb")
    texts = [kb.description(i) for i in range(min(len(kb), 2000))]
    words = tokenizer.train_bpe(texts, 500, root / "bpe")
    add_generator(root, words.size, family)
    embeddings = add_retriever(root, texts).embed_entities(kb)
    made_from = {
        "knowledge-base": kb.identity,
        "retriever": artifact.identity(root / "retriever"),
    }
    build_index(embeddings, root / "index", made_from=made_from)
    parts = ("generator", "kb", "retriever", "index")
    assemble(root / "linker", **{part: root / part for part in parts})
    return root / "linker"


def add_entities(
    root: Path,
    entities: dict[str, Iterable[str]],
    vocabulary: int,
    family: str = "llama",
) -> Path:
    """Make an INSGENEL linker over a few entities, with the tokenizer `root/bpe`.

    entities: title -> further names. vocabulary: tokens of that tokenizer. Returns the
    linker's directory; its parts lie beside it.
    """
    with Rejects(None) as rejects:
        listed = [(Entity(title), names) for title, names in entities.items()]
        build_from_entities(root / "kb", listed, rejects)
    add_generator(root, vocabulary, family)
    parts = {"generator": root / "generator", "kb": root / "kb"}
    assemble(root / "linker", **parts, settings={"system": "insgenel"})
    return root / "linker"


def add_generator(root: Path, vocabulary: int, family: str = "llama") -> None:
    """Write a random generator to `root/generator`, with the tokenizer `root/bpe`."""
    config = ModelConfig(family, vocabulary, **SHAPE)
    params = models.init_params(config, jax.random.key(0))
    generator = Generator(
        config=config,
        # five times the usual size, so that attention and decisions are clear
        params=jax.tree.map(lambda p: p * 5, params),
        tokenizer=tokenizer.load_tokenizer(root / "bpe"),
        instruction="link",
        chunk_tokens=175,
    )
    save_generator(generator, root / "generator", tokenizer=root / "bpe")


def add_retriever(root: Path, texts: list[str]) -> Retriever:
    """Write a random retriever to `root/retriever`, its tokenizer trained on texts."""
    words = tokenizer.train_wordpiece(texts, 500, root / "wordpiece")
    config = ModelConfig("bert", words.size, **SHAPE)
    retriever = Retriever(
        configs={"mention": config, "entity": config},
        params={
            role: models.init_params(config, jax.random.key(seed))
            for seed, role in enumerate(("mention", "entity"))
        },
        tokenizer=words,
        window_length=32,
        stride=16,
        window_tokens=64,
        entity_tokens=48,
    )
    save_retriever(retriever, root / "retriever", tokenizer=root / "wordpiece")
    return retriever
