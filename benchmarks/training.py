"""Tokens/s of training on this CPU: our loop against Hugging Face's Trainer.

    pip install torch==2.13.0 accelerate
    python benchmarks/training.py [--rows 8] [--tokens 256] [--json FILE]

Both train the same models (some 9 M parameters, the same weights on disk) on the same
batches of rows of tokens, every one of which counts, in float32 with AdamW,
clipping and a linear decay. The losses of the last step must agree. The contenders take
turns; the first steps of a turn, in which ours compiles, are left out. Figures are
medians over the turns of one process. Beside tokens/s: CPU seconds a step, and how many
cores that kept busy.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import accelerate
import grain
import jax
import numpy as np
import torch
import transformers
from rich.console import Console
from tables import as_table  # beside this script

from insgenel_jax import models
from insgenel_jax.models import hf
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.training import loop, metrics
from insgenel_jax.training.generator import generator_task
from insgenel_jax.training.settings import (
    Config,
    GeneratorData,
    LoopSettings,
    ModelSettings,
    OptimizerSettings,
)

RATE = 1e-3
SIZES = {"vocabulary": 8000, "max_positions": 512, "dim": 256, "layers": 6}
MODELS = {
    "LLaMA": ModelConfig("llama", heads=4, ffn=688, **SIZES),
    "OPT": ModelConfig("opt", heads=4, ffn=1024, **SIZES),
}
WARM_UP = 3  # steps of a turn that are not timed


class Turn(NamedTuple):
    """What one turn took, after the warm-up: seconds, of the clock and of all cores."""

    wall: float
    cpu: float
    loss: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=[*MODELS], default=[*MODELS])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12, help="of a turn")
    parser.add_argument("--rows", type=int, default=8, help="of a batch")
    parser.add_argument("--tokens", type=int, default=256, help="of a row")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    metrics.CONSOLE.quiet = True
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("absl").setLevel(logging.ERROR)
    facts = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "accelerate": accelerate.__version__,
        "CPU threads": torch.get_num_threads(),
        "rows x tokens": f"{arguments.rows} x {arguments.tokens}",
        "repeats": arguments.repeats,
    }
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    sizes = arguments.steps, arguments.rows, arguments.tokens
    rows = [
        row
        for name in arguments.models
        for row in compare(name, arguments.repeats, sizes)
    ]
    Console(width=110).print(as_table("training, tokens/s", rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")


def compare(name: str, repeats: int, sizes: tuple[int, int, int]) -> list[dict]:
    """A row for each contender, of a model's training in turns.

    sizes: steps of a turn, rows of a batch, tokens of a row.
    """
    config, timed = MODELS[name], sizes[0] - WARM_UP
    rng = np.random.default_rng(0)
    batches = rng.integers(4, config.vocabulary, sizes, np.int32)
    contenders = {"Hugging Face Trainer": train_theirs, "insgenel_jax": train_ours}
    turns: dict[str, list[Turn]] = {contender: [] for contender in contenders}
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "model"
        hf.save_model(start, config, models.init_params(config, jax.random.key(0)))
        for turn in range(repeats):
            for contender, train in contenders.items():
                workdir = Path(folder) / f"{contender} {turn}"
                turns[contender].append(train(start, batches, workdir))
    base, ours = (turns[contender][-1].loss for contender in contenders)
    if abs(base - ours) > 1e-3:
        raise SystemExit(f"{name}: the last loss is {ours}, but theirs is {base}")
    tokens = timed * sizes[1] * sizes[2]
    rates = {
        contender: tokens / statistics.median(turn.wall for turn in taken)
        for contender, taken in turns.items()
    }
    return [
        {
            "model": f"{name}, {models.count(models.abstract_params(config)):,}",
            "contender": contender,
            "tokens/s": rates[contender],
            "of theirs": rates[contender] / rates["Hugging Face Trainer"],
            "CPU s a step": statistics.median(turn.cpu for turn in taken) / timed,
            "cores busy": statistics.median(turn.cpu / turn.wall for turn in taken),
            "last loss": taken[-1].loss,
        }
        for contender, taken in turns.items()
    ]


def train_ours(start: Path, batches: np.ndarray, workdir: Path) -> Turn:
    """Train by our loop, with its log, and one checkpoint after the last step."""
    data = Batches(batches)
    model = ModelSettings(pretrained=str(start), tokenizer=str(start))
    config = Config(
        "generator",
        model,
        GeneratorData("", *batches.shape[1:]),
        OptimizerSettings(RATE, clip=1.0),
        LoopSettings(len(batches), checkpoint_steps=len(batches)),
    )
    task = generator_task(hf.load_config(start), 0, str(start))
    workdir.mkdir()
    loop.train(task, config, data, workdir)
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    loss = json.loads(lines[-1])["loss"]
    # batch i is asked for as step i - 1 is on its way, always at the same place in it
    return Turn(*(data.times[-1] - data.times[WARM_UP - 1]), loss)


class Batches(grain.DatasetIterator):
    """The batches as our loop reads them, and the clocks when each was asked for."""

    def __init__(self, batches: np.ndarray):
        super().__init__()
        self._batches, self.times = batches, []

    def __next__(self) -> dict[str, Any]:
        if len(self.times) == len(self._batches):
            raise StopIteration
        tokens = self._batches[len(self.times)]
        self.times.append(np.array([time.perf_counter(), time.process_time()]))
        rows, width = tokens.shape
        weights = np.ones(tokens.shape, np.float32)
        weights[:, -1] = 0  # the last token has none after it
        return {
            "tokens": tokens,
            "targets": np.roll(tokens, -1, axis=1),
            "weights": weights,
            "segments": np.ones(tokens.shape, np.int32),
            "positions": np.broadcast_to(
                np.arange(width, dtype=np.int32), tokens.shape
            ),
            "others": np.full((*tokens.shape, 1), -1, np.int32),
            "biases": np.zeros((*tokens.shape, 2), np.float32),
            "ids": [["-"]] * rows,
        }

    def get_state(self) -> dict[str, Any]:
        return {"read": len(self.times)}

    def set_state(self, state: dict[str, Any]) -> None:
        pass  # nothing is resumed here


class Clock(transformers.TrainerCallback):
    """The clocks at the beginning of each step, and the last loss logged."""

    def __init__(self):
        self.times, self.loss = [], float("nan")

    def on_step_begin(self, *_, **__) -> None:
        self.times.append(np.array([time.perf_counter(), time.process_time()]))

    def on_log(self, args, state, control, logs, **_) -> None:
        self.loss = logs.get("loss", self.loss)


def train_theirs(start: Path, batches: np.ndarray, workdir: Path) -> Turn:
    """Train by Trainer, with its own choices beside those that both share."""
    rows = [
        {"input_ids": row.astype(np.int64), "labels": row.astype(np.int64)}
        for batch in batches
        for row in batch
    ]
    # Trainer shuffles; here both read in one order
    sequential = type(
        "Sequential",
        (transformers.Trainer,),
        {
            "_get_train_sampler": lambda self, *_: torch.utils.data.SequentialSampler(
                rows
            )
        },
    )
    clock = Clock()
    trainer = sequential(
        model=transformers.AutoModelForCausalLM.from_pretrained(
            start, dtype=torch.float32, attention_dropout=0.0
        ),
        args=transformers.TrainingArguments(
            output_dir=str(workdir),
            per_device_train_batch_size=batches.shape[1],
            max_steps=len(batches),
            learning_rate=RATE,
            max_grad_norm=1.0,
            weight_decay=0.0,
            lr_scheduler_type="linear",
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=rows,
        callbacks=[clock],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return Turn(*(clock.times[-1] - clock.times[WARM_UP - 1]), clock.loss)


if __name__ == "__main__":
    main()
