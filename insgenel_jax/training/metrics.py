"""What training tells: a header before step 1, a progress bar, and metrics.jsonl."""

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib.util
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import rich.console
import rich.progress
import rich.table
from jax.sharding import Mesh

from insgenel_jax.text.formats.lines import write_lines
from insgenel_jax.training.chips import describe_peak, find_chip

CONSOLE = rich.console.Console(stderr=True)


class NotFinite(ArithmeticError):
    """A loss or gradient became NaN or infinite; nothing was saved after it."""


class MetricsLog:
    """Appends JSON lines {"step", ...} to a file; lines past `step` are dropped first.

    A killed process leaves such lines, of steps done after its last checkpoint. Beside
    the file, in `tensorboard`, the numbers are written for TensorBoard, if the package
    tensorboardX is there.
    """

    def __init__(self, path: Path, step: int):
        self._path = path if jax.process_index() == 0 else None
        if self._path is None:
            return
        kept = []
        if path.is_file():
            for line in path.read_text(errors="replace").splitlines():
                # a killed process may leave half a line, a crashed machine anything
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    if json.loads(line)["step"] <= step:
                        kept.append(line)
        write_lines(path, kept)  # aside: where the disk is full, what is there stays
        self._board = _open_board(path.with_name("tensorboard"), step)

    def write(self, step: int, **values: Any) -> None:
        if self._path is not None:
            with self._path.open("a") as stream:
                stream.write(json.dumps({"step": step, **values}) + "\n")
            if self._board is not None:
                for name, value in _numbers(values):
                    self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left for TensorBoard."""
        if self._path is not None and self._board is not None:
            self._board.close()


def _open_board(folder: Path, step: int) -> Any:
    """A writer for TensorBoard that hides what was written past `step`, or None."""
    if importlib.util.find_spec("tensorboardX") is None:
        return None
    import tensorboardX

    return tensorboardX.SummaryWriter(str(folder), purge_step=step + 1, flush_secs=10)


def _numbers(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of nested values, by names that TensorBoard groups."""
    for name, value in values.items():
        label = prefix + name.replace(" ", "_")
        if isinstance(value, dict):
            yield from _numbers(value, f"{label}/")
        elif isinstance(value, int | float):
            yield label, value


@contextlib.contextmanager
def show_progress(
    step: int, steps: int
) -> Iterator[Callable[[int, float, float], None]]:
    """A bar with loss, tokens/s and ETA; yields update(step, loss, tokens a second).

    Where no terminal is, each update is a line, written at once.
    """
    if not CONSOLE.is_terminal:
        yield functools.partial(_print_progress, time.perf_counter(), step, steps)
        return
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


def _print_progress(
    began: float, first: int, steps: int, step: int, loss: float, rate: float
) -> None:
    """Print one line about a step. began: when the steps after `first` did."""
    if jax.process_index() == 0:
        each = (time.perf_counter() - began) / max(step - first, 1)
        left = datetime.timedelta(seconds=round(each * (steps - step)))
        CONSOLE.print(
            f"step {step}/{steps}  loss {loss:.4f}  {rate:,.0f} tokens/s  ETA {left}",
            highlight=False,
            soft_wrap=True,
        )


class Speed(NamedTuple):
    """Tokens and steps a second."""

    tokens: float
    steps: float


class Rate:
    """Tokens and steps a second since the last time it was asked."""

    def __init__(self) -> None:
        self._tokens, self._steps, self._since = 0, 0, time.perf_counter()

    def add(self, tokens: int) -> None:
        """Count a step of so many tokens."""
        self._tokens += tokens
        self._steps += 1

    def take(self) -> Speed:
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9)
        speed = Speed(self._tokens / seconds, self._steps / seconds)
        self._tokens, self._steps, self._since = 0, 0, now
        return speed


class Dispatched(NamedTuple):
    """A step that the device may still be working on, and the examples it read."""

    step: int
    ids: list[list[str]]
    metrics: dict[str, jax.Array]


class LateMetrics:
    """Reads the metrics of each step one step late.

    Reading waits for the step, so the device works on a step while the host reads the
    metrics of the one before. peak_steps: steps a second at the peak of the devices,
    where that is known; MFU is the share of it that is reached.
    """

    def __init__(
        self,
        log: MetricsLog,
        show: Callable[[int, float, float], None],
        rate: Rate,
        log_steps: int,
        steps: int,
    ):
        self._log, self._show, self._rate = log, show, rate
        self._log_steps, self._steps = log_steps, steps
        self._pending: Dispatched | None = None
        self.peak_steps: float | None = None

    def add(self, dispatched: Dispatched) -> None:
        """Take a step just dispatched, and read the one before."""
        self.settle()
        self._pending = dispatched

    def settle(self) -> None:
        """Wait for the step that is pending, if any, and log its metrics.

        Raises NotFinite that names the examples of the step.
        """
        if self._pending is None:
            return
        (step, ids, metrics), self._pending = self._pending, None
        values = {name: float(value) for name, value in metrics.items()}
        require_finite(values, step, ids)
        if step % self._log_steps == 0 or step == self._steps:
            speed = self._rate.take()
            values["tokens/s"] = speed.tokens
            if self.peak_steps is not None:
                values["MFU"] = speed.steps / self.peak_steps
            self._show(step, values["loss"], values["tokens/s"])
            self._log.write(step, **values)


def require_finite(values: dict[str, float], step: int, ids: list[list[str]]) -> None:
    """Raise NotFinite, with the examples of the step, for a NaN or an infinity."""
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        names = [name for row in ids for name in row]
        raise NotFinite(
            f"step {step}: {', '.join(wrong)} not finite; nothing was saved after it. "
            f"Examples of this batch: {' '.join(names)}"
        )


def print_header(
    params: dict,
    frozen: dict,
    mesh: Mesh,
    compiled: jax.stages.Compiled,
    seconds: float,
    flops: float,
) -> dict[str, Any]:
    """Tell what is about to run: parameters, mesh, memory and FLOPs of the step.

    params: the parameters that are trained; frozen: the others; seconds: that compiling
    took; flops: of a step. Returns what it prints.
    """
    leaves = jax.tree.leaves((params, frozen))
    split = sum(not leaf.sharding.is_fully_replicated for leaf in leaves)
    memory = compiled.memory_analysis()
    facts = {
        "parameters": sum(leaf.size for leaf in leaves),
        "parameters trained": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "sharded leaves": f"{split} of {len(leaves)}",
        "mesh": " x ".join(f"{name} {size}" for name, size in mesh.shape.items()),
        "devices": f"{mesh.size} {mesh.devices.flat[0].device_kind}",
        "FLOPs of a step": flops,
        "compiled in": f"{seconds:.1f} s",
    }
    if (chip := find_chip(mesh.devices.flat[0])) is not None:
        facts["MFU is a share of"] = describe_peak(chip)
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


def print_evaluation(step: int, values: dict[str, float]) -> None:
    """Print an evaluation on the development set in one line."""
    if jax.process_index() == 0:
        shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        CONSOLE.print(f"step {step}: {shown}", highlight=False)
