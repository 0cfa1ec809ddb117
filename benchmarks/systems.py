"""INSGENEL against INSGENEL-R, by decoder, on the same weights and documents.

    python benchmarks/systems.py --linker DIR --documents FILE [--documents FILE]
        [--set top_k=2000 ...] [--repeats 3] [--json OUT]

Two rows are the paper's own way (`preset="paper"`): INSGENEL rewrites the whole text with
two beams, a call a token; INSGENEL-R is asked at decisions alone. The others take the
linker's settings and what `--set` says. Documents are linked one chunk a call: *calls* are
forwards in which the document takes part, *choices* the release's count (mentions, and
candidates of ambiguous mentions), *copied* the share of source tokens that lie in no
decision span, so are never asked for. *decode* is the generator's part of the seconds;
ways are run in turn after a first pass that compiles, seconds are medians over all
documents. *as step*: documents with the same mentions, and scores within 1e-5.
"""

from __future__ import annotations

import importlib.metadata
import json as jsonlib
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer
from rich.console import Console
from rich.table import Table as RichTable

from insgenel_jax import cli
from insgenel_jax.document import Document
from insgenel_jax.formats import Rejects, read_documents
from insgenel_jax.linked_text import encode_source
from insgenel_jax.linker import Linker
from insgenel_jax.linker_chunks import make_chunks

SYSTEMS = ("insgenel", "insgenel-r")
DECODERS = ("step", "tree", "verify")


def main(
    linker: Annotated[Path, typer.Option(help="linker directory")],
    documents: Annotated[list[Path], typer.Option(help="JSONL; repeatable")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="linker setting; repeatable")
    ] = None,
    repeats: int = 3,
    json: Annotated[Path | None, typer.Option(help="write the numbers here")] = None,
) -> None:
    """Link the same documents in every way."""
    console = Console(width=130)
    ways = open_ways(linker, cli.parse_settings(set_ or []))
    about = {
        "python": platform.python_version(),
        **{p: importlib.metadata.version(p) for p in ("jax", "flax")},
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "parameters of the generator": next(iter(ways.values())).generator.size,
        "settings": set_ or [],
        "repeats": repeats,
    }
    console.print(about)
    rows = []
    for file in documents:
        with Rejects(None) as rejects:
            texts = list(read_documents(file, rejects))
        found = {name: describe(way, texts) for name, way in ways.items()}
        compare(found)
        for name, seconds in measure(ways, texts, repeats).items():
            found[name] |= seconds
        for name, row in found.items():
            del row["linked"]
            rows.append({"set": file.stem, "way": name, **row})
        paper = [found[f"{system}, paper"] for system in SYSTEMS]
        console.print(
            f"{file.stem}, the paper's way: INSGENEL / INSGENEL-R "
            f"{paper[0]['calls'] / paper[1]['calls']:.1f} in calls "
            f"({1 - paper[1]['calls'] / paper[0]['calls']:.0%} fewer), "
            f"{paper[0]['decode, s'] / paper[1]['decode, s']:.1f} in seconds of decoding, "
            f"{paper[0]['all, s'] / paper[1]['all, s']:.1f} in all"
        )
    table = RichTable(title="calls, tokens and choices of a document; seconds of a set")
    for name in rows[0]:
        table.add_column(name, justify="left" if name in ("set", "way") else "right")
    for row in rows:
        table.add_row(
            *(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values())
        )
    console.print(table)
    if json is not None:
        json.write_text(jsonlib.dumps({**about, "rows": rows}, indent=1) + "\n")


def open_ways(path: Path, settings: dict[str, Any]) -> dict[str, Linker]:
    """The linker in every way, a chunk at a time."""
    ways = {}
    for system in SYSTEMS:
        # auto would take another decoder for another size of model
        decoder = {} if system == "insgenel" else {"decoder": "step"}
        ways[f"{system}, paper"] = Linker.from_pretrained(
            path, system=system, preset="paper", chunk_tokens=None, batch=1, **decoder
        )
        for decoder in DECODERS:
            overrides = settings | {"system": system, "decoder": decoder, "batch": 1}
            ways[f"{system}, {decoder}"] = Linker.from_pretrained(path, **overrides)
    return ways


def describe(linker: Linker, texts: Sequence[Document]) -> dict[str, Any]:
    """What linking each document takes and gives."""
    calls, linked = [], []
    for text in texts:
        before = linker.stats["calls"]
        linked.append(linker(text))
        calls.append(linker.stats["calls"] - before)
    chunks = make_chunks(linker._parts, texts, None)
    tokens = sum(
        len(encode_source(linker.generator.tokenizer, text.text)) for text in texts
    )
    undecided = 0  # tokens in decision spans
    choices = 0
    for chunk in chunks:
        stops = chunk.table.span_end
        undecided += int((stops != np.arange(len(stops))).sum())
        counts = [len(c.entities) for _, _, c in chunk.table.mentions]
        choices += len(counts) + sum(n for n in counts if n > 1)
    return {
        "calls": float(np.mean(calls)),
        "most": max(calls),
        "tokens": linker.stats["tokens"] / len(texts),
        "choices": choices / len(texts),
        "copied": 1 - undecided / tokens,
        "links": linker.stats["links"],
        "ties": linker.stats["ties"],
        "linked": linked,
    }


def compare(found: dict[str, dict]) -> None:
    """Add in how many documents the mentions and scores are those of `step`."""
    for system in SYSTEMS:
        wanted = found[f"{system}, step"]["linked"]
        found[f"{system}, paper"]["as step"] = "-"
        for decoder in DECODERS:
            row = found[f"{system}, {decoder}"]
            same = sum(alike(a, b) for a, b in zip(row["linked"], wanted, strict=True))
            row["as step"] = f"{same} of {len(wanted)}"


def alike(one: Document, other: Document) -> bool:
    """The same mentions, and scores within 1e-5."""
    if len(one.mentions) != len(other.mentions):
        return False
    return all(
        (a.start, a.end, a.entity) == (b.start, b.end, b.entity)
        and abs(a.score - b.score) <= 1e-5
        for a, b in zip(one.mentions, other.mentions, strict=True)
    )


def measure(
    ways: dict[str, Linker], texts: Sequence[Document], repeats: int
) -> dict[str, dict[str, float]]:
    """Median seconds for all documents: of decoding, and of everything."""
    chunks = {name: make_chunks(way._parts, texts, None) for name, way in ways.items()}
    seconds: dict[str, list] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way._decode(chunks[name], way.settings)
            decoded = time.perf_counter()
            way(texts)
            seconds[name].append((decoded - began, time.perf_counter() - decoded))
    return {
        name: dict(
            zip(("decode, s", "all, s"), np.median(pairs, axis=0).tolist(), strict=True)
        )
        for name, pairs in seconds.items()
    }


if __name__ == "__main__":
    typer.run(main)
