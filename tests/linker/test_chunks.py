"""Documents cut into chunks: bounds, filters, parts of names, what is tokenised."""

import pytest

from insgenel_jax import mini_world
from insgenel_jax.kb.occurrences import find_occurrences
from insgenel_jax.linker import Linker
from insgenel_jax.linker.mentions import find_name_parts
from insgenel_jax.linker.settings import Settings
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.linked_text import encode_source
from insgenel_jax.tokenizer import train_bpe
from tests.helpers.linkers import add_entities
from tests.helpers.marks import TEXTS, slow

NEW = Settings(name_parts="new")


def link_against(path, entities, **settings):
    """A linker over entities {title: further names}, with a random OPT."""
    tokenizer = train_bpe(TEXTS * 5, 400, path / "bpe")
    path = add_entities(path, entities, tokenizer.size, "opt")
    return Linker.from_pretrained(path, **settings)


def fits(linker, chunk):
    size = len(chunk.chunk.prompt) + chunk.chunk.table.longest
    return size <= linker.generator.max_positions


@pytest.fixture(scope="module")
def linker(linker_path):
    return Linker.from_pretrained(linker_path, mention_bias=3.0, decoder="speculative")


def test_chunks_hold_whatever_is_decided(linker_path, linker):
    """Prompt and longest path fit the model's positions; no mention is cut or lost."""
    text = " ".join(d.text for d in mini_world.paragraphs("dev", 12))
    lazy = "Jordan and Paris and Apollo " * 90  # one sentence over any chunk
    documents = [Document("0", text), Document("1", lazy)]
    chunks = linker.chunks(documents)
    assert len(chunks) > 10
    assert all(fits(linker, chunk) for chunk in chunks)
    spans = [
        (chunk.document, c.start, c.end) for chunk in chunks for c in chunk.candidates
    ]
    assert len(spans) == len(set(spans))
    whole = Linker.from_pretrained(linker_path, chunk_tokens=60, scope="document")
    for document in documents:
        matches = find_occurrences(linker.kb, document.text)
        retrieved = whole.candidates([document])[0]
        assert {(c.start, c.end) for c in retrieved} <= set(
            zip(matches.starts.tolist(), matches.ends.tolist(), strict=True)
        )
    everything = Linker.from_pretrained(linker_path, system="insgenel")
    for document, candidates in zip(
        documents, everything.candidates(documents), strict=True
    ):
        matches = find_occurrences(linker.kb, document.text)
        assert [c.start for c in candidates] == matches.starts.tolist()
    assert len(candidates) == 3 * 90


def test_chunks_are_as_long_as_those_trained_on(linker_path):
    """The setting chunk_tokens wins over what insgenel.json says."""
    text = "Nothing of Paris is known. " * 100
    for chunk_tokens, expected in ((None, 175), (40, 40)):
        linker = Linker.from_pretrained(
            linker_path, system="insgenel", chunk_tokens=chunk_tokens
        )
        assert linker.generator.chunk_tokens == 175
        chunks = linker.chunks([Document("", text)])
        lengths = [
            len(encode_source(linker.generator.tokenizer, text[c.start : c.end]))
            for c in chunks
        ]
        assert expected * 0.6 < max(lengths) <= expected


def test_names_linked_before_lend_their_parts(linker_path):
    """After a linked "Leonhard Euler", "Leonhard" is a candidate mention too."""
    text = "Leonhard saw Leonhard Euler. Leonhard left; Leonhards too, (Leonhard)."
    sure = {"system": "insgenel", "mention_bias": 40.0}
    plain = Linker.from_pretrained(linker_path, **sure)(text)
    (euler,) = (m for m in plain.mentions if (m.start, m.end) == (13, 27))
    assert len(plain.mentions) == 1
    linker = Linker.from_pretrained(linker_path, name_parts="new", **sure)
    found = linker(text).mentions
    assert [(m.start, m.end) for m in found] == [(13, 27), (29, 37), (60, 68)]
    assert {m.entity for m in found} == {euler.entity}


def test_names_linked_before_override_other_candidates(linker_path):
    """After "Michael Jordan" a "Jordan" is he and nobody else."""
    text = "Jordan met Michael Jordan. Jordan, jordan left, Jordan."
    sure = {"system": "insgenel", "mention_bias": 40.0, "length_bias": 40.0}
    links = {
        how: {
            m.start: (m.end, m.entity)
            for m in Linker.from_pretrained(linker_path, name_parts=how, **sure)(
                text
            ).mentions
        }
        for how in ("off", "new", "override")
    }
    assert links["new"] == links["off"]
    changed = {start: (start + 6, "Michael Jordan") for start in (27, 48)}
    assert links["override"] == links["off"] | changed
    assert links["off"] != links["override"]


def test_whole_runs_alone(linker_path):
    text = "Paris Hilton in Paris; Michael Jordan and Michael Jordan Paris"
    spans = []
    for run in ("any", "whole"):
        linker = Linker.from_pretrained(
            linker_path, system="insgenel", capitalised_run=run
        )
        (found,) = linker.candidates([Document("", text)])
        spans.append([(c.start, c.end) for c in found])
    assert spans[1] == [(16, 21), (23, 37)]
    assert {(0, 5), (31, 37), (42, 56), (57, 62)} < set(spans[0])


def test_name_parts_do_not_outgrow_the_model(linker_path):
    """Chunks without a decision get parts of names; those without room are counted."""
    linker = Linker.from_pretrained(
        linker_path,
        system="insgenel",
        mention_bias=40.0,
        name_parts="new",
        chunk_tokens=4000,
    )
    text = "Leonhard Euler " + "Leonhard " * 200
    chunks = linker.chunks([Document("", text)])
    assert len(chunks) > 1 and all(fits(linker, chunk) for chunk in chunks)
    spans = [(c.start, c.end) for chunk in chunks for c in chunk.candidates]
    assert spans == [(0, 14), (9, 14)]
    mentions = linker(text).mentions
    assert 1 + 8 * len(chunks) <= len(mentions) < 201
    assert linker.stats["cut"] == 201 - len(mentions)


def parts_of(linker, text, *names):
    """The texts of the name parts that linked names lend the rest of a text."""
    linked = [
        Mention(text.index(name), text.index(name) + len(name), name) for name in names
    ]
    taken = [(m.start, m.end) for m in linked]
    parts = find_name_parts(linker.kb, text, linked, taken, NEW)
    return [
        (text[p.start : p.end], p.start, linker.kb.title(int(p.entities[0])))
        for p in parts
    ]


def test_initials_and_stop_words_are_no_parts_of_names(linker):
    text = "The L. Leonhard of Paris: The L Leonhard"
    name = Mention(0, 15, "Leonhard Euler")
    (part,) = find_name_parts(linker.kb, text, [name], [(0, 15)], NEW)
    assert text[part.start : part.end] == "Leonhard" and part.start > 15


def test_what_no_chunk_can_hold_is_counted(linker_path):
    linker = Linker.from_pretrained(linker_path, system="insgenel", chunk_tokens=3)
    assert not linker("Michael Jordan slept.").mentions
    assert linker.stats["cut"] > 0


def test_parts_of_two_names_are_nobodys(linker):
    text = "Michael Jordan, Michael Jackson. Michael! Jordan!"
    both = parts_of(linker, text, "Michael Jordan", "Michael Jackson")
    assert both == [("Jordan", 42, "Michael Jordan")]
    one = parts_of(linker, text, "Michael Jackson")
    assert one == [("Michael", 33, "Michael Jackson")]


def test_parts_do_not_overlap_candidate_mentions(linker):
    text = "Leonhard Euler; Leonhard Leonhard"
    name = Mention(0, 14, "Leonhard Euler")
    (part,) = find_name_parts(linker.kb, text, [name], [(0, 14), (14, 17)], NEW)
    assert part.start == 25


def test_filters(linker_path):
    text = "The jordan, Jordan and a python."
    (found,) = Linker.from_pretrained(linker_path, system="insgenel").candidates(
        [Document("", text)]
    )
    assert {text[c.start : c.end] for c in found} == {"jordan", "Jordan", "python"}
    capitalised = Linker.from_pretrained(
        linker_path, system="insgenel", case="capitalised"
    )
    (found,) = capitalised.candidates([Document("", text)])
    assert {text[c.start : c.end] for c in found} == {"Jordan"}
    none = Linker.from_pretrained(
        linker_path, system="insgenel", min_link_probability=1.1
    )
    assert none.candidates([Document("", text)]) == [[]]


@pytest.mark.parametrize("decoder", ["tree", slow("beam")])
def test_a_title_that_no_chunk_can_hold_is_left_out(tmp_path, decoder):
    """The entity is counted, and its mentions keep their other entities."""
    far = "".join(map(chr, range(0x4E00, 0x4E00 + 195)))  # three tokens a character
    entities = {"York": ["New York"], far: ["York", "New York", "Sun"]}
    bias = {} if decoder == "beam" else {"mention_bias": 40.0}
    linker = link_against(tmp_path, entities, decoder=decoder, **bias)
    text = "I saw York, New York and the Sun."
    (chunk,) = linker.chunks([Document("", text)])
    assert fits(linker, chunk)
    assert len(chunk.candidates) == 3  # York, New York, and York within it
    links = linker(text).mentions
    assert {link.entity for link in links} <= {"York"}
    assert links or decoder == "beam"
    assert linker.stats["overlong"] == 1 and not linker.stats["cut"]


def test_mentions_that_exclude_each_other_share_their_room(tmp_path):
    """A chunk with room for one link may hold overlapping candidate mentions."""
    long = "".join(map(chr, range(0x4E00, 0x4E00 + 120)))
    linker = link_against(tmp_path, {long: ["York", "New York"]})
    (chunk,) = linker.chunks([Document("", "New York")])
    assert len(chunk.candidates) == 2 and fits(linker, chunk)
    chunks = linker.chunks([Document("", "New York. " * 5)])
    assert [len(chunk.candidates) for chunk in chunks] == [2] * 5
    assert all(fits(linker, chunk) for chunk in chunks)
