"""Documents a second of the whole linker, beside other versions of this code.

    python benchmarks/throughput.py --linker DIR [--documents FILE] [--count 128]
        [--batch 16 --batch 1] [--before DIR[=LINKER] ...] [--other KEY=VALUE ...]
        [--repeats 3] [--set KEY=VALUE ...] [--json OUT]

    python benchmarks/throughput.py --linker DIR --other int8=true

(The second command says how often 8 bits change a link.)
Each version, this one and those at the folders `--before` (git worktrees), runs in a
process of its own, which opens the linker with the setting `decoder = "tree"`, links
the documents once to compile, and then `repeats` times. LINKER: for a version that
cannot open this one's linker, its own of the same parts (`same_candidates.py`). The
versions take turns, one at a time; figures are medians, ratios are of medians of one
run. *CPU* are seconds of the processor: beside other work on the machine they say more
than seconds of the clock. *rows live* is the share of the seats of the device's calls
that had a row, *tokens live* the share of the tokens run that are no padding, *host*
the share of the time in which the device had nothing to do. *roof* is the time that the
linear maps of the tokens alone would take at the peak of this machine, measured with a
large product of matrices in float32. *links shared*: of the links that this version or
the other finds, those that both find. *MB at most* is the most memory that the process
ever took: when it had linked the documents once, and after all repeats; it is flat
where the two are alike.
It prints a table, writes JSON, and compares the links.
"""

from __future__ import annotations

import json as jsonlib
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from measures import most_resident, resident  # beside this script
from rich.console import Console
from tables import as_table

HERE = Path(__file__).resolve()


def main(
    linker: Annotated[str, typer.Option(help="a linker directory")],
    documents: Annotated[Path, typer.Option()] = Path(
        "../shared/data/el/reuters128.jsonl"
    ),
    count: int = 128,
    batch: Annotated[list[int] | None, typer.Option()] = None,
    before: Annotated[list[str] | None, typer.Option(help="other versions")] = None,
    other: Annotated[
        list[str] | None, typer.Option(help="a setting, for one more row of this")
    ] = None,
    repeats: int = 3,
    set: Annotated[list[str] | None, typer.Option(help="a setting of all")] = None,
    json: Annotated[Path | None, typer.Option(help="write the numbers here")] = None,
) -> None:
    """Link the same documents with every version, in turn."""
    lines = documents.read_text(encoding="utf-8").splitlines()[:count]
    texts = [jsonlib.loads(line)["text"] for line in lines]
    here = HERE.parents[1]
    ways = {"this": (here, linker, {})}
    for item in before or []:
        folder, _, own = item.partition("=")
        ways[Path(folder).name] = (Path(folder), own or linker, {})
    ways |= {item: (here, linker, dict([parse(item)])) for item in other or []}
    console, rows = Console(width=120), []
    for size in batch or [16, 1]:
        order = {"batch": size, "texts": texts}
        order["settings"] = dict(map(parse, set or []))
        with console.status(f"batch {size}: compiling"):
            workers = [Worker(order, *way) for way in ways.values()]
        outcomes: list[list[dict]] = [[] for _ in workers]
        with console.status(f"batch {size}: measuring"):
            for _ in range(repeats):
                for worker, own in zip(workers, outcomes, strict=True):
                    own.append(worker.link())
        for worker in workers:
            worker.end()
        rows += summarise(size, len(texts), list(ways), outcomes)
    console.print(as_table(f"{len(texts)} documents, {linker}", rows))
    if json is not None:
        json.write_text(jsonlib.dumps(rows, indent=1) + "\n")


class Worker:
    """One version of the code, in a process that links when it is told to."""

    def __init__(
        self, order: dict[str, Any], folder: Path, linker: str, own: dict
    ) -> None:
        python_path = {"PYTHONPATH": str(folder.resolve())}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE), "--work"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=os.environ | python_path,
        )
        order = order | {"linker": as_path(linker)}
        order["settings"] = order["settings"] | own
        self.send(jsonlib.dumps(order))
        self.receive()  # it has compiled

    def send(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def receive(self) -> dict:
        assert self.process.stdout
        if not (line := self.process.stdout.readline()):
            raise SystemExit(f"a worker ended: {self.process.wait()}")
        return jsonlib.loads(line)

    def link(self) -> dict:
        self.send("link")
        return self.receive()

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def parse(item: str) -> tuple[str, Any]:
    """A setting and its value, of KEY=VALUE."""
    name, value = item.split("=", 1)
    try:
        return name, jsonlib.loads(value)
    except ValueError:
        return name, value


def as_path(linker: str) -> str:
    """A folder from everywhere; the name of a bundled linker as it is."""
    return str(Path(linker).resolve()) if Path(linker).is_dir() else linker


def summarise(
    size: int, documents: int, names: list[str], outcomes: list[list[dict]]
) -> list[dict]:
    """A row for each version; ratios are to the first one, this."""

    def median(own: list[dict], key: str) -> float:
        return statistics.median(outcome[key] for outcome in own)

    rows, first = [], outcomes[0]
    for name, own in zip(names, outcomes, strict=True):
        last, seconds, cpu = own[-1], median(own, "seconds"), median(own, "cpu")
        same = sum(
            [link[:3] for link in a] == [link[:3] for link in b]
            for a, b in zip(last["links"], first[-1]["links"], strict=True)
        )
        rows.append(
            {
                "version": name,
                "batch": size,
                "documents/s": documents / seconds,
                "time / this": seconds / median(first, "seconds"),
                "documents/CPU s": documents / cpu,
                "CPU / this": cpu / median(first, "cpu"),
                "calls": last["calls"] / documents,
                "tokens": last["tokens"] / documents,
                "rows live": last.get("rows_live"),
                "tokens live": last.get("tokens_live"),
                "host": last.get("host_share"),
                "roof, CPU s": last["roof"],
                "CPU s": cpu,
                "same links": f"{same} of {documents}",
                "links shared": share(last["links"], first[-1]["links"]),
                "MB before, after": [round(o["resident"] / 1e6) for o in own],
                "MB at most, first pass": round(last["first_resident"] / 1e6),
                "MB at most, all": round(last["most_resident"] / 1e6),
            }
        )
    return rows


def share(some: list[list], others: list[list]) -> float:
    """Links that both have, as a share of those that either has."""
    pairs = list(zip(some, others, strict=True))
    both = [({tuple(x[:3]) for x in a}, {tuple(x[:3]) for x in b}) for a, b in pairs]
    return sum(len(a & b) for a, b in both) / max(sum(len(a | b) for a, b in both), 1)


def work() -> None:
    """Link the texts of the first line of the input, once for each line after it."""
    order = jsonlib.loads(sys.stdin.readline())
    import jax

    from insgenel_jax import Linker

    settings = {"decoder": "tree", "batch": order["batch"]} | order["settings"]
    linker = Linker.from_pretrained(order["linker"], **settings)
    texts, size = order["texts"], order["batch"]
    linker(texts) if size > 1 else [linker(text) for text in texts]
    first_resident, rate = most_resident(), peak(jax)
    weights = sum(x.size for x in jax.tree.leaves(linker.generator.params["layers"]))
    print("{}", flush=True)
    for _ in sys.stdin:
        before = dict(linker.stats)
        if hasattr(linker, "usage"):
            linker.usage.clear()
        began, cpu = time.perf_counter(), time.process_time()
        linked = linker(texts) if size > 1 else [linker(text) for text in texts]
        outcome: dict[str, Any] = {
            "seconds": time.perf_counter() - began,
            "cpu": time.process_time() - cpu,
            "calls": linker.stats["calls"] - before["calls"],
            "tokens": (tokens := linker.stats["tokens"] - before["tokens"]),
            "roof": 2 * weights * tokens / rate,
            "resident": resident(),
            "first_resident": first_resident,
            "most_resident": most_resident(),
            "links": [
                [[m.start, m.end, m.entity, m.score] for m in document.mentions]
                for document in linked
            ],
        }
        if hasattr(linker, "usage"):
            for name in ("rows_live", "tokens_live", "host_share"):
                outcome[name] = getattr(linker.usage, name)
        print(jsonlib.dumps(outcome), flush=True)


def peak(jax) -> float:
    """Operations per second of the processor in a large product of matrices."""
    size = 1024
    product, x = jax.jit(lambda x: x @ x), jax.numpy.ones((size, size))
    product(x).block_until_ready()
    best = float("inf")
    for _ in range(8):
        began = time.process_time()
        product(x).block_until_ready()
        best = min(best, time.process_time() - began)
    return 2 * size**3 / best


if __name__ == "__main__":
    if sys.argv[1:] == ["--work"]:
        work()
    else:
        typer.run(main)
