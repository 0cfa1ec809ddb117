"""Parts of the prepared mini world, opened."""

import pytest

from insgenel_jax.kb import KnowledgeBase
from insgenel_jax.tokenizer import Tokenizer, WordPiece, load_tokenizer, load_wordpiece


@pytest.fixture(scope="module")
def kb(prepared) -> KnowledgeBase:
    return KnowledgeBase.open(prepared / "kb")


@pytest.fixture(scope="module")
def tokenizer(prepared) -> Tokenizer:
    return load_tokenizer(prepared / "generator")


@pytest.fixture(scope="module")
def wordpiece(prepared) -> WordPiece:
    return load_wordpiece(prepared / "retriever")
