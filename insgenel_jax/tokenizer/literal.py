"""The content of a `tokenizer.json` in; the tokenizer that takes text literally out.

Hugging Face's library may put BOS or a space before a text and finds special tokens in
it. The tokenizer of `make_literal` does neither. Two more functions say of the content
what the library does not: which texts have unknown parts, and where a text can be cut.
"""

from __future__ import annotations

import json
from pathlib import Path

import tokenizers
from tokenizers import pre_tokenizers

# the content of a tokenizer.json; the token of each role ("bos_token", ...) or None
Family = tuple[dict, dict[str, str | None]]

SPACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# No text contains this token.
_UNKNOWN, _UNKNOWN_ID = "\0unknown", (1 << 31) - 1
# what `splits_before_spaces` is known to hold for
_NORMALIZERS = (SPACE, {"type": "NFC"})
_PRE_TOKENIZERS = ("ByteLevel", "Metaspace", "Digits")
_WITHOUT = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")


def added_token(token: str, token_id: int) -> dict:
    """A special token as `added_tokens` of a tokenizer.json lists it."""
    return {
        "id": token_id,
        "content": token,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def make_literal(content: dict, where: Path) -> tokenizers.Tokenizer:
    """The tokenizer of `content`, which adds nothing and finds no special tokens.

    `where` names the tokenizer in the ValueError for content that the library refuses.
    """
    content = content | {
        "truncation": None,
        "padding": None,
        # it adds BOS, and may take the spaces out of the offsets
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
    # "</s>" in a document is ordinary text.
    backend.encode_special_tokens = True
    return backend


def mark_unknown(content: dict) -> tuple[dict, int] | None:
    """The content changed so that what has no token gets an id, and that id.

    None where every text has tokens. Otherwise a text that the vocabulary cannot hold
    completely is one whose ids include the id returned.
    """
    model = content["model"]
    vocabulary = model["vocab"]
    unigram = isinstance(vocabulary, list)  # of [piece, score]
    pieces = {piece for piece, _ in vocabulary} if unigram else vocabulary.keys()
    fallback = {f"<0x{byte:02X}>" for byte in range(256)}
    if model.get("byte_fallback") and pieces >= fallback:
        return None
    cuts = json.dumps([content.get("normalizer"), content.get("pre_tokenizer")])
    if '"ByteLevel"' in cuts and pieces >= set(pre_tokenizers.ByteLevel.alphabet()):
        return None
    if unigram:  # it drops nothing: without an unknown piece it refuses the text
        unknown = model.get("unk_id")
        return None if unknown is None else (content, unknown)
    marked = {"vocab": vocabulary | {_UNKNOWN: _UNKNOWN_ID}, "unk_token": _UNKNOWN}
    return content | {"model": model | marked}, _UNKNOWN_ID


def splits_before_spaces(content: dict) -> bool:
    """Whether a text can be cut before a space at which a token begins.

    True if the tokens on the two sides of "x| y" are those of "x" and of " y", where x
    is no kind of space and a token begins at the space. The patterns of GPT-2 and
    Llama-3 match nothing across such a place; and in a BPE over the whole text
    (SentencePiece's) no merge crossed it, so that the two sides were merged
    independently. False for every other tokenizer: it may hold there too, but that is
    not known.
    """
    model = content["model"]
    normalizers = _steps(content.get("normalizer"), "normalizers")
    cutters = _steps(content.get("pre_tokenizer"), "pretokenizers")
    return (
        all(step in _NORMALIZERS for step in normalizers)
        and all(step["type"] in _PRE_TOKENIZERS or _is_llama3(step) for step in cutters)
        and all(token["special"] for token in content.get("added_tokens", ()))
        and model["type"] == "BPE"
        and not any(model.get(key) for key in _WITHOUT)
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
