"""Batch jobs: documents a second by one process, two, and Ray; the job's own cost.

    python benchmarks/batch_job.py ways --linker DIR [--documents 20000] [--json OUT]
    python benchmarks/batch_job.py cost [--linker nano] [--documents 500] [--json OUT]

`ways` runs `insgenel link` as a job in one process, in two, and on a Ray cluster of
this machine, on paragraphs of the mini world (DIR: launch/quickstart.sh makes a linker
for them). Documents a second are those that the job prints, without opening the linker;
memory is the sum over the processes of a run, at a quarter of the parts and the most
after that. The parts of all ways must be equal, byte for byte.

`cost` links the same documents with `Linker` and as a job, in turns in one process, and
gives the job's speed as a share of the linker's: by CPU seconds and by the clock.
"""

from __future__ import annotations

import dataclasses
import itertools
import json as jsonlib
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import jax
import typer
from rich.console import Console
from rich.table import Table

from insgenel_jax import artifact, mini_world
from insgenel_jax.jobs.job import Job, Request
from insgenel_jax.jobs.part import link_shard
from insgenel_jax.jobs.read import Reader
from insgenel_jax.jobs.shards import cut_files
from insgenel_jax.linker import Linker
from insgenel_jax.linker.bundled import locate
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import read_documents, write_documents
from insgenel_jax.text.formats.rejects import Rejects

app = typer.Typer(add_completion=False)
WAYS = {"one": (), "two": ("--workers", "2"), "ray": ("--cluster", "local")}
FACTS = {"python": platform.python_version(), "jax": jax.__version__}
FACTS |= {"cores": str(os.cpu_count()), "device": jax.devices()[0].platform}
JsonPath = Annotated[Path | None, typer.Option("--json", help="File for the figures.")]
Input = Annotated[Path | None, typer.Option(help="Documents, for those of mini world.")]


@app.command()
def ways(
    linker: Annotated[Path, typer.Option(help="Linker directory.")],
    documents: Annotated[int, typer.Option(help="Documents of the job.")] = 20_000,
    way: Annotated[list[str], typer.Option(help="Ways to run it.")] = [*WAYS],  # noqa: B006
    json: JsonPath = None,
) -> None:
    """Run a job in several ways."""
    rows: dict[str, Any] = {}
    contents = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in.jsonl")
        write_documents(source, some_documents(None, documents))
        for name in way:
            out = Path(folder, name)
            rows[name] = run_job(linker, source, out, WAYS[name])
            parts = sorted(out.glob("part-*.jsonl"))
            contents.append([part.read_bytes() for part in parts])
    table = Table("way", "documents/s", "CPU s", "MB at a quarter", "MB at most after")
    for name, row in rows.items():
        shown = (row[key] for key in ("rate", "cpu", "quarter", "after"))
        table.add_row(name, *(f"{value:.1f}" for value in shown))
    equal = all(content == contents[0] for content in contents)
    Console().print(FACTS, f"{documents} documents", table, f"parts equal: {equal}")
    finish({"documents": documents, "ways": rows, "parts equal": equal}, json)
    if not equal:
        sys.exit(1)


def run_job(linker: Path, source: Path, out: Path, options: tuple[str, ...]) -> dict:
    """Run a job in processes of its own: its speed, CPU seconds and memory."""
    command = [sys.executable, "-m", "insgenel_jax.link", "--linker", str(linker)]
    command += ["--input", str(source), "--output", f"{out}/", *options]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    parts = -(-sum(1 for _ in source.open()) // 1000)
    quarter, after = 0.0, 0.0
    while process.poll() is None:
        used = sum(map(resident, family(process.pid))) / 1e6
        if len(list(out.glob("part-*[0-9].json"))) <= parts / 4:
            quarter = max(quarter, used)
        else:
            after = max(after, used)
        time.sleep(0.5)
    printed = process.communicate()[0]
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit status {process.returncode}")
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime
    rate = float(re.search(r"\(([\d.]+)/s\)", printed)[1])
    return {"rate": rate, "cpu": cpu, "quarter": quarter, "after": after}


def family(pid: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:  # it ended just now
            continue
        children.setdefault(parent, []).append(int(status.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def resident(pid: int) -> int:
    """Bytes of a process in memory that it does not share with others."""
    try:
        _, pages, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return (int(pages) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


@app.command()
def cost(
    linker: Annotated[Path, typer.Option(help="Linker directory, or nano.")] = Path(
        "nano"
    ),
    input: Input = None,
    documents: Annotated[int, typer.Option(help="Documents to link.")] = 500,
    turns: Annotated[int, typer.Option(help="Times that each is run.")] = 3,
    json: JsonPath = None,
) -> None:
    """Link as a job and without one, in turns."""
    linker = locate(linker)
    opened = Linker.from_pretrained(linker)
    seconds: dict[str, list[tuple[float, float]]] = {"linker": [], "job": []}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in.jsonl")
        write_documents(source, some_documents(input, documents))
        texts = list(read_documents(source, Rejects(None)))
        settings = dataclasses.asdict(opened.settings)
        size = source.stat().st_size
        identity = artifact.read(linker).identity
        asked = Request(
            identity,
            settings,
            {},
            False,
            [[str(source), size]],
            None,
            ".jsonl",
            1000,
            None,
        )
        for turn in range(turns + 1):
            began = clock()
            opened(texts)
            middle = clock()
            shards = cut_files([str(source)], None, 1000, None)
            job, reader = Job("benchmark", asked, None, {}, {}, shards), Reader()
            for shard in shards:
                list(link_shard(opened, job, folder, shard, reader))
            end = clock()
            if turn:  # the first one compiles
                seconds["linker"].append((middle[0] - began[0], middle[1] - began[1]))
                seconds["job"].append((end[0] - middle[0], end[1] - middle[1]))
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in seconds.items()
    }
    share = [a / b for a, b in zip(medians["linker"], medians["job"], strict=True)]
    table = Table("", "CPU s", "s", "documents per CPU s")
    for name, (cpu, wall) in medians.items():
        table.add_row(name, f"{cpu:.2f}", f"{wall:.2f}", f"{documents / cpu:.2f}")
    Console().print(FACTS, f"{documents} documents, medians of {turns}", table)
    print(
        f"the job's speed: {share[0]:.1%} of the linker's by CPU time, {share[1]:.1%} "
        "by the clock"
    )
    finish({"documents": documents, "seconds": medians, "share": share}, json)


def clock() -> tuple[float, float]:
    """CPU seconds of this process, and seconds."""
    return time.process_time(), time.perf_counter()


def some_documents(source: Path | None, count: int) -> Iterator[Document]:
    """Documents of a file, or paragraphs of the mini world, over and over."""
    if source is None:
        found = [document for document in mini_world.paragraphs("heldout", 400)]
    else:
        found = list(itertools.islice(read_documents(source, Rejects(None)), count))
    for number, document in zip(range(count), itertools.cycle(found)):
        yield Document(str(number), document.text)


def finish(figures: dict[str, Any], json: Path | None) -> None:
    """Write the figures as JSON, where a file is given."""
    if json is not None:
        json.write_text(jsonlib.dumps({**FACTS, **figures}, indent=1) + "\n")


if __name__ == "__main__":
    app()
