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

BOUNDARIES = {"open": " {", "close": " }", "entity": " [", "end": " ]"}
VERSION = 1


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """The generator's tokenizer. Ids are int32; offsets are characters.

    `encode_raw` maps strings to (ids, starts, ends) arrays of one length each. A
    character of several tokens gives each of them its span; spaces before a word belong
    to the token that holds them.
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

    Raises FileNotFoundError without a `tokenizer.json`, ValueError where a boundary
    string is not one token or a special token is missing.
    """
    path = Path(path)
    backend = _open(path)
    config = _read_json(path / "tokenizer_config.json")
    special = {
        role: _special_id(backend, config, f"{role}_token", path)
        for role in ("bos", "eos")
    }
    pad = config.get("pad_token")
    boundaries = {
        role: _boundary_id(backend, string, path) for role, string in BOUNDARIES.items()
    }

    def encode_raw(texts: Sequence[str]) -> list[tuple[np.ndarray, ...]]:
        encoded = backend.encode_batch(list(texts), add_special_tokens=False)
        result = []
        for encoding in encoded:
            offsets = np.array(encoding.offsets, np.int32).reshape(-1, 2)
            ids = np.array(encoding.ids, np.int32)
            result.append((ids, offsets[:, 0], offsets[:, 1]))
        return result

    return Tokenizer(
        size=backend.get_vocab_size(with_added_tokens=True),
        **special,
        pad=0 if pad is None else backend.token_to_id(_content(pad)),
        **boundaries,
        encode_raw=encode_raw,
    )


def load_wordpiece(path: str | os.PathLike) -> WordPiece:
    """Load the retriever tokenizer of a model or tokenizer directory."""
    path = Path(path)
    backend = _open(path)
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
        size=backend.get_vocab_size(with_added_tokens=True),
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


def _open(path: Path) -> tokenizers.Tokenizer:
    file = path / "tokenizer.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: expected the tokenizer of a model directory, found no such file"
        )
    try:
        backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{file}: not a readable tokenizer ({error})") from error
    # "</s>" spelled out in a document is text, not the end of it
    backend.encode_special_tokens = True
    backend.no_padding()
    backend.no_truncation()
    return backend


def _write(
    backend: tokenizers.Tokenizer, path: str | os.PathLike, config: dict[str, str]
) -> None:
    with artifact.create(path, "tokenizer", VERSION) as draft:
        backend.save(str(draft.path / "tokenizer.json"))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **config}
        text = json.dumps(config, indent=1) + "\n"
        (draft.path / "tokenizer_config.json").write_text(text)
        draft.counts["tokens"] = backend.get_vocab_size(with_added_tokens=True)


def _read_json(file: Path) -> dict:
    return json.loads(file.read_text()) if file.is_file() else {}


def _content(token: str | dict) -> str:
    return token["content"] if isinstance(token, dict) else token


def _special_id(
    backend: tokenizers.Tokenizer, config: dict, key: str, path: Path
) -> int:
    token = config.get(key)
    token_id = None if token is None else backend.token_to_id(_content(token))
    if token_id is None:
        raise ValueError(
            f"{path}/tokenizer_config.json: expected {key!r} to name a token of "
            f"tokenizer.json, found {token!r}"
        )
    return token_id


def _boundary_id(backend: tokenizers.Tokenizer, string: str, path: Path) -> int:
    token_id = backend.token_to_id(string)
    if token_id is not None:
        return token_id
    ids = backend.encode(string, add_special_tokens=False).ids
    if len(ids) != 1:
        raise ValueError(
            f"{path}: expected the boundary string {string!r} to be one token, found "
            f"{len(ids)}; this tokenizer cannot mark links"
        )
    return ids[0]
