"""Texts in; a trained byte-level BPE or WordPiece, written to a directory, out."""

from __future__ import annotations

import collections
import os
from collections.abc import Iterable

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
from insgenel_jax.tokenizer.tokenizer import (
    BOUNDARIES,
    Tokenizer,
    WordPiece,
    load_tokenizer,
    load_wordpiece,
    write_config,
)

VERSION = 1


def train_bpe(
    texts: Iterable[str], vocabulary: int, path: str | os.PathLike
) -> Tokenizer:
    """Train a byte-level BPE of `vocabulary` tokens, boundary tokens included.

    The texts should be normalised. The tokenizer is written to the directory `path`.
    """
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
    """Train a WordPiece of `vocabulary` tokens that lower-cases texts, as BERT's does.

    It is written to the directory `path`.
    """
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    texts = list(texts)
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    # The trainer numbers the pieces "##x" of single letters in the order of a hash map.
    # Given as special tokens they have the same ids every time. The tokenizer written
    # below has them as ordinary pieces.
    counts: collections.Counter[str] = collections.Counter()
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
    pieces = models.WordPiece(
        backend.get_vocab(with_added_tokens=True), unk_token="[UNK]"
    )
    trained, backend = backend, tokenizers.Tokenizer(pieces)
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
        write_config(draft.path, config)
        draft.counts["tokens"] = backend.get_vocab_size(with_added_tokens=True)
