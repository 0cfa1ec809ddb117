"""The lengths of examples, against counting in the documents."""

import collections

import numpy as np
import pytest

from insgenel_jax import mini_world
from insgenel_jax.kb import KnowledgeBase
from insgenel_jax.text.linked_text import (
    align,
    encode_prompt,
    encode_source,
    encode_titles,
)
from insgenel_jax.tokenizer import load_wordpiece
from insgenel_jax.training.data import lengths
from insgenel_jax.training.data.chunks import generator_expand
from insgenel_jax.training.data.documents import in_share
from insgenel_jax.training.data.windows import retriever_expand
from insgenel_jax.training.settings import ConfigError


@pytest.mark.parametrize("measured", [10, 256])
def test_what_fills_a_chunk_is_measured(
    make_config, prepared, tokenizer, kb, monkeypatch, measured
):
    """Against counting in documents drawn at random: whole here, each a chunk."""
    monkeypatch.setattr(lengths, "SAMPLED", measured)
    data = make_config("generator", {"data.max_length": 512}).data
    expand = generator_expand(tokenizer, kb, data)
    source = filled = rows = 0
    instruction = len(encode_prompt(tokenizer, data.instruction, "")) - 2
    documents = mini_world.paragraphs("train", 60)
    drawn = np.random.default_rng(0).permutation(60)[:measured]
    for document in [documents[i] for i in drawn.tolist()]:
        text = encode_source(tokenizer, document.text)
        links, _ = align(text, [m for m in document.mentions if m.entity is not None])
        titles = encode_titles(tokenizer, [m.entity for _, _, m in links])
        source += len(text)
        prompt = encode_prompt(tokenizer, data.instruction, document.text)
        target = len(text) + sum(4 + len(title) for title in titles) + 1
        filled += len(prompt) - 2 - instruction + target - 1
        rows += (len(prompt) + target - 1) / 512
    budget = 512 + 1 - instruction - 3
    steps = rows * 60 / min(measured, 60) / data.batch
    found = lengths.estimate_lengths(tokenizer, expand, data)
    assert found == (int(budget * source / filled), round(steps))
    assert 50 < found[0] < 256 and steps > 1


def test_an_instruction_that_leaves_no_room_is_an_error(make_config, tokenizer, kb):
    room = len(encode_prompt(tokenizer, "Link:", "")) - 2 + 3 - 1 + 2
    config = make_config("generator", {"data.max_length": room})
    generator_expand(tokenizer, kb, config.data)
    config = make_config("generator", {"data.max_length": room - 1})
    with pytest.raises(ConfigError, match="data.max_length = .* no room"):
        generator_expand(tokenizer, kb, config.data)


def test_lengths_of_other_rows_and_shares(make_config, prepared, tokenizer, kb):
    """Unpacked, every example is a row; of a share, only its pages count."""
    documents = mini_world.paragraphs("train", 60)
    for share in (1.0, 0.5):
        data = make_config(
            "generator", {"data.packed": False, "data.share": share}
        ).data
        expand, counts = generator_expand(tokenizer, kb, data), collections.Counter()
        kept = [d for d in documents if in_share(d.id, share)]
        rows = sum(len(expand(document, counts)) for document in kept)
        _, steps = lengths.estimate_lengths(tokenizer, expand, data)
        assert steps == round(rows / data.batch) > 1


def test_an_epoch_of_windows(make_config, prepared):
    data = make_config("retriever").data
    kb = KnowledgeBase.open(prepared / "kb")
    expand = retriever_expand(load_wordpiece(prepared / "retriever"), kb, data)
    counts = collections.Counter()
    windows = sum(len(expand(d, counts)) for d in mini_world.paragraphs("train", 60))
    assert lengths.estimate_window_steps(expand, data) == round(windows / data.batch)
