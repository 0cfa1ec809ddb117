"""The tokenizer is asked once for a document, a chunk's prompt, and a title."""

import collections
import dataclasses

import pytest

from insgenel_jax import mini_world
from insgenel_jax.linker import Linker
from insgenel_jax.text.document import Document, normalise
from insgenel_jax.text.linked_text import encode_source


class Counting:
    """encode_raw of a tokenizer; counts every string that it is given."""

    def __init__(self, encode_raw):
        self.encode_raw = encode_raw
        self.counts = collections.Counter()

    def __call__(self, texts):
        self.counts.update(texts)
        return self.encode_raw(texts)


@pytest.mark.parametrize("name_parts", ["off", "new", "override"])
def test_everything_is_tokenised_once(linker_path, name_parts):
    linker = Linker.from_pretrained(
        linker_path, name_parts=name_parts, chunk_tokens=40, mention_bias=3.0
    )
    texts = [
        f"Case {number}: {document.text}"
        for number, document in enumerate(mini_world.paragraphs("dev", 12))
    ]
    chunks = linker.chunks([Document(str(i), text) for i, text in enumerate(texts)])
    assert len(chunks) > 2 * len(texts)
    tokenizer = linker.generator.tokenizer
    sources = collections.Counter()
    for text in texts:
        counting = Counting(tokenizer.encode_raw)
        encode_source(dataclasses.replace(tokenizer, encode_raw=counting), text)
        sources += counting.counts

    counting = Counting(tokenizer.encode_raw)
    linker.generator = dataclasses.replace(
        linker.generator,
        tokenizer=dataclasses.replace(tokenizer, encode_raw=counting),
    )
    fresh = Linker(
        linker.generator, linker.kb, linker.retriever, linker.index, linker.settings
    )
    fresh(texts)
    instruction = " " + normalise(linker.generator.instruction)
    prompts = collections.Counter(
        " " + normalise(texts[chunk.document][chunk.start : chunk.end])
        for chunk in chunks
    )
    titles = {" " + normalise(linker.kb.title(i)) for i in range(len(linker.kb))}
    # the instruction goes with every prompt, and once alone to measure it
    assert counting.counts[instruction] == len(chunks) + 1
    rest = counting.counts - prompts - sources
    del rest[instruction]
    assert set(rest) <= titles
    assert set(rest.values()) == {1}
