"""The programs of training, linking and indexing, from shapes alone; see report.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from insgenel_jax import models, sharding
from insgenel_jax.ahead.report import Report, make_report
from insgenel_jax.linker.batches import lower_call
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.models.flops import count_flops
from insgenel_jax.retrieval import encoder
from insgenel_jax.tokenizer import load_tokenizer, load_wordpiece
from insgenel_jax.training import loop, run
from insgenel_jax.training.data.chunks import OTHERS
from insgenel_jax.training.generator import generator_task
from insgenel_jax.training.retriever import retriever_task
from insgenel_jax.training.settings import Config, GeneratorData

Shape = jax.ShapeDtypeStruct


def batch_shapes(config: Config) -> dict[str, Shape]:
    """The leaves of a batch of training, all processes' rows together."""
    data, rows = config.data, config.data.batch
    if isinstance(data, GeneratorData):
        wide = (rows, data.max_length)
        names = ("tokens", "targets", "segments", "positions")
        return dict.fromkeys(names, Shape(wide, np.int32)) | {
            "weights": Shape(wide, np.float32),
            "others": Shape((*wide, OTHERS), np.int32),
            "biases": Shape((*wide, 1 + OTHERS), np.float32),
        }
    streams = data.streams or 1
    entities = streams * (data.golds + data.negatives)
    return {
        "windows": Shape((rows, data.window_tokens), np.int32),
        "entities": Shape((entities, data.entity_tokens), np.int32),
        "gold": Shape((rows, entities), bool),
        "negatives": Shape((rows, entities), bool),
    }


def plan_training(
    config: Config, devices: Sequence[jax.Device] | None = None
) -> tuple[ModelConfig, loop.Plan]:
    """The model of a config, and the plan of its training on these devices.

    Of a pretrained model only config.json is read. Raises ValueError for what does not
    fit together.
    """
    data, settings = config.data, config.model
    if isinstance(data, GeneratorData):
        length = data.max_length
        size = 512 if settings.pretrained else load_tokenizer(settings.tokenizer).size
        model = run.model_config(config, size, length)
        task = generator_task(model, data.scored, "", data.allowed_edges)
    else:
        length = max(data.window_tokens, data.entity_tokens)
        size = 512 if settings.pretrained else load_wordpiece(settings.tokenizer).size
        model = run.model_config(config, size, length)
        task = retriever_task(model, 0, "", settings.shared)
    steps = dataclasses.replace(config.loop, steps=config.loop.steps or 1)
    return model, loop.make_plan(task, config.optimizer, steps, config.seed, devices)


def compile_training(
    config: Config, devices: Sequence[jax.Device] | None = None
) -> Report:
    """Compile a step of training."""
    model, plan = plan_training(config, devices)
    task, mesh, batch = plan.task, plan.mesh, batch_shapes(config)
    frozen = place(
        task.split(task.abstract_params())[1],
        task.split(task.param_shardings(mesh))[1],
    )
    rows = place(batch, dict.fromkeys(batch, sharding.batch_sharding(mesh)))
    flops = task.flops(batch, config.loop.microbatches)
    name = f"step of training, {describe(model)}, batch {config.data.batch}"
    return make_report(name, mesh, flops, lambda: loop.compile_step(plan, frozen, rows))


def compile_linking(
    config: ModelConfig,
    batch: int,
    devices: Sequence[jax.Device] | None = None,
    *,
    tokens: int = 128,
    slots: int = 1024,
    edges: int = 512,
) -> Report:
    """Compile the call of the generator that linking makes, split over `tensor` alone.

    batch: rows. tokens: new ones of each row, over the `slots` of the row's KV cache.
    edges: tokens of each row whose logits are formed.
    """
    devices = list(jax.devices() if devices is None else devices)
    mesh = tensor_mesh(devices)
    params = place(models.abstract_params(config), models.param_shardings(config, mesh))
    cache = jax.eval_shape(lambda: models.init_cache(config, 1, batch * slots))
    cache = place(cache, models.cache_shardings(cache, mesh))
    del cache["length"]  # rows are packed into one, each with slots of its own
    flops = count_flops(config, batch * tokens, slots).forward
    flops += 2 * batch * edges * (config.embed_dim or config.dim)
    return make_report(
        f"call of a decoder, {describe(config)}, batch {batch}, {tokens} tokens, "
        f"{slots} slots",
        mesh,
        flops,
        lambda: lower_call(
            config,
            mesh,
            params,
            cache,
            rows=batch,
            tokens=tokens,
            slots=slots,
            edges=edges,
        ).compile(),
    )


def compile_indexing(
    config: ModelConfig,
    batch: int,
    width: int,
    devices: Sequence[jax.Device] | None = None,
) -> Report:
    """Compile the embedding of a batch of entities, its rows split over all devices."""
    devices = list(jax.devices() if devices is None else devices)
    mesh = sharding.make_mesh(data=len(devices), devices=devices)
    whole = sharding.replicated(mesh)
    shapes = models.abstract_params(config)
    params = place(shapes, jax.tree.map(lambda _: whole, shapes))
    rows = -(-batch // len(devices)) * len(devices)
    at = sharding.batch_sharding(mesh)
    ids = Shape((rows, width), np.int32, sharding=at)
    pad = Shape((), np.int32, sharding=whole)
    return make_report(
        f"embedding, {describe(config)}, {rows} texts of {width} tokens",
        mesh,
        count_flops(config, rows * width, width).forward,
        lambda: encoder._encode_jitted.lower(config, whole, params, ids, pad).compile(),
    )


def tensor_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """All devices along `tensor`, whatever processes they belong to.

    Linking is one process here: a slice of several hosts needs one that sees them all.
    """
    shape = (1, 1, len(devices))
    types = (jax.sharding.AxisType.Auto,) * 3
    return Mesh(np.array(devices).reshape(shape), sharding.MESH_AXES, axis_types=types)


def place(shapes: dict, places: dict) -> dict:
    """Shapes with their shardings."""
    return jax.tree.map(
        lambda x, at: Shape(x.shape, x.dtype, sharding=at), shapes, places
    )


def describe(config: ModelConfig) -> str:
    """A model in a few words."""
    size = models.count(models.abstract_params(config))
    lora = "" if config.lora is None else f" with LoRA of rank {config.lora.rank}"
    return f"{config.family} of {size / 1e6:,.0f} M parameters in {config.dtype}{lora}"
