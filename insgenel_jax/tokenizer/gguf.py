"""The fields of a GGUF file in; a tokenizer directory out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from insgenel_jax.tokenizer.literal import added_token
from insgenel_jax.tokenizer.tokenizer import write_config

_SPECIAL = (3, 4)  # token types: control, user-defined
# GGUF's name of a way to cut words -> the pre-tokenizers of Hugging Face's library
_CUTTERS = {
    "smollm": (
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ),
    "gpt-2": (pre_tokenizers.ByteLevel(add_prefix_space=False),),
}


def write_gguf_tokenizer(fields: Mapping[str, Any], file: Path, path: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json to the folder `path`.

    fields: of the GGUF file `file`, whose errors name it. Raises ValueError for a
    tokenizer that is no byte-level BPE, or cuts words in a way not known here.
    """
    kind = fields.get("tokenizer.ggml.model")
    cut = fields.get("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2" or cut not in _CUTTERS:
        raise ValueError(
            f"{file}: expected a byte-level BPE (tokenizer.ggml.model 'gpt2') that "
            f"cuts words as one of {sorted(_CUTTERS)}, found {kind!r} and {cut!r}; "
            "give the model's Hugging Face directory"
        )
    tokens = fields.get("tokenizer.ggml.tokens")
    merges = fields.get("tokenizer.ggml.merges")
    kinds = fields.get("tokenizer.ggml.token_type")
    if not (tokens and merges and kinds) or len(kinds) != len(tokens):
        raise ValueError(
            f"{file}: expected tokenizer.ggml.tokens, merges and token_type, found "
            "them missing or of different lengths"
        )
    special = [
        added_token(token, i)
        for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in _SPECIAL
    ]
    try:
        pairs = [tuple(merge.split(" ")) for merge in merges]
        model = models.BPE({token: i for i, token in enumerate(tokens)}, pairs)
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(
            f"{file}: tokenizer.ggml.merges: expected pairs of tokens, found {error}"
        ) from error
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Sequence(list(_CUTTERS[cut]))
    backend.decoder = decoders.ByteLevel()
    content = json.loads(backend.to_str()) | {"added_tokens": special}
    text = json.dumps(content, ensure_ascii=False) + "\n"
    (path / "tokenizer.json").write_text(text, encoding="utf-8")
    roles = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding"}
    write_config(
        path,
        {
            role: _token(tokens, fields.get(f"tokenizer.ggml.{name}_token_id"), file)
            for role, name in roles.items()
        },
    )


def _token(tokens: list[str], token_id: int | None, file: Path) -> str | None:
    """The token of an id, if the file names one."""
    if token_id is None:
        return None
    if not 0 <= token_id < len(tokens):
        raise ValueError(
            f"{file}: expected ids below {len(tokens)} for special tokens, found "
            f"{token_id}"
        )
    return tokens[token_id]
