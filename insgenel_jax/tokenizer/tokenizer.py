"""Tokenizers: text in, ids with character offsets out; boundary ids of the grammar.

One function per family makes a `Tokenizer`; nothing after that knows the family. All
text given to `encode_raw` is literal: a special token spelled out in a document is
ordinary text, a leading space is part of the text, nothing is added before or after.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import (
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from insgenel_jax import artifact
from insgenel_jax.tokenizer.files import (
    ROLES,
    make_literal,
    mark_unknown,
    read_files,
    splits_before_spaces,
)

BOUNDARIES = {"open": " {", "close": " }", "entity": " [", "end": " ]"}
VERSION = 1
CONFIG = "tokenizer_config.json"
# the files of a tokenizer, of whatever family
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
# a compatibility normalisation would make boundary tokens of them
_LOOKALIKES = [f"{space}{c}" for c in "｛｝［］" for space in ("", " ")]


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """The generator's tokenizer. Ids are int32; offsets are characters.

    `encode_raw` maps strings to (ids, starts, ends) arrays of one length each. A
    character of several tokens gives each of them its span; spaces before a word belong
    to the token that holds them. `has_unknown` says of each string whether there is a
    part of it that the vocabulary has no token for. `splits_before_spaces`: tokens
    before and after a space that follows another character do not depend on each other.
    """

    size: int
    bos: int
    eos: int
    pad: int
    open: int
    close: int
    entity: int
    end: int
    encode_raw: Callable[[Sequence[str]], list[tuple[np.ndarray, ...]]]
    has_unknown: Callable[[Sequence[str]], list[bool]]
    splits_before_spaces: bool


@dataclasses.dataclass(frozen=True)
class WordPiece:
    """The retriever's tokenizer.

    `encode(texts, length, pairs=None)` gives int32 ids [N, length]: [CLS] text [SEP],
    or [CLS] text [SEP] pair [SEP]; cut at the end, padded with `pad`.
    """

    size: int
    pad: int
    cls: int
    sep: int
    encode: Callable[..., np.ndarray]


def load_tokenizer(path: str | os.PathLike) -> Tokenizer:
    """Load the generator tokenizer of a model or tokenizer directory.

    Raises FileNotFoundError where no family's files are there, ValueError where they
    cannot be read, a boundary string is not one token or a special token is missing.
    """
    path = Path(path)
    content, special = read_files(path)
    backend = make_literal(content, path)
    ids = {role: _special_id(backend, special, role, path) for role in ROLES}
    boundaries = {
        role: _boundary_id(backend, string, path) for role, string in BOUNDARIES.items()
    }
    if len(set(boundaries.values())) < len(boundaries):
        raise ValueError(
            f"{path}: expected a token of its own for each boundary string, found the "
            f"ids {boundaries}; this tokenizer cannot mark links"
        )

    def encode_raw(texts: Sequence[str]) -> list[tuple[np.ndarray, ...]]:
        texts, result = list(texts), []
        encoded = backend.encode_batch(texts, add_special_tokens=False)
        for text, encoding in zip(texts, encoded, strict=True):
            spans = np.array(encoding.offsets, np.int32).reshape(-1, 2)
            if len(spans):
                # marks that a normalisation composed lie behind their letter, unclaimed
                np.maximum(spans[:-1, 1], spans[1:, 0], out=spans[:-1, 1])
                spans[-1, 1] = len(text)
            ids = np.array(encoding.ids, np.int32)
            result.append((ids, spans[:, 0], spans[:, 1]))
        return result

    looks = np.concatenate([encoded[0] for encoded in encode_raw(_LOOKALIKES)])
    if np.isin(looks, list(boundaries.values())).any():
        raise ValueError(
            f"{path}: expected boundary tokens that no text can hold, found that this "
            f"tokenizer makes one of a character of {_LOOKALIKES}; it cannot mark links"
        )
    return Tokenizer(
        # ids may have holes; each needs its row of the embedding
        size=1 + max(backend.get_vocab(with_added_tokens=True).values()),
        # a family without BOS (Qwen) begins as OPT does, with EOS
        bos=ids["eos_token"] if ids["bos_token"] is None else ids["bos_token"],
        eos=ids["eos_token"],
        pad=0 if ids["pad_token"] is None else ids["pad_token"],
        **boundaries,
        encode_raw=encode_raw,
        has_unknown=_unknown_finder(content, path),
        splits_before_spaces=splits_before_spaces(content),
    )


def copy_tokenizer(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Put the tokenizer of directory `source` into the directory `target`.

    Files beside a `tokenizer.json` are copied. A family's own files `transformers` may
    open with other ids (LLaMA's, on runs of spaces), whatever a config beside them says;
    they become a `tokenizer.json`, with the same ids as here.
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
    _write_config(target, special)


def load_wordpiece(path: str | os.PathLike) -> WordPiece:
    """Load the retriever tokenizer of a model or tokenizer directory.

    Raises FileNotFoundError where no tokenizer's files are there, ValueError where they
    cannot be read or are not BERT's.
    """
    path = Path(path)
    content, _ = read_files(path)
    try:
        backend = tokenizers.Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{path}: not a readable tokenizer ({error})") from error
    # "[SEP]" spelled out in a document is text, not the end of it
    backend.encode_special_tokens = True
    ids = {name: backend.token_to_id(f"[{name}]") for name in ("PAD", "CLS", "SEP")}
    missing = [name for name, token_id in ids.items() if token_id is None]
    if missing:
        raise ValueError(
            f"{path}: expected a WordPiece tokenizer with [PAD], [CLS] and [SEP], found "
            f"none of {missing}"
        )

    def encode(
        texts: Sequence[str], length: int, pairs: Sequence[str] | None = None
    ) -> np.ndarray:
        backend.enable_truncation(length, strategy="longest_first")
        backend.enable_padding(pad_id=ids["PAD"], pad_token="[PAD]", length=length)
        inputs = list(texts if pairs is None else zip(texts, pairs, strict=True))
        encoded = backend.encode_batch(inputs)
        rows = [encoding.ids for encoding in encoded]
        return np.array(rows, np.int32).reshape(len(rows), length)

    return WordPiece(
        # ids may have holes here too
        size=1 + max(backend.get_vocab(with_added_tokens=True).values()),
        pad=ids["PAD"],
        cls=ids["CLS"],
        sep=ids["SEP"],
        encode=encode,
    )


def train_bpe(
    texts: Iterable[str], vocabulary: int, path: str | os.PathLike
) -> Tokenizer:
    """Train a byte-level BPE on normalised texts, add the boundary tokens, write it."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<s>", "</s>", *BOUNDARIES.values()]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    _write(
        backend,
        path,
        {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"},
    )
    return load_tokenizer(path)


def train_wordpiece(
    texts: Iterable[str], vocabulary: int, path: str | os.PathLike
) -> WordPiece:
    """Train a lower-casing WordPiece as BERT's, write it."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    texts = list(texts)
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    # The trainer numbers "##x" in the order of a hash map; named beforehand, every run
    # gives the same vocabulary. Afterwards they are ordinary pieces.
    counts = collections.Counter()
    for text in texts:
        counts.update(backend.normalizer.normalize_str(text))
    common = sorted(counts, key=lambda c: (-counts[c], c))[: vocabulary // 4]
    letters = sorted(c for c in common if not c.isspace())
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        special_tokens=[*specials, *(f"##{letter}" for letter in letters)],
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    vocabulary = backend.get_vocab(with_added_tokens=True)
    pieces = models.WordPiece(vocabulary, unk_token="[UNK]")
    trained = backend
    backend = tokenizers.Tokenizer(pieces)
    backend.normalizer, backend.decoder = trained.normalizer, trained.decoder
    backend.pre_tokenizer = trained.pre_tokenizer
    backend.add_special_tokens(specials)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    _write(
        backend,
        path,
        {
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "mask_token": "[MASK]",
        },
    )
    return load_wordpiece(path)


def _write(
    backend: tokenizers.Tokenizer, path: str | os.PathLike, config: dict[str, str]
) -> None:
    with artifact.create(path, "tokenizer", VERSION) as draft:
        backend.save(str(draft.path / "tokenizer.json"))
        _write_config(draft.path, config)
        draft.counts["tokens"] = backend.get_vocab_size(with_added_tokens=True)


def _write_config(path: Path, special: dict[str, str | None]) -> None:
    named = {role: token for role, token in special.items() if token is not None}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **named}
    (path / CONFIG).write_text(json.dumps(config, indent=1) + "\n")


def _unknown_finder(content: dict, path: Path) -> Callable[..., list[bool]]:
    """`has_unknown` of a tokenizer; its own does not tell, where it drops them."""
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
    if token_id is None and (token is not None or role == "eos_token"):
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
