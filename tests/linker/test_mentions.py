"""What candidate mentions know of their surface forms."""

import math

import numpy as np
import pytest

from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.linker.mentions import equally_likely, find_mentions
from insgenel_jax.linker.settings import Settings
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.rejects import Rejects

LABELLED = [
    Document("1", "Paris and Paris", None, (Mention(0, 5, "Paris"),)),
    Document("2", "Paris, Texas", None, ()),
    Document("3", "Paris", None, ()),
]


def find(tmp_path, documents, given):
    entities = [(Entity("Paris"), []), (Entity("Paris, Texas"), [])]
    build_from_entities(tmp_path / "kb", entities, Rejects(), documents=documents)
    kb = KnowledgeBase.open(tmp_path / "kb")
    settings = Settings(system="insgenel")
    (found,) = find_mentions(kb, None, None, ["in Paris, Texas"], given, settings)
    return {(c.start, c.end): c for c in found.candidates}


@pytest.mark.parametrize("given", [None, [[(3, 8), (3, 15), (0, 2)]]])
def test_link_counts_reach_the_candidate_mentions(tmp_path, given):
    """Whether the dictionary finds the span or the caller gives it."""
    found = find(tmp_path, LABELLED, given)
    assert {span: (c.linked, c.seen) for span, c in found.items()} == {
        (3, 8): (1, 3),
        (3, 15): (0, 1),
    }
    # logit(3/8), logit(1/4)
    assert found[3, 8].link_log_odds == pytest.approx(math.log(3 / 5))
    assert found[3, 15].link_log_odds == pytest.approx(math.log(1 / 3))


def test_without_link_counts_nothing_speaks_for_or_against(tmp_path):
    """A knowledge base made without documents; a given span unknown to it."""
    found = find(tmp_path, [], None)
    unknown = equally_likely(np.array([0, 1], np.int32))
    assert len(found) == 2
    for candidate in (*found.values(), unknown):
        assert (candidate.linked, candidate.seen) == (0, 0)
        assert candidate.link_log_odds == 0
        assert candidate.link_probability == 1
