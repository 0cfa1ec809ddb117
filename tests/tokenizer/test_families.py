"""Ids and offsets of every family equal those of its own library, on any text."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insgenel_jax.kb.build import wikiextractor
from insgenel_jax.text.document import normalise
from insgenel_jax.text.formats.rejects import Rejects
from insgenel_jax.text.linked_text import (
    PIECE,
    encode_prompt,
    encode_source,
    encode_titles,
)
from insgenel_jax.tokenizer import copy_tokenizer, load_tokenizer
from tests.helpers.tokenizer_directories import (
    HOSTILE,
    MAKERS,
    READERS,
    REAL,
    TEXTS,
    family_path,
)

SHARED = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
texts = st.one_of(
    st.text(max_size=30),
    st.text(st.sampled_from("ab <s>/'{[]}\n\u0301東-"), max_size=40),
    st.builds(lambda t, n: t * n, st.text(max_size=4), st.integers(2, 40)),
)


@pytest.fixture(scope="module", params=[*MAKERS, *REAL])
def family(request, tmp_path_factory):
    """The small directories made here, one of each family, then the real ones."""
    path = family_path(request.param, request, tmp_path_factory)
    return READERS[REAL.get(request.param, request.param)](path)


@pytest.fixture(scope="module")
def loaded(family):
    return load_tokenizer(family.path)


@pytest.fixture(scope="module")
def paragraphs(data):
    """1,000 paragraphs of featured articles."""
    files = wikiextractor.find_files(data / "wiki" / "featured")
    with Rejects(None) as rejects:
        pages = (
            page for file in files for page in wikiextractor.read_pages(file, rejects)
        )
        found = (p.text for page in pages for p in page.paragraphs)
        return list(itertools.islice(found, 1000))


def naive_spans(pieces: list[bytes], text: str) -> list[tuple[int, int]]:
    """The characters that the bytes of each token belong to."""
    owner = [i for i, c in enumerate(text) for _ in c.encode()]
    ends = np.cumsum([len(piece) for piece in pieces])
    return [
        (owner[end - len(piece)], owner[end - 1] + 1)
        for piece, end in zip(pieces, ends.tolist(), strict=True)
    ]


def check(family, loaded, texts):
    for text, expected, (ids, starts, ends) in zip(
        texts, family.encode(texts), loaded.encode_raw(texts), strict=True
    ):
        assert ids.tolist() == expected, text
        if family.kind == "sentencepiece":  # its tokens write a space as this letter
            text = text.replace("▁", " ")
        pieces = [family.token_bytes(token_id) for token_id in expected]
        assert b"".join(pieces) == text.encode()
        spans = list(zip(starts.tolist(), ends.tolist(), strict=True))
        assert spans == naive_spans(pieces, text), text


def test_hostile_strings(family, loaded):
    check(family, loaded, HOSTILE + [f" {text}" for text in HOSTILE])


@SHARED
@given(texts)
def test_made_up_strings(family, loaded, text):
    check(family, loaded, [text, f" {text}"])


def test_every_token_repeated(family, loaded):
    """In periodic strings one merge is possible in overlapping places."""
    ((known, _, _),) = loaded.encode_raw(["".join(TEXTS)])
    ids = {*known.tolist(), *range(300, min(loaded.size, 128_000), 41)}
    pieces = {family.token_bytes(i).decode(errors="ignore") for i in ids}
    check(family, loaded, [(p * 8)[:n] for p in sorted(pieces) for n in (13, 29)])


def test_paragraphs_of_real_text(family, loaded, paragraphs):
    """Paragraphs are encoded whole, as in a prompt, and in pieces, as in a target."""
    if "data" not in str(family.path):
        pytest.skip("trained on a few lines: no tokenizer for real text")
    check(family, loaded, [f" {text}" for text in paragraphs[:100]])
    ours = [ids.tolist() for ids, _, _ in loaded.encode_raw(paragraphs)]
    assert ours == family.encode(paragraphs)
    for text in paragraphs[:200]:
        tokens = encode_source(loaded, text)
        spans = [match.span() for match in PIECE.finditer(f" {normalise(text)}")]
        pieces = [f" {normalise(text)}"[start:end] for start, end in spans]
        assert tokens.ids.tolist() == [i for ids in family.encode(pieces) for i in ids]


def test_the_dummy_prefix_is_the_space_before_a_word(tmp_path):
    """SentencePiece puts a space before every text. We put one there, and no second."""
    sentencepiece = pytest.importorskip("sentencepiece")
    MAKERS["sentencepiece"](tmp_path)
    oracle = sentencepiece.SentencePieceProcessor(
        model_file=str(tmp_path / "tokenizer.model")
    )
    loaded = load_tokenizer(tmp_path)
    title = "Stone Town"
    assert encode_titles(loaded, [title]) == [oracle.encode(title)]
    assert oracle.encode(f" {title}") != oracle.encode(title)
    prompt = encode_prompt(loaded, "as in { York }", "He led  Queen.")
    parts = oracle.encode(["as in { York }", "He led  Queen."])
    assert prompt == [loaded.bos, *parts[0], *parts[1], loaded.eos]
    # The pieces "'" and "s" follow "York" without a space, so none is put before them.
    cut = encode_source(loaded, "York's").ids.tolist()
    assert cut == oracle.encode("York") + [oracle.piece_to_id(p) for p in ("'", "s")]


def test_transformers_on_the_files_themselves(family, loaded, tmp_path):
    """GPT2Tokenizer and LlamaTokenizer give our ids, but for LLaMA's runs of spaces.

    LlamaTokenizer puts no dummy prefix before a space and has another order of merges.
    There SentencePiece is right, which the model was trained with. AutoTokenizer would
    drop the dummy prefix everywhere.
    """
    transformers = pytest.importorskip("transformers")
    if family.kind == "tiktoken":
        pytest.skip("transformers has no class for a bare tiktoken file")
    kind = {"byte_bpe": "GPT2Tokenizer", "sentencepiece": "LlamaTokenizer"}[family.kind]
    theirs = getattr(transformers, kind).from_pretrained(family.path)
    for text in HOSTILE[1:]:
        if family.kind == "sentencepiece" and (text[0] in " ▁" or "  " in text):
            continue
        expected = theirs(
            text, add_special_tokens=False, split_special_tokens=True
        ).input_ids
        before = " " if family.kind == "sentencepiece" else ""
        ((ids, _, _),) = loaded.encode_raw([before + text])
        assert ids.tolist() == expected, text


@pytest.mark.slow  # the copy of Llama-3's 128,000 tokens takes long to read back
def test_transformers_opens_a_copy(family, loaded, tmp_path):
    """AutoTokenizer gives our ids for a copy, with BOS and the dummy prefix before."""
    transformers = pytest.importorskip("transformers")
    copy_tokenizer(family.path, tmp_path)
    model_type = "opt" if family.kind == "byte_bpe" else "llama"
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert len(theirs) == again.size == loaded.size
    for role in ("bos", "eos", "pad", "open", "close", "entity", "end"):
        assert getattr(again, role) == getattr(loaded, role)
    assert (theirs.bos_token_id, theirs.eos_token_id) == (loaded.bos, loaded.eos)
    before = " " if family.kind == "sentencepiece" else ""
    for text in HOSTILE[1:]:
        ((ids, starts, ends),) = loaded.encode_raw([before + text])
        expected = theirs(text, split_special_tokens=True).input_ids
        assert [loaded.bos, *ids.tolist()] == expected, text
        for ours, copied in zip(
            (ids, starts, ends), again.encode_raw([before + text])[0], strict=True
        ):
            np.testing.assert_array_equal(ours, copied)
