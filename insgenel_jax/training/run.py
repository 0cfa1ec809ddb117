"""One experiment: checked settings in; a trained model directory out."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from insgenel_jax import artifact, processes, sharding
from insgenel_jax.kb import knowledge_base
from insgenel_jax.kb.build import training_documents
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.models import hf
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.lines import decode_lines
from insgenel_jax.text.formats.rejects import Rejects
from insgenel_jax.tokenizer import load_tokenizer, load_wordpiece
from insgenel_jax.training import checkpoint, loop, metrics
from insgenel_jax.training.checks import check_paths
from insgenel_jax.training.data import lengths, negatives, packing
from insgenel_jax.training.data.chunks import generator_expand
from insgenel_jax.training.data.documents import Expand, no_examples, stream_examples
from insgenel_jax.training.data.streams import Joined, join_streams, own_streams
from insgenel_jax.training.data.windows import (
    entity_tokens,
    retriever_expand,
    window_batches,
)
from insgenel_jax.training.finish import (
    save_trained_generator,
    save_trained_retriever,
)
from insgenel_jax.training.generator import generator_evaluator, generator_task
from insgenel_jax.training.retriever import retriever_evaluator, retriever_task
from insgenel_jax.training.settings import (
    Config,
    ConfigError,
    GeneratorData,
    RetrieverData,
)
from insgenel_jax.training.task import Task

POOL = 4096  # entities that the retriever is measured against, golds included
ROTARY_POSITIONS = 2048  # that a rotary model from scratch may be used at, untrained


def begin(config: Config, workdir: Path) -> dict[str, str]:
    """Check what is trained from, and record it and the settings in the workdir.

    Returns the identities of the parts. Raises ConfigError or ArtifactError for what
    the user has to fix, among it a workdir that was begun with other settings or data,
    or that has files of something else.
    """
    check_paths(config)
    check_dev(config.data.dev)
    config = fix_streams(config, workdir)
    made_from = identities(config)
    checkpoint.claim_workdir(workdir)
    record = dataclasses.asdict(config) | {"made_from": made_from}
    checkpoint.check_same_config(workdir / checkpoint.RECORD, record)
    return made_from


def fix_streams(config: Config, workdir: Path) -> Config:
    """The config with its streams: what the workdir has, else one a process."""
    data = config.data
    if data.streams:
        return config
    streams = checkpoint.kept_streams(workdir) or jax.process_count()
    return dataclasses.replace(config, data=dataclasses.replace(data, streams=streams))


def check_dev(path: str) -> None:
    """Raise ConfigError for an empty development set at once, not after hours."""
    lines = decode_lines(path, Rejects()) if path else [(1, "none wanted")]
    if not any(line.strip() for _, line in lines):
        raise ConfigError(
            f"data.dev = {path}: expected labelled documents, found no line to read; "
            "prepare with a larger --dev-share, or --set data.dev='' to train without"
        )


def train(
    config: Config,
    workdir: Path,
    made_from: dict[str, str],
    rejects: Rejects,
    profile: Path | None = None,
) -> collections.Counter:
    """Train one task, or go on where the workdir stands, and write WORKDIR/model.

    made_from: from `begin`. Bad lines of the development set go to `rejects`. profile:
    a folder for a profile of some steps. Returns counts of what was read.
    Raises ConfigError or ArtifactError for what the user has to fix, metrics.NotFinite,
    and signals.Preempted after SIGTERM.
    """
    config = fix_streams(config, workdir)
    train_task = {"generator": train_generator, "retriever": train_retriever}
    return train_task[config.task](config, workdir, made_from, rejects, profile)


def identities(config: Config) -> dict[str, str]:
    """The identity of each part that is trained from: role -> hash.

    Raises ArtifactError for what is no such part, and for training documents that were
    made for another knowledge base: their entities would not be found.
    """
    data = config.data
    kind, version = training_documents.KIND, training_documents.VERSION
    documents = artifact.check(data.documents, kind, version)
    parts = {kind: documents.identity}
    if data.kb:
        kind, version = knowledge_base.KIND, knowledge_base.VERSION
        parts[kind] = artifact.check(data.kb, kind, version).identity
        wanted = documents.made_from.get(kind)
        if wanted not in (None, parts[kind]):
            raise artifact.ArtifactError(
                f"{data.documents}: made for the knowledge base {wanted[:12]}, but "
                f"{data.kb} is {parts[kind][:12]}; give the one that was prepared with "
                "them, or prepare both again"
            )
    model = config.model
    for role, path in ("pretrained", model.pretrained), ("tokenizer", model.tokenizer):
        if role == "tokenizer" and path == model.pretrained:
            parts[role] = parts["pretrained"]  # large files, hashed once
        elif path:
            parts[role] = artifact.identity(path)
    return parts


def train_generator(
    config: Config,
    workdir: Path,
    made_from: dict[str, str],
    rejects: Rejects,
    profile: Path | None = None,
) -> collections.Counter:
    """Train the generator, as `train` does."""
    data, counts = config.data, collections.Counter[str]()
    assert isinstance(data, GeneratorData)
    with _user_errors():
        tokenizer = load_tokenizer(config.model.tokenizer)
        kb = KnowledgeBase.open(data.kb) if data.kb else None
        model = model_config(config, tokenizer.size, data.max_length)
        task = generator_task(
            model, data.scored, config.model.pretrained, data.allowed_edges
        )
        mesh = make_mesh(config, task)
        expand = generator_expand(tokenizer, kb, data)
        parts = {
            stream.number: iter(
                packing.pack(
                    stream_examples(
                        data.documents, expand, config.seed, counts, data.share, stream
                    ),
                    data,
                    config.seed,
                    counts,
                    data.streams,
                )
            )
            for stream in own_streams(data.streams)
        }
        # lengths and measures are those of the text without noise
        without_noise = dataclasses.replace(data, word_noise=0.0)
        plain = generator_expand(tokenizer, kb, without_noise)
        chunk_tokens, epoch = lengths.estimate_lengths(tokenizer, plain, data)
        config = count_steps(config, epoch)
        evaluate = None
        if data.dev:
            examples = read_dev(config, plain, counts, rejects)
            batches = packing.pack_all(examples, data)
            evaluate = generator_evaluator(model, batches, mesh, data.allowed_edges)
    params = loop.train(
        task,
        config,
        join_streams(parts, data.streams),
        workdir,
        evaluate=evaluate,
        profile=profile,
    )
    save_trained_generator(
        config, workdir, model, params, tokenizer, chunk_tokens, made_from
    )
    return counts


def train_retriever(
    config: Config,
    workdir: Path,
    made_from: dict[str, str],
    rejects: Rejects,
    profile: Path | None = None,
) -> collections.Counter:
    """Train the retriever, as `train` does."""
    data, counts = config.data, collections.Counter[str]()
    assert isinstance(data, RetrieverData)
    with _user_errors():
        wordpiece = load_wordpiece(config.model.tokenizer)
        kb = KnowledgeBase.open(data.kb)
        negatives.check_room(data, len(kb), data.streams)
        longest = max(data.window_tokens, data.entity_tokens)
        model = model_config(config, wordpiece.size, longest)
        task = retriever_task(
            model, wordpiece.pad, config.model.pretrained, config.model.shared
        )
        make_mesh(config, task)
        parts = made_from["knowledge-base"], made_from["tokenizer"], data.entity_tokens
        name = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
        cache = workdir / f"entities-{name}.npy"
        with processes.first_alone("entities"):
            entities = entity_tokens(wordpiece, kb, data.entity_tokens, cache)
        expand = retriever_expand(wordpiece, kb, data)
        config = count_steps(config, lengths.estimate_window_steps(expand, data))
        batches = stream_windows(config, model, expand, entities, wordpiece.pad, counts)
        evaluate = None
        if data.dev:
            examples = read_dev(config, expand, counts, rejects)
            pool = min(POOL, len(kb))
            evaluate = retriever_evaluator(
                model, examples, entities, wordpiece.pad, pool
            )

    def refresh(step: int, params: dict) -> None:
        if batches.mines(step):
            batches.refresh(step, sharding.gather(params))

    params = loop.train(
        task,
        config,
        batches,
        workdir,
        evaluate=evaluate,
        refresh=refresh,
        profile=profile,
    )
    save_trained_retriever(config, workdir, model, params, wordpiece, made_from)
    return counts


def stream_windows(
    config: Config,
    model: ModelConfig,
    expand: Expand,
    entities: np.ndarray,
    pad: int,
    counts: collections.Counter,
) -> negatives.WithNegatives | Joined:
    """The batches of the retriever that this process reads."""
    data = config.data
    assert isinstance(data, RetrieverData)
    parts = {}
    for stream in own_streams(data.streams):
        documents, seed, share = data.documents, config.seed, data.share
        dataset = stream_examples(documents, expand, seed, counts, share, stream)
        parts[stream.number] = negatives.WithNegatives(
            iter(window_batches(dataset, data, data.streams)),
            entities,
            model,
            data,
            pad,
            seed,
            counts,
            steps=config.loop.steps,
            stream=stream,
        )
    return join_streams(parts, data.streams)


def count_steps(config: Config, epoch: int) -> Config:
    """The config with its epochs as steps. epoch: the steps of one, as estimated."""
    metrics.CONSOLE.print(f"one epoch is about {epoch:,} steps")
    if not config.loop.epochs:
        return config
    steps = max(round(config.loop.epochs * epoch), 1)
    return dataclasses.replace(
        config, loop=dataclasses.replace(config.loop, steps=steps, epochs=0.0)
    )


def model_config(config: Config, vocabulary: int, length: int) -> ModelConfig:
    """The model of the settings, for a tokenizer and texts of `length` tokens.

    Raises ValueError where a pretrained model does not fit task, tokenizer or texts.
    """
    settings = config.model
    names = ("dropout", "lora", "attention", "dtype", "param_dtype", "remat")
    vectors = ("pooling", "normalise", "temperature")
    given: dict[str, Any] = {
        name: getattr(settings, name) for name in (*names, *vectors)
    }
    if not settings.pretrained:
        # rotary positions have no table in which some would be left untrained
        least = ROTARY_POSITIONS if settings.family == "llama" else 1
        return ModelConfig(
            vocabulary=vocabulary,
            max_positions=max(length, least),
            **settings.shape,
            **given,
        )
    model = hf.load_config(settings.pretrained)
    if (model.family == "bert") != (config.task == "retriever"):
        raise ValueError(
            f"{settings.pretrained}: a model of family {model.family!r} cannot be a "
            f"{config.task}"
        )
    if model.max_positions < length:
        raise ValueError(
            f"{settings.pretrained}: the model has {model.max_positions} positions, "
            f"but the texts of the config have up to {length} tokens; shorten those in "
            "`data`"
        )
    hf.check_tokenizer(settings.tokenizer, model, vocabulary)
    return dataclasses.replace(model, **given)


def make_mesh(config: Config, task: Task) -> jax.sharding.Mesh:
    """The config's mesh. Raises ValueError where devices or the model do not fit it."""
    sizes = config.loop
    mesh = sharding.make_mesh(sizes.data, sizes.fsdp, sizes.tensor)
    task.param_shardings(mesh)
    return mesh


def read_dev(
    config: Config, expand: Expand, counts: collections.Counter, rejects: Rejects
) -> list[dict]:
    """Examples of the development set; what was read is counted as "dev ...".

    Raises ConfigError where there is none.
    """
    read, data = collections.Counter[str](), config.data
    examples: list[dict] = []
    documents = read_documents(data.dev, rejects)
    for document in itertools.islice(documents, data.dev_documents):
        read["documents"] += 1
        examples += expand(document, read)
    read["lines rejected"] = rejects.count
    if not examples:
        raise no_examples(f"data.dev = {data.dev}", read)
    counts.update({f"dev {name}": count for name, count in read.items() if count})
    return examples


@contextlib.contextmanager
def _user_errors() -> Iterator[None]:
    """A ValueError while the parts are opened and put together is the user's to fix."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(str(error)) from error
