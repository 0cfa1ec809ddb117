"""A linker over a base with an overlay against one over all in one list."""

import json

import pytest

from insgenel_jax import artifact, mini_world
from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.kb.build.overlay import write_overlay
from insgenel_jax.linker import Linker, assemble
from insgenel_jax.retrieval.build import index_entities
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.text.formats.rejects import Rejects
from tests.helpers.marks import slow

OWN = {
    "Apollo": "A lamp of Acme.",  # the title of another entity, which may be removed
    "Acme Jordan": "A shoe of Acme that is named after Michael Jordan.",
    "Zephyr 3": "A vacuum cleaner by Acme.",
}
ALIASES = {"Acme Jordan": ["Jordan", "Jordans"], "Zephyr 3": ["Zephyr"]}


@pytest.fixture(scope="module")
def parts(linker_path, tmp_path_factory):
    """The parts of a linker over the mini world, and its entities."""
    kb = KnowledgeBase.open(linker_path / "kb")
    listed = []
    forms = [set() for _ in range(len(kb))]
    for form in range(len(kb._base.form_trie)):
        for row in kb.candidates(form)[0].tolist():
            forms[row].add(kb._base.form_trie.restore_key(form))
    for row in range(len(kb)):
        listed.append((kb.entity(row), sorted(forms[row])))
    return linker_path, listed, tmp_path_factory.mktemp("overlay")


def own():
    return [
        (Entity(title, text, f"own-{i}"), ALIASES.get(title, []))
        for i, (title, text) in enumerate(OWN.items())
    ]


def make_linker(root, parts, kb_path, base_index=None):
    """A linker over a knowledge base with the models of `parts`."""
    kb = KnowledgeBase.open(kb_path)
    identity = artifact.identity(parts / "retriever")
    index_entities(
        kb,
        Retriever.load(parts / "retriever"),
        root / "index",
        made_from={"knowledge-base": kb.identity, "retriever": identity},
        exact=True,
        base=base_index,
    )
    assemble(
        root / "linker",
        generator=parts / "generator",
        retriever=parts / "retriever",
        kb=kb_path,
        index=root / "index",
    )
    return root / "linker"


@pytest.fixture(scope="module", params=[slow("added"), "removed too"])
def linkers(request, parts):
    """The linker over base and overlay, and that over one list."""
    models, listed, root = parts
    root = root / request.param
    removed = []
    if request.param != "added":
        # those that the texts name: both readings of a name, and the only one of others
        removed = [entity.title for entity, _ in listed[::4]]
    for name, entities in (
        ("base", listed),
        ("both", [p for p in listed if p[0].title not in removed] + own()),
    ):
        (root / name).mkdir(parents=True)
        build_from_entities(root / name / "kb", entities, Rejects())
    source, remove = root / "own.jsonl", root / "removed.txt"
    lines = [
        {"title": e.title, "description": e.description, "id": e.external_id}
        | {"aliases": aliases}
        for e, aliases in own()
    ]
    source.write_text("\n".join(map(json.dumps, lines)))
    remove.write_text("\n".join(removed))
    base = KnowledgeBase.open(root / "base" / "kb")
    write_overlay(base, root / "kb", Rejects(), source=source, remove=remove)
    make_linker(root / "base", models, root / "base" / "kb")
    whole = make_linker(root / "both", models, root / "both" / "kb")
    over = make_linker(root, models, root / "kb", root / "base" / "index")
    return over, whole


@pytest.mark.parametrize("system", ["insgenel", "insgenel-r"])
def test_the_same_links(linkers, system):
    texts = [d.text for d in mini_world.paragraphs("dev", 12)]
    texts.append("The Zephyr 3 cleans. Jordans, the Apollo and Acme Jordan do not.")
    settings = {"system": system, "mention_bias": 3.0, "batch": 4}
    if system == "insgenel-r":
        settings["top_k"] = 25
    over, whole = (
        Linker.from_pretrained(path, decoder="speculative", **settings)
        for path in linkers
    )
    assert over.kb.base_rows is not None and whole.kb.base_rows is None
    links = []
    for linker in (over, whole):
        found = [
            (m.start, m.end, m.entity, m.external_id, round(m.score, 4))
            for document in linker(texts)
            for m in document.mentions
        ]
        links.append(found)
    assert links[0] == links[1] and len(links[0]) > 8
    if system == "insgenel":  # the random retriever may find none of them
        assert any(i and i.startswith("own") for *_, i, _ in links[0])
