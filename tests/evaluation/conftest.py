"""A knowledge base that several tests of evaluation share."""

import pytest

from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.text.formats.rejects import Rejects


@pytest.fixture(scope="session")
def bobs(tmp_path_factory) -> KnowledgeBase:
    """Entities 0 and 1, both called "Bob", and entity 2, called "Ann"."""
    entities = [
        (Entity("Bob Hope"), ["Bob"]),
        (Entity("Bob Dylan"), ["Bob"]),
        (Entity("Ann Lee", "", "Q3"), ["Ann"]),
    ]
    path = tmp_path_factory.mktemp("bobs") / "kb"
    build_from_entities(path, entities, Rejects())
    return KnowledgeBase.open(path)
