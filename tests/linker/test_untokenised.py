"""Titles that the tokenizer has no tokens for, and documents of one character.

Three tokenizers: one with a token for every byte, one that drops the characters it has
no token for, one that writes <unk> for them.
"""

import collections
import json

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from insgenel_jax.decoding.mentions import CandidateMention
from insgenel_jax.linker import Linker
from insgenel_jax.linker.mentions import leave_out
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.linked_text import (
    encode_prompt,
    encode_source,
    encode_titles,
    parse_target,
)
from insgenel_jax.tokenizer import load_tokenizer, train_bpe
from insgenel_jax.tokenizer.tokenizer import BOUNDARIES
from insgenel_jax.training.data.chunks import generator_expand
from insgenel_jax.training.settings import GeneratorData
from tests.helpers.linkers import add_entities
from tests.helpers.marks import TEXTS

PLAIN = [text for text in TEXTS if text.isascii()]
ENTITIES = {
    "York": [],
    "York City": ["York"],
    "Yo東rk": ["York"],
    "Tōkyō": ["Tokyo"],
    "X": ["Mercury"],
    "東": [],
}
UNTOKENISED = {"Yo東rk", "Tōkyō", "東"}


def make_tokenizer(kind, path):
    if kind == "bytes":
        return train_bpe(PLAIN * 5, 400, path)
    unknown = "<unk>" if kind == "unknown" else None
    backend = tokenizers.Tokenizer(models.BPE(unk_token=unknown))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    specials = ["<pad>", "<s>", "</s>", *BOUNDARIES.values()]
    specials += [unknown] if unknown else []
    trainer = trainers.BpeTrainer(
        vocab_size=200, special_tokens=specials, show_progress=False
    )
    backend.train_from_iterator([*PLAIN, "XYZ Tokyo link"] * 5, trainer)
    path.mkdir()
    backend.save(str(path / "tokenizer.json"))
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    (path / "tokenizer_config.json").write_text(json.dumps(named))
    return load_tokenizer(path)


@pytest.fixture(scope="module", params=["bytes", "drops", "unknown"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def linker(kind, tmp_path_factory):
    """INSGENEL with a bias so large that it links whatever it can."""
    root = tmp_path_factory.mktemp(kind)
    tokenizer = make_tokenizer(kind, root / "bpe")
    path = add_entities(root, ENTITIES, tokenizer.size)
    return Linker.from_pretrained(path, mention_bias=60.0, decoder="speculative")


def test_such_titles_have_no_tokens(linker, kind):
    """They get no tokens, rather than those of a part that is another title."""
    tokenizer = linker.generator.tokenizer
    titles = [*ENTITIES, "York (東)", "York {X}"]
    ids = dict(zip(titles, encode_titles(tokenizer, titles), strict=True))
    empty = {title for title, found in ids.items() if not found}
    assert empty == ({*UNTOKENISED, "York (東)"} if kind != "bytes" else set())
    kept = [tuple(found) for found in ids.values() if found]
    assert len(set(kept)) == len(kept)


def test_such_candidates_are_left_out(linker, kind):
    """The other candidates share the probability; a mention without any is gone."""
    expected = {"York": {"York", "York City"}, "Mercury": {"X"}}
    if kind == "bytes":
        expected["York"].add("Yo東rk")
        expected |= {"Tokyo": {"Tōkyō"}, "東": {"東"}}
    document = Document("", "York saw Tokyo, 東 and Mercury.")
    (found,) = linker.candidates([document])
    titles = [{linker.kb.title(e) for e in c.entities.tolist()} for c in found]
    forms = [document.text[c.start : c.end] for c in found]
    assert dict(zip(forms, titles, strict=True)) == expected
    for candidate in found:
        assert np.exp(candidate.log_prior).sum() == pytest.approx(1)
        assert not candidate.log_retriever.any()  # there is no retriever
    mentions = linker(document).mentions
    assert [(m.start, m.end) for m in mentions] == [(c.start, c.end) for c in found]
    for mention, allowed in zip(mentions, titles, strict=True):
        assert mention.entity in allowed
    assert linker.stats["untokenised"] == (0 if kind == "bytes" else len(UNTOKENISED))


def test_given_mentions_of_such_candidates_come_back(linker, kind):
    (york, tokyo) = linker("York, Tokyo", mentions=[(0, 4), (6, 11)]).mentions
    assert york.entity in ENTITIES
    assert tokyo.entity == ("Tōkyō" if kind == "bytes" else None)


def test_documents_of_one_character(linker, kind):
    """A surface form of one character is linked."""
    texts = ["X", "x", "Y", ".", " ", "東", "é", "\0", "{"]
    links = [
        [(m.start, m.end, m.entity) for m in document.mentions]
        for document in linker(texts)
    ]
    expected = [[(0, 1, "X")], [(0, 1, "X")], *([] for _ in texts[2:])]
    if kind == "bytes":
        expected[texts.index("東")] = [(0, 1, "東")]
    assert links == expected


def test_training_leaves_such_links_out(linker, kind):
    """Links with such titles are counted, and the target still parses."""
    tokenizer, text = linker.generator.tokenizer, "York met York in Tokyo."
    labels = [
        Mention(0, 4, "Yo東rk"),
        Mention(9, 13, "York City"),
        Mention(17, 22, "Tōkyō"),
    ]
    counts = collections.Counter()
    data = GeneratorData(documents="", batch=1, max_length=512, instruction="link")
    expand = generator_expand(tokenizer, linker.kb, data)
    [example] = expand(Document("", text, mentions=tuple(labels)), counts)
    prompt = encode_prompt(tokenizer, "link", text)
    target = example["columns"][len(prompt) - 1 :, 1].tolist()
    tokens = encode_source(tokenizer, text)
    kept = labels if kind == "bytes" else labels[1:2]
    titles = encode_titles(tokenizer, [mention.entity for mention in kept])
    links = parse_target(tokenizer, tokens, target)
    assert [title for *_, title in links] == titles
    assert counts["mentions whose title has no tokens"] == len(labels) - len(kept)


def test_what_is_left_keeps_its_scores():
    """Probabilities of the candidates that are left sum to one."""
    log_prior, scores = np.log([0.5, 0.3, 0.2]), np.array([2.0, 1.0, 3.0], np.float32)
    log_retriever = scores - np.log(np.exp(scores).sum())
    candidate = CandidateMention(
        0, 4, np.array([5, 3, 9]), log_prior, log_retriever, retriever_scores=scores
    )
    assert leave_out(candidate, {4}) is candidate
    assert leave_out(candidate, {9, 5, 3}) is None
    kept = leave_out(candidate, {3})
    assert kept.entities.tolist() == [5, 9]
    np.testing.assert_allclose(np.exp(kept.log_prior), [5 / 7, 2 / 7])
    assert kept.retriever_scores.tolist() == [2.0, 3.0]
    np.testing.assert_allclose(np.diff(kept.log_retriever), [1.0], atol=1e-6)
    assert np.exp(kept.log_retriever).sum() == pytest.approx(1)
