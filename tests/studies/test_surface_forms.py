"""What rules that make surface forms would bring, counted without building anything."""

import numpy as np
import pytest

from insgenel_jax.evaluation.scoring import make_resolve
from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.kb.build.name_rules import FORM_RULES
from insgenel_jax.kb.occurrences import find_occurrences
from insgenel_jax.studies.surface_forms import study_surface_forms
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.rejects import Rejects

ENTITIES = [
    Entity("Ada Bird", "The third president."),
    Entity("Bo Bird"),
    Entity("Kurt Gödel"),
    Entity("Spain"),
    Entity("Star Trek: Next Door"),
    Entity("Philip II of Spain"),
    Entity("National Energy Board"),
    Entity("Burkina Faso"),
]
REDIRECTS = {"Adelaide Müller": "Ada Bird"}
TEXT = (
    "Ada met president Bird, Adelaide Muller and Godel of the Spanish NEB. {Ada} Bird!"
)
GOLDS = [
    ("Ada", "Ada Bird"),
    ("Bird", "Bo Bird"),
    ("Muller", "Adelaide Müller"),
    ("Godel", "Kurt Gödel"),
    ("Spanish", "Spain"),
    ("NEB", "Nobody"),
    ("NEB", None),
]


def document(text=TEXT, golds=GOLDS):
    mentions = [
        Mention(text.index(surface), text.index(surface) + len(surface), entity)
        for surface, entity in golds
    ]
    return Document("1", text, mentions=tuple(mentions))


def build(path, rules=()):
    pairs = [(entity, ()) for entity in ENTITIES]
    build_from_entities(path, pairs, Rejects(), redirects=REDIRECTS, form_rules=rules)
    return KnowledgeBase.open(path)


def study(kb, *documents, **options):
    rows = study_surface_forms(
        kb, {"set": documents}, make_resolve(None, kb), **options
    )
    return {row.rules: row for row in rows}


def test_every_number_by_hand(tmp_path):
    rows = study(build(tmp_path / "kb"), document())
    assert list(rows) == [
        (),
        *((rule,) for rule in FORM_RULES),
        *(FORM_RULES[:count] for count in range(2, len(FORM_RULES) + 1)),
    ]
    first = rows[()]
    assert (first.texts, first.golds, first.known) == (1, 6, 5)
    assert (first.found, first.candidates, first.kept) == (0, 0, None)
    # the braces of "{Ada} Bird" part them, so that no form of the dictionary matches
    assert first.matches == 0
    ada = rows["first_word",]
    # Ada twice and Adelaide
    assert (ada.found, ada.candidates, ada.matches) == (1, 1, 3)
    bird = rows["last_word",]
    # Bird twice: two entities; "Muller" and "Godel" are not spelled so in a title
    assert (bird.found, bird.candidates, bird.matches) == (1, 2, 2)
    both = rows["first_word", "last_word"]
    assert (both.found, both.candidates, both.matches) == (2, 3, 5)
    spanish = rows["demonym",]
    assert (spanish.found, spanish.candidates, spanish.matches) == (1, 1, 1)
    neb = rows["acronym",]
    assert (neb.found, neb.candidates, neb.matches) == (0, 1, 1)
    assert rows["ascii",].found == 0 and rows["ascii",].matches == 1  # Adelaide Muller
    everything = rows[FORM_RULES]
    assert (everything.found, everything.candidates) == (5, 7)


@pytest.mark.parametrize("count", range(len(FORM_RULES) + 1))
def test_equals_a_knowledge_base_with_the_rules(tmp_path, count):
    """Rules alone, and each with those before it, as if a knowledge base had them."""
    texts = [
        document(),
        document("The Ada Bird's king Philip, Philip II, Star Trek Next Door.", []),
        document(
            "Burkinabe Burkinabé; the spain (Kurt Godel) NEB's, Trek: Next Door", []
        ),
    ]
    plain = build(tmp_path / "kb")
    rows = study(plain, *texts)
    for rules in {FORM_RULES[:count], FORM_RULES[count : count + 1]}:
        kb = build(tmp_path / "rules", rules)
        row = rows[rules]
        candidates = [
            kb.candidates(form)[0].tolist()
            if (form := kb.form(surface)) is not None
            else []
            for surface, entity in GOLDS
            if entity is not None
        ]
        rows_of_golds = [kb.find(entity) for _, entity in GOLDS if entity is not None]
        assert row.candidates == sum(map(len, candidates))
        assert row.found == sum(map(list.__contains__, candidates, rows_of_golds))
        occurrences = [find_occurrences(kb, d.text) for d in texts]
        assert row.matches == sum(len(o.starts) for o in occurrences)


def test_only_what_is_retrieved_is_kept(tmp_path):
    kb = build(tmp_path / "kb")
    found = np.array([kb.find("Ada Bird"), kb.find("Kurt Gödel")])
    rows = study(kb, document(), retrieve=lambda documents: [found])
    # of Ada, Bird (both), Muller, Godel
    assert (rows[FORM_RULES].kept, rows[FORM_RULES].kept_candidates) == (3, 4)
    assert (rows[()].kept, rows[()].kept_candidates) == (0, 0)


def test_a_surface_that_no_name_has(tmp_path):
    text = "\ud800 !!! the"
    rows = study(
        build(tmp_path / "kb"), document(text, [("!!!", "Ada Bird"), ("the", "Spain")])
    )
    assert {row.found for row in rows.values()} == {0}
    assert {row.matches for row in rows.values()} == {0}


def test_what_a_knowledge_base_has_of_rules_is_left_out(tmp_path):
    ruled = study(build(tmp_path / "ruled", FORM_RULES), document())
    assert ruled == study(build(tmp_path / "plain"), document())
