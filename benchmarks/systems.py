"""INSGENEL against INSGENEL-R, by decoder, on the same weights and documents.

    python benchmarks/systems.py --linker DIR --documents FILE [--documents FILE]
        [--set top_k=2000 ...] [--no-paper] [--repeats 3] [--json OUT]

Two ways are the paper's own (`preset="paper"`, but with chunks of the length that the
generator was trained on): INSGENEL decodes whole texts with two beams, INSGENEL-R asks
the model at decisions alone. The other ways take the linker's settings. `--set`
overrides the linker's settings; in the paper's ways it counts only where the preset
leaves a choice, as with top_k.

Documents are linked one chunk a call. The columns, for a document unless said:

calls    forward passes that it takes part in; *most* is the maximum over the documents
tokens   tokens run in these calls
output   tokens of the linked text; a plain `generate` takes a call for each (our beams
         run forced tokens along with others)
choices  the release's count: mentions, and candidates of ambiguous mentions
copied   share of the source tokens in no decision span, for which nothing is asked
forced   share of the output tokens where only one token was allowed
links    of all documents; *ties*, too: chunks with a decision closer than 1e-4
as step  documents with the same mentions, and scores within 1e-5
decode   seconds for all documents in the generator; *all*: from texts to links,
         retriever included

After a first pass that compiles, all ways run in turn; seconds are medians. The second
table divides INSGENEL's numbers by INSGENEL-R's; its column *generate* divides
INSGENEL's output by INSGENEL-R's calls.
"""

from __future__ import annotations

import importlib.metadata
import json as jsonlib
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import typer
from decoding import choices  # beside this script
from rich.console import Console
from tables import as_table

from insgenel_jax import cli, models
from insgenel_jax.decoding.table import COPY
from insgenel_jax.linker import Linker
from insgenel_jax.linker.decide import Decided
from insgenel_jax.linker.linked import TIE
from insgenel_jax.linker.settings import PRESETS, read_settings, without_effect
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import Rejects
from insgenel_jax.text.linked_text import encode_source

SYSTEMS = ("insgenel", "insgenel-r")
DECODERS = ("step", "tree", "speculative")


class Run(NamedTuple):
    """Linked documents, decoded chunks, seconds of decoding and of everything."""

    linked: list[Document]
    decided: list[Decided]
    decoding: float
    everything: float


def main(
    linker: Annotated[Path, typer.Option(help="linker directory")],
    documents: Annotated[list[Path], typer.Option(help="JSONL; repeatable")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="linker setting; repeatable")
    ] = None,
    paper: Annotated[bool, typer.Option(help="the paper's own way too")] = True,
    repeats: int = 3,
    json: Annotated[Path | None, typer.Option(help="write the numbers here")] = None,
) -> None:
    """Link the same documents in every way."""
    console = Console(width=150)
    ways = open_ways(linker, cli.parse_settings(set_ or []), paper)
    about = {
        "python": platform.python_version(),
        **{p: importlib.metadata.version(p) for p in ("jax", "flax")},
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "parameters of the generator": models.count(
            next(iter(ways.values())).generator.params
        ),
        "settings": set_ or [],
        "repeats": repeats,
    }
    console.print(about)
    rows, ratios = [], []
    for file in documents:
        with Rejects(None) as rejects:
            texts = list(read_documents(file, rejects))
        if not texts:
            raise typer.BadParameter(f"{file}: expected documents, found none")
        first = {name: run(way, texts) for name, way in ways.items()}
        seconds = measure(ways, texts, repeats)
        found = {
            name: {
                "set": file.stem,
                "way": name,
                **describe(ways[name], texts, first[name]),
                "as step": compare(name, first),
                **seconds[name],
            }
            for name in ways
        }
        rows += found.values()
        ratios += divide(found)
    console.print(
        as_table("calls, tokens, choices of a document; seconds of all", rows)
    )
    console.print(as_table("INSGENEL / INSGENEL-R", ratios))
    if json is not None:
        record = {**about, "rows": rows, "ratios": ratios}
        json.write_text(jsonlib.dumps(record, indent=1) + "\n")


def open_ways(path: Path, settings: dict[str, Any], paper: bool) -> dict[str, Linker]:
    """The linker in every way, a chunk at a time; its parts are opened once."""
    opened = Linker.from_pretrained(path, system="insgenel-r")
    free = {k: v for k, v in settings.items() if k not in PRESETS["paper"]}
    ways = {}
    for system in SYSTEMS:
        if paper:
            # auto would take another decoder for another size of model
            step = {} if system == "insgenel" else {"decoder": "step"}
            preset = {"system": system, "preset": "paper", "chunk_tokens": None}
            own = preset | step
            ways[f"{system}, paper"] = set_up(opened, path, free, own)
        for decoder in DECODERS:
            own = {"system": system, "decoder": decoder}
            ways[f"{system}, {decoder}"] = set_up(opened, path, settings, own)
    return ways


def set_up(
    opened: Linker, path: Path, settings: dict[str, Any], own: dict[str, Any]
) -> Linker:
    """The linker with the settings of a way, and those given that have an effect."""
    own = own | {"batch": 1}
    useless = without_effect(settings, read_settings(path, **settings | own))
    kept = {name: value for name, value in settings.items() if name not in useless}
    return opened.with_settings(**kept | own)


def run(linker: Linker, texts: Sequence[Document]) -> Run:
    """Link all documents once, and decode their chunks once more by themselves."""
    began = time.perf_counter()
    linked = linker(texts)
    everything = time.perf_counter() - began
    chunks = linker.chunks(texts)
    began = time.perf_counter()
    paths = linker.decode(chunks)
    decoding = time.perf_counter() - began
    return Run(linked, list(map(Decided, chunks, paths)), decoding, everything)


def describe(linker: Linker, texts: Sequence[Document], found: Run) -> dict[str, Any]:
    """What linking the documents takes and gives."""
    calls = [0] * len(texts)
    source = sum(
        len(encode_source(linker.generator.tokenizer, text.text)) for text in texts
    )
    spanned = decided = added = asked = 0
    for chunk, path in found.decided:
        table, edges = chunk.chunk.table, np.array(path.edges, int)
        calls[chunk.document] += path.calls
        spanned += int((table.span_end != np.arange(len(table.span_end))).sum())
        states = np.searchsorted(table.indptr, edges, side="right") - 1
        decided += int((np.diff(table.indptr)[states] > 1).sum())
        added += int((table.kind[edges] != COPY).sum())
        asked += choices(table)
    return {
        "calls": float(np.mean(calls)),
        "most": max(calls),
        "tokens": sum(path.tokens for _, path in found.decided) / len(texts),
        "output": (source + added) / len(texts),
        "choices": asked / len(texts),
        "copied": 1 - spanned / source,
        "forced": 1 - decided / (source + added),
        "links": sum(len(text.mentions) for text in found.linked),
        "ties": sum(path.margin < TIE for _, path in found.decided),
    }


def compare(name: str, found: dict[str, Run]) -> str:
    """In how many documents the mentions and scores are those of `step`."""
    system, _, decoder = name.partition(", ")
    if decoder not in DECODERS:
        return "-"
    wanted = found[f"{system}, step"].linked
    same = sum(alike(a, b) for a, b in zip(found[name].linked, wanted, strict=True))
    return f"{same} of {len(wanted)}"


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
    seconds: dict[str, list] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            seconds[name].append(run(way, texts)[2:])
    return {
        name: dict(
            zip(("decode, s", "all, s"), np.median(pairs, axis=0).tolist(), strict=True)
        )
        for name, pairs in seconds.items()
    }


def divide(found: dict[str, dict]) -> list[dict[str, Any]]:
    """For each decoder what INSGENEL takes over what INSGENEL-R takes."""
    ratios = []
    for name, one in found.items():
        system, _, decoder = name.partition(", ")
        if system == SYSTEMS[0]:
            other = found[f"{SYSTEMS[1]}, {decoder}"]
            columns = ("calls", "tokens", "choices", "decode, s", "all, s")
            ratios.append(
                {
                    "set": one["set"],
                    "way": decoder,
                    **{column: one[column] / other[column] for column in columns},
                    "fewer calls": f"{1 - other['calls'] / one['calls']:.0%}",
                    "generate": one["output"] / other["calls"],
                }
            )
    return ratios


if __name__ == "__main__":
    typer.run(main)
