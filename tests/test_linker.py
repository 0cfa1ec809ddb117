"""The linker end to end with random weights: what must hold whatever the model says."""

import dataclasses
import shutil

import pytest

from insgenel_jax import artifact
from insgenel_jax.artifact import ArtifactError
from insgenel_jax.document import Document, Mention
from insgenel_jax.kb import world
from insgenel_jax.linker import Linker, assemble

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
    empty, spaces, nothing, first, *_, last, _ = documents[-len(HARD) :]
    assert empty.mentions == spaces.mentions == nothing.mentions == ()
    assert [(m.start, m.end) for m in first.mentions] in ([], [(0, 7)])
    assert [(m.start, m.end) for m in last.mentions] in ([], [(3001, 3006)])
    assert linker.stats["documents"] == len(texts)
    assert linker.stats["calls"] > 0


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
    with pytest.raises(ValueError, match="mention \\[0, 99\\)"):
        linker(text, mentions=[(0, 99)])
    with pytest.raises(ValueError, match="each of 1 texts"):
        linker([text], mentions=[spans, spans])


def test_a_threshold_leaves_out_or_says_nil(linker_path, linker, texts):
    strict = Linker.from_pretrained(linker_path, mention_bias=3.0, threshold=0.5)
    texts = texts[:10]
    for every, kept in zip(linker(texts), strict(texts), strict=True):
        assert kept.mentions == tuple(m for m in every.mentions if m.score >= 0.5)
    (mention,) = Linker.from_pretrained(linker_path, threshold=1.1)(
        "Paris", mentions=[(0, 5)]
    ).mentions
    assert mention == Mention(0, 5, None)


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


def test_parts_that_do_not_fit_are_refused(linker_path, tmp_path):
    parts = {part: linker_path / part for part in ("generator", "kb", "index")}
    other = tmp_path / "retriever"
    shutil.copytree(linker_path / "retriever", other)
    artifact.write_manifest(other, "retriever", 1, {"another": 1}, {})
    with pytest.raises(ArtifactError, match="index: made from the retriever"):
        assemble(tmp_path / "linker", **parts, retriever=other)
    assert not (tmp_path / "linker").exists()


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
