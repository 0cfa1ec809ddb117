"""Strings in; token ids with character offsets out. Trains tokenizers, too.

A tokenizer comes from a directory of any family (`files.py` lists their files) and is
used as a `Tokenizer` (the generator's) or a `WordPiece` (the retriever's). `padding.py`
has the static lengths that sequences of tokens are padded to.
"""

from insgenel_jax.tokenizer.tokenizer import (
    Tokenizer,
    WordPiece,
    copy_tokenizer,
    load_tokenizer,
    load_wordpiece,
)
from insgenel_jax.tokenizer.training import train_bpe, train_wordpiece

__all__ = [
    "Tokenizer",
    "WordPiece",
    "copy_tokenizer",
    "load_tokenizer",
    "load_wordpiece",
    "train_bpe",
    "train_wordpiece",
]
