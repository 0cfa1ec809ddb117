"""The prefix tree of all titles beside nested dicts and marisa-trie, by size.

    python benchmarks/trie.py [--sizes 10000 --sizes 100000 ...] [--titles FILE]
        [--tokenizer DIR] [--dict-limit 1000000] [--json OUT]

Titles are drawn with a seed: their words are made of syllables and Zipf-distributed,
and some titles begin alike. With --titles, a file of one title a line, the first table
also describes those titles, and as many drawn ones. Titles are tokenised with
--tokenizer, or with a BPE of 32,000 tokens that is trained on some of them.

Each structure of each size is measured in a process of its own. A step finds the
allowed next tokens and moves behind one of them; the steps follow titles drawn from
all. Nested dicts and marisa-trie are used as GENRE's release uses them. Dicts are
walked from the root at every step. A marisa-trie over token ids as characters lists the
keys below a prefix, and keeps the tokens below the root. Jitted, "find" gathers `WIDTH`
allowed tokens, and "choose" takes argmax and log-softmax over all allowed of V logits;
us/step is for each row of the batch. MB are on disk, those of dicts in memory. Figures
are medians of 7, builds of 3 (dicts 1), of the processor's time, so that other jobs on
the machine disturb less; opening and "build wall s" are on the clock. Nested dicts
beyond the limit are extrapolated from the last size, and marked "~".
"""

from __future__ import annotations

import concurrent.futures
import functools
import gc
import importlib.metadata
import itertools
import json as jsonlib
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from measures import most_resident, resident, time_median  # beside this script
from rich.console import Console
from tables import as_table  # beside this script
from titles import draw_titles  # beside this script

from insgenel_jax.tokenizer import Tokenizer, load_tokenizer, train_bpe

SIZES = [10_000, 100_000, 1_000_000, 6_000_000]
VOCABULARY, TRAINED_ON = 32_000, 300_000
REPEATS, BUILDS = 7, 3
WALKS = 2_000  # titles whose steps are timed
SLOW_WALKS = 50  # the same for marisa-trie, whose steps list many keys
BATCHES = (1, 64)
STREAM = 64  # steps of a row in one jitted call
MADE_FROM = {"knowledge-base": "drawn", "tokenizer": "trained"}


def main(
    sizes: Annotated[list[int], typer.Option()] = SIZES,
    titles: Annotated[Path | None, typer.Option(help="real titles, one a line")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="a model directory")] = None,
    dict_limit: Annotated[int, typer.Option(help="titles in nested dicts")] = 1_000_000,
    seed: int = 0,
    json: Annotated[Path | None, typer.Option(help="write the numbers here")] = None,
) -> None:
    """Draw titles, tokenise them, measure each structure at each size."""
    console = Console(width=120)
    real = None if titles is None else titles.read_text().splitlines()
    packages = ("numpy", "jax", "marisa-trie", "tokenizers")
    about = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
        "seed": seed,
        "tokenizer": f"trained, {VOCABULARY}" if tokenizer is None else tokenizer.name,
        "repeats": {"steps, opening": REPEATS, "builds": BUILDS},
    }
    shapes, rows, last = [], [], []  # last: of the nested dicts
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw_titles(max(sizes), seed)
        if real is not None:
            real = list(dict.fromkeys(title for title in real if title))
            alike = draw_titles(len(real), seed)
            for name, some in (("real", real), ("drawn", alike)):
                words = _tokenizer(tokenizer, some, Path(folder) / name)
                shapes.append({"titles": name} | describe(*encode(words, some), words))
        words = _tokenizer(tokenizer, drawn, Path(folder) / "bpe")
        began = time.perf_counter()
        ids, lengths = encode(words, drawn)
        about["seconds to tokenise"] = time.perf_counter() - began
        shapes.append({"titles": "drawn"} | describe(ids, lengths, words))
        console.print(as_table("Shape of the titles", shapes))
        files = Path(folder) / "ids.npy", Path(folder) / "lengths.npy"
        for file, array in zip(files, (ids, lengths), strict=True):
            np.save(file, array)
        del drawn, ids, lengths
        for size in sizes:
            task = (*files, size, words.size, words.end)
            rows += in_fresh_process(measure_arrays, *task)
            if size <= dict_limit:
                rows += (last := in_fresh_process(measure_dicts, *task))
            else:
                rows += [extrapolate(row, size) for row in last]
            rows += in_fresh_process(measure_marisa, *task)
    console.print(about)
    console.print(as_table("The tree of all titles", rows, ".3g"))
    if json is not None:
        record = {**about, "shapes": shapes, "rows": rows}
        json.write_text(jsonlib.dumps(record, indent=1) + "\n")


# Titles


def _tokenizer(path: Path | None, titles: list[str], out: Path) -> Tokenizer:
    if path is not None:
        return load_tokenizer(path)
    return train_bpe([" " + title for title in titles[:TRAINED_ON]], VOCABULARY, out)


def encode(tokenizer: Tokenizer, titles: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of all titles, one title behind the other; how many each one has."""
    ids, lengths = [], []
    for first in range(0, len(titles), 20_000):
        block = [" " + title for title in titles[first : first + 20_000]]
        encoded = [row[0] for row in tokenizer.encode_raw(block)]
        ids.append(np.concatenate(encoded))
        lengths += map(len, encoded)
    return np.concatenate(ids), np.array(lengths)


def describe(ids: np.ndarray, lengths: np.ndarray, tokenizer: Tokenizer) -> dict:
    """The properties of titles that memory and the time of a step depend on."""
    from insgenel_jax.decoding.title_trie import build_title_trie

    trie = build_title_trie(ids, lengths, tokenizer.size, tokenizer.end)
    return {
        "count": len(lengths),
        "tokens/title": len(ids) / len(lengths),
        "edges/title": len(trie.token) / len(lengths),
        "edges of root": int(trie.indptr[1]),
        "widest below": trie.widest,
        "longest": trie.longest,
        "equal tokens": trie.repeated,
    }


# Measuring


def in_fresh_process(function: Callable, *args) -> list[dict]:
    """Call a function in a process of its own.

    A process does not give back memory that it has used, so it can measure only once.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args).result()


def measure_arrays(ids_file, lengths_file, size, vocabulary, end) -> list[dict]:
    """The arrays of this project: on the host, and jitted over batches."""
    import jax

    from insgenel_jax.decoding import title_trie

    lengths = np.load(lengths_file)[:size]
    ids = np.load(ids_file)[: lengths.sum()]
    paths = pick_paths(ids, lengths, end)

    def build():
        return title_trie.build_title_trie(ids, lengths, vocabulary, end)

    began = time.perf_counter()
    build_seconds, trie = time_median(build, BUILDS)
    wall_seconds = (time.perf_counter() - began) / BUILDS
    peak = most_resident()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trie"
        began = time.perf_counter()
        title_trie.save_title_trie(trie, path, MADE_FROM)
        save_seconds = time.perf_counter() - began
        del trie
        disk = sum(file.stat().st_size for file in path.iterdir())
        gc.collect()
        before = resident()
        open_seconds, trie = time_median(
            lambda: title_trie.open_title_trie(path, MADE_FROM),
            REPEATS,
            time.perf_counter,
        )
        step = time_walks(trie, paths)
        host = {
            "structure": "arrays, host",
            "titles": size,
            "build s": build_seconds,
            "build wall s": wall_seconds,
            "peak MB": peak / 1e6,
            "save s": save_seconds,
            "MB": disk / 1e6,
            "open ms": 1000 * open_seconds,
            "resident MB": (resident() - before) / 1e6,
            "us/step": step,
        }
        jitted = time_jitted(jax.device_put(trie), paths, vocabulary, end)
        return [host, *({"titles": size} | row for row in jitted)]


def time_walks(trie, paths: list[np.ndarray]) -> float:
    """Microseconds of a step on the host."""
    from insgenel_jax.decoding.title_trie import children

    def walk_all():
        for tokens in paths:
            node = 0
            for token in tokens:
                allowed, nodes = children(trie, node)
                node = nodes[int(np.searchsorted(allowed, token))]

    return 1e6 * time_median(walk_all, REPEATS)[0] / sum(map(len, paths))


def time_jitted(trie, paths: list[np.ndarray], vocabulary: int, end: int) -> list[dict]:
    """A row for each jitted way to look at the allowed tokens, and each batch size."""
    import jax
    import jax.numpy as jnp

    from insgenel_jax.decoding import title_choice

    def find(trie, state, logits):
        token_ids, _, exists = title_choice.allowed(trie, state, title_choice.WIDTH)
        # a sum, so that the compiler does not leave the search out
        return jnp.where(exists, token_ids, 0).sum(-1)

    def choose(trie, state, logits):
        return title_choice.choose(trie, state, logits)

    rows = []
    for batch, look in itertools.product(BATCHES, (find, choose)):

        @jax.jit
        def follow(trie, streams, logits, look=look):
            def one(state, token):
                seen = look(trie, state, logits)
                state = move(trie, state, token)
                return jnp.where(token == end, 0, state), seen

            start = jnp.zeros(len(logits), jnp.int32)
            return jax.lax.scan(one, start, streams.T)

        rng = np.random.default_rng(0)
        streams = np.stack([pick_stream(paths, rng) for _ in range(batch)])
        logits = jax.random.normal(jax.random.key(0), (batch, vocabulary))
        run = functools.partial(follow, trie, jnp.asarray(streams), logits)
        jax.block_until_ready(run())  # compiled
        seconds, (states, _) = time_median(
            lambda run=run: jax.block_until_ready(run()), REPEATS
        )
        assert (np.asarray(states) >= 0).all()  # no step left the tree
        name = f"jitted {look.__name__}, batch {batch}"
        rows.append({"structure": name, "us/step": 1e6 * seconds / streams.size})
    return rows


def move(trie, state, token):
    """Jitted: the state behind a token of each row, -1 where it is not allowed.

    The root has its edges by token; below it they are found by binary search.
    """
    import jax
    import jax.numpy as jnp

    from insgenel_jax.decoding.title_choice import edges_of

    low, high = edges_of(trie, state)
    high = jnp.where(state == 0, low, high)  # do not search the root's wide row
    stop = high

    def halve(_, bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        right = (low < high) & (trie.token[middle] < token)
        left = (low < high) & ~right
        return jnp.where(right, middle + 1, low), jnp.where(left, middle, high)

    low, _ = jax.lax.fori_loop(0, trie.widest.bit_length(), halve, (low, high))
    edge = jnp.where((low < stop) & (trie.token[low] == token), low, -1)
    edge = jnp.where(state == 0, trie.root[token], edge)
    return jnp.where(edge < 0, -1, 1 + edge)


def measure_dicts(ids_file, lengths_file, size, vocabulary, end) -> list[dict]:
    """Nested dicts, walked from the root at every step."""
    lengths = np.load(lengths_file)[:size]
    ids = np.load(ids_file)[: lengths.sum()]
    paths = [path.tolist() for path in pick_paths(ids, lengths, end)]
    titles = [path.tolist() for path in split(ids, lengths, end)]
    gc.collect()
    before = resident()

    def build():
        root = {}
        for title in titles:
            node = root
            for token in title:
                node = node.setdefault(token, {})
        return root

    # once: a second one would use the memory of the first
    seconds, root = time_median(build, 1)
    memory = resident() - before

    def allowed(prefix):
        node = root
        for token in prefix:
            node = node[token]
        return list(node)

    return [
        {
            "structure": "nested dicts",
            "titles": size,
            "build s": seconds,
            "MB": memory / 1e6,
            "resident MB": memory / 1e6,
            "us/step": time_prefixes(allowed, paths),
        }
    ]


def measure_marisa(ids_file, lengths_file, size, vocabulary, end) -> list[dict]:
    """A marisa-trie over titles whose tokens are characters."""
    import marisa_trie

    lengths = np.load(lengths_file)[:size]
    ids = np.load(ids_file)[: lengths.sum()]
    paths = [as_text(path) for path in pick_paths(ids, lengths, end)[:SLOW_WALKS]]
    titles = [as_text(path) for path in split(ids, lengths, end)]
    seconds, trie = time_median(lambda: marisa_trie.Trie(titles), BUILDS)
    first = sorted({title[0] for title in titles})
    del titles
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "trie.marisa")
        trie.save(file)
        disk = os.path.getsize(file) + 4 * size  # its keys' entities are an array apart
        del trie
        gc.collect()
        before = resident()

        def open_file():
            opened = marisa_trie.Trie()
            opened.mmap(file)
            return opened

        open_seconds, trie = time_median(open_file, REPEATS, time.perf_counter)

        def allowed(prefix):
            if not prefix:
                return first
            return {key[len(prefix)] for key in trie.keys(prefix)}

        step = time_prefixes(allowed, paths)
        return [
            {
                "structure": "marisa-trie",
                "titles": size,
                "build s": seconds,
                "MB": disk / 1e6,
                "open ms": 1000 * open_seconds,
                "resident MB": (resident() - before) / 1e6,
                "us/step": step,
            }
        ]


def split(ids: np.ndarray, lengths: np.ndarray, end: int) -> Iterable[np.ndarray]:
    """Title by title its tokens, closed by END."""
    stops = np.cumsum(lengths)
    for first, stop in zip((stops - lengths).tolist(), stops.tolist(), strict=True):
        yield np.append(ids[first:stop], end)


def pick_paths(ids: np.ndarray, lengths: np.ndarray, end: int) -> list[np.ndarray]:
    """The tokens of `WALKS` titles drawn from all."""
    picked = np.random.default_rng(1).integers(len(lengths), size=WALKS)
    stops = np.cumsum(lengths)
    return [
        np.append(ids[stops[i] - lengths[i] : stops[i]], end) for i in picked.tolist()
    ]


def pick_stream(paths: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """`STREAM` tokens of titles, one title behind the other, from a first token on."""
    parts = []
    while sum(map(len, parts)) < STREAM:
        parts.append(paths[rng.integers(len(paths))])
    return np.concatenate(parts)[:STREAM]


def as_text(tokens: np.ndarray) -> str:
    """Tokens as characters. Surrogates are skipped, as they are no characters."""
    return "".join([chr(t + (t >= 0xD800) * 0x800) for t in tokens.tolist()])


def time_prefixes(allowed: Callable, paths: list) -> float:
    """Microseconds to list the allowed tokens, over every prefix of the paths."""

    def run():
        for path in paths:
            for i in range(len(path)):
                allowed(path[:i])

    return 1e6 * time_median(run, REPEATS)[0] / sum(map(len, paths))


def extrapolate(row: dict, size: int) -> dict:
    """A row at another size: time and memory grow with it, the time of a step stays."""
    ratio = size / row["titles"]
    grown = {name: ratio * row[name] for name in ("build s", "MB", "resident MB")}
    return row | grown | {"structure": f"~ {row['structure']}", "titles": size}


if __name__ == "__main__":
    typer.run(main)
