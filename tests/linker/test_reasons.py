"""`Linker.explain`: each reason where it is due, and no word without one."""

import math

import pytest

from insgenel_jax import mini_world
from insgenel_jax.linker import Linker, reasons
from insgenel_jax.text.document import WORD
from insgenel_jax.tokenizer import train_bpe
from tests.helpers.linkers import add_entities
from tests.helpers.marks import TEXTS, slow

TEXT = "Paris and Mercury, Java. Michael Jordan saw the Amazon; Apollo."
SURE = {"system": "insgenel", "mention_bias": 1000.0, "length_bias": 1000.0}


@pytest.fixture(scope="module")
def linker(linker_path):
    return Linker.from_pretrained(linker_path, **SURE)


def by_word(linker, text):
    """A word -> its reason; of equal words the last."""
    return {text[w.start : w.end]: w for w in linker.explain(text)}


def spans_of(word, text):
    return {text[s.start : s.end]: s for s in word.spans}


@pytest.mark.parametrize(
    "settings",
    [
        {"system": "insgenel", "mention_bias": 3.0, "threshold": 0.3},
        {"mention_bias": 3.0, "scope": "window", "top_k": 5, "case": "capitalised"},
        slow({"mention_bias": 2.0, "consider_unlinked": True, "threshold": 0.2}),
        slow({"system": "insgenel", "decoder": "beam", "mention_bias": 3.0}),
        slow({"system": "insgenel", "selection": "marginal", "rest_of_span": False}),
        slow({"name_parts": "new", "mention_bias": 40.0, "chunk_tokens": 30}),
    ],
)
def test_every_word_has_a_reason_and_linked_ones_are_those_linked(
    linker_path, settings
):
    """On the mini world, whatever the random model decides."""
    linker = Linker.from_pretrained(linker_path, **settings)
    for document in mini_world.paragraphs("dev", 4):
        text = document.text
        explained = linker.explain(text)
        words = {m.span() for m in WORD.finditer(text)}
        assert {(w.start, w.end) for w in explained} >= words
        linked = {
            (s.start, s.end, s.entity, s.score)
            for word in explained
            for s in word.spans
            if s.reason == "linked"
        }
        assert linked == {
            (m.start, m.end, m.entity, m.score) for m in linker(text).mentions
        }
        for word in explained:
            stages = [reasons.REASONS.index(s.reason) for s in word.spans]
            assert stages == sorted(stages)
            assert word.reason == reasons.REASONS[min([*stages, 7])]


def test_linked_another_mention_and_no_surface_form(linker):
    found = by_word(linker, TEXT)
    assert found["Paris"].reason == "linked" and found["saw"].spans == ()
    assert found["saw"].reason == "no surface form"
    (mention,) = (m for m in linker(TEXT).mentions if m.start == TEXT.index("Michael"))
    whole = found["Michael"].spans[0]
    assert (whole.reason, whole.entity, whole.score) == (
        "linked",
        mention.entity,
        mention.score,
    )
    jordan = spans_of(found["Jordan"], TEXT)
    assert jordan["Michael Jordan"] == whole
    assert jordan["Jordan"].reason == "another mention"
    assert "“Michael Jordan” was taken" in jordan["Jordan"].detail


def test_refused_by_the_margin_that_a_bias_would_need(linker):
    refusing = linker.with_settings(mention_bias=-5.0, length_bias=0.0)
    (word,) = refusing.explain("Mercury")
    assert word.reason == "refused"
    margin = word.spans[0].margin
    assert 0 < margin < reasons.LARGEST_MARGIN
    assert f"by {margin:.2f}" in word.spans[0].detail
    for more, reason in ((-0.01, "refused"), (0.01, "linked")):
        bias = -5.0 + margin + more
        (word,) = refusing.with_settings(mention_bias=bias).explain("Mercury")
        assert word.reason == reason
    (never,) = refusing.with_settings(mention_bias=-1000.0).explain("Mercury")
    assert never.spans[0].margin == reasons.LARGEST_MARGIN
    assert math.isfinite(never.spans[0].margin)


def test_filtered_and_by_which_filter(linker):
    text = "The paris of Paris Hilton; Mercury"
    for settings, word, detail in (
        ({"case": "capitalised"}, "paris", "case: it starts in lower case"),
        ({"capitalised_run": "whole"}, "Paris", "capitalised_run: it lies inside"),
        ({"min_link_probability": 1.1}, "Mercury", "min_link_probability: "),
    ):
        found = by_word(linker.with_settings(**settings), text)[word]
        assert found.reason == "filtered", settings
        assert detail in spans_of(found, text)[word].detail


def test_a_stop_word_is_filtered(tmp_path):
    tokenizer = train_bpe(TEXTS * 5, 400, tmp_path / "bpe")
    path = add_entities(tmp_path, {"The Who": ["Who"], "Q": ["cut"]}, tokenizer.size)
    linker = Linker.from_pretrained(path, **SURE)
    text = "Who cuts?"
    who, cuts = linker.explain(text)
    assert (who.reason, who.spans[0].detail) == ("filtered", "it is a stop word")
    assert who.spans[0].entity == "The Who" and cuts.reason == "no surface form"


def test_not_retrieved(linker_path):
    """With the windows of the mention alone and one entity each, most are missing."""
    linker = Linker.from_pretrained(
        linker_path, top_k=1, scope="window", mention_bias=1000.0
    )
    text = "Paris. " + "Nothing happened here at all that day. " * 9 + TEXT
    found = linker.explain(text)
    missing = [w for w in found if w.reason == "not retrieved"]
    assert missing
    (candidates,) = linker.candidates(linker([text]))
    allowed = {(c.start, c.end) for c in candidates}
    for word in missing:
        assert not allowed & {(s.start, s.end) for s in word.spans}
        assert word.spans[0].entity is not None
        assert "retrieved" in word.spans[0].detail


def test_below_threshold(linker):
    text = "Mercury"
    (mention,) = linker(text).mentions
    picky = linker.with_settings(threshold=min(1.0, mention.score + 1e-6))
    (word,) = picky.explain(text)
    assert picky(text).mentions == ()
    (span,) = word.spans
    assert (word.reason, span.entity) == ("below threshold", mention.entity)
    assert span.score == pytest.approx(mention.score, abs=1e-6)
    assert "its score is below" in span.detail


def test_without_rest_of_span_a_link_ends_the_decisions(linker):
    text = "Michael Jordan Paris"  # "Jordan" overlaps nothing of "Paris"
    short = linker.with_settings(rest_of_span=False, length_bias=-1000.0)
    for word in short.explain(text):
        for span in word.spans:
            assert span.reason in ("linked", "another mention")


def test_left_out(tmp_path):
    """A title so long that no chunk holds it."""
    tokenizer = train_bpe(TEXTS * 5, 400, tmp_path / "bpe")
    names = {"x" * 5000: ["Ada"]}
    path = add_entities(tmp_path, names, tokenizer.size)
    linker = Linker.from_pretrained(path, **SURE)
    (ada,) = linker.explain("Ada")
    assert (ada.reason, linker.stats["overlong"]) == ("left out", 0)
    assert "cannot write the titles" in ada.spans[0].detail


def test_nothing(linker):
    assert linker.explain("") == linker.explain(" \n") == []
    assert linker.explain({"id": "1", "text": "Paris"})[0].reason == "linked"
