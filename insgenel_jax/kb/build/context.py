"""Links in their sentences, and surface forms, in; the context of entities out.

The context stands in for the description of an entity that has none, so that the
retriever has more to go by than a title: its most frequent other names, then sentences
that link to it.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import marisa_trie
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from insgenel_jax.kb.build.names import title_forms
from insgenel_jax.kb.folding import form_key, title_key
from insgenel_jax.text.chunking import sentences
from insgenel_jax.text.document import Document, Mention

SENTENCES = pa.schema([("title", pa.large_string()), ("sentence", pa.large_string())])

MOST_SENTENCES = 2  # of an entity
LONGEST_SENTENCE = 200  # characters
_MOST_ALIASES = 5


def add_sentences(paragraph: Document, found: dict[str, list[str]]) -> None:
    """Add the sentences of a paragraph's links to `found`, as far as they are wanted.

    found: title -> its sentences, MOST_SENTENCES of them at most.
    """
    wanting = [
        mention
        for mention in paragraph.mentions
        if mention.entity is not None
        and len(found.get(mention.entity, ())) < MOST_SENTENCES
    ]
    if not wanting:
        return
    spans = sentences(paragraph.text)
    starts = [start for start, _ in spans]
    for mention in wanting:
        kept = found.setdefault(mention.entity, [])
        span = spans[bisect.bisect_right(starts, mention.start) - 1]
        sentence = _cut(paragraph.text, span, mention)
        if len(kept) < MOST_SENTENCES and sentence not in kept:
            kept.append(sentence)


def _cut(text: str, span: tuple[int, int], mention: Mention) -> str:
    """A sentence; of a long one the words around the mention."""
    start, end = span
    if len(text[start:end].rstrip()) <= LONGEST_SENTENCE:
        return text[start:end].strip()
    middle = (mention.start + mention.end) // 2
    first = min(max(middle - LONGEST_SENTENCE // 2, start), end - LONGEST_SENTENCE)
    last = first + LONGEST_SENTENCE
    words = text[first:last]
    if first > start and not text[first - 1].isspace():  # in the middle of a word
        words = words.partition(" ")[2]
    if last < end and not text[last].isspace():
        words = words.rpartition(" ")[0]
    return words.strip()


def sentence_table(found: Mapping[str, Sequence[str]]) -> pa.Table:
    """The SENTENCES table of what `add_sentences` found, in its order."""
    rows = [(title, text) for title, texts in found.items() for text in texts]
    titles, texts = zip(*rows, strict=True) if rows else ((), ())
    return pa.table({"title": titles, "sentence": texts}, SENTENCES)


def first_sentences(
    tables: Iterable[pa.Table], ends: Mapping[str, str] | None = None
) -> pa.Table:
    """The first MOST_SENTENCES sentences of each title in SENTENCES tables.

    ends: redirect -> the title at its end, whose sentences those of the redirect are.
    """
    ends = ends or {}
    found: dict[str, list[str]] = {}
    for table in tables:
        columns = (table[name].to_pylist() for name in SENTENCES.names)
        for title, sentence in zip(*columns, strict=True):
            kept = found.setdefault(ends.get(title, title), [])
            if len(kept) < MOST_SENTENCES and sentence not in kept:
                kept.append(sentence)
    return sentence_table(found)


def context_column(
    entities: pa.Table,
    keys: pa.Array,
    sentences: pa.Table | None,
    path: Path,
    trie: marisa_trie.Trie,
) -> pa.Array:
    """The context of each entity; "" where there is a description, or nothing to say.

    keys: the key of each entity's title. sentences: the columns of SENTENCES. path,
    trie: where the candidates of all forms were written, and the trie of the forms.
    """
    bare = pc.equal(entities["description"], "").combine_chunks()
    bare = pc.fill_null(bare, True).to_numpy(zero_copy_only=False)
    parts: dict[int, list[str]] = {}
    for row, aliases in _aliases(entities["title"], bare, path, trie):
        parts[row] = [", ".join(aliases) + "."]
    if sentences is not None:
        titles = map(title_key, sentences["title"].to_pylist())
        rows = pc.index_in(pa.array(titles, pa.large_string()), keys).to_pylist()
        for row, text in zip(rows, sentences["sentence"].to_pylist(), strict=True):
            if row is not None and bare[row]:
                parts.setdefault(row, []).append(text)
    texts = (" ".join(parts.get(row, ())) for row in range(len(entities)))
    return pa.array(texts, pa.large_string())


def _aliases(
    titles: pa.ChunkedArray, bare: np.ndarray, path: Path, trie: marisa_trie.Trie
) -> Iterable[tuple[int, list[str]]]:
    """(row, its most frequent forms that its title does not give) of bare entities."""
    indptr, entity, count = (
        np.load(path / f"form_{name}.npy") for name in ("indptr", "entities", "counts")
    )
    # A count below 1 is that of a form which only a rule gives, such as a first name.
    pairs = np.flatnonzero(bare[entity] & (count >= 1))
    form = np.searchsorted(indptr, pairs, side="right") - 1
    entity, count = entity[pairs], count[pairs]
    order = np.lexsort((form, -count, entity))
    rows = zip(entity[order].tolist(), form[order].tolist(), strict=True)
    for row, group in itertools.groupby(rows, key=lambda pair: pair[0]):
        own = {form_key(name) for name in title_forms(titles[row].as_py())}
        names = (trie.restore_key(number) for _, number in group)
        aliases = itertools.islice((n for n in names if n not in own), _MOST_ALIASES)
        if aliases := list(aliases):
            yield row, aliases
