"""Tokenizer directories as Hugging Face writes them, copied and damaged."""

import itertools
import json
import shutil
import unicodedata

import numpy as np
import pytest
import tokenizers
from tokenizers import normalizers, pre_tokenizers, processors

from insgenel_jax.text.linked_text import encode_source, find_tokens
from insgenel_jax.tokenizer import copy_tokenizer, load_tokenizer, load_wordpiece
from tests.helpers.tokenizer_directories import HOSTILE, MAKERS, TEXTS


def test_files_that_hugging_face_wrote_are_copied_as_they_are(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    byte_level_json(source)
    config = {"tokenizer_class": "GPT2Tokenizer", "eos_token": "</s>"}
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    (source / "vocab.json").write_text("{}")
    (source / "weights").write_text("not the tokenizer's")
    copy_tokenizer(source, target)
    names = sorted(file.name for file in source.iterdir() if file.is_file())
    assert sorted(file.name for file in target.iterdir()) == names[:-1]
    for name in names[:-1]:
        assert (source / name).read_bytes() == (target / name).read_bytes()
    assert load_tokenizer(target).size == load_tokenizer(source).size


@pytest.mark.parametrize("name", ["sentencepiece", "llama2"])
def test_a_sentencepiece_directory_becomes_a_tokenizer_json(tmp_path, request, name):
    """tokenizer.model and its configs: transformers opens the copy with our ids."""
    transformers = pytest.importorskip("transformers")
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    if name == "llama2":
        model = request.getfixturevalue("data") / "tokenizers/llama2/tokenizer.model"
        shutil.copyfile(model, source / "tokenizer.model")
    else:
        MAKERS["sentencepiece"](source)
    roles = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>"}
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": False, **roles}
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    (source / "special_tokens_map.json").write_text(json.dumps(roles))
    copy_tokenizer(source, target)
    (target / "config.json").write_text('{"model_type": "llama"}')
    theirs = transformers.AutoTokenizer.from_pretrained(target)
    loaded = load_tokenizer(source)
    assert theirs.pad_token_id == load_tokenizer(target).pad == loaded.pad == 0
    for text in HOSTILE[1:]:
        ((ids, _, _),) = loaded.encode_raw([f" {text}"])
        expected = theirs(text, split_special_tokens=True).input_ids
        assert [loaded.bos, *ids.tolist()] == expected, text


@pytest.mark.parametrize("layout", ["prepend", "first", "always", "older"])
def test_layouts_of_a_dummy_prefix(tmp_path, layout):
    """All ways to write LLaMA's and Mistral's dummy prefix give the same tokenizer."""
    (tmp_path / "bare").mkdir()
    MAKERS["sentencepiece"](tmp_path / "bare")
    loaded = load_tokenizer(tmp_path / "bare")
    copy_tokenizer(tmp_path / "bare", tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    assert content["normalizer"]["normalizers"][0]["type"] == "Prepend"
    if layout != "prepend":
        scheme = {"add_prefix_space": True}
        if layout != "older":
            scheme = {"prepend_scheme": layout}
        scheme["split"] = False
        metaspace = {"type": "Metaspace", "replacement": "▁", **scheme}
        content |= {"normalizer": None, "pre_tokenizer": metaspace}
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
        raw = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        assert raw.encode("York", add_special_tokens=False).tokens[0][0] == "▁"
    again = load_tokenizer(tmp_path)
    texts = [text for text in HOSTILE if text]
    for ours, theirs in zip(
        loaded.encode_raw(texts), again.encode_raw(texts), strict=True
    ):
        np.testing.assert_array_equal(np.stack(ours), np.stack(theirs))


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"do_lower_case": False},
        {"do_lower_case": True, "strip_accents": False},
        {"tokenize_chinese_chars": False},
    ],
    ids=str,
)
def test_bert_with_its_vocabulary_alone(tmp_path, config):
    """vocab.txt and its copy give the ids of transformers' BertTokenizer."""
    transformers = pytest.importorskip("transformers")
    letters = sorted({c for text in HOSTILE for c in text if not c.isspace()} - {"東"})
    words = ["york", "York", "##s", "spaces", "cafe", "é", "##é", "東京", "日本", "東"]
    words += ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u2028", "x" * 100]
    pieces = [*words, *letters, *(f"##{c}" for c in letters), "york"]
    (tmp_path / "vocab.txt").write_text("".join(f"{p}\n" for p in pieces))
    if config:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    theirs = transformers.BertTokenizer.from_pretrained(tmp_path)
    texts = [t for t in HOSTILE if len(t) < 1000] + [
        "York's CAFÉ",
        "x" * 100,
        "x" * 101,
    ]
    (tmp_path / "copy").mkdir()
    copy_tokenizer(tmp_path, tmp_path / "copy")
    for path in (tmp_path, tmp_path / "copy"):
        ours = load_wordpiece(path)
        assert ours.size == len(pieces) and ours.cls == pieces.index("[CLS]")
        for pairs in (None, texts[::-1]):
            expected = theirs(
                texts,
                pairs,
                split_special_tokens=True,
                padding="max_length",
                truncation="longest_first",
                max_length=64,
            ).input_ids
            found = ours.encode(texts, 64, pairs)
            np.testing.assert_array_equal(found, expected)


def test_a_vocabulary_that_is_not_berts(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[MASK]\na\n")
    with pytest.raises(ValueError, match=r"vocab.txt: .* found no \['\[SEP\]'\]"):
        load_wordpiece(tmp_path)


def byte_level_json(path, **parts):
    """Write a tokenizer.json of byte-level BPE with the `parts` given."""
    (path / "bare").mkdir()
    MAKERS["byte_bpe"](path / "bare")
    copy_tokenizer(path / "bare", path)
    backend = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    for name, part in parts.items():
        setattr(backend, name, part)
    backend.enable_truncation(4)
    backend.enable_padding(length=16)
    backend.save(str(path / "tokenizer.json"))


def test_nothing_is_added_cut_or_trimmed(tmp_path):
    """Prefix, trimmed offsets, truncation and padding in a file have no effect."""
    byte_level_json(
        tmp_path,
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True),
        post_processor=processors.ByteLevel(trim_offsets=True),
    )
    loaded = load_tokenizer(tmp_path)
    plain = load_tokenizer(tmp_path / "bare")
    text = "York grew up  in New York"
    (found,), (expected,) = (t.encode_raw([text]) for t in (loaded, plain))
    np.testing.assert_array_equal(np.stack(found), np.stack(expected))
    assert len(found[0]) > 4


def test_a_normalisation_keeps_the_offsets_of_the_text(tmp_path):
    """A directory like Qwen's, which composes characters (NFC) and has no BOS."""
    byte_level_json(tmp_path, normalizer=normalizers.NFC())
    config = {"bos_token": None, "eos_token": "</s>", "pad_token": {"content": "<pad>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    loaded = load_tokenizer(tmp_path)
    assert (loaded.bos, loaded.pad) == (loaded.eos, 1)
    text = "E\u0301douard met Cafe\u0301"
    ((ids, starts, ends),) = loaded.encode_raw([text])
    ((composed, _, _),) = loaded.encode_raw([unicodedata.normalize("NFC", text)])
    assert ids.tolist() == composed.tolist()
    covered = [range(s, e) for s, e in zip(starts, ends, strict=True)]
    assert set(itertools.chain(*covered)) == set(range(len(text)))
    for span in ((0, 8), (13, 18)):
        assert find_tokens(encode_source(loaded, text), *span) is not None


def test_a_boundary_that_is_not_one_token_is_named_with_its_pieces(tmp_path):
    MAKERS["byte_bpe"](tmp_path)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    merges = (tmp_path / "merges.txt").read_text().replace("Ġ }\n", "")
    (tmp_path / "merges.txt").write_text(merges)
    with pytest.raises(
        ValueError, match=r"' }' to be one token, found 2, \[' ', '}'\]"
    ):
        load_tokenizer(tmp_path)
    assert "Ġ}" in vocabulary


def test_boundaries_that_share_a_token_are_refused(tmp_path):
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"?": 0, "</s>": 1}, unk_token="?")
    )
    backend.save(str(tmp_path / "tokenizer.json"))
    config = json.dumps({"eos_token": "</s>"})
    (tmp_path / "special_tokens_map.json").write_text(config)
    with pytest.raises(ValueError, match="a token of its own for each boundary"):
        load_tokenizer(tmp_path)


def test_a_normalisation_that_makes_boundaries_is_refused(tmp_path):
    byte_level_json(tmp_path, normalizer=normalizers.NFKC())
    with pytest.raises(ValueError, match="boundary tokens that no text can hold"):
        load_tokenizer(tmp_path)


def damage_sentencepiece(path):
    data = (path / "tokenizer.model").read_bytes()
    (path / "tokenizer.model").write_bytes(data[: len(data) // 2])


def write(name, text):
    return lambda path: (path / name).write_text(text)


def append(name, text):

    def damage(path):
        with (path / name).open("a") as file:
            file.write(text)

    return damage


@pytest.mark.parametrize(
    ("kind", "damage", "error"),
    [
        ("sentencepiece", damage_sentencepiece, "tokenizer.model: .*may be cut off"),
        (
            "sentencepiece",
            write("tokenizer.model", "version https://git-lfs.github.com/spec/v1\n"),
            "tokenizer.model: .*pointer to a large file",
        ),
        (
            "sentencepiece",
            write("added_tokens.json", '{"<pad>": 7000}'),
            "'<pad>' to have the id 450, found 7000",
        ),
        ("tiktoken", append("tokenizer.model", "IQ== x\n"), "line 128001: expected a"),
        ("tiktoken", append("tokenizer.model", "IQ== 128000\n"), "found 128,001"),
        ("byte_bpe", append("merges.txt", "ab zz\n"), "merges.txt, line .*'ab zz'"),
        ("byte_bpe", write("vocab.json", "{"), "vocab.json: expected JSON"),
        ("byte_bpe", write("vocab.json", "[1]"), "vocab.json: expected a JSON object"),
        (
            "byte_bpe",
            write("tokenizer_config.json", '{"tokenizer_class": "Qwen2Tokenizer"}'),
            "tokenizer_config.json: .*GPT2Tokenizer, found 'Qwen2Tokenizer'",
        ),
        (
            "byte_bpe",
            write("tokenizer_config.json", '{"pad_token": "<none>"}'),
            "'pad_token' to name a token of the vocabulary, found '<none>'",
        ),
        (
            "byte_bpe",
            write("tokenizer_config.json", '{"eos_token": null}'),
            "'eos_token' to name a token",
        ),
        ("byte_bpe", write("tokenizer.json", "{}"), "tokenizer.json: expected a 'mod"),
        (
            "byte_bpe",
            write("tokenizer.json", '{"model": {"type": "none"}}'),
            "expected a tokenizer of Hugging Face's library",
        ),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, kind, damage, error):
    MAKERS[kind](tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=error):
        load_tokenizer(tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="tokenizer.json, tokenizer.model, or"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="merges.txt: expected vocab.json and"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "options"),
    [
        ("model type BPE", {"model_type": "unigram", "byte_fallback": True}),
        ("byte fallback", {"model_type": "bpe"}),
        (
            "identity normalisation, spaces kept",
            {
                "model_type": "bpe",
                "byte_fallback": True,
                "normalization_rule_name": "nmt_nfkc",
                "remove_extra_whitespaces": True,
            },
        ),
        (
            "no user-defined",
            {
                "model_type": "bpe",
                "byte_fallback": True,
                "user_defined_symbols": ["Queen"],
            },
        ),
    ],
)
def test_other_kinds_of_sentencepiece_are_refused(tmp_path, wrong, options):
    sentencepiece = pytest.importorskip("sentencepiece")
    with (tmp_path / "tokenizer.model").open("wb") as model:
        plain = {
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "vocab_size": 330 if "byte_fallback" in options else 70,
        }
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS * 20),
            model_writer=model,
            minloglevel=2,
            **plain | options,
        )
    with pytest.raises(ValueError, match=f"one without {wrong}"):
        load_tokenizer(tmp_path)


def test_size_is_the_largest_id_and_one(tmp_path):
    """Some ids may be unused; the embedding has a row for each."""
    byte_level_json(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["model"]["vocab"]["hole"] = 999
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert load_tokenizer(tmp_path).size == 1000
