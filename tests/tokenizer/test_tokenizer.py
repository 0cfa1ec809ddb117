"""Offsets and special ids of a tokenizer; training gives the same one every time."""

import json

import numpy as np
import pytest
import tokenizers

from insgenel_jax.tokenizer import (
    load_tokenizer,
    load_wordpiece,
    train_bpe,
    train_wordpiece,
)

HOSTILE = [
    "",
    " ",
    "  two  spaces ",
    "naïve 東京 👩‍🚀",
    "a\u0301",
    "\x00\ufeff",
    "</s> {",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_offsets_tile_a_text(tokenizer, text):
    ((ids, starts, ends),) = tokenizer.encode_raw([text])
    assert len(ids) == len(starts) == len(ends)
    covered = {i for s, e in zip(starts, ends, strict=True) for i in range(s, e)}
    assert covered == set(range(len(text)))
    assert (np.diff(starts) >= 0).all() and (np.diff(ends) >= 0).all()


def test_special_ids_are_distinct(tokenizer):
    t = tokenizer
    special = {t.bos, t.eos, t.pad, t.open, t.close, t.entity, t.end}
    assert len(special) == 7 and max(special) < t.size


def test_a_tokenizer_without_boundary_tokens_is_refused(tmp_path, tokenizer):
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>"], initial_alphabet=alphabet
    )
    backend.train_from_iterator(["abc"], trainer)
    backend.save(str(tmp_path / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": "<s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="boundary string ' {' to be one token"):
        load_tokenizer(tmp_path)


def test_wordpiece(tmp_path):
    texts = ["the smallest planet", "a singer of the band"] * 5
    wordpiece = train_wordpiece(texts, 100, tmp_path / "wordpiece")
    ids = wordpiece.encode(["The planet [SEP] x", ""], 8, ["a singer", "band"])
    assert ids.shape == (2, 8) and ids.dtype == np.int32
    assert ids[0, 0] == wordpiece.cls
    assert (ids[0] == wordpiece.sep).sum() <= 2
    assert ids[1].tolist()[:2] == [wordpiece.cls, wordpiece.sep]
    assert ids[1, -1] == wordpiece.pad
    again = load_wordpiece(tmp_path / "wordpiece")
    lower = again.encode(["the planet [sep] x", ""], 8, ["A Singer", "band"])
    np.testing.assert_array_equal(ids, lower)


def test_training_is_a_function_of_the_texts(tmp_path):
    """The library's WordPiece trainer would number pieces in a hash map's order."""
    texts = [f"{chr(97 + i)}{chr(98 + j)} naïve" for i in range(20) for j in range(20)]
    files = []
    for run in range(3):
        for name, train in (("bpe", train_bpe), ("wordpiece", train_wordpiece)):
            train(iter(texts), 300, tmp_path / name / str(run))
            files.append((tmp_path / name / str(run) / "tokenizer.json").read_bytes())
    assert len(set(files)) == 2
