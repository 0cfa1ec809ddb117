"""A training document in; the generator's examples out, one for each of its chunks.

An example is {"columns": int32 [T, 3 + OTHERS], "biases": float32 [T, 1 + OTHERS],
"id"}: prompt and target as one sequence, the input of each position beside its target
(teacher forcing), with what decisions.py says of it. The columns are token, target,
kind, and the tokens of other edges (NO_EDGE where there are fewer); the biases those of
the target and of the other edges.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import zlib
from collections.abc import Sequence

import numpy as np

from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.chunking import chunks
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.linked_text import (
    align,
    encode_prompt,
    encode_source,
    encode_titles,
    format_target,
)
from insgenel_jax.tokenizer import Tokenizer
from insgenel_jax.tokenizer.tokenizer import BOUNDARIES_OF_A_LINK
from insgenel_jax.training.data.decisions import (
    NONE,
    Candidate,
    target_decisions,
    token_matches,
)
from insgenel_jax.training.data.documents import Expand
from insgenel_jax.training.data.lengths import chunk_budget
from insgenel_jax.training.data.noise import description_words, replace_words
from insgenel_jax.training.settings import GeneratorData

FORMS = 100_000  # surface forms whose titles are remembered
OTHERS = 15  # other edges of a position that are kept, the likelier ones
NO_EDGE = -1
INSIDE_A_TOKEN = "mentions that start or end inside a token"


class TitleIds:
    """Token ids of titles, remembered. most: candidates of a form, 0 for all."""

    def __init__(self, tokenizer: Tokenizer, kb: KnowledgeBase | None, most: int):
        self._tokenizer, self._kb, self._most = tokenizer, kb, most or None
        self._by_title: dict[str, list[int]] = {}
        self.of_form = functools.lru_cache(maxsize=FORMS)(self._of_form)

    def of_title(self, title: str) -> list[int]:
        """The ids of a title; [] if the tokenizer has none for it."""
        if title not in self._by_title:
            self._by_title[title] = encode_titles(self._tokenizer, [title])[0]
        return self._by_title[title]

    def _of_form(self, form: int | None) -> list[Candidate]:
        """The candidates that the dictionary has for a surface form, with counts."""
        if form is None or self._kb is None:
            return []
        rows = zip(*(a.tolist() for a in self._kb.candidates(form)), strict=True)
        found = [
            (self.of_title(self._kb.title(entity)), float(count))
            for entity, count in itertools.islice(rows, self._most)
        ]
        return [(ids, count) for ids, count in found if ids]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What examples are made from besides their document."""

    tokenizer: Tokenizer
    kb: KnowledgeBase | None
    settings: GeneratorData
    titles: TitleIds
    budget: int  # tokens for a chunk: its source in prompt and target, and its links
    words: Sequence[str]  # that replace others, if the settings ask for noise


def generator_expand(
    tokenizer: Tokenizer, kb: KnowledgeBase | None, settings: GeneratorData
) -> Expand:
    """Document -> examples: chunks of whole sentences that fit max_length.

    Without a knowledge base every position outside of links counts as FORCED, and every
    title token as TITLE.
    Raises ConfigError where max_length leaves no room for text.
    """
    inputs = Inputs(
        tokenizer=tokenizer,
        kb=kb,
        settings=settings,
        titles=TitleIds(tokenizer, kb, settings.max_candidates),
        budget=chunk_budget(tokenizer, settings),
        words=description_words(kb) if kb is not None and settings.word_noise else [],
    )
    return functools.partial(expand_document, inputs)


def expand_document(
    inputs: Inputs, document: Document, counts: collections.Counter
) -> list[dict]:
    """The examples of a document; `counts` learns what was left out, and why."""
    settings = inputs.settings
    if settings.word_noise:
        document = replace_words(document, settings.word_noise, inputs.words)
    text = document.text
    mentions = _teachable(inputs, document.mentions, counts)
    tokens = encode_source(inputs.tokenizer, text)
    links, dropped = align(tokens, mentions)
    counts[INSIDE_A_TOKEN] += dropped
    # in the target, and in the prompt
    costs = np.full(len(tokens), 2.0 if settings.prompt_text else 1.0)
    for start, _, mention in links:
        title = inputs.titles.of_title(mention.entity)
        costs[start] += BOUNDARIES_OF_A_LINK + len(title)
    linked = [mention for _, _, mention in links]
    joined = [(mention.start, mention.end) for mention in linked]
    spans = chunks(text, tokens.starts, costs, inputs.budget, joined)
    examples = []
    for number, (start, end) in enumerate(spans):
        inside = _cut(linked, start, end, counts)
        name = f"{document.id}#{number}"
        example = make_example(inputs, name, text[start:end], inside, counts)
        if len(example["columns"]) > settings.max_length:
            counts["chunks over max_length"] += 1
            continue
        examples.append(example | {"id": name})
    return examples


def _teachable(
    inputs: Inputs, mentions: Sequence[Mention], counts: collections.Counter
) -> list[Mention]:
    """The mentions that name a known entity, by the title of the knowledge base."""
    kept = []
    for mention in mentions:
        if mention.entity is None:
            continue
        counts["mentions"] += 1
        title = mention.entity if inputs.kb is None else _title(inputs.kb, mention)
        if title is None:
            counts["mentions of no known entity"] += 1
        elif not inputs.titles.of_title(title):
            counts["mentions whose title has no tokens"] += 1
        else:
            kept.append(dataclasses.replace(mention, entity=title))
    return kept


def _title(kb: KnowledgeBase, mention: Mention) -> str | None:
    entity = kb.find(mention.entity)
    return None if entity is None else kb.title(entity)


def _cut(
    mentions: Sequence[Mention], start: int, end: int, counts: collections.Counter
) -> list[Mention]:
    """The mentions inside the characters [start, end), moved to begin at 0."""
    touching = [m for m in mentions if start < m.end and m.start < end]
    inside = [m for m in touching if start <= m.start and m.end <= end]
    counts["mentions cut by a chunk"] += len(touching) - len(inside)
    return [
        dataclasses.replace(m, start=m.start - start, end=m.end - start) for m in inside
    ]


def pick_instruction(settings: GeneratorData, name: str) -> str:
    """One of the instructions, drawn evenly; a function of the example's name, so that
    a resumed run sees what the first run saw."""
    instructions = (settings.instruction, *settings.more_instructions)
    return instructions[zlib.crc32(name.encode()) % len(instructions)]


def make_example(
    inputs: Inputs,
    name: str,
    text: str,
    mentions: Sequence[Mention],
    counts: collections.Counter,
) -> dict[str, np.ndarray]:
    """The columns and biases of a chunk's prompt and target. name: of the example."""
    tokenizer, settings = inputs.tokenizer, inputs.settings
    tokens = encode_source(tokenizer, text)
    aligned, dropped = align(tokens, mentions)
    counts[INSIDE_A_TOKEN] += dropped
    links = [(i, j, inputs.titles.of_title(m.entity)) for i, j, m in aligned]
    instruction = pick_instruction(settings, name)
    prompt = encode_prompt(tokenizer, instruction, text if settings.prompt_text else "")
    ids = np.array(prompt + format_target(tokenizer, tokens, links), np.int32)
    decisions = target_decisions(
        tokenizer,
        tokens,
        links,
        token_matches(tokens, text, inputs.kb),
        inputs.titles.of_form,
        settings.prior_weight,
    )
    columns = np.full((len(ids) - 1, 3 + OTHERS), NO_EDGE, np.int32)
    columns[:, 0], columns[:, 1], columns[:, 2] = ids[:-1], ids[1:], NONE
    biases = np.zeros((len(columns), 1 + OTHERS), np.float32)
    # the last position of the prompt has the first token of the target as its target
    for row, decision in enumerate(decisions, start=len(prompt) - 1):
        others, known = decision.others[:OTHERS], decision.biases[: 1 + OTHERS]
        columns[row, 2] = decision.kind
        columns[row, 3 : 3 + len(others)] = others
        biases[row, : len(known)] = known
    return {"columns": columns, "biases": biases}
