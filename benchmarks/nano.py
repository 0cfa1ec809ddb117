"""The linker in the box: its bytes, seconds to the first link, documents a second.

python benchmarks/nano.py [--documents FILE] [--repeats 3]

The first link is measured in new processes that keep no compiled programs. Documents a
second: those of FILE (JSONL) that have 180 to 220 words, at most 200 of them, linked
once to compile and then once more. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import rich

from insgenel_jax.linker import Linker
from insgenel_jax.linker.bundled import BUNDLED
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import Rejects

TEXT = "Marie Curie was born in Warsaw and studied in Paris."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    files = [file for file in BUNDLED.rglob("*") if file.is_file()]
    facts = {"MB": sum(file.stat().st_size for file in files) / 1e6}
    seconds = [time_first_link() for _ in range(arguments.repeats)]
    facts["seconds to the first link, median"] = statistics.median(seconds)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    facts["MB of memory then"] = peak / 1e3
    if arguments.documents:
        facts |= time_documents(arguments.documents)
    facts["cores"] = os.cpu_count()
    rich.print(facts)


def time_first_link() -> float:
    """Seconds from the start of a process to its end, with one sentence linked."""
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    command = [sys.executable, "-m", "insgenel_jax.link", TEXT]
    began = time.perf_counter()
    done = subprocess.run(command, check=True, env=environment, capture_output=True)
    assert b"Marie Curie" in done.stdout
    return time.perf_counter() - began


def time_documents(path: Path) -> dict[str, float]:
    """How many documents, of how many words, and how many a second."""
    fitting = (d for d in read_documents(path, Rejects()) if 180 <= words(d) <= 220)
    documents = list(itertools.islice(fitting, 200))
    linker = Linker.from_pretrained("nano")
    linker(documents)
    began = time.perf_counter()
    linker(documents)
    seconds = time.perf_counter() - began
    return {
        "documents": len(documents),
        "words a document": statistics.mean(map(words, documents)),
        "documents a second": len(documents) / seconds,
    }


def words(document: Document) -> int:
    return len(document.text.split())


if __name__ == "__main__":
    main()
