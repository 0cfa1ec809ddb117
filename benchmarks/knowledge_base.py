"""Knowledge base: words matched a second on one core, opening time, memory, sizes.

    python benchmarks/knowledge_base.py --kb DIR --documents FILE
        [--source DUMP] [--json OUT]

Texts are cut to documents of 500 words; the first 100 bring the files into memory and
are timed by themselves. Numbers are medians of 7 runs on one core.
Matching is timed in processor time, which other jobs on the machine disturb less. With
--source (WikiExtractor output), a knowledge base is built from it too, with 1 process
and with 2.
"""

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow
import rich
import rich.table
import typer

from insgenel_jax import artifact
from insgenel_jax.kb import KnowledgeBase
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import Rejects

RUNS = 7
WORDS = 500
FIRST = 100  # texts that bring the files' pages into memory

# This script measures memory, so it runs in a process of its own: memory once used is
# not given back.
FRESH = """
import sys, time
def resident(shared=False):
    # pages in memory; of files mapped, which the system can take back at any time
    return int(open("/proc/self/statm").read().split()[2 if shared else 1]) * 4096
import insgenel_jax.kb
start = resident()
begin = time.perf_counter()
kb = insgenel_jax.kb.KnowledgeBase.open(sys.argv[1])
seconds = time.perf_counter() - begin
opened = resident()
for text in open(sys.argv[2], newline="\\n"):
    forms = kb.matches(text).forms
    kb.link_probability(forms)
    for form in forms.tolist():
        kb.candidates(form)
print(seconds, start, opened, resident(), resident(shared=True))
"""


def main(
    kb: Annotated[Path, typer.Option(exists=True)],
    documents: Annotated[Path, typer.Option(exists=True)],
    source: Annotated[Path | None, typer.Option(exists=True)] = None,
    output: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Measure a knowledge base."""
    texts = cut_texts(documents)
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pyarrow": pyarrow.__version__,
        "marisa-trie": importlib.metadata.version("marisa-trie"),
        "runs": RUNS,
        "texts": len(texts),
        **artifact.read(kb).counts,
        "MB on disk": sum(f.stat().st_size for f in kb.iterdir()) / 1e6,
        **measure_fresh(kb, texts),
        **measure_matching(kb, texts),
    }
    if source is not None:
        for workers in (1, 2):
            result |= measure_build(source, workers)
    table = rich.table.Table("what", rich.table.Column("measured", justify="right"))
    for name, value in result.items():
        table.add_row(name, f"{value:,.2f}" if isinstance(value, float) else str(value))
    rich.print(table)
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n")


def cut_texts(documents: Path) -> list[str]:
    """The documents' texts joined and cut to 500 words each; at most 400 of them."""
    words: list[str] = []
    for document in read_documents(documents, Rejects()):
        words += document.text.split(" ")
        if len(words) >= 400 * WORDS:
            break
    return [
        " ".join(words[i : i + WORDS]) for i in range(0, len(words) - WORDS + 1, WORDS)
    ]


def measure_fresh(kb: Path, texts: list[str]) -> dict[str, float]:
    """Seconds to open and memory in a fresh process."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", newline="\n") as file:
        file.writelines(text.replace("\n", " ") + "\n" for text in texts)
        file.flush()
        rows = [
            [float(value) for value in done.stdout.split()]
            for done in (
                subprocess.run(
                    [sys.executable, "-c", FRESH, str(kb), file.name],
                    capture_output=True,
                    check=True,
                    text=True,
                )
                for _ in range(RUNS)
            )
        ]
    medians = map(statistics.median, zip(*rows, strict=True))
    seconds, start, opened, used, shared = medians
    return {
        "seconds to open": seconds,
        "MB resident, libraries alone": start / 1e6,
        "MB resident, opened": opened / 1e6,
        "MB resident, all texts matched": used / 1e6,
        "of these, MB of mapped files": shared / 1e6,
    }


def measure_matching(kb: Path, texts: list[str]) -> dict[str, float]:
    """Documents and words a second: at first, of new texts after that, of known ones.

    At first the pages of the files come into memory. Each run opens the knowledge base
    anew, so that it remembers no word.
    """
    rows = []
    for _ in range(RUNS):
        base = KnowledgeBase.open(kb)
        parts = (texts[:FIRST], texts[FIRST:], texts[FIRST:])
        rows.append([matched_a_second(base, part) for part in parts])
    first, new, known = map(statistics.median, zip(*rows, strict=True))
    return {
        f"documents/s a core, first {FIRST}": first,
        "documents/s a core, new texts": new,
        "words/s a core, new texts": new * WORDS,
        "documents/s a core, known texts": known,
    }


def matched_a_second(base: KnowledgeBase, texts: list[str]) -> float:
    """Texts matched in a second of processor time."""
    begin = time.process_time()
    for text in texts:
        base.link_probability(base.matches(text).forms)
    return len(texts) / (time.process_time() - begin)


def measure_build(source: Path, workers: int) -> dict[str, float]:
    """Seconds and peak memory of `prepare wikipedia` without its tokenizers."""
    code = (
        "import resource, sys, time\n"
        "from insgenel_jax.text.formats.rejects import Rejects\n"
        "from insgenel_jax.kb.build.wikipedia import build_from_wikipedia\n"
        "if __name__ == '__main__':\n"
        "    begin = time.perf_counter()\n"
        "    build_from_wikipedia(sys.argv[1], sys.argv[2], Rejects(),"
        " workers=int(sys.argv[3]))\n"
        "    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    print(time.perf_counter() - begin, peak)\n"
    )
    with tempfile.TemporaryDirectory() as out:
        script = Path(out) / "build.py"  # a file: other processes import it
        script.write_text(code)
        done = subprocess.run(
            [sys.executable, script, source, Path(out) / "out", str(workers)],
            capture_output=True,
            check=True,
            text=True,
        )
    seconds, peak = map(float, done.stdout.split())
    return {
        f"build, {workers} processes: seconds": seconds,
        f"build, {workers} processes: MB at the peak": peak / 1e3,
    }


if __name__ == "__main__":
    typer.run(main)
