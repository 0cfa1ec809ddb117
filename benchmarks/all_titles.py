"""The step decoder in the tree of all titles, beside the same in tables of candidates.

    python benchmarks/all_titles.py [--titles 6000000] [--shape tiny] [--trie DIR]
        [--repeats 7] [--json OUT]

The documents have eight given mentions, the model random weights in float32. Each
mention has five candidates, or may take any title (drawn and tokenised as in
benchmarks/trie.py, and kept in --trie, if given, for the next time). "candidates, tree
at hand" are the tables of candidates in the program that has the tree as well, as in a
mixed batch. The decisions mean nothing, so titles end sooner or later than real ones.
ms/call is the time of a batch divided by the calls of its slowest row. The ways run in
turn; times are medians of the processor's time, so that other jobs on the machine
disturb less.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json as jsonlib
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import typer
from decoding import INSTRUCTION, SHAPES  # this and three more beside this script
from rich.console import Console
from tables import as_table
from titles import draw_titles
from trie import MADE_FROM, TRAINED_ON, VOCABULARY, encode

from insgenel_jax import models
from insgenel_jax.decoding import step
from insgenel_jax.decoding.build import build_table
from insgenel_jax.decoding.chunk import Chunk
from insgenel_jax.decoding.mentions import CandidateMention, allow_any_title
from insgenel_jax.decoding.options import Options
from insgenel_jax.decoding.table import Weights
from insgenel_jax.decoding.title_trie import (
    TitleTrie,
    build_title_trie,
    children,
    open_title_trie,
    save_title_trie,
)
from insgenel_jax.linker.batches import decoder_model
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.text.linked_text import encode_prompt, encode_source
from insgenel_jax.tokenizer import Tokenizer, load_tokenizer, train_bpe

WORDS, MENTIONS, CANDIDATES = 60, 8, 5
BATCHES = [1, 16]


def main(
    titles: int = 6_000_000,
    shape: str = "tiny",
    batches: Annotated[list[int], typer.Option()] = BATCHES,
    trie: Annotated[Path | None, typer.Option(help="keep the tree here")] = None,
    repeats: int = 7,
    seed: int = 0,
    json: Annotated[Path | None, typer.Option(help="write the numbers here")] = None,
) -> None:
    """Time the step decoder with and without the tree of all titles."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer, tree = prepare(trie or Path(folder), titles, seed)
    config = ModelConfig("llama", tokenizer.size, max_positions=2048, **SHAPES[shape])
    model, params = decoder_model(config), models.init_params(config, jax.random.key(0))
    on_device, rows = jax.device_put(tree), []
    words = draw_titles(10_000, seed + 1)
    for batch in batches:
        rng = np.random.default_rng(seed)
        cases = [make_case(tokenizer, tree, words, rng) for _ in range(batch)]
        listed, every = zip(*cases, strict=True)
        run = functools.partial(step.decode, model, params, batch=batch)
        without, at_hand = Options(), Options(titles=on_device)
        ways = {
            "candidates": functools.partial(run, listed, options=without),
            "candidates, tree at hand": functools.partial(run, listed, options=at_hand),
            "all titles": functools.partial(run, every, options=at_hand),
        }
        calls = {name: max(path.calls for path in way()) for name, way in ways.items()}
        seconds = {name: [] for name in ways}
        for _ in range(repeats):
            for name, way in ways.items():
                began = time.process_time()
                way()
                seconds[name].append(time.process_time() - began)
        for name in ways:
            median = statistics.median(seconds[name])
            rows.append(
                {
                    "mentions have": name,
                    "batch": batch,
                    "calls": calls[name],
                    "ms": 1000 * median,
                    "ms/call": 1000 * median / calls[name],
                }
            )
    about = {
        "jax": importlib.metadata.version("jax"),
        "backend": jax.default_backend(),
        "cores": os.cpu_count(),
        "model": f"llama {shape}, float32, {tokenizer.size} tokens",
        "titles": len(tree.ends),
        "edges": len(tree.token),
        "edges of root": int(tree.indptr[1]),
        "widest below": tree.widest,
        "longest": tree.longest,
        "tree MB": sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) / 1e6,
        "repeats": repeats,
        "seed": seed,
    }
    console = Console(width=110)
    console.print(about)
    console.print(as_table("a call of the step decoder", rows))
    if json is not None:
        json.write_text(jsonlib.dumps({**about, "rows": rows}, indent=1) + "\n")


def prepare(folder: Path, count: int, seed: int) -> tuple[Tokenizer, TitleTrie]:
    """A tokenizer and the tree of `count` titles, made in a folder or found there."""
    made_from = {**MADE_FROM, "knowledge-base": f"{count} drawn with {seed}"}
    if not (folder / "trie").is_dir():
        titles = draw_titles(count, seed)
        sample = [" " + title for title in [INSTRUCTION, *titles[:TRAINED_ON]]]
        tokenizer = train_bpe(sample, VOCABULARY, folder / "bpe")
        tree = build_title_trie(
            *encode(tokenizer, titles), tokenizer.size, tokenizer.end
        )
        save_title_trie(tree, folder / "trie", made_from)
    tree = open_title_trie(folder / "trie", made_from)
    return load_tokenizer(folder / "bpe"), tree


def make_case(
    tokenizer: Tokenizer, tree: TitleTrie, names: list[str], rng: np.random.Generator
) -> tuple[Chunk, Chunk]:
    """A chunk with candidates, and the same one in the tree of all titles."""
    words = rng.choice(names, WORDS).tolist()
    text = " ".join(words)
    starts = np.cumsum([0, *(len(word) + 1 for word in words)]).tolist()
    tokens, titles = encode_source(tokenizer, text), {}
    listed, every = [], []
    for word in sorted(rng.choice(WORDS, MENTIONS, replace=False).tolist()):
        span = starts[word], starts[word] + len(words[word])
        entities = np.arange(len(titles), len(titles) + CANDIDATES)
        titles |= {int(entity): draw_path(tree, rng) for entity in entities}
        alike = np.full(CANDIDATES, -np.log(CANDIDATES))
        listed.append(CandidateMention(*span, entities, alike, alike, optional=False))
        every.append(allow_any_title(*span))
    build = functools.partial(
        build_table,
        tokenizer,
        tokens,
        title_ids=titles.__getitem__,
        weights=Weights(mention_bias=100.0),
    )
    prompt = encode_prompt(tokenizer, INSTRUCTION, text)
    return (
        Chunk(prompt, [], build(candidates=listed)),
        Chunk(prompt, [], build(candidates=every, titles=tree)),
    )


def draw_path(tree: TitleTrie, rng: np.random.Generator) -> list[int]:
    """The tokens of a title, by a random walk from the root (without END)."""
    path, node = [], 0
    while True:
        tokens, nodes = children(tree, node)
        i = int(rng.integers(len(tokens)))
        if tree.indptr[nodes[i]] == tree.indptr[nodes[i] + 1]:
            return path
        path.append(int(tokens[i]))
        node = nodes[i]


if __name__ == "__main__":
    typer.run(main)
