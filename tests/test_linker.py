"""The linker end to end with random weights: what must hold whatever the model says."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from insgenel_jax import artifact
from insgenel_jax.artifact import ArtifactError
from insgenel_jax.decoding import call
from insgenel_jax.decoding.spans import merge_spans
from insgenel_jax.document import Document, Mention
from insgenel_jax.kb import world
from insgenel_jax.kb.occurrences import find_occurrences
from insgenel_jax.linked_text import encode_source
from insgenel_jax.linker import Linker, assemble
from insgenel_jax.linker_chunks import add_name_parts, make_chunks
from insgenel_jax.linker_directory import load_generator
from insgenel_jax.sharding import make_mesh

HARD = [
    "",
    " \n\t ",
    "Nothing to see here.",
    "Mercury",
    "Paris, Texas",
    "(Apollo)'s {Orion} [Java]\nand the Amazon's Jordan",
    "Jordan " * 300,
    "x" * 3000 + " Paris",
    "\u202eParis\u0301 Java\x00Python 👩‍🚀Apollo東京",
]


@pytest.fixture(scope="module")
def linker(linker_path):
    return Linker.from_pretrained(linker_path, mention_bias=3.0)


@pytest.fixture(scope="module")
def texts():
    return [d.text for d in world.paragraphs("dev", 30)] + HARD


def check(linker, document):
    """Mentions in order, not overlapping, each of a candidate of that very span."""
    (candidates,) = linker.candidates([document])
    allowed = {(c.start, c.end): c.entities.tolist() for c in candidates}
    reached = 0
    for mention in document.mentions:
        assert reached <= mention.start < mention.end <= len(document.text)
        reached = mention.end
        entity = linker.kb.find(mention.entity)
        assert linker.kb.title(entity) == mention.entity
        assert mention.external_id == linker.kb.external_id(entity)
        assert entity in allowed[mention.start, mention.end]
        form = linker.kb.form(document.text[mention.start : mention.end])
        assert entity in linker.kb.candidates(form)[0]
        assert 0 < mention.score <= 1


@pytest.mark.parametrize("system", ["insgenel-r", "insgenel"])
def test_every_output_is_sound(linker_path, texts, system):
    linker = Linker.from_pretrained(linker_path, system=system, mention_bias=3.0)
    documents = linker(texts)
    assert [document.text for document in documents] == texts
    assert sum(len(document.mentions) for document in documents) > 100
    for document in documents:
        check(linker, document)
    empty, spaces, nothing, *_ = documents[-len(HARD) :]
    assert empty.mentions == spaces.mentions == nothing.mentions == ()
    assert linker.stats["documents"] == len(texts)
    assert linker.stats["calls"] > 0


def test_the_first_and_the_last_character(linker_path):
    """Of a text, and behind a word that no chunk can hold."""
    sure = Linker.from_pretrained(linker_path, system="insgenel", mention_bias=40.0)
    for text, expected in (
        ("Mercury", [(0, 7)]),
        ("Paris saw Mercury", [(0, 5), (10, 17)]),
        ("x" * 3000 + " Paris", [(3001, 3006)]),
    ):
        assert [(m.start, m.end) for m in sure(text).mentions] == expected


def same(a: Document, b: Document):
    assert (a.id, a.text, len(a.mentions)) == (b.id, b.text, len(b.mentions))
    for one, other in zip(a.mentions, b.mentions, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert dataclasses.replace(one, score=None) == dataclasses.replace(
            other, score=None
        )


def test_batch_size_and_order_change_nothing(linker_path, linker, texts):
    texts = texts[:10] + HARD[:-3]
    documents = [Document(id=str(i), text=text) for i, text in enumerate(texts)]
    expected = linker(documents)
    alone = Linker.from_pretrained(linker_path, mention_bias=3.0, batch=1)
    for found in (
        list(linker.stream(documents, group=4)),
        linker(documents[::-1])[::-1],
        [alone(document) for document in documents],
    ):
        for one, other in zip(expected, found, strict=True):
            same(one, other)
    assert linker(documents) == expected


def test_given_mentions_all_come_back(linker):
    text = "Jordan met an unknown in Paris."
    spans = [(25, 30), (14, 21), (0, 6), (0, 5)]
    document = linker(text, mentions=spans)
    assert [(m.start, m.end) for m in document.mentions] == sorted(spans)
    by_span = {(m.start, m.end): m.entity for m in document.mentions}
    assert by_span[0, 6] is not None and by_span[25, 30] is not None
    as_lists = linker(text, mentions=[list(span) for span in spans])
    assert as_lists == document


@pytest.mark.parametrize(
    ("texts", "mentions", "error", "message"),
    [
        (
            "Paris",
            [(0, 99)],
            ValueError,
            r"text 0: mention \[0, 99\): .* 5, the length",
        ),
        ("Paris", [(3, 3)], ValueError, r"mention \[3, 3\)"),
        ("Paris", [(0, 2.5)], ValueError, r"two integers, found \(0, 2.5\)"),
        ("Paris", [7], ValueError, "two integers, found 7"),
        ("Paris", [("0", "5")], ValueError, "two integers"),
        (["Paris"], [[], []], ValueError, "each of 1 texts, found 2"),
        (["Paris", 5], None, TypeError, "text 1: expected a string .* found int"),
        (["Paris", None], None, TypeError, "text 1: .* found NoneType"),
        ("a\ud800b", None, ValueError, "text 0: a lone surrogate at character 1"),
    ],
)
def test_wrong_calls_name_the_text(linker, texts, mentions, error, message):
    with pytest.raises(error, match=message):
        linker(texts, mentions=mentions)


def test_a_threshold_leaves_out_or_says_nil(linker_path, linker, texts):
    strict = Linker.from_pretrained(linker_path, mention_bias=3.0, threshold=0.5)
    texts = texts[:10]
    for every, kept in zip(linker(texts), strict(texts), strict=True):
        assert kept.mentions == tuple(m for m in every.mentions if m.score >= 0.5)
    (mention,) = Linker.from_pretrained(linker_path, threshold=1.1)(
        "Paris", mentions=[(0, 5)]
    ).mentions
    assert mention == Mention(0, 5, None)


def test_chunks_hold_whatever_is_decided(linker_path, linker):
    """Prompt and longest path fit the model's positions; no mention is cut or lost."""
    text = " ".join(d.text for d in world.paragraphs("dev", 12))
    lazy = "Jordan and Paris and Apollo " * 90  # one sentence over any chunk
    documents = [Document("0", text), Document("1", lazy)]
    chunks = make_chunks(linker._parts, documents, None)
    assert len(chunks) > 10
    for chunk in chunks:
        size = len(chunk.prompt) + chunk.table.longest
        assert size <= linker.generator.max_positions
        assert chunk.cut == 0
    found = [
        (chunk.document, c.start, c.end) for chunk in chunks for c in chunk.candidates
    ]
    assert len(found) == len(set(found))
    whole = Linker.from_pretrained(linker_path, chunk_tokens=60, scope="document")
    for number, document in enumerate(documents):
        matches = find_occurrences(linker.kb, document.text)
        retrieved = whole.candidates([document])[0]
        assert {(c.start, c.end) for c in retrieved} <= set(
            zip(matches.starts.tolist(), matches.ends.tolist(), strict=True)
        )
    everything = Linker.from_pretrained(linker_path, system="insgenel")
    (candidates,) = everything.candidates([documents[1]])
    assert len(candidates) == 3 * 90


def test_chunks_are_as_long_as_those_trained_on(linker_path):
    """As many source tokens as insgenel.json says, but where a setting does."""
    text = "Nothing of Paris is known. " * 100
    for chunk_tokens, expected in ((None, 175), (40, 40)):
        linker = Linker.from_pretrained(
            linker_path, system="insgenel", chunk_tokens=chunk_tokens
        )
        assert linker.generator.chunk_tokens == 175
        chunks = make_chunks(linker._parts, [Document("", text)], None)
        lengths = [
            len(encode_source(linker.generator.tokenizer, text[c.start : c.end]))
            for c in chunks
        ]
        assert expected * 0.6 < max(lengths) <= expected


def test_names_linked_before_lend_their_parts(linker_path):
    """Behind a linked "Leonhard Euler" also "Leonhard", which no dictionary knows."""
    text = "Leonhard saw Leonhard Euler. Leonhard left; Leonhards too, (Leonhard)."
    sure = {"system": "insgenel", "mention_bias": 40.0}
    plain = Linker.from_pretrained(linker_path, **sure)(text)
    (euler,) = (m for m in plain.mentions if (m.start, m.end) == (13, 27))
    assert len(plain.mentions) == 1
    linker = Linker.from_pretrained(linker_path, name_parts=True, **sure)
    found = linker(text).mentions
    assert [(m.start, m.end) for m in found] == [(13, 27), (29, 37), (60, 68)]
    assert {m.entity for m in found} == {euler.entity}


def test_parts_of_two_names_are_nobodys(linker_path):
    linker = Linker.from_pretrained(linker_path, system="insgenel")
    document = Document("", "Michael Jordan, Michael Jackson. Michael!")
    chunks = make_chunks(linker._parts, [document], None)
    two = [Mention(0, 14, "Michael Jordan"), Mention(16, 31, "Michael Jackson")]
    assert not add_name_parts(linker._parts, [document], chunks, [two])
    (again,) = add_name_parts(linker._parts, [document], chunks, [two[1:]]).values()
    new = again.candidates[-1]
    assert (new.start, new.end) == (33, 40)
    assert linker.kb.title(new.entities[0]) == "Michael Jackson"


def test_the_best_unlinked_may_pass_the_threshold(linker_path, texts):
    """With the threshold at 0 a link comes of every decision span."""
    shy = {"mention_bias": -20.0, "system": "insgenel"}
    linker = Linker.from_pretrained(linker_path, **shy)
    assert not any(document.mentions for document in linker(texts[:8]))
    linker = Linker.from_pretrained(linker_path, consider_unlinked=True, **shy)
    documents = linker(texts[:8])
    for document in documents:
        check(linker, document)
        (candidates,) = linker.candidates([document])
        merged = merge_spans([(c.start, c.end) for c in candidates])
        assert len(document.mentions) == len(merged)


@pytest.mark.parametrize(
    "mesh",
    [None, pytest.param((2, 2, 2), marks=pytest.mark.slow)],
    ids=["one", "eight"],
)
@pytest.mark.parametrize("decoder", ["step", "tree", "verify"])
def test_every_decoder_and_mesh_links_alike(linker_path, linker, texts, decoder, mesh):
    """Three times the same answer; on eight devices every part lies in its sharding."""
    if mesh is not None:
        mesh = make_mesh(*mesh)
    other = Linker.from_pretrained(
        linker_path, mention_bias=3.0, decoder=decoder, batch=4, mesh=mesh
    )
    if mesh is not None:
        kernel = other.generator.params["layers"]["mlp"]["up"]["kernel"]
        assert kernel.sharding.spec == P(None, "fsdp", "tensor")
    for one, two in zip(linker(texts[:6]), other(texts[:6]), strict=True):
        same(one, two)


def test_half_precision(linker_path, texts):
    """Weights, cache and computation in bfloat16; sound, if not the same."""
    linker = Linker.from_pretrained(
        linker_path, mention_bias=3.0, dtype="bfloat16", decoder="tree"
    )
    leaves = jax.tree.leaves(linker.generator.params)
    assert {leaf.dtype.name for leaf in leaves} == {"bfloat16"}
    assert linker.generator.model.init_cache(1, 8)["k"].dtype == "bfloat16"
    documents = linker(texts[:4])
    assert any(document.mentions for document in documents)
    for document in documents:
        check(linker, document)


def test_beam(linker_path, texts):
    """One beam and no dead ends: sound links, and the paper's two beams as well."""
    for settings in ({"decoder": "beam", "beams": 1}, {"preset": "paper"}):
        linker = Linker.from_pretrained(
            linker_path, **{"system": "insgenel", "mention_bias": 3.0} | settings
        )
        documents = linker(texts[:2])
        assert sum(len(document.mentions) for document in documents) > 2
        for document in documents:
            check(linker, document)


def test_the_papers_preset(linker_path):
    """Sets back every departure, whatever the linker keeps; what is given goes before."""
    settings = Linker.from_pretrained(linker_path, preset="paper").settings
    assert (settings.case, settings.chunk_tokens) == ("capitalised", 175)
    assert (settings.rest_of_span, settings.decoder) == (False, "auto")
    settings = Linker.from_pretrained(
        linker_path, preset="paper", system="insgenel", case="any"
    ).settings
    assert (settings.case, settings.decoder, settings.beams) == ("any", "beam", 2)
    with pytest.raises(ValueError, match="preset: expected one of .* found 'papers'"):
        Linker.from_pretrained(linker_path, preset="papers")


@pytest.mark.slow
def test_new_documents_compile_nothing(linker_path):
    """The shapes of 200 varied documents are those of 100 others."""
    paragraphs = [d.text for d in world.paragraphs("train", 600)]
    rng = np.random.default_rng(0)
    texts = [
        " ".join(rng.choice(paragraphs, rng.choice([1, 1, 1, 2, 3])))
        for _ in range(300)
    ]
    linker = Linker.from_pretrained(
        linker_path, decoder="verify", mention_bias=3.0, batch=1
    )
    linker(texts[:200])
    compiled = call.run._cache_size()
    assert compiled < 40
    linker(texts[200:])
    assert call.run._cache_size() == compiled


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


def test_settings_are_checked(linker_path):
    with pytest.raises(ValueError, match="unknown settings \\['top_kk'\\]"):
        Linker.from_pretrained(linker_path, top_kk=1)
    with pytest.raises(ValueError, match="scope: expected one of .* found 'all'"):
        Linker.from_pretrained(linker_path, scope="all")
    with pytest.raises(ValueError, match="batch: expected at least 1, found 0"):
        Linker.from_pretrained(linker_path, batch=0)
    with pytest.raises(ValueError, match="rest_of_span: expected bool, found 'false'"):
        Linker.from_pretrained(linker_path, rest_of_span="false")
    with pytest.raises(ValueError, match="top_k: expected int, found True"):
        Linker.from_pretrained(linker_path, top_k=True)
    with pytest.raises(ValueError, match="threshold: expected float, found nan"):
        Linker.from_pretrained(linker_path, threshold=float("nan"))
    with pytest.raises(ValueError, match="mention_bias: expected float, found -inf"):
        Linker.from_pretrained(linker_path, mention_bias=-float("inf"))
    with pytest.raises(
        ValueError, match="expected .tree. or .auto. with selection = 'marginal'"
    ):
        Linker.from_pretrained(linker_path, selection="marginal", decoder="step")
    assert Linker.from_pretrained(linker_path, threshold=0).settings.threshold == 0


def test_parts_that_do_not_fit_are_refused(linker_path, tmp_path):
    parts = {part: linker_path / part for part in ("generator", "kb", "index")}
    other = tmp_path / "retriever"
    shutil.copytree(linker_path / "retriever", other)
    artifact.write_manifest(other, "retriever", 1, {"another": 1}, {})
    with pytest.raises(ArtifactError, match="index: made from the retriever"):
        assemble(tmp_path / "linker", **parts, retriever=other)
    assert not (tmp_path / "linker").exists()


def test_a_part_put_in_later_is_refused(linker_path, tmp_path):
    """Of the same sizes, but not the one that the linker was put together from."""
    copy = tmp_path / "linker"
    shutil.copytree(linker_path, copy)
    file = copy / "generator" / "manifest.json"
    text = file.read_text()
    identity = artifact.identity(copy / "generator")
    file.write_text(text.replace(identity, identity[::-1]))
    with pytest.raises(ArtifactError, match="generator: expected the part .* found"):
        Linker.from_pretrained(copy)


def test_a_generator_without_settings_is_refused(linker_path, tmp_path):
    shutil.copytree(linker_path / "generator", tmp_path / "generator")
    file = tmp_path / "generator" / "insgenel.json"
    for wrong in ({}, {"chunk_tokens": 0}, {"chunk_tokens": 1.5}):
        file.write_text(json.dumps({"instruction": "link"} | wrong))
        with pytest.raises(ValueError, match="insgenel.json: expected .* chunk_tokens"):
            load_generator(tmp_path / "generator")
    file.unlink()
    with pytest.raises(FileNotFoundError, match="insgenel.json: no such file"):
        load_generator(tmp_path / "generator")


def test_generator_with_a_larger_tokenizer(linker_path, tmp_path):
    """Ids without a row in the embedding: both sizes are named."""
    shutil.copytree(linker_path / "generator", tmp_path / "generator")
    file = tmp_path / "generator" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"vocab_size": 10}))
    with pytest.raises(ValueError, match=r"tokenizer has \d+ ids, .* has 10 rows"):
        load_generator(tmp_path / "generator")


def test_a_truncated_part_is_refused(linker_path, tmp_path):
    copy = tmp_path / "linker"
    shutil.copytree(linker_path, copy)
    file = copy / "kb" / "entities.arrow"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ArtifactError, match="entities.arrow has .* bytes instead of"):
        Linker.from_pretrained(copy)
    shutil.rmtree(copy / "kb")
    with pytest.raises(ArtifactError, match="kb/.* is missing"):
        Linker.from_pretrained(copy)


@pytest.mark.parametrize(
    "name", ["linker.json", "index/index.json", "retriever/retriever.json"]
)
@pytest.mark.parametrize("damage", ["no JSON", "no object", "no settings"])
def test_damaged_json_of_the_right_size_is_named(linker_path, tmp_path, name, damage):
    copy = tmp_path / "linker"
    shutil.copytree(linker_path, copy)
    size = (copy / name).stat().st_size
    content = {
        "no JSON": "{",
        "no object": "[]",
        "no settings": '{"settings": {"a":1}}',
    }
    (copy / name).write_text(content[damage].ljust(size))
    assert (copy / name).stat().st_size == size
    expected = ValueError if name.startswith("retriever") else ArtifactError
    with pytest.raises(expected, match=f"{name}: .*expected"):
        Linker.from_pretrained(copy)
