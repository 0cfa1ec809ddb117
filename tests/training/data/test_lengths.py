"""The lengths of examples, against counting in the documents."""

import pytest

from insgenel_jax import mini_world
from insgenel_jax.text.linked_text import (
    align,
    encode_prompt,
    encode_source,
    encode_titles,
)
from insgenel_jax.training.config import ConfigError
from insgenel_jax.training.data import lengths
from insgenel_jax.training.data.chunks import generator_expand


@pytest.mark.parametrize("measured", [10, 256])
def test_what_fills_a_chunk_is_measured(
    make_config, prepared, tokenizer, kb, monkeypatch, measured
):
    """Against counting in the documents: whole here, each a chunk."""
    monkeypatch.setattr(lengths, "SAMPLED", measured)
    data = make_config("generator", {"data.max_length": 512}).data
    expand = generator_expand(tokenizer, kb, data)
    source = filled = rows = 0
    instruction = len(encode_prompt(tokenizer, data.instruction, "")) - 2
    documents = mini_world.paragraphs("train", 60)
    for document in documents[:measured]:
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
