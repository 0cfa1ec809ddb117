"""A generator of ours as the source of answers."""

import jax
import pytest

from insgenel_jax import models
from insgenel_jax.decoding import free
from insgenel_jax.generator import Generator
from insgenel_jax.icl import IclLinker, IclSettings, generator_source
from insgenel_jax.linker.batches import decoder_model
from insgenel_jax.linker.search import open_search
from insgenel_jax.models.config import ModelConfig

SHAPE = {"dim": 16, "layers": 1, "heads": 2, "ffn": 16}


def make(tokenizer, max_positions):
    config = ModelConfig("llama", tokenizer.size, max_positions=max_positions, **SHAPE)
    params = models.init_params(config, jax.random.key(0))
    params = jax.tree.map(lambda p: p * 5, params)
    return Generator(config, params, tokenizer, "link", 175)


def test_answers_are_what_free_decoding_writes(tokenizer):
    generator = make(tokenizer, 128)
    source = generator_source(generator, "tiny", batch=2)
    prompts = ["Paris is a city", "x " * 200, "Java", "Paris met Paris in Paris"]
    answers = dict(source.ask(prompts, 20))
    found = f"a prompt of {source.count_tokens(prompts[1]) + 1} tokens, expected at"
    assert answers.pop(1).error.startswith(found)
    ids = [
        [tokenizer.bos, *tokenizer.encode_raw([prompts[i]])[0][0].tolist()]
        for i in sorted(answers)
    ]
    written = free.write(
        decoder_model(generator.config),
        generator.params,
        ids,
        batch=2,
        new_tokens=20,
        eos=tokenizer.eos,
    )
    for (_, answer), (tokens, cut_off), prompt in zip(
        sorted(answers.items()), written, ids, strict=True
    ):
        assert answer.text == tokenizer.decode(tokens)
        assert (answer.cut_off, answer.answer_tokens) == (cut_off, len(tokens))
        assert answer.prompt_tokens == len(prompt)


def test_it_stops_after_the_line_end(tokenizer, monkeypatch):
    """The condition that free decoding is given."""
    given = {}

    def write(*_, stop, **__):
        given["stop"] = stop
        return []

    monkeypatch.setattr(free, "write", write)
    source = generator_source(make(tokenizer, 64), "tiny")
    with pytest.raises(ValueError, match="shorter"):  # no answer for its prompt
        list(source.ask(["x"], 4))
    for text, over in (("a\nEND\n", True), ("a\nEND", False), ("THE END\n", False)):
        ids = tokenizer.encode_raw([text])[0][0].tolist()
        assert given["stop"](ids) is over
        assert tokenizer.decode(ids) == text


def test_a_random_generator_links_nothing(linker_path, tokenizer):
    """Noise is no mention, and no crash; a model with few positions is refused."""
    kb, search = open_search(linker_path)
    settings = IclSettings(k=3, max_new_tokens=24, prompt_tokens=2500)
    source = generator_source(make(tokenizer, 4096), "tiny", batch=1)
    linker = IclLinker(kb, source, search, settings)
    assert linker("Paris is the capital of France.").mentions == ()
    assert sum(linker.failures.values()) >= 1
    with pytest.raises(ValueError, match="^positions of the model, less max_new_tok"):
        IclLinker(kb, generator_source(make(tokenizer, 64), "tiny"), search, settings)
