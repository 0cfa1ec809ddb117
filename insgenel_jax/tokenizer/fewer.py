"""A WordPiece tokenizer's directory in; which pieces texts need, and it without others.

A word whose piece goes is cut into smaller pieces.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tokenizers
from jaxtyping import Int, Int64

from insgenel_jax.tokenizer.files import read_files, read_json

_BATCH = 10_000  # texts


def pieces_of(
    path: Path, texts: Iterable[str], at_least: int
) -> Int64[np.ndarray, " N"]:
    """The ids of the pieces to keep, in order, of the tokenizer in a directory.

    These are its special tokens, all single characters, and what comes up `at_least`
    so often in the texts. Raises ValueError where the tokenizer is no WordPiece.
    """
    content, _ = read_files(path)
    model = content["model"]
    if model.get("type") != "WordPiece":
        raise ValueError(
            f"{path}: expected a WordPiece tokenizer, found {model.get('type')}; only "
            "its vocabulary can be cut"
        )
    backend = tokenizers.Tokenizer.from_str(json.dumps(content))
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True  # "[SEP]" in a text is ordinary text
    counts = np.zeros(max(model["vocab"].values()) + 1, np.int64)
    remaining = iter(texts)
    while batch := list(itertools.islice(remaining, _BATCH)):
        encoded = backend.encode_batch_fast(batch, add_special_tokens=False)
        ids = itertools.chain.from_iterable(one.ids for one in encoded)
        counts += np.bincount(np.fromiter(ids, np.int64), minlength=len(counts))
    prefix = model["continuing_subword_prefix"]
    kept = {token["id"] for token in content["added_tokens"]}
    for piece, number in model["vocab"].items():
        if counts[number] >= at_least or len(piece.removeprefix(prefix)) == 1:
            kept.add(number)
    return np.array(sorted(kept), np.int64)


def keep_pieces(path: Path, kept: Int[np.ndarray, " N"]) -> None:
    """Rewrite a directory's tokenizer.json, and what is beside it, with N ids.

    kept: the old ids, in the order of the new ones; special tokens are among them.
    """
    new = {old: number for number, old in enumerate(kept.tolist())}
    content = read_json(path / "tokenizer.json")
    model = content["model"]
    pieces = {number: piece for piece, number in model["vocab"].items()}
    for token in content["added_tokens"]:
        token["id"] = new[token["id"]]
        pieces.setdefault(kept[token["id"]], token["content"])
    model["vocab"] = {pieces[old]: number for old, number in new.items()}
    post = content["post_processor"] or {}
    for name in ("cls", "sep"):  # of a BertProcessing
        if name in post:
            post[name][1] = new[post[name][1]]
    for token in post.get("special_tokens", {}).values():  # of a TemplateProcessing
        token["ids"] = [new[number] for number in token["ids"]]
    if content.get("padding"):
        content["padding"]["pad_id"] = new[content["padding"]["pad_id"]]
    _write_json(path / "tokenizer.json", content)
    if (path / "vocab.txt").is_file():
        lines = "".join(f"{piece}\n" for piece in model["vocab"])
        (path / "vocab.txt").write_text(lines, encoding="utf-8")
    if (file := path / "tokenizer_config.json").is_file():
        config = read_json(file)
        if decoder := config.get("added_tokens_decoder"):
            config["added_tokens_decoder"] = {
                str(new[int(number)]): token for number, token in decoder.items()
            }
            _write_json(file, config)


def _write_json(file: Path, content: dict) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
