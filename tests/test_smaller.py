"""Directories made smaller: what they give beside the directories they are made of."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from transformers import AutoTokenizer

from insgenel_jax import artifact, tokenizer
from insgenel_jax.generator import load_generator
from insgenel_jax.models import hf
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.smaller import write_smaller
from tests.helpers.linkers import add_generator
from tests.helpers.retrievers import WORDS, write_retriever
from tests.helpers.tiny import BERT, random_params


def near(a, b):
    """Cosines of rows."""
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(scope="module")
def retriever(tmp_path_factory):
    return write_retriever(tmp_path_factory.mktemp("whole") / "retriever")


def test_a_retriever_in_8_bits(retriever, tmp_path):
    write_smaller(retriever, tmp_path / "small", bits=8)
    whole = Retriever.load(retriever)
    small = Retriever.load(tmp_path / "small", verify=True)
    texts = ["the old queen of york", "born in a city", " ".join(WORDS)]
    assert near(small.embed_windows(texts), whole.embed_windows(texts)).min() > 0.999
    manifest = artifact.read(tmp_path / "small")
    assert manifest.made_from == {"retriever": artifact.identity(retriever)}
    assert manifest.identity != artifact.identity(retriever)
    before, after = (
        (path / "mention/model.safetensors").stat().st_size
        for path in (retriever, tmp_path / "small")
    )
    assert after < before / 2


def test_a_generator_in_8_bits(tmp_path):
    words = tokenizer.train_bpe(["some words to link"] * 9, 300, tmp_path / "bpe")
    add_generator(tmp_path, words.size)
    write_smaller(tmp_path / "generator", tmp_path / "small", bits=8)
    whole = load_generator(tmp_path / "generator")
    small = load_generator(tmp_path / "small", verify=True)
    assert (small.instruction, small.config) == (whole.instruction, whole.config)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=np.abs(b).max() / 250),
        small.params,
        whole.params,
    )
    ids = [
        json.loads((tmp_path / p / "config.json").read_text())["eos_token_id"]
        for p in ("generator", "small")
    ]
    assert ids[0] == ids[1]


def test_one_encoder_for_both_roles(retriever, tmp_path):
    """Whatever the folders of the models are called."""
    with artifact.create(tmp_path / "one", "retriever", 1) as draft:
        hf.save_model(
            draft.path / "shared",
            hf.load_config(retriever / "mention"),
            Retriever.load(retriever).params["mention"],
        )
        tokenizer.copy_tokenizer(retriever, draft.path)
    write_smaller(tmp_path / "one", tmp_path / "small", bits=8)
    record = json.loads((tmp_path / "small/shared/config.json").read_text())
    assert record["quantization_config"] == {"insgenel_bits": 8}


def vocabulary(path: Path) -> dict[str, int]:
    return json.loads((path / "tokenizer.json").read_text())["model"]["vocab"]


def test_fewer_tokens(retriever, tmp_path):
    """Texts of tokens that stay have the vectors they had; others fall into pieces."""
    texts = ["queen queen york", "old york", "[SEP] mercury"]
    write_smaller(retriever, tmp_path / "small", texts=texts, at_least=2)
    whole = Retriever.load(retriever)
    small = Retriever.load(tmp_path / "small", verify=True)
    old, new = vocabulary(retriever), vocabulary(tmp_path / "small")
    assert {"queen", "york", "[CLS]", "[UNK]"} <= new.keys() < old.keys()
    assert not {"old", "mercury"} & new.keys()
    assert {p for p in old if len(p.removeprefix("##")) == 1} <= new.keys()
    assert list(new.values()) == list(range(len(new)))
    assert small.tokenizer.size == len(new) == small.configs["entity"].vocabulary
    kept = ["york queen", "queen a"]
    np.testing.assert_allclose(
        small.embed_windows(kept), whole.embed_windows(kept), atol=1e-6
    )
    ids = small.tokenizer.encode(["mercury"], 16)[0]
    names = {number: piece for piece, number in new.items()}
    pieces = [names[i] for i in ids if i != small.tokenizer.pad]
    assert pieces[0] == "[CLS]" and pieces[-1] == "[SEP]"
    assert "".join(p.removeprefix("##") for p in pieces[1:-1]) == "mercury"
    record = json.loads((tmp_path / "small/entity/config.json").read_text())
    assert record["pad_token_id"] == small.tokenizer.pad


def test_a_vocab_txt(tmp_path):
    """BERT's own file, with ids that nothing uses; transformers reads the same ids."""
    special = ["[unused0]", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    lines = [*special, "a", "##a", "b", "##b", "ab", "abab", "##ab", "cls"]
    lines += [f"[unused{i}]" for i in range(1, 64 - len(lines) + 1)]
    with artifact.create(tmp_path / "base", "base", 1) as draft:
        hf.save_model(
            draft.path, BERT, random_params(BERT), special={"pad_token_id": 1}
        )
        (draft.path / "vocab.txt").write_text("\n".join(lines) + "\n")
    write_smaller(tmp_path / "base", tmp_path / "small", texts=["ab abab", "[CLS]"])
    kept = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    kept += ["a", "##a", "b", "##b", "ab", "abab", "cls"]
    assert (tmp_path / "small/vocab.txt").read_text().split() == kept
    config = hf.load_config(tmp_path / "small")
    assert config.vocabulary == len(kept)
    record = json.loads((tmp_path / "small/config.json").read_text())
    assert record["pad_token_id"] == 0
    rows = hf.load_params(tmp_path / "small", config)["embed"]["embedding"]
    whole = random_params(BERT)["embed"]["embedding"]
    np.testing.assert_array_equal(rows, whole[[lines.index(p) for p in kept]])
    ours = tokenizer.load_wordpiece(tmp_path / "small")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "small")
    for text, pieces in (("ab", "ab"), ("abb", "ab ##b"), ("bab", "b ##a ##b")):
        ids = theirs(text)["input_ids"]
        assert ours.encode([text], len(ids))[0].tolist() == ids
        assert [kept[i] for i in ids] == ["[CLS]", *pieces.split(), "[SEP]"]


def test_only_a_wordpiece_can_be_cut(tmp_path):
    words = tokenizer.train_bpe(["some words to link"] * 9, 300, tmp_path / "bpe")
    add_generator(tmp_path, words.size)
    with pytest.raises(ValueError, match="expected a WordPiece tokenizer, found BPE"):
        write_smaller(tmp_path / "generator", tmp_path / "small", texts=["a"])
    assert not (tmp_path / "small").exists()
