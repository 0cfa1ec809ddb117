"""Train a generator or a retriever: `python -m insgenel_jax.train --config=FILE ...`."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
import json
import sys
from pathlib import Path
from typing import Annotated

import jax
import typer
from rich.markup import escape

from insgenel_jax import artifact, sharding
from insgenel_jax.document import Document
from insgenel_jax.formats import Rejects, read_documents
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.models import hf
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.tokenizer import copy_tokenizer, load_tokenizer, load_wordpiece
from insgenel_jax.training import checkpoint, examples, loop, metrics, objectives
from insgenel_jax.training.config import Config, ConfigError, check_paths, load
from insgenel_jax.training.negatives import WithNegatives

PREEMPTED = 85  # exit code: stopped by SIGTERM, saved, start me again
NOT_FINITE = 86  # exit code: NaN or infinity
MODEL_VERSION = 1
POOL = 4096  # entities that the retriever is measured against, golds included


def main(
    config: Annotated[str, typer.Option(help="config file, path.py or path.py:arg")],
    workdir: Annotated[Path, typer.Option(help="checkpoints, metrics and the model")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, any number of times")
    ] = None,
) -> None:
    """Train, or go on where WORKDIR stands; WORKDIR/model is the trained model."""
    try:
        settings = load(config, set_ or [])
        check_paths(settings)
        workdir.mkdir(parents=True, exist_ok=True)
        record = json.dumps(dataclasses.asdict(settings), indent=1) + "\n"
        checkpoint.check_same_config(workdir / "config.json", record)
        counts = run(settings, workdir)
    except loop.Preempted as stopped:
        metrics.CONSOLE.print(str(stopped))
        sys.exit(PREEMPTED)
    except loop.NotFinite as error:
        metrics.CONSOLE.print(f"[red]{escape(str(error))}")
        sys.exit(NOT_FINITE)
    except (ConfigError, artifact.ArtifactError, OSError) as error:
        metrics.CONSOLE.print(f"[red]{escape(str(error))}")
        sys.exit(2)
    for name, count in sorted(counts.items()):
        metrics.CONSOLE.print(f"{name}: {count:,}")


def run(config: Config, workdir: Path) -> collections.Counter:
    """Train one task and write WORKDIR/model. Returns counts of what was read."""
    return {"generator": run_generator, "retriever": run_retriever}[config.task](
        config, workdir
    )


def run_generator(config: Config, workdir: Path) -> collections.Counter:
    """Train the generator."""
    data, counts = config.data, collections.Counter()
    tokenizer = load_tokenizer(config.model.tokenizer)
    kb = KnowledgeBase.open(data.kb) if data.kb else None
    model = model_config(config, tokenizer.size, data.max_length)
    expand = examples.generator_expand(tokenizer, kb, data)
    dataset = examples.examples(data.documents, expand, config.seed, counts)
    evaluate = None
    if data.dev:
        plain = dataclasses.replace(data, word_noise=0.0)
        expand = examples.generator_expand(tokenizer, kb, plain)
        batches = examples.fixed_generator_batches(
            _expand_all(expand, _read_dev(config)), data
        )
        measure = objectives.generator_measures(model)
        evaluate = loop.evaluator(measure, batches, _mesh(config))
    params, measured = loop.train(
        objectives.generator_task(model, data.scored),
        config,
        iter(examples.generator_batches(dataset, data, config.seed, counts)),
        workdir,
        evaluate=evaluate,
    )
    settings = {"instruction": data.instruction, "max_length": data.max_length}
    with artifact.create(workdir / "model", "generator", MODEL_VERSION) as draft:
        hf.save_model(draft.path, model, params)
        _finish(draft, config, "insgenel.json", settings | {"measured": measured})
    return counts


def run_retriever(config: Config, workdir: Path) -> collections.Counter:
    """Train the retriever's two encoders."""
    data, counts = config.data, collections.Counter()
    wordpiece = load_wordpiece(config.model.tokenizer)
    kb = KnowledgeBase.open(data.kb)
    model = model_config(
        config, wordpiece.size, max(data.window_tokens, data.entity_tokens)
    )
    made_from = artifact.identity(data.kb) + artifact.identity(config.model.tokenizer)
    name = hashlib.sha256(f"{made_from}{data.entity_tokens}".encode()).hexdigest()[:16]
    entities = examples.entity_tokens(
        wordpiece, kb, data.entity_tokens, workdir / f"entities-{name}.npy"
    )
    expand = examples.retriever_expand(wordpiece, kb, data)
    dataset = examples.examples(data.documents, expand, config.seed, counts)
    batches = WithNegatives(
        iter(examples.window_batches(dataset, data)),
        entities,
        model,
        data,
        wordpiece.pad,
        config.seed,
        counts,
    )
    evaluate = None
    if data.dev:
        rows = _expand_all(expand, _read_dev(config))
        evaluate = objectives.retriever_evaluator(
            model, rows, entities, wordpiece.pad, min(POOL, len(kb))
        )
    params, measured = loop.train(
        objectives.retriever_task(model, wordpiece.pad),
        config,
        batches,
        workdir,
        evaluate=evaluate,
        refresh=batches.refresh,
    )
    settings = {
        "window_length": data.window_length,
        "stride": data.stride,
        "window_tokens": data.window_tokens,
        "entity_tokens": data.entity_tokens,
        "pooling": "cls",
    }
    with artifact.create(workdir / "model", "retriever", MODEL_VERSION) as draft:
        for part in ("mention", "entity"):
            (draft.path / part).mkdir()
            hf.save_model(draft.path / part, model, params[part])
        _finish(draft, config, "retriever.json", settings | {"measured": measured})
    return counts


def model_config(config: Config, vocabulary: int, max_positions: int) -> ModelConfig:
    """The model's settings and what follows from tokenizer and data."""
    shape = dataclasses.asdict(config.model)
    del shape["tokenizer"]
    return ModelConfig(vocabulary=vocabulary, max_positions=max_positions, **shape)


def _mesh(config: Config) -> jax.sharding.Mesh:
    return sharding.make_mesh(config.loop.data, config.loop.fsdp, config.loop.tensor)


def _read_dev(config: Config) -> list[Document]:
    with Rejects(None) as rejects:
        documents = read_documents(config.data.dev, rejects)
        return list(itertools.islice(documents, config.data.dev_documents))


def _expand_all(expand: examples.Expand, documents: list[Document]) -> list[dict]:
    counts = collections.Counter()
    return [example for document in documents for example in expand(document, counts)]


def _finish(draft: artifact.Draft, config: Config, name: str, settings: dict) -> None:
    """Put the tokenizer's files and our settings beside the weights."""
    copy_tokenizer(config.model.tokenizer, draft.path)
    (draft.path / name).write_text(json.dumps(settings, indent=1) + "\n")
    roles = {
        "training-documents": config.data.documents,
        "knowledge-base": config.data.kb,
        "tokenizer": config.model.tokenizer,
    }
    draft.made_from |= {r: artifact.identity(path) for r, path in roles.items() if path}


if __name__ == "__main__":
    typer.run(main)
