"""A tokenizer directory of any family in; the content of one `tokenizer.json` out.

    tokenizer.json                    as it stands (Llama-3, Qwen, Mistral, ours)
    tokenizer.model, SentencePiece    LLaMA 1 and 2
    tokenizer.model, tiktoken         Llama-3's raw file
    vocab.json + merges.txt           OPT
    vocab.txt                         BERT

The content is what Hugging Face's library would hold: it begins a text with BOS and,
where the family does so, a dummy prefix. `make_literal` takes both away.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import tokenizers

from insgenel_jax.tokenizer.families import (
    LLAMA3_PATTERN,
    Family,
    added_token,
    byte_letters,
    read_byte_bpe,
    read_sentencepiece,
    read_tiktoken,
    read_wordpiece,
)

ROLES = ("bos_token", "eos_token", "pad_token")
# a token that no text holds
_UNKNOWN, _UNKNOWN_ID = "\0unknown", (1 << 31) - 1
# what `splits_before_spaces` knows of
_LOCAL = ("ByteLevel", "Metaspace", "Digits")
_AFFIXES = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
_NFC = {"type": "NFC"}
_SPACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
_TIKTOKEN_LINE = re.compile(rb"[A-Za-z0-9+/]+=* \d+\r?\n")


def read_files(path: Path) -> Family:
    """The content of a `tokenizer.json`, and the token of each of `ROLES` or None.

    Raises FileNotFoundError where no family's files are there, ValueError that names
    the file where one cannot be used.
    """
    if (path / "tokenizer.json").is_file():
        content, special = read_json(path / "tokenizer.json"), {}
        if not isinstance(content.get("model"), dict):
            raise ValueError(
                f"{path}/tokenizer.json: expected a 'model' with the vocabulary, found "
                "none"
            )
        return content, special | _named(path)
    if (path / "tokenizer.model").is_file():
        data = (path / "tokenizer.model").read_bytes()
        read = read_tiktoken if _TIKTOKEN_LINE.match(data) else read_sentencepiece
        content, special = read(data, path / "tokenizer.model")
    elif (path / "vocab.json").is_file() or (path / "merges.txt").is_file():
        content, special = _read_vocabulary_and_merges(path)
    elif (file := path / "vocab.txt").is_file():
        config = _config(path, "tokenizer_config.json")
        content, special = read_wordpiece(file.read_text("utf-8"), config, file)
    else:
        raise FileNotFoundError(
            f"{path}: expected the tokenizer of a model directory (tokenizer.json, "
            "tokenizer.model, or vocab.json and merges.txt, or BERT's vocab.txt), found "
            "no such file"
        )
    special |= _named(path)
    _add_tokens(content, path)
    bos = special["bos_token"] or special["eos_token"]
    ids = {t["content"]: t["id"] for t in content["added_tokens"]}
    ids = content["model"]["vocab"] | ids
    if bos in ids:
        content["post_processor"] = _begin_with(bos, ids[bos])
    return content, special


def make_literal(content: dict, where: Path) -> tokenizers.Tokenizer:
    """The tokenizer of `content` that adds nothing to a text and finds no specials."""
    content = content | {
        "truncation": None,
        "padding": None,
        # adds BOS, and may trim the offsets of spaces
        "post_processor": None,
        "normalizer": _without_prefix(content.get("normalizer")),
        "pre_tokenizer": _without_prefix(content.get("pre_tokenizer")),
    }
    try:
        backend = tokenizers.Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # noqa: BLE001 (the library raises nothing narrower)
        raise ValueError(
            f"{where}: expected a tokenizer of Hugging Face's library, found {error}"
        ) from None
    # "</s>" spelled out in a document is text, not the end of it
    backend.encode_special_tokens = True
    return backend


def mark_unknown(content: dict) -> tuple[dict, int] | None:
    """The content of a tokenizer that writes what `content`'s has no token for.

    -> it, and the id that it writes then; None where there is a token for every text.
    """
    model = content["model"]
    vocabulary = model["vocab"]
    unigram = isinstance(vocabulary, list)  # of [piece, score]
    pieces = {piece for piece, _ in vocabulary} if unigram else vocabulary.keys()
    fallback = {f"<0x{byte:02X}>" for byte in range(256)}
    if model.get("byte_fallback") and pieces >= fallback:
        return None
    cuts = json.dumps([content.get("normalizer"), content.get("pre_tokenizer")])
    if '"ByteLevel"' in cuts and pieces >= set(byte_letters().values()):
        return None
    if unigram:  # drops nothing: without an unknown piece it refuses the text
        unknown = model.get("unk_id")
        return None if unknown is None else (content, unknown)
    marked = {"vocab": vocabulary | {_UNKNOWN: _UNKNOWN_ID}, "unk_token": _UNKNOWN}
    return content | {"model": model | marked}, _UNKNOWN_ID


def splits_before_spaces(content: dict) -> bool:
    """Whether a text can be cut before a space at which a token begins.

    True if the tokens on the two sides of "x| y" are those of "x" and of " y", where x
    is no kind of space and a token begins at the space. The patterns of GPT-2 and Llama-3
    match nothing across such a place; and in a BPE over the whole text (SentencePiece's)
    no merge crossed it, so that the two sides were merged independently. False for all
    else, of which this is not known.
    """
    model = content["model"]
    normalizers = _steps(content.get("normalizer"), "normalizers")
    cutters = _steps(content.get("pre_tokenizer"), "pretokenizers")
    return (
        all(step in (_NFC, _SPACE) for step in normalizers)
        and all(step["type"] in _LOCAL or _is_llama3(step) for step in cutters)
        and all(token["special"] for token in content.get("added_tokens", ()))
        and model["type"] == "BPE"
        and not any(model.get(key) for key in _AFFIXES)
        and mark_unknown(content) is None
    )


def _is_llama3(step: dict) -> bool:
    return step["type"] == "Split" and step["pattern"] == {"Regex": LLAMA3_PATTERN}


def _steps(part: dict | None, key: str) -> list[dict]:
    """The steps of a normalizer or pre-tokenizer that puts nothing before a text."""
    part = _without_prefix(part)
    if part is None:
        return []
    return part[key] if part["type"] == "Sequence" else [part]


def read_json(file: Path) -> dict:
    """The object of a JSON file. Raises ValueError that names it."""
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: expected JSON, found {error}") from None
    if type(content) is not dict:
        raise ValueError(f"{file}: expected a JSON object, found {type(content)}")
    return content


def _read_vocabulary_and_merges(path: Path) -> Family:
    for name in ("vocab.json", "merges.txt"):
        if not (path / name).is_file():
            raise FileNotFoundError(
                f"{path / name}: expected vocab.json and merges.txt together, found "
                "only the other"
            )
    kind = _config(path, "tokenizer_config.json").get("tokenizer_class") or "GPT2"
    if not kind.startswith("GPT2"):
        raise ValueError(
            f"{path}/tokenizer_config.json: expected vocab.json and merges.txt of a "
            f"GPT2Tokenizer, found {kind!r}, which cuts words in another way; give its "
            "tokenizer.json"
        )
    file = path / "merges.txt"
    merges = file.read_text(encoding="utf-8")
    return read_byte_bpe(read_json(path / "vocab.json"), merges, file)


def _config(path: Path, name: str) -> dict:
    return read_json(path / name) if (path / name).is_file() else {}


def _without_prefix(part: dict | None) -> dict | None:
    """A normalizer or pre-tokenizer that puts nothing before a text."""
    if part is None or part["type"] == "Prepend":
        return None
    if part["type"] == "Metaspace":
        return part | {"prepend_scheme": "never"}
    if part["type"] == "ByteLevel":
        return part | {"add_prefix_space": False}
    for key in ("normalizers", "pretokenizers"):
        if key in part:
            inner = [_without_prefix(p) for p in part[key]]
            return part | {key: [p for p in inner if p is not None]}
    return part


def _named(path: Path) -> dict[str, str | None]:
    """The special tokens that the directory's configs name; the last one counts."""
    named = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        config = _config(path, file)
        for role in ROLES:
            if role in config:
                token = config[role]
                named[role] = token["content"] if isinstance(token, dict) else token
    return named


def _add_tokens(content: dict, path: Path) -> None:
    """Add the tokens that the directory's configs give ids behind the vocabulary."""
    added: dict[str, int] = _config(path, "added_tokens.json")
    decoder = _config(path, "tokenizer_config.json").get("added_tokens_decoder", {})
    added |= {token["content"]: int(token_id) for token_id, token in decoder.items()}
    known = content["model"]["vocab"] | {
        token["content"]: token["id"] for token in content["added_tokens"]
    }
    for token, token_id in sorted(added.items(), key=lambda item: item[1]):
        if token in known and known[token] == token_id:
            continue
        if token in known or token_id != len(known):
            raise ValueError(
                f"{path}: expected the added token {token!r} to have the id "
                f"{known.get(token, len(known))}, found {token_id}"
            )
        content["added_tokens"].append(added_token(token, token_id))
        known[token] = token_id


def _begin_with(bos: str, bos_id: int) -> dict:
    sequence = [
        {"SpecialToken": {"id": bos, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    second = [{"Sequence": {"id": "B", "type_id": 1}}]
    return {
        "type": "TemplateProcessing",
        "single": sequence,
        "pair": sequence + second,
        "special_tokens": {bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}},
    }
