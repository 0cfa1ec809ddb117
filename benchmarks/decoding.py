"""Every decoder on the same weights and documents, beside Hugging Face's generate.

    python benchmarks/decoding.py [--family opt] [--shape 125m] [--repeats 7]
        [--json OUT]

The documents have about 150 source tokens with 14 decision spans, made from a seeded
vocabulary of invented words. The weights are random, in float32; those of OPT are
changed so that they open most mentions (LLaMA has no bias to change). So the decisions
mean nothing, but are the same for all. Hugging Face (torch) runs the same weights (a)
with `generate(prefix_allowed_tokens_fn)` over the whole document and (b) with a fresh
prompt for every span, as the release does, each greedily and with 2 beams. All ways are
run in turn, `repeats` times; times are medians, and ratios are of medians of one run.
*calls* are forwards in which the document takes part, *tokens* are those run in them,
*choices* is the release's own count: mentions, and candidates of ambiguous mentions.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json as jsonlib
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Annotated, NamedTuple

import jax
import numpy as np
import typer
from rich.console import Console
from tables import as_table  # beside this script

from insgenel_jax import models
from insgenel_jax.decoding import beam, speculative, step, tree
from insgenel_jax.decoding.build import build_table
from insgenel_jax.decoding.chunk import Chunk
from insgenel_jax.decoding.mentions import CandidateMention
from insgenel_jax.decoding.options import Options
from insgenel_jax.decoding.path import follow
from insgenel_jax.decoding.table import Table, Weights
from insgenel_jax.linker.batches import decoder_model
from insgenel_jax.models import hf
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.text.linked_text import encode_prompt, encode_source, encode_titles
from insgenel_jax.tokenizer import Tokenizer, train_bpe

VOCABULARY = 50_272  # rows of the embedding, as OPT's
SHAPES = {
    "tiny": {"dim": 64, "layers": 2, "heads": 4, "ffn": 128},
    "mini": {"dim": 256, "layers": 4, "heads": 4, "ffn": 1024},
    "125m": {"dim": 768, "layers": 12, "heads": 12, "ffn": 3072},
}
BEAMS, HF_BEAMS = "beam, 2 beams", "HF whole, 2 beams"
INSTRUCTION = "Mark every mention of an entity in the text and name the entity."


class Case(NamedTuple):
    """A document ready to decode.

    mention_tokens, title_tokens: of a candidate mention and a title, in the mean.
    """

    chunk: Chunk
    mention_tokens: float
    title_tokens: float

    @property
    def tail(self) -> list[int]:
        """The source tokens behind the last decision span, and EOS."""
        return self.chunk.source[len(self.chunk.table.span_end) - 1 :]


class Outcome(NamedTuple):
    """The output of one way of decoding a document, and its cost."""

    ids: tuple[int, ...]
    calls: int
    tokens: int


Way = Callable[[list[Case]], list[Outcome]]


def main(
    family: str = "opt",
    shape: str = "125m",
    documents: int = 1,
    batch: int = 1,
    spans: int = 14,
    candidates: int = 5,
    repeats: int = 7,
    seed: int = 0,
    hugging_face: bool = True,
    json: Annotated[Path | None, typer.Option(help="write the numbers here")] = None,
) -> None:
    """Decode the same documents in every way, in turn."""
    console = Console(width=110)
    config = ModelConfig(
        family=family,
        vocabulary=VOCABULARY,
        max_positions=2048,
        tie_embeddings=True,
        **SHAPES[shape],
    )
    params = models.init_params(config, jax.random.key(seed))
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(seed)
        words = invent_words(rng, 400)
        names = [word.capitalize() for word in words]
        lines = [" ".join([*words, *names]), INSTRUCTION] * 4
        tokenizer = train_bpe(lines, 4000, Path(folder) / "tokenizer")
        cases = [
            make_case(tokenizer, words, rng, spans, candidates)
            for _ in range(documents)
        ]
        params = lean_to_open(params, tokenizer.open)
        ways = our_ways(config, params, batch)
        if hugging_face:
            hf.save_model(Path(folder) / "model", config, params)
            ways |= hugging_face_ways(Path(folder) / "model", tokenizer)
        outcomes, seconds = compare(ways, cases, repeats, console)
    versions = {
        name: importlib.metadata.version(name)
        for name in ("jax", "flax", *(["torch", "transformers"] * hugging_face))
    }
    about = {
        "versions": {"python": platform.python_version(), **versions},
        "backend": jax.default_backend(),
        "cores": os.cpu_count(),
        "model": f"{family} {shape}, float32",
        "documents": documents,
        "batch of our decoders": batch,
        "spans": spans,
        "candidates": candidates,
        "source tokens": [len(case.chunk.source) - 1 for case in cases],
        "tokens of a mention": round(mean([c.mention_tokens for c in cases]), 1),
        "tokens of a title": round(mean([c.title_tokens for c in cases]), 1),
        "choices": [choices(case.chunk.table) for case in cases],
        "repeats": repeats,
        "seed": seed,
    }
    rows = summarise(outcomes, seconds)
    console.print(about)
    console.print(as_table("decoding a document", rows, ".1f"))
    if json is not None:
        json.write_text(jsonlib.dumps({**about, "rows": rows}, indent=1) + "\n")


def lean_to_open(params, token_id: int):
    """The weights, changed so that they open most mentions, as in a linked document.

    The bias of the last norm is changed to raise the logit of OPEN, for our decoders
    and torch alike.
    """
    if "bias" not in params["norm"]:
        return params
    row = params["embed"]["embedding"][token_id]
    norm = params["norm"] | {"bias": 3.0 * row / (row @ row)}
    return params | {"norm": norm}


def invent_words(rng: np.random.Generator, count: int) -> list[str]:
    """Words of two to four syllables."""
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    return ["".join(rng.choice(syllables, rng.integers(2, 5))) for _ in range(count)]


def make_case(
    tokenizer: Tokenizer, words: list[str], rng, spans: int, candidates: int
) -> Case:
    """A text with `spans` decision spans, every third with a shorter mention inside."""
    pieces, mentions, titles, at = [], [], [], 0

    def add(piece: str) -> None:
        nonlocal at
        pieces.append(piece)
        at += len(piece) + 1

    def mention(start: int, end: int, name: str) -> CandidateMention:
        first = len(titles)
        titles.extend(f"{name} ({' '.join(rng.choice(words, 2))})" for _ in range(2))
        titles.extend(
            f"{name} {' '.join(rng.choice(words, rng.integers(1, 3)))}"
            for _ in range(candidates - 2)
        )
        entities = np.arange(first, len(titles), dtype=np.int32)
        prior = np.log(rng.dirichlet(np.ones(len(entities))))
        return CandidateMention(start, end, entities, prior, np.zeros(len(entities)))

    for number in range(spans):
        for word in rng.choice(words, rng.integers(6, 11)):
            add(str(word))
        name = [str(word).capitalize() for word in rng.choice(words, 2)]
        start = at
        for word in name:
            add(word)
        mentions.append(mention(start, at - 1, " ".join(name)))
        if number % 3 == 0:
            mentions.append(mention(start, start + len(name[0]), name[0]))
    add("the end.")
    text = " ".join(pieces)
    tokens = encode_source(tokenizer, text)
    ids = encode_titles(tokenizer, titles)
    table = build_table(tokenizer, tokens, mentions, ids.__getitem__, Weights())
    return Case(
        Chunk(
            encode_prompt(tokenizer, INSTRUCTION, text),
            [*tokens.ids.tolist(), tokenizer.eos],
            table,
        ),
        mean([end - start for start, end, _ in table.mentions]),
        mean([len(title) for title in ids]),
    )


def choices(table: Table) -> int:
    """Mentions, and candidates of the ambiguous ones (the release's formula)."""
    counts = [len(c.entities) for _, _, c in table.mentions]
    return len(counts) + sum(n for n in counts if n > 1)


def our_ways(config: ModelConfig, params, batch: int) -> dict[str, Way]:
    """Our decoders, `batch` documents at a time."""
    model = decoder_model(config)

    def run(decoder, cases: list[Case], **options) -> list[Outcome]:
        outcomes = []
        for first in range(0, len(cases), batch):
            group = cases[first : first + batch]
            paths = decoder.decode(
                model,
                params,
                [case.chunk for case in group],
                batch=batch,
                options=Options(**options),
            )
            for case, path in zip(group, paths, strict=True):
                ids = (*case.chunk.table.token[path.edges].tolist(), *case.tail)
                outcomes.append(Outcome(ids, path.calls, path.tokens))
        return outcomes

    return {
        "step": functools.partial(run, step),
        "tree": functools.partial(run, tree),
        "tree, marginal": functools.partial(run, tree, selection="marginal"),
        "speculative": functools.partial(run, speculative),
        BEAMS: functools.partial(run, beam, beams=2),
    }


def hugging_face_ways(path: Path, tokenizer: Tokenizer) -> dict[str, Way]:
    """transformers' `generate` with torch on the same weights, a document at a time."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(path).eval()
    run = {"calls": 0, "tokens": 0}

    def count(module, args, kwargs):
        ids = kwargs.get("input_ids", args[0] if args else None)
        run["calls"] += 1
        run["tokens"] += ids.numel()

    model.register_forward_pre_hook(count, with_kwargs=True)

    def generate(prompt: list[int], allowed, limit: int, beams: int) -> list[int]:
        with torch.no_grad():
            ids = model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                prefix_allowed_tokens_fn=lambda _, ids: allowed(
                    tuple(ids[len(prompt) :].tolist())
                ),
                max_new_tokens=limit,
                num_beams=beams,
                do_sample=False,
                pad_token_id=tokenizer.pad,
                eos_token_id=tokenizer.eos,
            )
        return ids[0, len(prompt) :].tolist()

    def whole(case: Case, beams: int = 1) -> Outcome:
        run.update(calls=0, tokens=0)
        allowed = walker(case.chunk.table, 0, case.tail)
        limit = case.chunk.table.longest + len(case.tail) + 1
        ids = generate(case.chunk.prompt, allowed, limit, beams)
        return Outcome(tuple(ids), **run)

    def by_span(case: Case, beams: int = 1) -> Outcome:
        run.update(calls=0, tokens=0)
        table, state, ids = case.chunk.table, 0, []
        while True:
            state, forced = follow(table, state)
            ids += table.token[forced].tolist()
            if not table.degree(state):
                return Outcome((*ids, *case.tail), **run)
            stop = table.span_end[state]
            allowed = walker(table, state, [tokenizer.eos], stop)
            prompt = case.chunk.prompt + ids
            span = generate(prompt, allowed, table.longest + 1, beams)
            for token in span[: span.index(tokenizer.eos)]:
                state = int(table.next[edge_of(table, state, token)])
                ids.append(token)

    def each(decode: Callable[..., Outcome], **options) -> Way:
        return lambda cases: [decode(case, **options) for case in cases]

    return {
        "HF whole, greedy": each(whole),
        HF_BEAMS: each(whole, beams=2),
        "HF by span, greedy": each(by_span),
        "HF by span, 2 beams": each(by_span, beams=2),
    }


def walker(table: Table, start: int, tail: list[int], stop=None):
    """A function from the tokens so far to those that may follow.

    It remembers the state behind every prefix. Behind the table's end, or the state
    `stop`, the tokens of `tail` follow.
    """
    states = {(): (start, 0)}  # state, and how many tail tokens were taken

    def allowed(ids: tuple[int, ...]) -> list[int]:
        if ids not in states:
            allowed(ids[:-1])
            state, taken = states[ids[:-1]]
            if taken or not table.degree(state) or state == stop:
                states[ids] = state, taken + 1
            else:
                states[ids] = int(table.next[edge_of(table, state, ids[-1])]), 0
        state, taken = states[ids]
        if taken or not table.degree(state) or state == stop:
            return tail[taken : taken + 1] or tail[-1:]
        row = slice(table.indptr[state], table.indptr[state + 1])
        return table.token[row].tolist()

    return allowed


def edge_of(table: Table, state: int, token: int) -> int:
    """The edge of a state with this token."""
    row = slice(table.indptr[state], table.indptr[state + 1])
    return int(row.start) + table.token[row].tolist().index(token)


def compare(ways, cases, repeats: int, console: Console):
    """Run every way on every case, in turn: outcomes, and seconds of each repeat."""
    outcomes = {name: run(cases) for name, run in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with console.status("measuring") as status:
        for repeat in range(repeats):
            for name, run in ways.items():
                status.update(f"repeat {repeat + 1} of {repeats}: {name}")
                began = time.perf_counter()
                run(cases)
                seconds[name].append(time.perf_counter() - began)
    return outcomes, seconds


def summarise(outcomes, seconds) -> list[dict]:
    """A row a way: calls, tokens, milliseconds a document, and ratios to `tree`."""
    best = float(np.median(seconds["tree"]))
    calls = sum(outcome.calls for outcome in outcomes["tree"])
    rows = []
    for name, own in outcomes.items():
        documents, median = len(own), float(np.median(seconds[name]))
        total = sum(outcome.calls for outcome in own)
        other = BEAMS if name == HF_BEAMS else "step"
        same = sum(a.ids == b.ids for a, b in zip(own, outcomes[other], strict=True))
        rows.append(
            {
                "way": name,
                "calls": total / documents,
                "tokens": sum(outcome.tokens for outcome in own) / documents,
                "ms a document": 1000 * median / documents,
                "time / tree": median / best,
                "calls / tree": total / calls,
                "the same": f"{same} of {documents} as {other}",
            }
        )
    return rows


if __name__ == "__main__":
    typer.run(main)
