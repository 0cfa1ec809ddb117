"""Training documents in; the generator's batches of numpy arrays out, by way of grain.

Every stage is deterministic given the seed, sharded by process before anything is
packed, and can be saved and set back: the iterator goes into the checkpoint.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import absl.flags
import grain
import jax
import numpy as np

from insgenel_jax import artifact
from insgenel_jax.kb.build import training_documents
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.chunking import chunks
from insgenel_jax.text.document import Document, loads
from insgenel_jax.text.linked_text import (
    Link,
    Tokens,
    align,
    encode_prompt,
    encode_source,
    encode_titles,
    format_target,
)
from insgenel_jax.tokenizer import Tokenizer
from insgenel_jax.training.config import ConfigError, GeneratorData
from insgenel_jax.training.data.noise import description_words, replace_words

# grain reads absl's flags, which nobody parses under typer
if not absl.flags.FLAGS.is_parsed():
    absl.flags.FLAGS.mark_as_parsed()

# What stands at a position of the target. FORCED: one edge is allowed, nothing to
# decide. SKIP: a mention could open and does not. SPAN: longer mention or CLOSE. At SKIP,
# OPEN and SPAN the decoder has one other edge, the rival; elsewhere it is NO_RIVAL.
NO_RIVAL = -1
NONE, FORCED, SKIP, OPEN, SPAN, TITLE = range(6)

MEASURED = 256  # documents that say what an example is like
FAN_OUT = 10_000  # a document has no more chunks or windows than this

Expand = Callable[[Document, collections.Counter], list[dict]]


@dataclasses.dataclass(frozen=True)
class _Expand(grain.experimental.FlatMapTransform):
    """A record of the training documents -> its examples.

    Raises ConfigError where `documents` records in a row, from the first, gave none:
    the records are repeated without end, and so would be the search.
    """

    expand: Expand
    documents: int
    counts: collections.Counter
    max_fan_out: int = FAN_OUT

    def flat_map(self, element: bytes) -> Sequence[dict]:
        found = self._expand(element)
        self.counts["examples"] += len(found)
        read = self.counts["documents"] + self.counts["unreadable documents"]
        if not self.counts["examples"] and read >= self.documents:
            raise no_examples("data.documents", self.counts)
        return found

    def _expand(self, element: bytes) -> Sequence[dict]:
        try:
            document = loads(element)
        except ValueError:
            self.counts["unreadable documents"] += 1
            return []
        self.counts["documents"] += 1
        return self.expand(document, self.counts)


def no_examples(where: str, counts: collections.Counter) -> ConfigError:
    """The error of documents that give no example at all, with what was counted."""
    told = "; ".join(f"{name}: {count:,}" for name, count in counts.items() if count)
    return ConfigError(
        f"{where}: not one example in all of them ({told}); look at data.kb and "
        "data.documents, that they belong together, and at the lengths of the config"
    )


def examples(
    path: str, expand: Expand, seed: int, counts: collections.Counter
) -> grain.IterDataset:
    """Read, shuffle, repeat and shard the training documents; expand each.

    Raises ConfigError where there are none for this process, and, while being read,
    where a whole pass over them gave no example.
    """
    source = _open(path)
    share = slice(jax.process_index(), None, jax.process_count())
    records = grain.MapDataset.source(source).shuffle(seed=seed)[share]
    if not len(records):
        raise ConfigError(
            f"{path}: {len(source)} training documents, too few for "
            f"{jax.process_count()} processes"
        )
    reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=16)
    return grain.experimental.FlatMapIterDataset(
        records.repeat().to_iter_dataset(reading),
        _Expand(expand, len(records), counts),
    )


def _open(path: str) -> grain.sources.ArrayRecordDataSource:
    """The records of training documents, in their order."""
    manifest = artifact.check(path, training_documents.KIND, training_documents.VERSION)
    files = [
        str(Path(path) / name)
        for name in sorted(manifest.files)
        if name.startswith("documents-")
    ]
    return grain.sources.ArrayRecordDataSource(files)


def measure(
    tokenizer: Tokenizer, expand: Expand, settings: GeneratorData
) -> tuple[int, int]:
    """Source tokens of a text that fills max_length; steps of an epoch, about.

    As in the first documents (MEASURED, and more until there is an example): the share
    of source tokens in prompt and target depends on tokenizer and links.
    Raises ConfigError where not one document gives an example.
    """
    records, counts = _open(settings.documents), collections.Counter()
    instruction, budget = _budget(tokenizer, settings)
    expanded = _Expand(expand, len(records), counts)
    entity, end = tokenizer.entity, tokenizer.end
    marks = [tokenizer.open, tokenizer.close, end, tokenizer.eos]
    tokens = filled = whole = 0
    for number in range(len(records)):
        if number >= MEASURED and filled:
            break
        for example in expanded.flat_map(records[number]):
            targets = example["columns"][example["columns"][:, 3] != NONE, 1]
            in_title = np.cumsum(targets == entity) > np.cumsum(targets == end)
            source = ~in_title & ~np.isin(targets, marks)
            tokens += int(np.count_nonzero(source))
            length = len(example["columns"])
            filled += length + 1 - instruction - 3
            whole += length
    per_step = settings.max_length * settings.batch
    read = counts["documents"] + counts["unreadable documents"]
    steps = whole * len(records) / read / per_step
    return max(int(budget * tokens / filled), 1), max(round(steps), 1)


def _budget(tokenizer: Tokenizer, settings: GeneratorData) -> tuple[int, int]:
    """Tokens of the instruction; what it leaves of max_length to source and links.

    Raises ConfigError where that is nothing.
    """
    instruction = len(encode_prompt(tokenizer, settings.instruction, "")) - 2
    budget = settings.max_length + 1 - instruction - 3  # BOS, EOS, EOS
    if budget < 2:  # a token of text, in the prompt and in the target
        raise ConfigError(
            f"data.max_length = {settings.max_length} leaves no room for text beside "
            f"the {instruction} tokens of data.instruction"
        )
    return instruction, budget


def generator_batches(
    dataset: grain.IterDataset,
    settings: GeneratorData,
    seed: int,
    counts: collections.Counter,
) -> grain.IterDataset:
    """Pack examples first-fit into rows of max_length, stack `batch` rows.

    -> tokens, targets, rivals, kinds, segments, positions int32, weights float32 [B T];
    positions restart in each segment, segment 0 is padding; ids: a list per row.
    """
    rows = settings.batch // jax.process_count()
    packed = grain.experimental.FirstFitPackIterDataset(
        dataset,
        length_struct={"columns": settings.max_length},
        meta_features=["id"],
        num_packing_bins=2 * rows,
        seed=seed,
    )
    weights, scored = kind_weights(settings), settings.scored or settings.max_length

    def stack(rows: Sequence[dict]) -> dict:
        batch = _stack(rows, weights)
        over = np.count_nonzero(batch["weights"], axis=1) - scored
        counts["scored positions left out"] += int(np.maximum(over, 0).sum())
        return batch

    batches = packed.batch(rows, batch_fn=stack)
    return grain.experimental.ThreadPrefetchIterDataset(batches, prefetch_buffer_size=4)


def fixed_generator_batches(
    examples: Sequence[dict], settings: GeneratorData
) -> list[dict]:
    """All of these examples, packed; the last batch is filled up with empty rows."""
    dataset = grain.MapDataset.source(list(examples)).to_iter_dataset()
    batches = list(generator_batches(dataset, settings, 0, collections.Counter()))
    rows = settings.batch // jax.process_count()
    for batch in batches[-1:]:
        for name in batch.keys() - {"ids"}:
            missing = rows - len(batch[name])
            batch[name] = np.pad(batch[name], ((0, missing), (0, 0)))
    return batches


def kind_weights(settings: GeneratorData) -> np.ndarray:
    """The weight of the loss at each kind of position, float32 [6]."""
    weights = np.ones(6, np.float32)
    weights[NONE] = 0.0
    weights[FORCED] = settings.copy_loss_weight
    weights[SKIP] = 0.0 if settings.mask_unlabelled_matches else 1.0
    return weights


def _stack(rows: Sequence[dict], weights: np.ndarray) -> dict:
    columns = np.stack([row["columns"] for row in rows])
    tokens, targets, rivals, kinds = np.ascontiguousarray(np.moveaxis(columns, -1, 0))
    return {
        "tokens": tokens,
        "targets": targets,
        "rivals": rivals,
        "kinds": kinds,
        "weights": weights[kinds],
        "segments": np.stack([row["columns_segment_ids"] for row in rows]),
        "positions": np.stack([row["columns_positions"] for row in rows]),
        "ids": [list(row["id"]) for row in rows],
    }


def generator_expand(
    tokenizer: Tokenizer, kb: KnowledgeBase | None, settings: GeneratorData
) -> Expand:
    """Document -> examples: chunks of whole sentences that fit max_length.

    An example is {"columns": int32 [t, 4] of token, target, rival, kind; "id"}. Without a
    knowledge base every position outside of links counts as FORCED, every title token
    as TITLE.
    """
    titles: dict[str, list[int]] = {}
    words = description_words(kb) if settings.word_noise else []
    _, budget = _budget(tokenizer, settings)

    def title_ids(title: str) -> list[int]:
        if title not in titles:
            titles[title] = encode_titles(tokenizer, [title])[0]
        return titles[title]

    @functools.lru_cache(maxsize=100_000)
    def other_titles(form: int | None) -> list[list[int]]:
        if form is None:
            return []
        found = [title_ids(kb.title(e)) for e in kb.candidates(form)[0].tolist()]
        return [ids for ids in found if ids]

    def expand(document: Document, counts: collections.Counter) -> list[dict]:
        if settings.word_noise:
            document = replace_words(document, settings.word_noise, words)
        text, mentions = document.text, []
        for mention in document.mentions:
            if mention.entity is None:
                continue
            counts["mentions"] += 1
            title = mention.entity if kb is None else _kb_title(kb, mention.entity)
            if title is None:
                counts["mentions of no known entity"] += 1
            elif not title_ids(title):
                counts["mentions whose title has no tokens"] += 1
            else:
                mentions.append(dataclasses.replace(mention, entity=title))
        tokens = encode_source(tokenizer, text)
        links, dropped = align(tokens, mentions)
        counts["mentions that start or end inside a token"] += dropped
        costs = np.full(len(tokens), 2.0)  # in the prompt and in the target
        for start, _, mention in links:
            costs[start] += 4 + len(title_ids(mention.entity))
        joined = [(mention.start, mention.end) for _, _, mention in links]
        found = []
        for number, (start, end) in enumerate(
            chunks(text, tokens.starts, costs, budget, joined)
        ):
            inside = [
                dataclasses.replace(
                    mention, start=mention.start - start, end=mention.end - start
                )
                for _, _, mention in links
                if start <= mention.start and mention.end <= end
            ]
            counts["mentions cut by a chunk"] += sum(
                start < mention.end and mention.start < end for _, _, mention in links
            ) - len(inside)
            columns = _columns(text[start:end], inside, counts, title_ids)
            if len(columns) > settings.max_length:
                counts["chunks over max_length"] += 1
                continue
            found.append({"columns": columns, "id": f"{document.id}#{number}"})
        return found

    def _columns(text, mentions, counts, title_ids) -> np.ndarray:
        tokens = encode_source(tokenizer, text)
        aligned, dropped = align(tokens, mentions)
        counts["mentions that start or end inside a token"] += dropped
        links = [(i, j, title_ids(mention.entity)) for i, j, mention in aligned]
        prompt = encode_prompt(tokenizer, settings.instruction, text)
        ids = np.array(prompt + format_target(tokenizer, tokens, links), np.int32)
        kinds, rivals = np.full((2, len(ids)), [[NONE], [NO_RIVAL]], np.int32)
        matches = token_matches(tokens, text, kb)
        kinds[len(prompt) :], rivals[len(prompt) :] = zip(
            *target_decisions(tokenizer, tokens, links, matches, other_titles)
        )
        return np.stack([ids[:-1], ids[1:], rivals[1:], kinds[1:]], axis=1)

    return expand


def _kb_title(kb: KnowledgeBase, title: str) -> str | None:
    entity = kb.find(title)
    return None if entity is None else kb.title(entity)


def token_matches(
    tokens: Tokens, text: str, kb: KnowledgeBase | None
) -> dict[int, dict[int, int]]:
    """Dictionary matches on tokens: first token -> {end: form}; those inside tokens go."""
    if kb is None or not len(tokens):
        return {}
    found = kb.matches(text)
    i = np.searchsorted(tokens.starts, found.starts, side="left")
    j = np.searchsorted(tokens.ends, found.ends, side="right")
    i = np.minimum(i, len(tokens) - 1)
    exact = (tokens.starts[i] == found.starts) & (i < j)
    exact &= tokens.ends[j - 1] == found.ends
    by_start: dict[int, dict[int, int]] = {}
    for start, end, form in zip(
        i[exact].tolist(), j[exact].tolist(), found.forms[exact].tolist()
    ):
        by_start.setdefault(start, {})[end] = form
    return by_start


def target_decisions(
    tokenizer: Tokenizer,
    tokens: Tokens,
    links: Sequence[Link],
    matches: dict[int, dict[int, int]],
    titles: Callable[[int | None], list[list[int]]],
) -> list[tuple[int, int]]:
    """(kind, rival) of every position of `format_target(tokenizer, tokens, links)`.

    titles(form) gives the titles that the dictionary has for a form; [] for None.
    """
    source, forced = tokens.ids.tolist(), (FORCED, NO_RIVAL)
    outside = [
        (SKIP, tokenizer.open) if i in matches else forced for i in range(len(source))
    ]
    found, pointer = [], 0
    for start, end, title in links:
        ends = matches.get(start, {})
        found += [*outside[pointer:start], (OPEN, source[start])]
        found += [
            (SPAN, tokenizer.close) if i in ends else forced for i in range(start, end)
        ]
        longer = end < max(ends, default=0)
        found += [(SPAN, source[end]) if longer else forced, forced]  # CLOSE, ENTITY
        found += _title_decisions(
            [*title, tokenizer.end], titles(ends.get(end)), tokenizer
        )
        pointer = end
    return [*found, *outside[pointer:], forced]


def _title_decisions(
    title: list[int], others: list[list[int]], tokenizer: Tokenizer
) -> list[tuple[int, int]]:
    """TITLE where titles of the mention part ways (or none is known), else FORCED."""
    found, known = [], [[*other, tokenizer.end] for other in others]
    unknown = title not in known
    for place, token in enumerate(title):
        open_to = {other[place] for other in known}
        choice = unknown or len(open_to) > 1
        found.append((TITLE if choice else FORCED, NO_RIVAL))
        known = [other for other in known if other[place] == token]
    return found
