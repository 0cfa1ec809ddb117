"""The linker end to end with random weights: what must hold whatever the model says."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from insgenel_jax import mini_world, models
from insgenel_jax.decoding import step
from insgenel_jax.decoding.mentions import merge_spans
from insgenel_jax.decoding.path import DecodedPath
from insgenel_jax.linker import Linker, batches, mentions
from insgenel_jax.linker.decide import Known
from insgenel_jax.sharding import make_mesh
from insgenel_jax.text.document import Document, Mention
from tests.helpers.linked import check, same
from tests.helpers.marks import slow

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
    # of all decoders the one with the fewest static shapes
    return Linker.from_pretrained(
        linker_path, mention_bias=3.0, decoder="speculative", batch=4
    )


@pytest.fixture(scope="module")
def texts():
    return [d.text for d in mini_world.paragraphs("dev", 16)] + HARD


@pytest.mark.parametrize(
    ("system", "batch"),
    [("insgenel-r", 4), slow("insgenel-r", 1), slow("insgenel", 1)],
)
def test_every_output_is_sound(linker_path, texts, system, batch):
    linker = Linker.from_pretrained(
        linker_path, system=system, mention_bias=3.0, decoder="speculative", batch=batch
    )
    documents = linker(texts)
    assert [document.text for document in documents] == texts
    assert sum(len(document.mentions) for document in documents) > 60
    for document in documents:
        check(linker, document)
    empty, spaces, nothing, *_ = documents[-len(HARD) :]
    assert empty.mentions == spaces.mentions == nothing.mentions == ()
    assert linker.stats["documents"] == len(texts)
    assert linker.stats["calls"] > 0


def test_the_first_and_the_last_character(linker_path):
    """Mentions at the edges of a text, and after a word too long for any chunk."""
    sure = Linker.from_pretrained(linker_path, system="insgenel", mention_bias=40.0)
    for text, expected in (
        ("Mercury", [(0, 7)]),
        ("Paris saw Mercury", [(0, 5), (10, 17)]),
        ("x" * 3000 + " Paris", [(3001, 3006)]),
    ):
        assert [(m.start, m.end) for m in sure(text).mentions] == expected


def test_batch_size_and_order_change_nothing(linker_path, linker, texts):
    texts = texts[:5] + HARD[3:6]
    documents = [Document(id=str(i), text=text) for i, text in enumerate(texts)]
    expected = linker(documents)
    alone = Linker.from_pretrained(
        linker_path, mention_bias=3.0, decoder="speculative", batch=1
    )
    for found in (
        list(linker.stream(documents, group=4)),
        linker(documents[::-1])[::-1],
        [alone(document) for document in documents],
    ):
        for one, other in zip(expected, found, strict=True):
            same(one, other)
    assert linker(documents) == expected


def test_chunks_of_like_many_spans_are_batched(linker, texts, monkeypatch):
    """Within a batch of `step` the chunks are sorted by how many spans they have."""
    spans = []

    def decode(model, params, chunks, *, batch, options):
        spans.append([chunk.table.spans for chunk in chunks])
        return [DecodedPath.begin() for _ in chunks]

    monkeypatch.setattr(step, "decode", decode)
    linker.with_settings(decoder="step")(texts)
    assert len(spans) > 3
    assert all(found == sorted(found) for found in spans)


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
        (5, None, TypeError, "texts: expected a sequence .* found int"),
        ("Paris", 5, TypeError, "text 0: expected mentions as a sequence .* found 5"),
        (["Paris"], 5, TypeError, "mentions: expected a sequence .* found int"),
        (["Paris"], [[], []], ValueError, "each of 1 texts, found 2"),
        ({"id": "1"}, None, ValueError, "text 0: text: expected a string, found None"),
        ([{"id": "1", "text": 5}], None, ValueError, "text 0: text: expected a string"),
        (["Paris", 5], None, TypeError, "text 1: expected a string .* found int"),
        (["Paris", None], None, TypeError, "text 1: .* found NoneType"),
        ("a\ud800b", None, ValueError, "text 0: a lone surrogate at character 1"),
        (Document("\ud800", "a"), None, ValueError, "text 0: id: a lone surrogate"),
        (Document("1", "a", "\ud800"), None, ValueError, "text 0: title: a lone sur"),
    ],
)
def test_wrong_calls_name_the_text(linker, texts, mentions, error, message):
    with pytest.raises(error, match=message):
        linker(texts, mentions=mentions)


def test_a_document_may_be_a_dictionary(linker):
    record = {"id": 7, "text": "Jordan is in Paris.", "title": "A"}
    document = Document("7", record["text"], "A")
    assert linker(record) == linker(document)
    assert linker([record])[0] == next(linker.stream([record])) == linker(document)
    assert linker.score(record) == linker.score(document)


@pytest.mark.parametrize("documents", ["Java", {"id": "1", "text": "Java"}])
def test_a_stream_is_of_several_documents(linker, documents):
    with pytest.raises(TypeError, match="documents: expected a sequence"):
        linker.stream(documents)
    with pytest.raises(ValueError, match="group: expected at least 1, found 0"):
        linker.stream(["Java"], group=0)


def test_a_stream_names_the_document_at_fault(linker):
    documents = iter([Document("a", "Paris"), Document("b", "a\ud800b")])
    with pytest.raises(ValueError, match="document 1: a lone surrogate at character 1"):
        list(linker.stream(documents))


@pytest.mark.parametrize("decoder", ["tree", "speculative", "beam", slow("step")])
def test_broken_weights_are_told(linker_path, decoder):
    linker = Linker.from_pretrained(linker_path, decoder=decoder)
    params = jax.tree.map(lambda leaf: leaf * np.nan, linker.generator.params)
    linker.generator = dataclasses.replace(linker.generator, params=params)
    with pytest.raises(FloatingPointError, match=r"characters \[0, 5\)"):
        linker("Paris")


def test_a_threshold_leaves_out_or_says_nil(linker_path, linker, texts):
    strict = Linker.from_pretrained(
        linker_path, mention_bias=3.0, decoder="speculative", batch=4, threshold=0.5
    )
    texts = texts[:10]
    for every, kept in zip(linker(texts), strict(texts), strict=True):
        assert kept.mentions == tuple(m for m in every.mentions if m.score >= 0.5)
    (mention,) = Linker.from_pretrained(linker_path, threshold=1.0)(
        "Mercury", mentions=[(0, 7)]
    ).mentions
    assert mention == Mention(0, 7, None)


def test_the_best_unlinked_may_pass_the_threshold(linker_path, texts):
    """With threshold 0 every decision span gives a link."""
    shy = {"mention_bias": -20.0, "system": "insgenel"}
    linker = Linker.from_pretrained(linker_path, **shy)
    assert not any(document.mentions for document in linker(texts[:3]))
    linker = Linker.from_pretrained(linker_path, consider_unlinked=True, **shy)
    documents = linker(texts[:3])
    for document in documents:
        check(linker, document)
        (candidates,) = linker.candidates([document])
        merged = merge_spans([(c.start, c.end) for c in candidates])
        assert len(document.mentions) == len(merged)


@pytest.mark.parametrize(
    "mesh",
    [None, slow((2, 2, 2))],
    ids=["one", "eight"],
)
@pytest.mark.parametrize(  # beside the fixture's speculative decoder
    "decoder", [slow("step"), "tree"]
)
def test_every_decoder_and_mesh_links_alike(linker_path, linker, texts, decoder, mesh):
    """The three decoders agree, on one device and on eight."""
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


@pytest.mark.slow
def test_half_precision(linker_path, texts):
    """Weights, KV cache and computation are in bfloat16, and the links are sound."""
    linker = Linker.from_pretrained(
        linker_path, mention_bias=3.0, dtype="bfloat16", decoder="tree"
    )
    leaves = jax.tree.leaves(linker.generator.params)
    assert {leaf.dtype.name for leaf in leaves} == {"bfloat16"}
    cache = models.init_cache(linker.generator.config, 1, 8)
    assert cache["k"].dtype == "bfloat16"
    documents = linker(texts[:4])
    assert any(document.mentions for document in documents)
    for document in documents:
        check(linker, document)


@pytest.mark.slow
def test_beam(linker_path, texts):
    """Beam search gives sound links, with one beam and with the paper's two."""
    settings = {"system": "insgenel", "mention_bias": 3.0}
    beam = {"decoder": "beam", "openings": "candidates"}  # no dead ends
    for beams in (beam | {"beams": 1}, {"preset": "paper"} | beam):
        linker = Linker.from_pretrained(linker_path, **settings | beams)
        document = linker("Paris, where Jordan met Apollo")
        assert document.mentions
        check(linker, document)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["speculative", "tree"])
def test_new_documents_compile_nothing(linker_path, decoder):
    """After 200 varied documents, 100 others compile no new program at batch 1.

    In larger batches a call has the tokens of all rows. Then a few times as many
    programs are compiled as at batch 1, whatever is batched together.
    """
    paragraphs = [d.text for d in mini_world.paragraphs("train", 600)]
    rng = np.random.default_rng(0)
    texts = [
        " ".join(rng.choice(paragraphs, rng.choice([1, 1, 1, 2, 3])))
        for _ in range(300)
    ]
    settings = {"decoder": decoder, "mention_bias": 3.0}
    _, layer, _ = models.apart.programs(
        Linker.from_pretrained(linker_path).generator.config
    )
    layer.clear_cache()  # of the tests before this one in the same process
    count = layer._cache_size

    linker = Linker.from_pretrained(linker_path, batch=1, **settings)
    linker(texts[:200])
    compiled = count()
    assert compiled < 60
    linker(texts[200:])
    assert count() == compiled
    linker = Linker.from_pretrained(linker_path, batch=16, **settings)
    for size in (1, 3, 7, 16, 40):
        for first in range(0, 120, size):
            linker(texts[first : first + size])
    assert count() <= 5 * compiled  # batches of 1, 2, 4, 8 and 16


def test_known_texts_are_not_searched_again(linker_path, texts, monkeypatch):
    """Nor with other settings; but with another top_k they are."""
    texts = [*texts[:4], texts[0], ""]
    linker = Linker.from_pretrained(linker_path, system="insgenel-r")
    knowing = linker.with_settings()
    knowing.known = Known()
    searched = []
    retrieve = mentions.retrieve

    def count(retriever, index, texts, *, top_k):
        searched.extend(texts)
        return retrieve(retriever, index, texts, top_k=top_k)

    monkeypatch.setattr(mentions, "retrieve", count)
    counts = []
    for settings in ({}, {"retriever_weight": 1.0}, {"top_k": 3}):
        searched.clear()
        found = knowing.with_settings(**settings)(texts)
        counts.append(len(searched))
        for one, other in zip(
            found, linker.with_settings(**settings)(texts), strict=True
        ):
            same(one, other)
    # the linker that remembers nothing searches each text once a call
    assert counts == [5, 0, 5]


def test_known_paths_are_not_decoded_again(linker, texts, monkeypatch):
    """With other settings only the chunks are decoded that these change; links and
    scores are those of decoding all."""
    texts = texts[:5]
    knowing = linker.with_settings()
    knowing.known = Known()
    decoded = []
    decode_chunks = batches.decode_chunks

    def count(generator, chunks, *args, **options):
        decoded.extend(chunks)
        return decode_chunks(generator, chunks, *args, **options)

    monkeypatch.setattr(batches, "decode_chunks", count)
    points = [{}, {}, {"min_link_probability": 0.85}, {"link_weight": 1.0}, {}]
    counts = []
    for settings in points:
        decoded.clear()
        found = knowing.with_settings(**settings)(texts)
        counts.append(len(decoded))
        for one, other in zip(
            found, linker.with_settings(**settings)(texts), strict=True
        ):
            same(one, other)
    first, again, filtered, weighed, last = counts
    assert again == last == 0 < filtered < first == weighed
    monkeypatch.setattr(batches, "MOST_KNOWN", 3)
    knowing(texts)
    assert len(knowing.known.paths) == 3
