"""How long examples of the generator are: a chunk's budget, its source, an epoch."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence

import grain
import numpy as np

from insgenel_jax.text.linked_text import encode_prompt
from insgenel_jax.tokenizer import Tokenizer
from insgenel_jax.training.data.decisions import NONE
from insgenel_jax.training.data.documents import Expand, ExpandRecords, open_records
from insgenel_jax.training.settings import ConfigError, GeneratorData, RetrieverData

SAMPLED = 256  # documents whose examples are counted


def count_instruction(tokenizer: Tokenizer, settings: GeneratorData) -> int:
    """Tokens of the longest instruction in a prompt."""
    instructions = (settings.instruction, *settings.more_instructions)
    return max(len(encode_prompt(tokenizer, i, "")) for i in instructions) - 2


def chunk_budget(tokenizer: Tokenizer, settings: GeneratorData) -> int:
    """The number of tokens that max_length leaves for a chunk.

    The chunk's source takes its part twice, in the prompt and in the target (once
    without `prompt_text`); its links must fit into what is left.
    Raises ConfigError where that is less than one source token.
    """
    instruction = count_instruction(tokenizer, settings)
    budget = settings.max_length + 1 - instruction - 3  # BOS, EOS, EOS
    if budget < 2:  # a token of text, in the prompt and in the target
        raise ConfigError(
            f"data.max_length = {settings.max_length} leaves no room for text beside "
            f"the {instruction} tokens of data.instruction"
        )
    return budget


def estimate_lengths(
    tokenizer: Tokenizer, expand: Expand, settings: GeneratorData
) -> tuple[int, int]:
    """Source tokens of a chunk that fills max_length, and the steps of an epoch.

    Both are estimated on SAMPLED documents, see `_sample`: the share of source tokens
    in prompt and target depends on the tokenizer and on how dense links are.
    Raises ConfigError where not one document gives an example.
    """
    records = open_records(settings.documents)
    counts = collections.Counter[str]()
    instruction = count_instruction(tokenizer, settings)
    budget = chunk_budget(tokenizer, settings)
    expander = ExpandRecords(expand, len(records), counts, settings.share)
    source = filled = whole = 0
    for examples in _sample(expander, records):
        for example in examples:
            source += _count_source(tokenizer, example["columns"])
            length = len(example["columns"])
            filled += length + 1 - instruction - 3
            whole += length if settings.packed else settings.max_length
    per_step = settings.max_length * settings.batch
    steps = whole * len(records) / expander.read / per_step
    return max(int(budget * source / filled), 1), max(round(steps), 1)


def estimate_window_steps(expand: Expand, settings: RetrieverData) -> int:
    """The steps of an epoch of the retriever, estimated as `estimate_lengths` does."""
    records = open_records(settings.documents)
    counts = collections.Counter[str]()
    expander = ExpandRecords(expand, len(records), counts, settings.share)
    for _ in _sample(expander, records):
        pass
    windows = counts["examples"] * len(records) / expander.read
    return max(round(windows / settings.batch), 1)


def _sample(
    expander: ExpandRecords, records: grain.sources.ArrayRecordDataSource
) -> Iterator[Sequence[dict]]:
    """The examples of SAMPLED documents in the expander's share, one list each.

    They are drawn at random: the first ones are paragraphs of a few pages. A record
    outside the share gives an empty list. Goes on until there is an example.
    """
    counts = expander.counts
    for number in np.random.default_rng(0).permutation(len(records)).tolist():
        if counts["documents"] >= SAMPLED and counts["examples"]:
            break
        yield expander.flat_map(records[number])


def _count_source(tokenizer: Tokenizer, columns: np.ndarray) -> int:
    """Source tokens in the target of an example: no title, no boundary, no EOS."""
    targets = columns[columns[:, 2] != NONE, 1]
    marks = [tokenizer.open, tokenizer.close, tokenizer.end, tokenizer.eos]
    begun = np.cumsum(targets == tokenizer.entity)
    in_title = begun > np.cumsum(targets == tokenizer.end)
    return int(np.count_nonzero(~in_title & ~np.isin(targets, marks)))
