"""GGUF's fields of a byte-level BPE become the tokenizer they came from."""

import json
from pathlib import Path

import pytest

from insgenel_jax.tokenizer import load_tokenizer
from insgenel_jax.tokenizer.gguf import write_gguf_tokenizer
from insgenel_jax.tokenizer.training import train_bpe

TEXTS = ["Ada Lovelace { wrote } [ 1843 ] notes.", "naïve café 東京 🙂  two  spaces"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    train_bpe(TEXTS * 4, 400, path / "t")
    return path / "t"


def make_fields(trained, **changes):
    content = json.loads((trained / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    special = {t["content"]: t["id"] for t in content["added_tokens"]}
    ids = {i: token for token, i in (vocabulary | special).items()}
    merges = [
        m if isinstance(m, str) else " ".join(m) for m in content["model"]["merges"]
    ]
    config = json.loads((trained / "tokenizer_config.json").read_text())
    fields = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [ids[i] for i in range(len(ids))],
        "tokenizer.ggml.token_type": [
            3 if ids[i] in special else 1 for i in range(len(ids))
        ],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": (vocabulary | special)[config["bos_token"]],
        "tokenizer.ggml.eos_token_id": (vocabulary | special)[config["eos_token"]],
    }
    return fields | {f"tokenizer.ggml.{k}": v for k, v in changes.items()}


def test_ids_are_those_of_the_tokenizer_it_came_from(tmp_path, trained):
    write_gguf_tokenizer(make_fields(trained), Path("m.gguf"), tmp_path)
    got, wanted = load_tokenizer(tmp_path), load_tokenizer(trained)
    for text in TEXTS:
        (ids, *_) = got.encode_raw([text])[0]
        (expected, *_) = wanted.encode_raw([text])[0]
        assert ids.tolist() == expected.tolist()
    assert (got.bos, got.eos, got.open) == (wanted.bos, wanted.eos, wanted.open)


def test_smollm_cuts_off_every_digit(tmp_path, trained):
    write_gguf_tokenizer(make_fields(trained, pre="smollm"), Path("m.gguf"), tmp_path)
    (_, starts, _) = load_tokenizer(tmp_path).encode_raw(["x 1843"])[0]
    assert starts.tolist() == [0, 1, 2, 3, 4, 5]
    assert load_tokenizer(tmp_path).splits_before_spaces


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "llama"}, "found 'llama'"),
        ({"pre": "qwen2"}, "found 'gpt2' and 'qwen2'"),
        ({"merges": []}, "missing"),
        ({"token_type": [1]}, "different lengths"),
        ({"merges": ["no such"]}, "pairs of tokens"),
        ({"bos_token_id": 1_000_000}, "1000000"),
    ],
)
def test_other_tokenizers_are_refused(tmp_path, trained, changes, message):
    with pytest.raises(ValueError, match=message):
        write_gguf_tokenizer(make_fields(trained, **changes), Path("m.gguf"), tmp_path)
