"""Beam search against a plain one over legal outputs, each hypothesis run anew."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax.decoding import beam, step
from insgenel_jax.decoding.forward import Model
from insgenel_jax.decoding.mentions import CandidateMention, merge_spans
from insgenel_jax.decoding.options import EARLY_STOPPING, Options
from insgenel_jax.decoding.path import read_links
from insgenel_jax.decoding.table import Weights
from insgenel_jax.decoding.whole_target import extend
from insgenel_jax.text.linked_text import encode_source, encode_titles
from tests.helpers.marks import slow
from tests.helpers.oracle import Search
from tests.helpers.random_chunks import (
    TITLES,
    candidate,
    cases,
    chunks_with_targets,
    make_case,
    make_chunk,
    random_candidates,
    random_chunk,
    target_of,
    targets_of,
)
from tests.helpers.small_models import LENGTH, small_model, whole

TEXTS = [
    "York New York New York City",
    "New York City, York City in York",
    "in York York's City York York City New",
]


WEIGHTS = Weights(mention_bias=3.0, length_bias=1.0, link_weight=0.5)


@pytest.fixture(scope="module")
def generator(tokenizer):
    return small_model(tokenizer.size, 3.0)


def run_anew(generator, prompt):
    """A function: ids -> ln p of every token behind prompt and ids, uncached."""
    model, params = generator

    @functools.cache
    def log_probs(ids):
        tokens = np.zeros(LENGTH, np.int32)
        sequence = [*prompt, *ids]
        tokens[: len(sequence)] = sequence
        logits = whole(model)(params, tokens, len(sequence))
        return np.asarray(jax.nn.log_softmax(logits), np.float64)

    return log_probs


@pytest.mark.parametrize(
    ("beams", "tokens_per_call"),
    [slow(1, 8), slow(2, 1), (2, 3), slow(2, 8), slow(6, 8)],
)
def test_over_legal_outputs(generator, tokenizer, monkeypatch, beams, tokens_per_call):
    """Targets and scores, with biases, however many forced tokens a call runs."""
    weights = Weights(mention_bias=4.0, length_bias=1.0, link_weight=0.5)
    found_cases = list(cases(tokenizer, np.random.default_rng(0), 8, weights))
    chunks = [case.chunk for case in found_cases]
    monkeypatch.setattr(beam, "TOKENS_PER_CALL", tokens_per_call)
    found = beam.decode(*generator, chunks, batch=8, options=Options(beams=beams))
    links = 0
    for case, path in zip(found_cases, found, strict=True):
        chunk = case.chunk
        search = Search(
            run_anew(generator, chunk.prompt),
            targets_of(case, tokenizer),
            bias=case.bias,
        )
        expected, target = search.find(beams)
        assert path.margin > 1e-4
        assert target_of(chunk, path) == target
        assert path.score == pytest.approx(expected, abs=1e-4)
        full = [search.log_probs(target[:n])[t] for n, t in enumerate(target)]
        np.testing.assert_allclose(path.vocabulary, full[: len(path.edges)], atol=1e-4)
        links += len(read_links(chunk.table, path.edges, path.log_probs))
    assert links > 4


def toy_model(vocabulary, scale):
    """A model whose logits depend on the last token and its position alone.

    So they differ widely, and the model compiles fast.
    """
    rng = np.random.default_rng(0)
    params = {
        "hidden": rng.normal(size=(vocabulary, 8, 16)).astype(np.float32),
        "unembed": rng.normal(size=(vocabulary, 16)).astype(np.float32) * scale,
    }

    def forward(params, tokens, positions, mask, cache):
        return jnp.asarray(params["hidden"])[tokens, positions % 8], cache

    def unembed(params, hidden, token_ids):
        if token_ids is None:
            return hidden @ params["unembed"].T
        rows = jnp.asarray(params["unembed"])[token_ids]
        return (hidden[..., None, :] * rows).sum(axis=-1)

    def init_cache(batch, slots):
        return {"length": jnp.zeros(batch, jnp.int32)}

    return Model(forward, unembed, init_cache, None), params


@pytest.mark.slow
@pytest.mark.parametrize("early_stopping", EARLY_STOPPING)
@pytest.mark.parametrize("beams", [1, 2, 3])
def test_when_the_search_ends(tokenizer, monkeypatch, beams, early_stopping):
    """On 128 chunks: targets, scores, calls and tokens.

    ln p varies widely, so that hypotheses are lost, finish late, and would still get
    better after the search has ended.
    """
    rng = np.random.default_rng(beams)
    model, params = toy_model(tokenizer.size, 1.0)
    for _ in range(8):
        some = [random_case(tokenizer, rng, TEXTS[i % len(TEXTS)]) for i in range(16)]
        chunks = [case.chunk for case in some]
        found = []
        for tokens_per_call in (1, 8):
            monkeypatch.setattr(beam, "TOKENS_PER_CALL", tokens_per_call)
            options = Options(beams=beams, early_stopping=early_stopping)
            found.append(beam.decode(model, params, chunks, batch=16, options=options))
        for case, a, b in zip(some, *found, strict=True):
            chunk = case.chunk

            def log_probs(ids, prompt=chunk.prompt):
                sequence = [*prompt, *ids]
                hidden = params["hidden"][sequence[-1], (len(sequence) - 1) % 8]
                return np.asarray(jax.nn.log_softmax(params["unembed"] @ hidden))

            search = Search(
                functools.cache(log_probs),
                targets_of(case, tokenizer),
                bias=case.bias,
            )
            longer, _ = extend(chunk.table, chunk.source, "candidates")
            expected, target = search.find(beams, early_stopping, longer.longest)
            for path in (a, b):
                assert path.margin > 1e-5
                assert target_of(chunk, path) == target
                assert path.score == pytest.approx(expected, abs=1e-4)
            assert a.calls == search.calls
            assert a.tokens == len(chunk.prompt) + search.tokens
            assert b.calls <= a.calls and b.tokens >= a.tokens
            assert b.tokens - a.tokens < beams * 8


def random_case(tokenizer, rng, text):
    """One to three mentions; in every second case the first of them is given."""
    tokens = encode_source(tokenizer, text)
    candidates = random_candidates(tokens, rng, int(rng.integers(1, 4)))
    if rng.random() < 0.5:  # a given mention: its OPEN is forced
        c = candidates[0]
        candidates[0] = candidate(c.start, c.end, [0, 1], rng, optional=False)
    return make_case(tokenizer, text, candidates, WEIGHTS)


def test_one_beam_is_greedy(tokenizer):
    """With one beam the vocabulary's sum changes no choice: the answer is `step`'s."""
    generator = small_model(tokenizer.size, 8.0)
    rng = np.random.default_rng(0)
    chunks = [random_chunk(tokenizer, rng) for _ in range(48)]
    expected = step.decode(*generator, chunks, batch=64, options=Options())
    found = beam.decode(*generator, chunks, batch=64, options=Options(beams=1))
    same = 0
    for a, b in zip(expected, found, strict=True):
        assert a.margin == pytest.approx(b.margin, abs=1e-4)
        if a.margin > 1e-4:
            assert a.edges == b.edges
            np.testing.assert_allclose(a.log_probs, b.log_probs, atol=1e-5)
            same += 1
    assert same > 44


def test_batch_and_padding_change_nothing(generator, tokenizer):
    chunks, _ = chunks_with_targets(tokenizer, 1, 4)
    together = beam.decode(*generator, chunks, batch=8, options=Options())
    for chunk, expected in zip(chunks, together, strict=True):
        (alone,) = beam.decode(*generator, [chunk], batch=1, options=Options())
        assert alone.edges == expected.edges
        np.testing.assert_allclose(alone.log_probs, expected.log_probs, atol=1e-5)
        np.testing.assert_allclose(alone.vocabulary, expected.vocabulary, atol=1e-5)
        assert alone.score == pytest.approx(expected.score, abs=1e-5)
        assert (alone.calls, alone.tokens) == (expected.calls, expected.tokens)


@pytest.mark.parametrize("optional", [True, False])
def test_calls_and_tokens_are_counted(generator, tokenizer, monkeypatch, optional):
    """The text "in York" with one entity takes four calls.

    They run the prompt; "in"; "York" in one beam and OPEN in the other; the rest of the
    link.
    """
    titles = encode_titles(tokenizer, TITLES)
    one = CandidateMention(3, 7, np.array([0]), np.zeros(1), np.zeros(1), optional)
    chunk = make_chunk(tokenizer, "in York", [one], titles, Weights())
    assert len(chunk.source) == 3
    link = 2 + 1 + 1 + len(titles[0]) + 1  # { York } [ title ]
    counts = {
        (1, True): (1 + 1 + link, 1 + 2 + (link - 1)),
        (8, True): (1 + 1 + 1 + 1, 1 + 2 + (link - 1)),
        (1, False): (1 + 1 + link, 1 + link),
        (8, False): (1 + 1, 1 + link),
    }
    assert link + 1 <= 8
    for tokens_per_call in (1, 8):
        monkeypatch.setattr(beam, "TOKENS_PER_CALL", tokens_per_call)
        (path,) = beam.decode(*generator, [chunk], batch=8, options=Options())
        calls, ran = counts[tokens_per_call, optional]
        assert (path.calls, path.tokens) == (calls, len(chunk.prompt) + ran)


def looser_cases(tokenizer, count):
    """Cases, their legal targets, and the outputs that are dead ends."""
    rng = np.random.default_rng(4)
    for i in range(count):
        text = TEXTS[i % len(TEXTS)]
        tokens = encode_source(tokenizer, text)
        n, candidates = len(tokens), {}
        for start in rng.choice(n, 3, replace=False).tolist():
            end = int(rng.integers(start, n))
            span = int(tokens.starts[start]), int(tokens.ends[end])
            candidates[span] = candidate(*span, [0, 1], rng)
        case = make_case(tokenizer, text, list(candidates.values()), WEIGHTS)
        source, dead = case.chunk.source, set()
        spans = [mention[:2] for mention in case.chunk.table.mentions]
        for start, end in merge_spans(spans):
            within = [source[s:e] for s, e in spans if start <= s < end]
            for p in range(start, end):
                for mention in within:
                    n = 0
                    while n < len(mention) and source[p + n] == mention[n]:
                        n += 1
                    if n:
                        dead |= {
                            (*before, tokenizer.open, *source[p : p + n])
                            for before in copies(case.outputs, source, p, tokenizer)
                        }
        yield case, targets_of(case, tokenizer), dead


def copies(outputs, source, p, tokenizer):
    """The beginnings of legal outputs up to source token p, with no link open."""
    found = set()
    for ids in outputs:
        pointer, kind = 0, None
        for n, token in enumerate([*ids, None]):
            if kind is None and pointer == p:
                found.add(ids[:n])
            if token == tokenizer.open or (token == tokenizer.entity and kind):
                kind = token
            elif token == tokenizer.end:
                kind = None
            elif kind != tokenizer.entity and token != tokenizer.close:
                pointer += 1
    return found


def opened_anywhere(tokenizer, chunk, targets):
    """Targets that were left by OPEN at any source token, and that token."""
    ends = set()
    for target in targets:
        pointer, boundaries = 0, 0
        for n, token in enumerate(target[:-1]):
            if token in (
                tokenizer.open,
                tokenizer.close,
                tokenizer.entity,
                tokenizer.end,
            ):
                boundaries += 1
            elif boundaries % 4 < 2:  # not in a title
                if boundaries % 4 == 0:
                    ends.add((*target[:n], tokenizer.open, chunk.source[pointer]))
                pointer += 1
    return ends


def test_the_longer_table(tokenizer):
    """Every way through it is a legal target or, with other openings, a dead end.

    Its edges have the biases of the design, those of dead ends too.
    """
    ends = 0
    for case, targets, dead in looser_cases(tokenizer, 30):
        chunk, table = case.chunk, case.chunk.table
        for openings, expected in (
            ("candidates", targets),
            ("first_token", targets | dead),
            ("anywhere", targets | dead | opened_anywhere(tokenizer, chunk, targets)),
        ):
            longer, known = extend(table, chunk.source, openings)
            static = beam.shape(chunk, Options(openings=openings))
            assert static[0] == static.prompt + 2 * static.longest
            assert static.prompt >= len(chunk.prompt)
            assert static.longest >= longer.longest >= max(map(len, expected))
            assert static.width >= np.diff(longer.indptr).max()
            assert static.states >= len(longer.indptr)
            assert static.edges >= len(longer.token)
            prefixes = {ids[:n] for ids in expected for n in range(len(ids) + 1)}
            found, finished = set(), set()
            stack = [(0, ())]
            while stack:
                state, ids = stack.pop()
                found.add(ids)
                row = slice(longer.indptr[state], longer.indptr[state + 1])
                assert (np.diff(longer.token[row]) > 0).all()
                if state == len(longer.indptr) - 2:
                    finished.add(ids)
                for edge in range(row.start, row.stop):
                    token = int(longer.token[edge])
                    bias = case.bias(ids, token)
                    assert longer.bias[edge] == pytest.approx(bias, abs=1e-5)
                    stack.append((longer.next[edge], (*ids, token)))
            assert found == prefixes
            assert finished == targets
            for name in ("token", "bias", "kind", "value"):
                ours = known >= 0
                np.testing.assert_array_equal(
                    getattr(longer, name)[ours], getattr(table, name)[known[ours]]
                )
        ends += len(prefixes) - len({t[:n] for t in targets for n in range(len(t) + 1)})
    assert ends > 50


@pytest.mark.parametrize("beams", [1, 2])
def test_dead_ends(generator, tokenizer, beams):
    """Beams that walk into dead ends are dropped; the others, if any, go on."""
    loose, targets, dead = zip(*looser_cases(tokenizer, 24), strict=True)
    chunks = [case.chunk for case in loose]

    def search(openings):
        options = Options(beams=beams, openings=openings)
        return [
            found
            for i in range(0, 24, 8)
            for found in beam.decode(
                *generator, chunks[i : i + 8], batch=8, options=options
            )
        ]

    found, plain = search("first_token"), search("candidates")
    lost = differ = 0
    for case, legal, ends, path, usual in zip(
        loose, targets, dead, found, plain, strict=True
    ):
        chunk = case.chunk
        search = Search(run_anew(generator, chunk.prompt), legal, ends, case.bias)
        expected, target = search.find(beams)
        assert path.margin > 1e-4
        assert path.score == pytest.approx(expected, abs=1e-4)
        if not target:
            lost += 1
            assert not path.edges
            continue
        assert target_of(chunk, path) == target
        differ += path.edges != usual.edges
    assert lost if beams == 1 else differ > 3


def test_a_source_that_is_too_short(generator, tokenizer):
    (chunk,), _ = chunks_with_targets(tokenizer, 0, 1)
    last = len(chunk.table.span_end) - 1
    short = dataclasses.replace(chunk, source=chunk.source[:last])
    with pytest.raises(ValueError, match="then EOS"):
        beam.decode(*generator, [short], batch=1, options=Options())


@pytest.mark.parametrize(
    "wrong", [{"selection": "any"}, {"openings": "any"}, {"beams": 0}]
)
def test_options_that_do_not_exist(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} = .*expected"):
        Options(**wrong)
