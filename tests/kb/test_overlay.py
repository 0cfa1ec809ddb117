"""A base with an overlay against a knowledge base built from what both hold."""

import json
import shutil

import numpy as np
import pytest

from insgenel_jax.artifact import ArtifactError
from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.kb.build.overlay import write_overlay
from insgenel_jax.kb.build.subset import write_subset
from insgenel_jax.text.formats.rejects import InputError, Rejects

WORDS = ["Ada", "Bo", "Cy", "Dee"]
RULES = ["first_word", "last_word"]
TEXT = "Ada Bo, ada cy (Dee) Bo Ada Cy? Cy Dee Bo the Countess " + " ".join(WORDS)


def pairs(rows):
    return [(Entity(t, f"On {t}.", f"Q{t}", n), names) for t, names, n in rows]


def build(path, rows, redirects, rules):
    build_from_entities(
        path, pairs(rows), Rejects(), redirects=redirects, form_rules=rules
    )
    return KnowledgeBase.open(path)


def overlay(base, path, rows, removed):
    """The overlay that adds entities, with ids of their own, and removes titles."""
    source, remove = path.with_suffix(".jsonl"), path.with_suffix(".txt")
    lines = [
        {"title": t, "description": f"On {t}.", "id": f"own {t}", "aliases": names}
        for t, names, _ in rows
    ]
    source.write_text("\n".join(map(json.dumps, lines)))
    remove.write_text("\n".join(removed))
    rejects = Rejects()
    write_overlay(base, path, rejects, source=source, remove=remove)
    assert rejects.count == 0
    return KnowledgeBase.open(path, verify=True)


def describe(kb):
    """All that can be asked of a knowledge base, by titles in place of rows."""
    matches = kb.matches(TEXT)
    inside = kb.substring_matches(TEXT)
    found = {}
    for start, end, form in zip(*(c.tolist() for c in matches), strict=True):
        entities, counts = kb.candidates(form)
        assert kb.form(TEXT[start:end]) == form
        found[start, end] = (
            [(kb.title(row), kb.popularity(row)) for row in entities.tolist()],
            counts.tolist(),
            kb.link_probability([form]).tolist(),
        )
    names = [*WORDS, "Ada Bo", "ada Cy", "Countess", "Ada (2)", "Bo (2)"]
    rows = [kb.find(name) for name in names]
    texts = [None if row is None else kb.entity(row).description for row in rows]
    redirects = sorted((name, kb.title(row)) for name, row in kb.redirects())
    spans = [column.tolist() for column in inside[:2]]
    return found, texts, redirects, spans


def draw(rng):
    """Some entities: title, further names, inlinks."""
    titles = dict.fromkeys(draw_name(rng) for _ in range(rng.integers(1, 6)))
    names = [[draw_name(rng) for _ in range(rng.integers(3))] for _ in titles]
    return [(t, n, int(rng.integers(9))) for t, n in zip(titles, names, strict=True)]


def draw_name(rng):
    return " ".join(rng.choice(WORDS, rng.integers(1, 3)))


@pytest.mark.parametrize("seed", range(24))
def test_it_is_what_one_list_of_all_gives(tmp_path, seed):
    root, rng, rules = tmp_path, np.random.default_rng(seed), [[], RULES][seed % 2]
    base, added = draw(rng), draw(rng)
    redirects = {"Countess": base[0][0], "Lady": base[-1][0]}
    titles = [title for title, _, _ in base]
    removed = [title for title in titles if rng.random() < 0.3]
    added = [(title, names, 0) for title, names, _ in added]
    plain = build(root / "base", base, redirects, rules)
    kb = overlay(plain, root / "kb", added, removed)
    kept = [row for row in base if row[0] not in removed]
    left = {name: title for name, title in redirects.items() if title not in removed}
    whole = build(root / "whole", kept + added, left, rules)
    assert describe(kb) == describe(whole)
    assert len(kb) == len(base) + len(added)
    assert len(kb.removed) == len(removed)
    assert kb.find_external(f"own {added[0][0]}") == len(base)
    for title in titles:
        assert (kb.find_external(f"Q{title}") is None) == (title in removed)


@pytest.fixture
def base(tmp_path):
    rows = [("Ada", ["Countess"], 3), ("Bo", [], 1), ("Cy", ["Bo"], 0)]
    return build(tmp_path / "base", rows, {"Lady": "Ada"}, [])


def test_removal_alone(base, tmp_path):
    kb = overlay(base, tmp_path / "kb", [], ["Ada", "QBo"])
    assert [kb.find(name) for name in ("Ada", "Lady", "Bo", "Cy")] == [
        None,
        None,
        None,
        2,
    ]
    assert kb.form("Countess") is None and kb.matches("Ada, countess").forms.size == 0
    assert kb.candidates(kb.form("Bo"))[0].tolist() == [2]


def test_bad_input_is_rejected_with_its_reason(base, tmp_path):
    source, remove = tmp_path / "own.jsonl", tmp_path / "remove.txt"
    good = {"title": "Bo", "id": "P1", "description": "x" * 1_000_000}
    bad = [{"id": "P2"}, {"title": " "}, {"title": "D", "id": "P1"}]
    bad.append({"title": "Ada L", "id": "QAda"})
    source.write_text("\n".join(map(json.dumps, [good, *bad])))
    remove.write_text("Nobody\nLady\n\nCy\nQCy\n")
    rejects = Rejects()
    counts = write_overlay(base, tmp_path / "kb", rejects, source=source, remove=remove)
    assert [(line, reason.split(":")[0]) for _, line, reason, _ in rejects.entries] == [
        (1, "removal of an unknown entity"),
        (2, "removal of a redirect"),
        (5, "removed by an earlier line"),
        (2, "bad title"),
        (3, "empty name"),
        (4, "id taken by an earlier entity"),
        (5, "id taken by an entity of the knowledge base"),
        (1, "title taken"),
    ]
    assert (counts["entities"], counts["added"], counts["removed"]) == (3, 1, 1)
    kb = KnowledgeBase.open(tmp_path / "kb")
    assert len(kb.description(kb.find("Bo (2)"))) == 1_000_000
    assert counts["surface forms"] == 4 and kb.base_rows == 3


def test_what_cannot_be_an_overlay_is_refused(base, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    with pytest.raises(InputError, match="expected entities to add or to remove"):
        write_overlay(base, tmp_path / "kb", Rejects(), remove=empty)
    kb = overlay(base, tmp_path / "kb", [("Dee", [], 0)], [])
    for use in (write_overlay, lambda kb, out, _: write_subset(kb, out, 1)):
        with pytest.raises(InputError, match="give its .*/kb/base"):
            use(kb, tmp_path / "again", Rejects())


def test_an_overlay_of_another_base_is_refused(base, tmp_path):
    overlay(base, tmp_path / "kb", [("Dee", [], 0)], ["Bo"])
    build(tmp_path / "other", [("Ada", [], 0)], {}, [])
    for part in ("base", "added"):
        broken = tmp_path / f"without {part}"
        shutil.copytree(tmp_path / "kb", broken)
        shutil.rmtree(broken / part)
        shutil.copytree(tmp_path / "other", broken / part)
        with pytest.raises(ArtifactError, match=f"{part}"):
            KnowledgeBase.open(broken)
