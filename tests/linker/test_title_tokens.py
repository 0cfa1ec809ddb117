"""The tokens of titles, each tokenised once, also where they were dropped since."""

import pytest

from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.linker import title_tokens
from insgenel_jax.text.formats.rejects import Rejects
from insgenel_jax.text.linked_text import encode_titles


def test_what_another_thread_drops_is_tokenised_again(tokenizer, tmp_path, monkeypatch):
    entities = [(Entity(title), []) for title in ("Java", "Paris")]
    build_from_entities(tmp_path / "kb", entities, Rejects())
    kb = KnowledgeBase.open(tmp_path / "kb")
    tokens = title_tokens.TitleTokens(kb, tokenizer, untokenised={1})
    tokens.encode([0, 1])
    expected = encode_titles(tokenizer, [kb.title(0)])[0]
    monkeypatch.setattr(title_tokens, "MOST", 0)
    for _ in range(2):
        assert tokens[0] == expected and tokens.length(0) == len(expected)
        assert tokens.length(1) == 0
        with pytest.raises(KeyError):
            tokens[1]
        tokens.forget()
