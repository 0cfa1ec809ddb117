"""Files of Llama-3, OPT and BERT in; the content of a `tokenizer.json` out.

The converters of transformers make the content, with the same ids as tiktoken, GPT-2's
merges and BertTokenizer give; the tests compare. We read the files: transformers would
need the package tiktoken for it, and a damaged line is named here. transformers takes a
second to import, so it is imported when such a file is read.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace

import tokenizers

from insgenel_jax.tokenizer.literal import LLAMA3_PATTERN, Family, added_token

_LLAMA3_RANKS = 128_000
# The raw file does not list them. Their ids follow its ranks.
_LLAMA3_SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    *(f"<|reserved_special_token_{i}|>" for i in range(4)),
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|reserved_special_token_4|>",
    "<|eot_id|>",
    *(f"<|reserved_special_token_{i}|>" for i in range(5, 251)),
)


def read_tiktoken(data: bytes, file: Path) -> Family:
    """Llama-3's raw file: each line has a token in base64 and its rank.

    Its special tokens are added. Raises ValueError that names the line which cannot be
    read, or for a file that has not Llama-3's number of ranks.
    """
    ranks: dict[bytes, int] = {}
    lines = data.splitlines()
    for number, line in enumerate(lines, 1):
        try:
            encoded, digits = line.split()
            token, rank = base64.b64decode(encoded, validate=True), int(digits)
        except ValueError:
            rank = -1
        if rank != number - 1:
            raise ValueError(
                f"{file}, line {number}: expected a token in base64 and the rank "
                f"{number - 1}, found {line[:40]!r}"
            )
        ranks[token] = rank
    if len(lines) != _LLAMA3_RANKS:
        raise ValueError(
            f"{file}: expected Llama-3's {_LLAMA3_RANKS:,} ranks, found "
            f"{len(lines):,}; the file is cut off, or another model's: give its "
            "tokenizer.json instead"
        )
    converter = _converters().TikTokenConverter(
        pattern=LLAMA3_PATTERN, extra_special_tokens=_LLAMA3_SPECIAL
    )
    # In place of the reader that needs the package tiktoken.
    converter.load_tiktoken_bpe = lambda _: ranks
    bos, eos = _LLAMA3_SPECIAL[:2]
    roles = {"bos_token": bos, "eos_token": eos, "pad_token": None}
    return _content(converter.converted()), roles


def read_byte_bpe(vocabulary: dict[str, int], merges: str, file: Path) -> Family:
    """GPT-2's byte-level BPE with OPT's special tokens: BOS is </s>.

    `merges` is the text of `file`, merges.txt. Raises ValueError that names the line
    which is no merge of tokens of the vocabulary.
    """
    pairs = []
    for number, line in enumerate(merges.split("\n"), 1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = tuple(line.split(" "))
        if len(pair) != 2 or not vocabulary.keys() >= {*pair, "".join(pair)}:
            raise ValueError(
                f"{file}, line {number}: expected two tokens whose join is a token of "
                f"vocab.json too, found {line!r}"
            )
        pairs.append(pair)
    if not pairs:
        raise ValueError(f"{file}: expected lines of two tokens each, found none")
    roles: dict[str, str | None] = {
        "bos_token": "</s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
    }
    tokens = {t for t in (*roles.values(), "<s>", "<unk>") if t in vocabulary}
    special = sorted((vocabulary[token], token) for token in tokens)
    content = _content(_converters().GPT2Converter(None).converted(vocabulary, pairs))
    content["added_tokens"] = [added_token(token, i) for i, token in special]
    return content, roles


def read_wordpiece(text: str, config: Mapping, file: Path) -> Family:
    """BERT's vocab.txt, which has a piece in each line.

    `config` is the content of tokenizer_config.json, or empty. Raises ValueError where
    one of BERT's special tokens is missing.
    """
    lines = text.removesuffix("\n").split("\n")
    vocabulary = {piece: token_id for token_id, piece in enumerate(lines)}
    names = ("pad", "unk", "cls", "sep", "mask")
    roles = {f"{name}_token": f"[{name.upper()}]" for name in names}
    missing = [token for token in roles.values() if token not in vocabulary]
    if missing:
        raise ValueError(f"{file}: expected BERT's special tokens, found no {missing}")
    # the attributes that the converter reads of transformers' BertTokenizer
    bert = SimpleNamespace(
        **roles,
        vocab=vocabulary,
        cls_token_id=vocabulary["[CLS]"],
        sep_token_id=vocabulary["[SEP]"],
        basic_tokenizer=SimpleNamespace(
            tokenize_chinese_chars=config.get("tokenize_chinese_chars", True),
            strip_accents=config.get("strip_accents"),  # None: as do_lower_case
            do_lower_case=config.get("do_lower_case", True),
        ),
    )
    content = _content(_converters().BertConverter(bert).converted())
    content["added_tokens"] = [
        added_token(token, vocabulary[token]) for token in roles.values()
    ]
    return content, {"bos_token": None, "eos_token": None, **roles}


def _converters() -> ModuleType:
    """The converters of transformers, without its advice to install PyTorch."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    # The attribute of transformers with this name is a function, not the module.
    return importlib.import_module("transformers.convert_slow_tokenizer")


def _content(backend: tokenizers.Tokenizer) -> dict:
    return json.loads(backend.to_str())
