"""Tokenizers: text in, token ids with character offsets out; and their training."""

from insgenel_jax.tokenizer.tokenizer import (
    Tokenizer,
    WordPiece,
    copy_tokenizer,
    load_tokenizer,
    load_wordpiece,
    train_bpe,
    train_wordpiece,
)

__all__ = [
    "Tokenizer",
    "WordPiece",
    "copy_tokenizer",
    "load_tokenizer",
    "load_wordpiece",
    "train_bpe",
    "train_wordpiece",
]
