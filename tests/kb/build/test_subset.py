"""A subset beside a filter, in plain Python, of the whole knowledge base."""

import itertools

import numpy as np
import pytest

from insgenel_jax import artifact
from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.kb.build.subset import write_subset
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.rejects import Rejects

TITLES = ["Ada Bird", "Bo Bird", "Bird", "Cy Bird", "Dee", "Eve Bird", "Bird (band)"]
REDIRECTS = {"Ada B.": "Ada Bird", "B. Bird": "Bo Bird", "Birds": "Bird", "D": "Dee"}
# how often the text of each document links it, and whether others have it unlinked
LINKS = [
    ("bird", "Cy Bird", 4),
    ("bird", "Bird", 2),
    ("bird", "Dee", 2),
    ("the band", "Bird (band)", 3),
    ("dee", "Dee", 2),
    ("who", "Eve Bird", 1),
]


@pytest.fixture(scope="module")
def kb(tmp_path_factory):
    documents = [
        Document("", surface, None, (Mention(0, len(surface), title),))
        for surface, title, count in LINKS
        for _ in range(count)
    ]
    documents += [Document("", "Who is a bird?", None, ())] * 300
    path = tmp_path_factory.mktemp("whole") / "kb"
    entities = [
        (Entity(title, f"It is {title}.", f"Q{i}"), [f"the {i}"])
        for i, title in enumerate(TITLES)
    ]
    build_from_entities(
        path,
        entities,
        Rejects(),
        documents=documents,
        redirects=REDIRECTS,
        form_rules=["last_word", "acronym"],
    )
    return KnowledgeBase.open(path)


def forms_of(kb):
    """Every surface form with its number."""
    return {
        kb._base.form_trie.restore_key(i): i for i in range(len(kb._base.form_trie))
    }


def pairs_of(kb, form):
    """The candidates of a form, as title and count."""
    rows, counts = (column.tolist() for column in kb.candidates(form))
    return [(kb.title(row), count) for row, count in zip(rows, counts, strict=True)]


def best_known(kb, n):
    redirects = [row for _, row in kb.redirects()]
    known = sorted(
        range(len(kb)), key=lambda i: (-kb.entity(i).inlinks, -redirects.count(i), i)
    )
    return sorted(known[:n])


def test_names_that_only_rules_give_may_be_left_out(kb, tmp_path):
    write_subset(kb, tmp_path / "kb", len(kb), min_count=1.0)
    small = KnowledgeBase.open(tmp_path / "kb")
    expected = {
        form
        for form, number in forms_of(kb).items()
        if kb.document_counts([number])[0][0] or pairs_of(kb, number)[0][1] >= 1
    }
    assert set(forms_of(small)) == expected
    gone = set(forms_of(kb)) - expected
    assert gone == {"ab", "bb", "cb", "eb"}  # acronyms


@pytest.mark.parametrize("n", range(1, 9))
@pytest.mark.parametrize(("most", "least"), [(None, 0), (1, 0), (2, 0.02), (20, 1)])
def test_each_form_has_the_filtered_candidates_of_the_original(
    kb, tmp_path, n, most, least
):
    counts = write_subset(
        kb, tmp_path / "kb", n, max_candidates=most, min_link_probability=least
    )
    small = KnowledgeBase.open(tmp_path / "kb", verify=True)
    rows = best_known(kb, n)
    expected = {}
    for form, number in forms_of(kb).items():
        kept = [pair for pair in pairs_of(kb, number) if kb.find(pair[0]) in rows][
            :most
        ]
        if kept and kb.link_probability([number])[0] >= least:
            expected[form] = kept, np.ravel(kb.document_counts([number])).tolist()
    found = {
        form: (
            pairs_of(small, number),
            np.ravel(small.document_counts([number])).tolist(),
        )
        for form, number in forms_of(small).items()
    }
    assert found == expected
    assert small.settings.longest_form == max(map(len, expected))
    assert counts["candidates"] == sum(len(kept) for kept, _ in expected.values())


def test_entities_redirects_and_text(kb, tmp_path):
    rows = best_known(kb, 4)
    assert [TITLES[row] for row in rows] == ["Bird", "Cy Bird", "Dee", "Bird (band)"]
    for keep_text, keep_redirects in itertools.product((False, True), repeat=2):
        path = tmp_path / f"{keep_text}{keep_redirects}"
        write_subset(kb, path, 4, keep_text=keep_text, keep_redirects=keep_redirects)
        small = KnowledgeBase.open(path, verify=True)
        assert len(small) == 4
        for i, row in enumerate(rows):
            old, new = kb.entity(row), small.entity(i)
            assert (new.title, new.external_id, new.inlinks) == (
                old.title,
                old.external_id,
                old.inlinks,
            )
            assert small.popularity(i) == kb.popularity(row)
            assert small.find_external(f"Q{row}") == i
            assert small.entity_text(i) == (kb.entity_text(row) if keep_text else "")
        expected = [("Birds", 0), ("D", 2)] if keep_redirects else []
        assert list(small.redirects()) == expected
        assert small.find("Birds") == (0 if keep_redirects else None)
        assert small.find("Ada Bird") is None
        assert small.find("B. Bird") is None


def test_it_says_what_it_was_made_from(kb, tmp_path):
    write_subset(kb, tmp_path / "kb", 2)
    assert artifact.read(tmp_path / "kb").made_from == {"knowledge-base": kb.identity}
