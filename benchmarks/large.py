"""A large model over real documents, by decoder and batch: prepared here, run on a GPU.

    python benchmarks/large.py prepare --linker DIR --tokenizer DIR --documents FILE
        --out CASES [--set top_k=100 ...]
    python benchmarks/large.py run CASES [--shape 7b] [--batches 1,8,64] [--json OUT]

`prepare` retrieves, finds candidate mentions and builds the transition tables, with the
tokenizer of the large model; `run` needs its file alone. The weights are random, so
what is decided means nothing, but the work is that of the shape; mention_bias 0 opens
about every second mention. Seconds are medians over all documents, after a warm-up that
compiles; `prepare` prints its own. bfloat16 is compared with float32 at highest
precision: the share of chunks with the same links, and of links that are the same.
"""

from __future__ import annotations

import dataclasses
import gzip
import importlib.metadata
import itertools
import json as jsonlib
import platform
import time
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import typer
from decoding import INSTRUCTION, choices  # this and tables beside this script
from rich.console import Console
from tables import as_table

from insgenel_jax import cli, models
from insgenel_jax.decoding.chunk import Chunk
from insgenel_jax.decoding.mentions import CandidateMention
from insgenel_jax.decoding.options import Options
from insgenel_jax.decoding.path import read_links
from insgenel_jax.decoding.table import Table
from insgenel_jax.generator import Generator
from insgenel_jax.linker import Linker
from insgenel_jax.linker.batches import CONTINUOUS, decoder_model
from insgenel_jax.linker.chunks import DocumentChunk
from insgenel_jax.linker.settings import DECODERS
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import Rejects
from insgenel_jax.tokenizer import load_tokenizer

SHAPES = {
    "tiny": {"dim": 64, "layers": 2, "heads": 4, "ffn": 128},
    "1.3b": {"dim": 2048, "layers": 24, "heads": 16, "ffn": 5504},
    "7b": {"dim": 4096, "layers": 32, "heads": 32, "ffn": 11008},
}
POSITIONS = 2048
ARRAYS = ("indptr", "token", "next", "bias", "kind", "value", "span_end")

app = typer.Typer(add_completion=False)


@app.command()
def prepare(
    linker: Annotated[Path, typer.Option()],
    tokenizer: Annotated[Path, typer.Option()],
    documents: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option()],
    set_: Annotated[list[str] | None, typer.Option("--set")] = None,
) -> None:
    """Write the chunks of all documents, ready to decode."""
    console = Console()
    opened = Linker.from_pretrained(linker, **cli.parse_settings(set_ or []))
    with Rejects(None) as rejects:
        texts = list(read_documents(documents, rejects))
    words = load_tokenizer(tokenizer)
    shape = ModelConfig("llama", words.size, max_positions=POSITIONS, **SHAPES["tiny"])
    generator = Generator(shape, None, words, INSTRUCTION, chunk_tokens=175)
    seconds = []
    for _ in range(3):  # the first compiles the retriever, the second finds all warm
        larger = Linker(
            generator, opened.kb, opened.retriever, opened.index, opened.settings
        )
        began = time.perf_counter()
        chunks = larger.chunks(texts)
        seconds.append(time.perf_counter() - began)
    with gzip.open(out, "wt") as file:
        file.write(jsonlib.dumps({"documents": len(texts)}) + "\n")
        for chunk in chunks:
            file.write(jsonlib.dumps(_as_record(chunk)) + "\n")
    console.print(
        f"{len(texts)} documents, {len(chunks)} chunks with something to decide, "
        f"retrieved and prepared in {np.median(seconds):.2f} s on this machine"
    )


def _as_record(chunk: DocumentChunk) -> dict:
    table = chunk.chunk.table
    arrays = {name: getattr(table, name).tolist() for name in ARRAYS}
    mentions = [
        [
            start,
            end,
            {
                name: value.tolist() if isinstance(value, np.ndarray) else value
                for name, value in vars(candidate).items()
            },
        ]
        for start, end, candidate in table.mentions
    ]
    table = arrays | {"mentions": mentions, "longest": table.longest}
    return {"document": chunk.document, "prompt": chunk.chunk.prompt, "table": table}


def _from_record(record: dict) -> Chunk:
    table = record["table"]
    kinds = {"bias": np.float32, "kind": np.int8}
    arrays = {n: np.array(table[n], kinds.get(n, np.int32)) for n in ARRAYS}
    mentions = []
    for start, end, candidate in table["mentions"]:
        candidate["entities"] = np.array(candidate["entities"], np.int32)
        for name in ("log_prior", "log_retriever"):
            candidate[name] = np.array(candidate[name])
        mentions.append((start, end, CandidateMention(**candidate)))
    built = Table(**arrays, mentions=mentions, longest=table["longest"], dropped=0)
    return Chunk(record["prompt"], [], built)


@app.command()
def run(
    cases: Path,
    shape: str = "7b",
    batches: str = "1,8,64",
    decoders: str = "tree,speculative,step",
    repeats: int = 3,
    reference: Annotated[bool, typer.Option(help="compare with float32")] = True,
    seed: int = 0,
    json: Annotated[Path | None, typer.Option(help="write the numbers here")] = None,
) -> None:
    """Decode the prepared chunks in every way."""
    console = Console(width=120)
    with gzip.open(cases, "rt") as file:
        documents = jsonlib.loads(next(file))["documents"]
        chunks = [_from_record(jsonlib.loads(line)) for line in file]
    config = ModelConfig(
        family="llama",
        vocabulary=32_004,
        max_positions=POSITIONS,
        dtype="bfloat16",
        param_dtype="bfloat16",
        **SHAPES[shape],
    )
    params = models.init_params(config, jax.random.key(seed))
    about = {
        "python": platform.python_version(),
        "jax": importlib.metadata.version("jax"),
        "device": jax.devices()[0].device_kind,
        "model": f"llama {shape}, {models.count(params):,} random parameters, {seed=}",
        "documents": documents,
        "chunks": len(chunks),
        "tokens of prompts": sum(len(chunk.prompt) for chunk in chunks),
        "decision spans": sum(chunk.table.spans for chunk in chunks),
        "choices": sum(choices(chunk.table) for chunk in chunks),
        "repeats": repeats,
    }
    console.print(about)
    rows, links = [], {}
    sizes = [int(size) for size in batches.split(",")]
    for decoder, batch in itertools.product(decoders.split(","), sizes):
        row, links[decoder, batch] = _measure(
            config, params, chunks, documents, decoder, batch, repeats
        )
        console.print(row)
        rows.append(row)
    if reference:
        exact = dataclasses.replace(config, dtype="float32", param_dtype="float32")
        params = jax.jit(
            lambda tree: jax.tree.map(lambda leaf: leaf.astype(np.float32), tree),
            donate_argnums=0,
        )(params)
        with jax.default_matmul_precision("highest"):
            _, wanted = _measure(exact, params, chunks, documents, "tree", sizes[-1], 0)
        for row, found in zip(rows, links.values(), strict=True):
            same = [a == b for a, b in zip(found, wanted, strict=True)]
            kept = sum(len(a & b) for a, b in zip(found, wanted, strict=True))
            row["chunks as float32"] = f"{sum(same)} of {len(same)}"
            row["links as float32"] = f"{kept} of {sum(map(len, wanted))}"
    console.print(as_table(f"{documents} documents, {shape}, bfloat16", rows))
    if json is not None:
        json.write_text(jsonlib.dumps({**about, "rows": rows}, indent=1) + "\n")


def _measure(config, params, chunks, documents, decoder, batch, repeats):
    """-> a row of the table; the links of each chunk, as (start, end, entity)."""
    module, options = DECODERS[decoder], Options()
    model = decoder_model(config)
    groups = [list(range(len(chunks)))]
    if module not in CONTINUOUS:
        shapes = [module.shape(chunk, options) for chunk in chunks]
        order = sorted(range(len(chunks)), key=lambda i: (shapes[i], i))
        groups = []
        for _, alike in itertools.groupby(order, key=shapes.__getitem__):
            alike = list(alike)
            groups += [alike[i : i + batch] for i in range(0, len(alike), batch)]
    seconds, paths = [], {}
    for _ in range(1 + repeats):
        began = time.perf_counter()
        for group in groups:
            together = [chunks[i] for i in group]
            decoded = module.decode(
                model, params, together, batch=batch, options=options
            )
            paths |= zip(group, decoded, strict=True)
        seconds.append(time.perf_counter() - began)
    links = []
    for i, chunk in enumerate(chunks):
        read = read_links(chunk.table, paths[i].edges, paths[i].log_probs)
        links.append({(x.mention.start, x.mention.end, x.entity) for x in read})
    median = float(np.median(seconds[1:])) if repeats else float("nan")
    row = {
        "decoder": decoder,
        "batch": batch,
        "seconds": median,
        "documents/s": documents / median,
        "calls a chunk": sum(p.calls for p in paths.values()) / len(paths),
        "tokens": sum(p.tokens for p in paths.values()),
        "links": sum(map(len, links)),
        "compiling, s": seconds[0] - (median if repeats else 0.0),
    }
    return row, links


if __name__ == "__main__":
    app()
