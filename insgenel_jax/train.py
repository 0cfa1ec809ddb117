"""Train a generator or a retriever: `python -m insgenel_jax.train --config=FILE ...`."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import jax
import typer
from rich.markup import escape

from insgenel_jax import artifact, cli, sharding
from insgenel_jax.kb import knowledge_base
from insgenel_jax.kb.build import training_documents
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.models import hf, lora
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.retrieval import retriever as embed
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import Rejects
from insgenel_jax.tokenizer import copy_tokenizer, load_tokenizer, load_wordpiece
from insgenel_jax.training import checkpoint, loop, metrics, objectives
from insgenel_jax.training.config import Config, ConfigError, check_paths, load
from insgenel_jax.training.data import examples
from insgenel_jax.training.data import windows as window_examples
from insgenel_jax.training.data.negatives import WithNegatives

PREEMPTED = 85  # exit code: stopped by SIGTERM, saved, start me again
NOT_FINITE = 86  # exit code: NaN or infinity
GENERATOR_VERSION = 1
POOL = 4096  # entities that the retriever is measured against, golds included
ROTARY_POSITIONS = 2048  # that a rotary model from scratch may be used at, untrained


@cli.user_errors(ConfigError)
def main(
    config: Annotated[str, typer.Option(help="config file, path.py or path.py:arg")],
    workdir: Annotated[Path, typer.Option(help="checkpoints, metrics and the model")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, any number of times")
    ] = None,
) -> None:
    """Train, or go on where WORKDIR stands; WORKDIR/model is the trained model.

    Exit status: 0; 2 for what you have to mend; 3 when bad input was left out, see
    WORKDIR/rejects.jsonl; 85 when told to stop, the same command goes on; 86 for NaN.
    """
    settings = load(config, set_ or [])
    check_paths(settings)
    made_from = identities(settings)
    workdir.mkdir(parents=True, exist_ok=True)
    record = dataclasses.asdict(settings) | {"made_from": made_from}
    checkpoint.check_same_config(workdir / "config.json", record)
    path = None if jax.process_index() else workdir / "rejects.jsonl"
    try:
        with cli.rejecting(path, metrics.CONSOLE) as rejects:
            counts = run(settings, workdir, made_from, rejects)
            for name, count in sorted(counts.items()):
                metrics.CONSOLE.print(f"{name}: {count:,}")
    except loop.Preempted as stopped:
        metrics.CONSOLE.print(str(stopped))
        sys.exit(PREEMPTED)
    except loop.NotFinite as error:
        metrics.CONSOLE.print(f"[red]{escape(cli.describe(error))}", soft_wrap=True)
        sys.exit(NOT_FINITE)
    if counts["unreadable documents"]:
        sys.exit(cli.REJECTED)


def identities(config: Config) -> dict[str, str]:
    """The identity of each part that is trained from: role -> hash.

    Raises ArtifactError for what is no such part, and for training documents that were
    made for another knowledge base: their entities would not be found.
    """
    data = config.data
    kind, version = training_documents.KIND, training_documents.VERSION
    documents = artifact.check(data.documents, kind, version)
    found = {kind: documents.identity}
    if data.kb:
        kind, version = knowledge_base.KIND, knowledge_base.VERSION
        found[kind] = artifact.check(data.kb, kind, version).identity
        wanted = documents.made_from.get(kind)
        if wanted not in (None, found[kind]):
            raise artifact.ArtifactError(
                f"{data.documents}: made for the knowledge base {wanted[:12]}, but "
                f"{data.kb} is {found[kind][:12]}; give the one that was prepared with "
                "them, or prepare both again"
            )
    model = config.model
    for role, path in ("pretrained", model.pretrained), ("tokenizer", model.tokenizer):
        if role == "tokenizer" and path == model.pretrained:
            found[role] = found["pretrained"]  # large files, hashed once
        elif path:
            found[role] = artifact.identity(path)
    return found


def run(
    config: Config, workdir: Path, made_from: dict[str, str], rejects: Rejects
) -> collections.Counter:
    """Train one task and write WORKDIR/model. Returns counts of what was read."""
    task = {"generator": run_generator, "retriever": run_retriever}[config.task]
    return task(config, workdir, made_from, rejects)


def run_generator(
    config: Config, workdir: Path, made_from: dict[str, str], rejects: Rejects
) -> collections.Counter:
    """Train the generator."""
    data, counts = config.data, collections.Counter()
    with _fitting():
        tokenizer = load_tokenizer(config.model.tokenizer)
        kb = KnowledgeBase.open(data.kb) if data.kb else None
        model = model_config(config, tokenizer.size, data.max_length)
        task = objectives.generator_task(model, data.scored, config.model.pretrained)
        mesh = make_mesh(config, task)
        expand = examples.generator_expand(tokenizer, kb, data)
        dataset = examples.examples(data.documents, expand, config.seed, counts)
        without_noise = dataclasses.replace(data, word_noise=0.0)
        plain = examples.generator_expand(tokenizer, kb, without_noise)
        chunk_tokens, epoch = examples.measure(tokenizer, plain, data)
        metrics.CONSOLE.print(f"one epoch is about {epoch:,} steps")
        evaluate = None
        if data.dev:
            found = read_dev(config, plain, counts, rejects)
            batches = examples.fixed_generator_batches(found, data)
            measure = objectives.generator_measures(model)
            evaluate = loop.evaluator(measure, batches, mesh)
    params, measured = loop.train(
        task,
        config,
        iter(examples.generator_batches(dataset, data, config.seed, counts)),
        workdir,
        evaluate=evaluate,
    )
    settings = {
        "instruction": data.instruction,
        "max_length": data.max_length,
        "chunk_tokens": chunk_tokens,
    }
    write_lora(workdir, model, {"": params}, made_from)
    with artifact.create(workdir / "model", "generator", GENERATOR_VERSION) as draft:
        special = {
            f"{r}_token_id": getattr(tokenizer, r) for r in ("bos", "eos", "pad")
        }
        hf.save_model(draft.path, *merge_lora(model, params), special=special)
        _finish(draft, config, "insgenel.json", settings | {"measured": measured})
        draft.made_from = made_from
    return counts


def run_retriever(
    config: Config, workdir: Path, made_from: dict[str, str], rejects: Rejects
) -> collections.Counter:
    """Train the retriever's two encoders."""
    data, counts = config.data, collections.Counter()
    with _fitting():
        wordpiece = load_wordpiece(config.model.tokenizer)
        kb = KnowledgeBase.open(data.kb)
        longest = max(data.window_tokens, data.entity_tokens)
        model = model_config(config, wordpiece.size, longest)
        task = objectives.retriever_task(model, wordpiece.pad, config.model.pretrained)
        make_mesh(config, task)
        parts = made_from["knowledge-base"], made_from["tokenizer"], data.entity_tokens
        name = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
        entities = window_examples.entity_tokens(
            wordpiece, kb, data.entity_tokens, workdir / f"entities-{name}.npy"
        )
        expand = window_examples.retriever_expand(wordpiece, kb, data)
        dataset = examples.examples(data.documents, expand, config.seed, counts)
        batches = WithNegatives(
            iter(window_examples.window_batches(dataset, data)),
            entities,
            model,
            data,
            wordpiece.pad,
            config.seed,
            counts,
        )
        evaluate = None
        if data.dev:
            found = read_dev(config, expand, counts, rejects)
            evaluate = objectives.retriever_evaluator(
                model, found, entities, wordpiece.pad, min(POOL, len(kb))
            )
    params, measured = loop.train(
        task, config, batches, workdir, evaluate=evaluate, refresh=batches.refresh
    )
    settings = {
        "window_length": data.window_length,
        "stride": data.stride,
        "window_tokens": data.window_tokens,
        "entity_tokens": data.entity_tokens,
        "pooling": "cls",
    }
    write_lora(workdir, model, params, made_from)
    with artifact.create(workdir / "model", embed.KIND, embed.VERSION) as draft:
        for part in ("mention", "entity"):
            (draft.path / part).mkdir()
            hf.save_model(
                draft.path / part,
                *merge_lora(model, params[part]),
                special={"pad_token_id": wordpiece.pad},
            )
        _finish(draft, config, "retriever.json", settings | {"measured": measured})
        draft.made_from = made_from
    return counts


def model_config(config: Config, vocabulary: int, length: int) -> ModelConfig:
    """The model of the settings, for a tokenizer and texts of `length` tokens.

    Raises ValueError where a pretrained directory does not fit task, tokenizer or texts.
    """
    settings = config.model
    names = ("dropout", "lora", "attention", "dtype", "param_dtype", "remat")
    given = {name: getattr(settings, name) for name in names}
    if not settings.pretrained:
        # rotary positions have no table: none of them is untrained for want of examples
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
            f"{settings.pretrained}: the model has {model.max_positions} positions, but "
            f"the texts of the config have up to {length} tokens; shorten those in `data`"
        )
    hf.check_tokenizer(settings.tokenizer, model, vocabulary)
    return dataclasses.replace(model, **given)


def make_mesh(config: Config, task: objectives.Task) -> jax.sharding.Mesh:
    """The config's mesh. Raises ValueError where devices or the model do not fit it."""
    loop = config.loop
    mesh = sharding.make_mesh(loop.data, loop.fsdp, loop.tensor)
    task.param_shardings(mesh)
    return mesh


def read_dev(
    config: Config,
    expand: examples.Expand,
    counts: collections.Counter,
    rejects: Rejects,
) -> list[dict]:
    """Examples of the development set; what was read is counted as "dev ...".

    Raises ConfigError where there is none.
    """
    read, found, data = collections.Counter(), [], config.data
    documents = read_documents(data.dev, rejects)
    for document in itertools.islice(documents, data.dev_documents):
        read["documents"] += 1
        found += expand(document, read)
    read["lines rejected"] = rejects.count
    if not found:
        raise examples.no_examples(f"data.dev = {data.dev}", read)
    counts.update({f"dev {name}": count for name, count in read.items() if count})
    return found


@contextlib.contextmanager
def _fitting() -> Iterator[None]:
    """A ValueError while the parts are opened and put together is the user's to mend."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(str(error)) from error


def merge_lora(model: ModelConfig, params: dict) -> tuple[ModelConfig, dict]:
    """The model as one without LoRA, which any other program opens."""
    if model.lora is None:
        return model, params
    return dataclasses.replace(model, lora=None), lora.merge(model.lora, params)


def write_lora(
    workdir: Path, model: ModelConfig, parts: dict[str, dict], made_from: dict[str, str]
) -> None:
    """WORKDIR/lora: what was trained of each part, apart from its base, if it was LoRA.

    parts: folder in it -> parameters.
    """
    if model.lora is None:
        return
    with artifact.create(workdir / "lora", "lora", lora.VERSION) as draft:
        for part, params in parts.items():
            lora.save(draft.path / part, model.lora, params)
        draft.made_from = made_from


def _finish(draft: artifact.Draft, config: Config, name: str, settings: dict) -> None:
    """Put the tokenizer's files and our settings beside the weights."""
    copy_tokenizer(config.model.tokenizer, draft.path)
    (draft.path / name).write_text(json.dumps(settings, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
