"""What a run tells: a header before step 1, a progress bar, and metrics.jsonl."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import rich.console
import rich.progress
import rich.table
from jax.sharding import Mesh

CONSOLE = rich.console.Console(stderr=True)


class MetricsLog:
    """Appends JSON lines {"step", ...} to a file; lines past `step` are dropped first.

    Those are of steps that a killed run had done after its last checkpoint.
    """

    def __init__(self, path: Path, step: int):
        self._path = path if jax.process_index() == 0 else None
        if self._path is None:
            return
        kept = []
        if path.is_file():
            for line in path.read_text().splitlines():
                # a killed process may leave half a line
                with contextlib.suppress(ValueError):
                    if json.loads(line)["step"] <= step:
                        kept.append(line + "\n")
        path.write_text("".join(kept))

    def write(self, step: int, **values: Any) -> None:
        if self._path is not None:
            with self._path.open("a") as stream:
                stream.write(json.dumps({"step": step, **values}) + "\n")


@contextlib.contextmanager
def show_progress(step: int, steps: int) -> Iterator:
    """A bar with loss, tokens/s and ETA; yields update(step, loss, tokens a second)."""
    columns = (
        rich.progress.TextColumn("step {task.completed}/{task.total}"),
        rich.progress.BarColumn(),
        rich.progress.TextColumn("loss {task.fields[loss]:.4f}"),
        rich.progress.TextColumn("{task.fields[rate]:,.0f} tokens/s"),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("ETA"),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(
        *columns, console=CONSOLE, disable=jax.process_index() != 0
    ) as progress:
        bar = progress.add_task("", completed=step, total=steps, loss=math.nan, rate=0)

        def update(step: int, loss: float, rate: float) -> None:
            progress.update(bar, completed=step, loss=loss, rate=rate)

        yield update


class Rate:
    """Tokens a second since the last time it was asked."""

    def __init__(self):
        self._tokens, self._since = 0, time.perf_counter()

    def add(self, tokens: int) -> None:
        self._tokens += tokens

    def take(self) -> float:
        now = time.perf_counter()
        rate = self._tokens / max(now - self._since, 1e-9)
        self._tokens, self._since = 0, now
        return rate


def print_header(
    params, frozen, mesh: Mesh, compiled, seconds: float
) -> dict[str, Any]:
    """Say what is about to run: parameters, mesh, memory and FLOPs of the step.

    params are those that are trained, frozen the others.
    """
    leaves = jax.tree.leaves((params, frozen))
    split = sum(not leaf.sharding.is_fully_replicated for leaf in leaves)
    cost = compiled.cost_analysis() or {}
    cost = cost[0] if isinstance(cost, list) else cost
    memory = compiled.memory_analysis()
    facts = {
        "parameters": sum(leaf.size for leaf in leaves),
        "parameters trained": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "sharded leaves": f"{split} of {len(leaves)}",
        "mesh": " x ".join(f"{name} {size}" for name, size in mesh.shape.items()),
        "devices": f"{mesh.size} {mesh.devices.flat[0].device_kind}",
        "FLOPs of a step": cost.get("flops", math.nan),
        "compiled in": f"{seconds:.1f} s",
    }
    if memory is not None:
        facts["state, MB a device"] = memory.argument_size_in_bytes / 1e6
        facts["activations, MB a device"] = memory.temp_size_in_bytes / 1e6
    if jax.process_index() == 0:
        table = rich.table.Table(title="training", show_header=False)
        for name, value in facts.items():
            shown = value if isinstance(value, str) else f"{value:,.0f}"
            table.add_row(name, shown)
        CONSOLE.print(table)
    return facts


def print_evaluation(step: int, found: dict[str, float]) -> None:
    """One line a development-set evaluation."""
    if jax.process_index() == 0:
        shown = "  ".join(f"{name} {value:.4f}" for name, value in found.items())
        CONSOLE.print(f"step {step}: {shown}", highlight=False)
