"""A tokenizer directory of any family in; the content of one `tokenizer.json` out.

    tokenizer.json                    unchanged (Llama-3, Qwen, Mistral, ours)
    tokenizer.model, SentencePiece    LLaMA 1 and 2
    tokenizer.model, tiktoken         Llama-3's raw file
    vocab.json + merges.txt           OPT
    vocab.txt                         BERT

The content is what transformers expects of the family: BOS is put before a text and,
where the family does so, a space ("dummy prefix"). `literal.py` takes both away.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from insgenel_jax.tokenizer.families import read_byte_bpe, read_tiktoken, read_wordpiece
from insgenel_jax.tokenizer.literal import Family, added_token
from insgenel_jax.tokenizer.sentencepiece import read_sentencepiece

ROLES = ("bos_token", "eos_token", "pad_token")
_TIKTOKEN_LINE = re.compile(rb"[A-Za-z0-9+/]+=* \d+\r?\n")


def read_files(path: Path) -> Family:
    """The content of a `tokenizer.json`, and the token of each of `ROLES` or None.

    Raises FileNotFoundError where the directory has no family's files, ValueError that
    names the file where one cannot be used.
    """
    if (path / "tokenizer.json").is_file():
        content = read_json(path / "tokenizer.json")
        if not isinstance(content.get("model"), dict):
            raise ValueError(
                f"{path}/tokenizer.json: expected a 'model' with the vocabulary, found "
                "none"
            )
        return content, _named(path)
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
            "tokenizer.model, or vocab.json and merges.txt, or BERT's vocab.txt), "
            "found no such file"
        )
    special |= _named(path)
    _add_tokens(content, path)
    bos = special["bos_token"] or special["eos_token"]
    ids = {t["content"]: t["id"] for t in content["added_tokens"]}
    ids = content["model"]["vocab"] | ids
    if bos is not None and bos in ids:
        content["post_processor"] = _begin_with(bos, ids[bos])
    return content, special


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


def _named(path: Path) -> dict[str, str | None]:
    """The special tokens that configs name, those of tokenizer_config.json first."""
    named = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        config = _config(path, file)
        for role in ROLES:
            if role in config:
                token = config[role]
                named[role] = token["content"] if isinstance(token, dict) else token
    return named


def _add_tokens(content: dict, path: Path) -> None:
    """Add the tokens to which the directory's configs give ids after the vocabulary."""
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
    """The post-processor that puts BOS before a text."""
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
