"""Targets parse to their links; cuts and prompts depend on the text alone; slices."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insgenel_jax.text.chunking import chunks
from insgenel_jax.text.document import WORD, Mention, normalise
from insgenel_jax.text.linked_text import (
    align,
    encode_prompt,
    encode_source,
    encode_titles,
    find_tokens,
    format_target,
    parse_target,
    slice_source,
)
from insgenel_jax.tokenizer import copy_tokenizer, load_tokenizer
from tests.helpers.tokenizer_directories import HOSTILE, MAKERS, REAL, family_path

SHARED = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
texts = st.text(
    st.one_of(
        st.sampled_from("aB1 .,-'(){}[]\t\n\xa0"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=40,
)


@pytest.fixture(scope="module", params=["ours", *MAKERS, *REAL])
def tokenizer(request, tokenizer, tmp_path_factory):
    """A tokenizer that we trained, then one of every family, then the real ones."""
    if request.param == "ours":
        return tokenizer
    return load_tokenizer(family_path(request.param, request, tmp_path_factory))


def naive_cuts(text):
    """Where two characters touch, neither a space and not both of a word."""
    text = normalise(text)
    word = [WORD.match(c) is not None for c in text]
    return {
        i
        for i in range(1, len(text))
        if " " not in text[i - 1 : i + 1] and not (word[i - 1] and word[i])
    }


@SHARED
@given(texts)
def test_tokens_tile_the_text_and_respect_every_cut(tokenizer, text):
    tokens = encode_source(tokenizer, text)
    assert (tokens.starts <= tokens.ends).all()
    covered = set()
    for start, end in zip(tokens.starts, tokens.ends, strict=True):
        covered |= set(range(start, end))
        assert not naive_cuts(text) & set(range(start + 1, end))
    assert covered == {i for i, c in enumerate(normalise(text)) if c != " "}


def test_cuts_hold_where_the_tokenizer_would_join(tokenizer):
    """In the prompt a token may hold "'s" or "...", in the target never."""
    text = "York's mayor's speech... -- it's (...) ?!"
    tokens = encode_source(tokenizer, text)
    assert len(encode_prompt(tokenizer, "", text)) < len(tokens)
    for start, end in zip(tokens.starts, tokens.ends, strict=True):
        assert not naive_cuts(text) & set(range(start + 1, end))


@SHARED
@given(st.one_of(texts, st.sampled_from(HOSTILE)), st.data())
def test_format_and_parse_are_inverses(tokenizer, text, data):
    """Links at any tokens, some of them adjacent, with any titles."""
    tokens = encode_source(tokenizer, text)
    edges = sorted(data.draw(st.sets(st.integers(0, len(tokens)), max_size=6)))
    names = data.draw(st.lists(texts, min_size=6, max_size=6))
    titles = encode_titles(tokenizer, [f"T{name}" for name in names])
    linked = data.draw(st.lists(st.booleans(), min_size=6, max_size=6))
    links = [
        (start, end, title)
        for (start, end), title, link in zip(
            itertools.pairwise(edges), titles, linked, strict=False
        )
        if link
    ]
    target = format_target(tokenizer, tokens, links)
    assert parse_target(tokenizer, tokens, target) == links
    assert target.count(tokenizer.open) == target.count(tokenizer.end) == len(links)
    without = format_target(tokenizer, tokens, [])
    assert without == [*tokens.ids.tolist(), tokenizer.eos]


def test_adjacent_and_repeated_mentions(tokenizer):
    """The same name three times, once touching another mention."""
    text = "York (York)-Queen: York'Queen"
    tokens = encode_source(tokenizer, text)
    mentions = [
        Mention(match.start(), match.end(), f"{match[0]} {match.start()}")
        for match in WORD.finditer(text)
    ]
    mentions.append(Mention(23, 24, "the apostrophe between two mentions"))
    aligned, dropped = align(tokens, mentions)
    assert (len(aligned), dropped) == (6, 0)
    titles = encode_titles(tokenizer, [mention.entity for _, _, mention in aligned])
    links = [(i, j, title) for (i, j, _), title in zip(aligned, titles, strict=True)]
    assert any(link[1] == after[0] for link, after in itertools.pairwise(links))
    target = format_target(tokenizer, tokens, links)
    assert parse_target(tokenizer, tokens, target) == links


@SHARED
@given(texts)
def test_every_word_is_a_span_of_tokens(tokenizer, text):
    """A mention that starts and ends with a word or a punctuation mark aligns."""
    tokens = encode_source(tokenizer, text)
    for match in WORD.finditer(normalise(text)):
        i, j = find_tokens(tokens, *match.span())
        assert (tokens.starts[i], tokens.ends[j - 1]) == match.span()


def test_no_boundary_inside_source_or_title(tokenizer):
    boundaries = {tokenizer.open, tokenizer.close, tokenizer.entity, tokenizer.end}
    text = "a { b } [ c ] </s> <s> <pad> {[]}"
    special = boundaries | {tokenizer.bos, tokenizer.eos, tokenizer.pad}
    assert not special & set(encode_source(tokenizer, text).ids.tolist())
    assert not special & set(encode_titles(tokenizer, [text])[0])
    assert not special & set(encode_prompt(tokenizer, "", text)[1:-1])


def test_prompt(tokenizer):
    """The prompt is BOS instruction source EOS, with the source normalised."""
    prompt = encode_prompt(tokenizer, "Link", "a\n[b]")
    assert prompt == encode_prompt(tokenizer, "Link", "a (b)")
    assert (prompt[0], prompt[-1]) == (tokenizer.bos, tokenizer.eos)
    marked = encode_prompt(tokenizer, "as in { x } [ X ]", "a")
    assert marked != encode_prompt(tokenizer, "as in ( x ) ( X )", "a")
    assert encode_prompt(tokenizer, "", "") == [tokenizer.bos, tokenizer.eos]
    (alone,) = encode_titles(tokenizer, ["Link"])
    assert prompt[1 : 1 + len(alone)] == alone


def test_align_counts_what_it_drops(tokenizer):
    text = "Mercury rose (Mercury)."
    tokens = encode_source(tokenizer, text)
    mentions = [
        Mention(0, 7, "a"),
        Mention(1, 7, "inside a token"),
        Mention(14, 21, "b"),
        Mention(0, 12, "overlaps"),
    ]
    aligned, dropped = align(tokens, mentions)
    assert [text[tokens.starts[i] : tokens.ends[j - 1]] for i, j, _ in aligned] == [
        "Mercury rose",
        "Mercury",
    ]
    assert dropped == 2


@pytest.mark.parametrize("change", ["drop", "swap", "boundary", "cut"])
def test_parse_refuses_what_breaks_the_grammar(tokenizer, change):
    tokens = encode_source(tokenizer, "New York City grew.")
    target = format_target(
        tokenizer, tokens, [(1, 2, encode_titles(tokenizer, ["York"])[0])]
    )
    if change == "drop":
        target = target[1:]
    elif change == "swap":
        target[-1], target[-2] = target[-2], target[-1]
    elif change == "boundary":
        target.remove(tokenizer.close)
    else:
        target = target[:-3]
    with pytest.raises(ValueError, match="target position"):
        parse_target(tokenizer, tokens, target)


def test_format_refuses_overlapping_links(tokenizer):
    tokens = encode_source(tokenizer, "New York City")
    with pytest.raises(ValueError, match=r"tokens \[1, 3\)"):
        format_target(tokenizer, tokens, [(0, 2, [9]), (1, 3, [9])])


def test_leading_spaces_lie_outside(tokenizer):
    text = "  New\tYork "
    tokens = encode_source(tokenizer, text)
    for word in ("New", "York"):
        start = text.index(word)
        assert find_tokens(tokens, start, start + len(word)) is not None
        assert find_tokens(tokens, start - 1, start + len(word)) is None
    assert encode_source(tokenizer, "").ids.dtype == np.int32


def check_slices(tokenizer, text, spans):
    """Check that each slice is None or right, and count the latter."""
    tokens, exact = encode_source(tokenizer, text), 0
    for start, end in spans:
        cut = slice_source(tokens, start, end)
        if cut is not None:
            alone = encode_source(tokenizer, text[start:end])
            for name in ("ids", "starts", "ends"):
                ours, expected = getattr(cut, name), getattr(alone, name)
                np.testing.assert_array_equal(ours, expected, f"{text!r} {start} {end}")
                assert ours.dtype == expected.dtype
            assert cut.can_end[-1]
            exact += 1
    return exact


def test_slices_of_a_tokenizer_that_drops_characters(tmp_path):
    """Without tokens outside ASCII, slices can end only at the end of a piece."""
    MAKERS["byte_bpe"](tmp_path)
    copy_tokenizer(tmp_path, tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    model = content["model"]
    plain = {t: i for t, i in model["vocab"].items() if t.replace("Ġ", " ").isascii()}
    merges = [pair for pair in model["merges"] if "".join(pair) in plain]
    content["model"] |= {"vocab": plain, "merges": merges}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.has_unknown(["東京", "York"]) == [True, False]
    text = "東. York's “mayor” a東 b東东c: d“e 東“"
    spans = itertools.combinations(range(len(text) + 1), 2)
    assert check_slices(tokenizer, text, spans) == 8


SENTENCES = ["He led Queen.", "York's (U.K.) mayor!", "“Why?” he said.", "東京。"]
SENTENCES += ["a\u3000 b", "a\u3000  b", "é e\u0301", "x" * 30, "1999 - twice...", "'s"]
sentences = st.lists(st.sampled_from([*SENTENCES, " ", "  ", "\n"]), max_size=8)
sentences = sentences.map("".join)


@SHARED
@given(st.one_of(texts, sentences, st.sampled_from(HOSTILE)), st.integers(1, 12))
def test_slices_are_the_tokens_of_chunks(tokenizer, text, budget):
    tokens = encode_source(tokenizer, text)
    spans = chunks(text, tokens.starts, np.ones(len(tokens)), budget)
    check_slices(tokenizer, text, spans)


@SHARED
@given(st.one_of(texts, sentences))
def test_slices_anywhere(tokenizer, text):
    text = text[:30]
    spans = itertools.combinations(range(len(text) + 1), 2)
    check_slices(tokenizer, text, spans)


def test_whole_sentences_are_slices(tokenizer):
    """In ordinary text the tokens of every chunk are a slice."""
    text = "The singer (Freddie) led Queen. York's mayor left! Why? He flew: 2 times.\n"
    text = (text + "“No.”") * 3
    tokens = encode_source(tokenizer, text)
    spans = chunks(text, tokens.starts, np.ones(len(tokens)), 40)
    assert len(spans) > 2
    assert check_slices(tokenizer, text, spans) == len(spans)
