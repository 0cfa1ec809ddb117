"""A directory in; a Tokenizer (the generator's) or a WordPiece (the retriever's) out.

`files.py` reads the directory, whatever the family. Nothing after that knows the
family.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tokenizers
from jaxtyping import Int32

from insgenel_jax.tokenizer.files import ROLES, read_files
from insgenel_jax.tokenizer.literal import (
    make_literal,
    mark_unknown,
    splits_before_spaces,
)

# the string of each boundary token of linked text
BOUNDARIES = {"open": " {", "close": " }", "entity": " [", "end": " ]"}
BOUNDARIES_OF_A_LINK = len(BOUNDARIES)  # each of them stands once in a link
CONFIG = "tokenizer_config.json"
# all files of a tokenizer, of any family
FILES = (
    CONFIG,
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)
# A compatibility normalisation (NFKC) would make boundary tokens of these.
_LOOKALIKES = [f"{space}{c}" for c in "｛｝［］" for space in ("", " ")]


# ids, starts and ends of the tokens of a string
Encoded = tuple[
    Int32[np.ndarray, " T"], Int32[np.ndarray, " T"], Int32[np.ndarray, " T"]
]


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """The generator's tokenizer.

    size: one more than the largest id, special tokens included.

    bos, eos, pad: ids of the special tokens.

    open, close, entity, end: ids of the boundary tokens " {", " }", " [" and " ]".

    encode_raw: maps strings to the int32 arrays (ids, starts, ends) of each, where
    token i takes the characters [starts[i], ends[i]). It takes a string literally: a
    special token in it is ordinary text, and nothing is added before or after it. A
    character that takes several tokens is in the span of each of them. Spaces before a
    word are in the span of the token that includes them.

    has_unknown: says of each string whether the vocabulary lacks tokens for a part of
    it.

    decode: maps ids to the string that they spell; special tokens are left out.

    splits_before_spaces: whether a text can be cut before a space at which a token
    begins and which follows a character that is not a space. The text before the cut
    and the text after it then keep their tokens when each is encoded alone.
    """

    size: int
    bos: int
    eos: int
    pad: int
    open: int
    close: int
    entity: int
    end: int
    encode_raw: Callable[[Sequence[str]], list[Encoded]]
    has_unknown: Callable[[Sequence[str]], list[bool]]
    decode: Callable[[Sequence[int]], str]
    splits_before_spaces: bool


@dataclasses.dataclass(frozen=True)
class WordPiece:
    """The retriever's tokenizer.

    size: one more than the largest id
    pad, cls, sep: ids of special tokens
    encode: `encode(texts, length, pairs=None)` gives int32 ids [N, length] of
        [CLS] text [SEP], or [CLS] text [SEP] pair [SEP], cut and padded to `length`
    """

    size: int
    pad: int
    cls: int
    sep: int
    encode: Callable[..., np.ndarray]


def load_tokenizer(path: str | os.PathLike) -> Tokenizer:
    """Load the generator's tokenizer from a model or tokenizer directory.

    Raises FileNotFoundError where the directory has no tokenizer, ValueError where it
    cannot be read, where a boundary string is not one token, where another text can
    give a boundary token, and where EOS or a special token that is named is missing.
    """
    path = Path(path)
    content, special = read_files(path)
    backend = make_literal(content, path)
    bos, eos, pad = (_special_id(backend, special, role, path) for role in ROLES)
    if eos is None:
        raise ValueError(
            f"{path / CONFIG}: expected 'eos_token' to name a token, found none"
        )
    boundaries = {
        role: _boundary_id(backend, string, path) for role, string in BOUNDARIES.items()
    }
    if len(set(boundaries.values())) < len(boundaries):
        raise ValueError(
            f"{path}: expected a token of its own for each boundary string, found the "
            f"ids {boundaries}; this tokenizer cannot mark links"
        )

    encode_raw = functools.partial(_encode_raw, backend)
    looks = np.concatenate([encoded[0] for encoded in encode_raw(_LOOKALIKES)])
    if np.isin(looks, list(boundaries.values())).any():
        raise ValueError(
            f"{path}: expected boundary tokens that no text can hold, found that this "
            f"tokenizer makes one of a character of {_LOOKALIKES}; it cannot mark links"
        )
    return Tokenizer(
        # Some ids may be unused; the embedding still has a row for each.
        size=1 + max(backend.get_vocab(with_added_tokens=True).values()),
        # A family without BOS (Qwen) begins with EOS, as OPT does.
        bos=eos if bos is None else bos,
        eos=eos,
        pad=0 if pad is None else pad,
        **boundaries,
        encode_raw=encode_raw,
        has_unknown=_unknown_finder(content, path),
        decode=backend.decode,
        splits_before_spaces=splits_before_spaces(content),
    )


def copy_tokenizer(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Copy the tokenizer of directory `source` to the directory `target`.

    A `tokenizer.json` is copied with the files beside it. Other files become a
    `tokenizer.json` that gives the same ids as here: from the files themselves
    transformers may make other ids (LLaMA's, on runs of spaces).
    """
    source, target = Path(source), Path(target)
    if (source / "tokenizer.json").is_file():
        for name in FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, target / name)
        return
    content, special = read_files(source)
    text = json.dumps(content, ensure_ascii=False) + "\n"
    (target / "tokenizer.json").write_text(text, encoding="utf-8")
    write_config(target, special)


def load_wordpiece(path: str | os.PathLike) -> WordPiece:
    """Load the retriever's tokenizer from a model or tokenizer directory.

    Raises FileNotFoundError where the directory has no tokenizer, ValueError where it
    cannot be read or is not BERT's.
    """
    path = Path(path)
    content, _ = read_files(path)
    try:
        backend = tokenizers.Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{path}: not a readable tokenizer ({error})") from error
    # "[SEP]" in a document is ordinary text.
    backend.encode_special_tokens = True
    vocabulary = backend.get_vocab(with_added_tokens=True)
    names = ("PAD", "CLS", "SEP")
    missing = [name for name in names if f"[{name}]" not in vocabulary]
    if missing:
        raise ValueError(
            f"{path}: expected a WordPiece tokenizer with [PAD], [CLS] and [SEP], "
            f"found none of {missing}"
        )

    def encode(
        texts: Sequence[str], length: int, pairs: Sequence[str] | None = None
    ) -> np.ndarray:
        backend.enable_truncation(length, strategy="longest_first")
        backend.enable_padding(
            pad_id=vocabulary["[PAD]"], pad_token="[PAD]", length=length
        )
        inputs = list(texts if pairs is None else zip(texts, pairs, strict=True))
        encoded = backend.encode_batch(inputs)
        rows = [encoding.ids for encoding in encoded]
        return np.array(rows, np.int32).reshape(len(rows), length)

    return WordPiece(
        size=1 + max(vocabulary.values()),
        pad=vocabulary["[PAD]"],
        cls=vocabulary["[CLS]"],
        sep=vocabulary["[SEP]"],
        encode=encode,
    )


def write_config(path: Path, special: Mapping[str, str | None]) -> None:
    """Write the tokenizer_config.json that names the token of each role."""
    named = {role: token for role, token in special.items() if token is not None}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **named}
    (path / CONFIG).write_text(json.dumps(config, indent=1) + "\n")


def _encode_raw(backend: tokenizers.Tokenizer, texts: Sequence[str]) -> list[Encoded]:
    result = []
    encoded = backend.encode_batch(list(texts), add_special_tokens=False)
    for text, encoding in zip(texts, encoded, strict=True):
        spans = np.array(encoding.offsets, np.int32).reshape(-1, 2)
        if len(spans):
            # A combining mark that the normalisation joined with its letter is in no
            # span: it goes to the token before it.
            np.maximum(spans[:-1, 1], spans[1:, 0], out=spans[:-1, 1])
            spans[-1, 1] = len(text)
        ids = np.array(encoding.ids, np.int32)
        result.append((ids, spans[:, 0], spans[:, 1]))
    return result


def _unknown_finder(content: dict, path: Path) -> Callable[..., list[bool]]:
    """`has_unknown` of a tokenizer, which itself may drop unknown parts silently."""
    marked = mark_unknown(content)
    if marked is None:
        return lambda texts: [False] * len(texts)
    content, unknown = marked
    backend = make_literal(content, path)

    def has_unknown(texts: Sequence[str]) -> list[bool]:
        encoded = backend.encode_batch(list(texts), add_special_tokens=False)
        return [unknown in encoding.ids for encoding in encoded]

    return has_unknown


def _special_id(
    backend: tokenizers.Tokenizer, special: dict, role: str, path: Path
) -> int | None:
    token = special.get(role)
    token_id = None if token is None else backend.token_to_id(token)
    if token_id is None and token is not None:
        raise ValueError(
            f"{path / CONFIG}: expected {role!r} to name a token of the vocabulary, "
            f"found {token!r}"
        )
    return token_id


def _boundary_id(backend: tokenizers.Tokenizer, string: str, path: Path) -> int:
    token_id = backend.token_to_id(string)
    if token_id is not None:
        return token_id
    encoding = backend.encode(string, add_special_tokens=False)
    pieces = [string[start:end] for start, end in encoding.offsets]
    if pieces != [string]:
        raise ValueError(
            f"{path}: expected the boundary string {string!r} to be one token, found "
            f"{len(pieces)}, {pieces}; this tokenizer cannot mark links"
        )
    return encoding.ids[0]
