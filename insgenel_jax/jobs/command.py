"""A batch job on the command line: its options, its line of progress, its summary."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Line
from rich.text import Text

from insgenel_jax import artifact, cli, stopping
from insgenel_jax.jobs.store import is_remote

if TYPE_CHECKING:
    from insgenel_jax.jobs.run import JobSummary, Progress


def link_many(
    linker: Path,
    inputs: Sequence[str],
    output: str,
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
    how: Mapping[str, Any],
) -> None:
    """Run a job, show how far it is, and print what it came to.

    options: of `run_job`; None is its default. how: the fields of `How`. The process
    exits with status 3 where something was rejected.
    """
    artifact.read(linker)  # before the slow imports
    local = [path for path in inputs if not is_remote(path)]
    if not is_remote(output):
        cli.check_parent(Path(output) / "job.json")
        cli.check_apart([output], [*local, linker])

    from insgenel_jax.jobs.run import DOCUMENTS, How, run_job

    options = {**options, "documents": options["documents"] or DOCUMENTS}
    console = Console()
    line = Line(*_columns(), console=console, transient=True)
    task = line.add_task("", total=None, facts="opening the linker")

    def watch(progress: Progress) -> None:
        facts = _facts(progress)
        done, total = progress.done, progress.documents
        line.update(task, total=total, completed=done, facts=facts)

    with stopping.stop_requests() as stop, line:
        summary = run_job(
            linker,
            inputs,
            output,
            settings=settings,
            how=How(**how),
            watch=watch,
            stop=stop,
            **options,
        )
    for text in summary_lines(summary):
        console.print(Text(text), soft_wrap=True)
    for text in warning_lines(summary):
        console.print(Text(text, "yellow"), soft_wrap=True)
    if summary.rejects:
        sys.exit(cli.REJECTED)


def read_slice(slice: str | None, environment: Mapping[str, str]) -> tuple[int, int]:
    """The slice (i, n) that --slice says: "i/n", or "auto" by the environment.

    auto: the task of a Slurm array, the task of an `srun`, both where there are both,
    or the host of a TPU slice. Raises typer.BadParameter.
    """
    if slice is None:
        return 0, 1
    if slice == "auto":
        return _find_slice(environment)
    number, _, count = slice.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise typer.BadParameter(
            f"--slice {slice}: expected I/N with 0 <= I < N, as in 0/4, or auto"
        )
    return int(number), int(count)


def _find_slice(environment: Mapping[str, str]) -> tuple[int, int]:
    def read(name: str, default: int) -> int:
        return int(environment.get(name, default))

    if "SLURM_ARRAY_TASK_COUNT" in environment or "SLURM_STEP_NUM_TASKS" in environment:
        step = read("SLURM_ARRAY_TASK_STEP", 1)
        first = read("SLURM_ARRAY_TASK_MIN", 0)
        number = (read("SLURM_ARRAY_TASK_ID", 0) - first) // step
        tasks = read("SLURM_STEP_NUM_TASKS", 1)
        arrays = read("SLURM_ARRAY_TASK_COUNT", 1)
        inner = read("SLURM_PROCID", 0) if tasks > 1 else 0
        return number * tasks + inner, arrays * tasks
    if "TPU_WORKER_ID" in environment:
        hosts = environment.get("TPU_WORKER_HOSTNAMES", "localhost").split(",")
        return read("TPU_WORKER_ID", 0), len(hosts)
    raise typer.BadParameter(
        "--slice auto: expected the variables of a Slurm array, srun or a TPU slice, "
        "found none; say --slice I/N"
    )


def _columns() -> Sequence[Any]:
    return (
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TextColumn("{task.fields[facts]}"),
    )


def _facts(progress: Progress) -> str:
    """Parts, documents, speed, links and the time that is left, in one line."""
    left = progress.left
    shown = "" if left is None else f", {clock(left)} left"
    return (
        f"{progress.shards_done:,}/{progress.shards:,} parts, {progress.done:,}/"
        f"{progress.documents:,} documents, {progress.rate:.1f}/s, "
        f"{progress.links:,} mentions{shown}"
    )


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def summary_lines(summary: JobSummary) -> list[str]:
    """What a job came to."""
    stats = summary.stats
    rate = summary.linked / summary.seconds if summary.seconds else 0.0
    links, mentions, decided, chunks, calls = (
        stats.get(name, 0)
        for name in ("links", "mentions", "decided", "chunks", "calls")
    )
    whole = f"{summary.documents} documents, {links} links in {summary.shards} parts"
    run = f"this run: {summary.linked} documents in {summary.seconds:.1f} s"
    found = f"{mentions} candidate mentions, {decided} with an entity to choose"
    return [
        f"{whole}: {summary.folder}",
        f"{run} ({rate:.1f}/s); {summary.skipped} parts were there",
        f"{found}, in {chunks} chunks and {calls} generator calls",
    ]


def warning_lines(summary: JobSummary) -> list[str]:
    """What went otherwise than it should have, and what is left."""
    lines = [
        f"part {number} was damaged and is linked again: {reason}"
        for number, reason in sorted(summary.redone.items())
    ]
    lines += [f"note: {note}" for note in summary.notes]
    if summary.rejects:
        reasons = ", ".join(f"{r} ({n})" for r, n in sorted(summary.reasons.items()))
        found = f"{summary.rejects} rejected, see rejects-*.jsonl"
        lines.append(f"{found}: {reasons}")
    if summary.others:
        lines.append(f"{summary.others} parts of other slices are not there yet")
    return lines
