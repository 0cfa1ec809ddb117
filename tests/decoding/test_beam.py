"""Beam search against a plain one over legal outputs, each hypothesis run anew."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax.decoding import beam, step
from insgenel_jax.decoding.forward import Model
from insgenel_jax.decoding.mentions import CandidateMention, merge_spans
from insgenel_jax.decoding.table import Weights, build_table, read_links
from insgenel_jax.decoding.whole_target import extend
from insgenel_jax.text.linked_text import encode_prompt, encode_source, encode_titles
from tests.decoding.test_table import (
    TITLES,
    candidate,
    legal_outputs,
    random_candidates,
)
from tests.helpers.marks import slow
from tests.helpers.oracle import (
    LENGTH,
    Search,
    cases,
    random_case,
    small_model,
    whole,
)

TEXTS = [
    "York New York New York City",
    "New York City, York City in York",
    "in York York's City York York City New",
]


BIAS = 3.0


@pytest.fixture(scope="module")
def generator(tokenizer):
    return small_model(tokenizer.size, 3.0)


def chunks_of(tokenizer, seed, count, weights=None):
    """Prompts, tables, sources, and all legal targets."""
    chunks = list(
        cases(tokenizer, np.random.default_rng(seed), count, weights or Weights())
    )
    return (
        [prompt for *_, prompt in chunks],
        [table for _, table, *_ in chunks],
        [[*tokens.ids.tolist(), tokenizer.eos] for tokens, *_ in chunks],
        [{(*ids, tokenizer.eos) for ids in outputs} for *_, outputs, _ in chunks],
    )


def target_of(table, source, path):
    """The tokens up to EOS that a path stands for."""
    last = len(table.span_end) - 1
    return (*table.token[path.edges].tolist(), *source[last:])


def run_anew(generator, prompt):
    """ids -> ln p of every token behind prompt and ids, without a cache."""
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
    ("beams", "block"), [slow(1, 8), slow(2, 1), (2, 3), slow(2, 8), (6, 8)]
)
def test_over_legal_outputs(generator, tokenizer, beams, block):
    """Targets and scores, with biases, whether forced tokens ride along or not."""
    weights = Weights(mention_bias=4.0)
    *args, targets = chunks_of(tokenizer, 0, 8, weights)
    found = beam.decode(*generator, *args, batch=8, beams=beams, block=block)
    links = 0
    for prompt, table, source, legal, path in zip(*args, targets, found, strict=True):
        search = Search(
            run_anew(generator, prompt),
            legal,
            bias=lambda i, t: 4.0 * (t == tokenizer.open),
        )
        expected, target = search.find(beams)
        assert path.gap > 1e-4
        assert target_of(table, source, path) == target
        assert path.score == pytest.approx(expected, abs=1e-4)
        full = [search.log_probs(target[:n])[t] for n, t in enumerate(target)]
        np.testing.assert_allclose(path.vocabulary, full[: len(path.edges)], atol=1e-4)
        links += len(read_links(table, path.edges, path.log_probs))
    assert links > 4


def toy_model(vocabulary, scale):
    """Logits by the last token and its position alone: sharp, and soon compiled."""
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
@pytest.mark.parametrize("beams", [1, 2, 3])
def test_when_the_search_ends(tokenizer, beams):
    """On 128 chunks: targets, scores, calls and tokens, where ln p varies widely.

    So hypotheses are lost, finish late, and would still get better behind the end.
    """
    titles = encode_titles(tokenizer, TITLES)
    rng = np.random.default_rng(beams)
    model, params = toy_model(tokenizer.size, 1.0)
    for _ in range(8):
        chunks, targets = [], []
        for i in range(16):
            text = TEXTS[i % len(TEXTS)]
            tokens = encode_source(tokenizer, text)
            candidates = random_candidates(tokens, rng, int(rng.integers(1, 4)))
            if rng.random() < 0.5:  # a mention that is given: its OPEN is forced
                c = candidates[0]
                candidates[0] = candidate(c.start, c.end, [0, 1], rng, optional=False)
            table = build_table(
                tokenizer,
                tokens,
                candidates,
                titles.__getitem__,
                Weights(mention_bias=BIAS),
            )
            source = [*tokens.ids.tolist(), tokenizer.eos]
            chunks.append((encode_prompt(tokenizer, "link it", text), table, source))
            outputs = legal_outputs(tokenizer, tokens, candidates, titles, True)
            targets.append({(*ids, tokenizer.eos) for ids in outputs})
        args = [list(x) for x in zip(*chunks, strict=True)]
        one, eight = (
            beam.decode(model, params, *args, batch=16, beams=beams, block=block)
            for block in (1, 8)
        )
        for (prompt, table, source), legal, a, b in zip(
            chunks, targets, one, eight, strict=True
        ):

            def log_probs(ids, prompt=prompt):
                sequence = [*prompt, *ids]
                hidden = params["hidden"][sequence[-1], (len(sequence) - 1) % 8]
                return np.asarray(jax.nn.log_softmax(params["unembed"] @ hidden))

            search = Search(
                functools.cache(log_probs),
                legal,
                bias=lambda i, t: BIAS * (t == tokenizer.open),
            )
            expected, target = search.find(beams)
            for path in (a, b):
                assert path.gap > 1e-5
                assert target_of(table, source, path) == target
                assert path.score == pytest.approx(expected, abs=1e-4)
            assert a.calls == search.calls
            assert a.tokens == len(prompt) + search.tokens
            assert b.calls <= a.calls and b.tokens >= a.tokens
            assert b.tokens - a.tokens < beams * 8


def test_one_beam_is_greedy(tokenizer):
    """With one beam the whole vocabulary's sum changes no choice: `step`, with biases."""
    generator = small_model(tokenizer.size, 8.0)
    rng = np.random.default_rng(0)
    prompts, tables = zip(
        *(random_case(tokenizer, rng) for _ in range(48)), strict=True
    )
    sources = [[0] * (len(table.span_end) - 1) + [tokenizer.eos] for table in tables]
    expected = step.decode(*generator, prompts, tables, batch=64)
    found = beam.decode(*generator, prompts, tables, sources, batch=64, beams=1)
    same = 0
    for a, b in zip(expected, found, strict=True):
        assert a.gap == pytest.approx(b.gap, abs=1e-4)
        if a.gap > 1e-4:
            assert a.edges == b.edges
            np.testing.assert_allclose(a.log_probs, b.log_probs, atol=1e-5)
            same += 1
    assert same > 44


def test_batch_and_padding_change_nothing(generator, tokenizer):
    *args, _ = chunks_of(tokenizer, 1, 6)
    together = beam.decode(*generator, *args, batch=8)
    for i, expected in enumerate(together):
        (alone,) = beam.decode(*generator, *(x[i : i + 1] for x in args), batch=1)
        assert alone.edges == expected.edges
        np.testing.assert_allclose(alone.log_probs, expected.log_probs, atol=1e-5)
        np.testing.assert_allclose(alone.vocabulary, expected.vocabulary, atol=1e-5)
        assert alone.score == pytest.approx(expected.score, abs=1e-5)
        assert (alone.calls, alone.tokens) == (expected.calls, expected.tokens)


@pytest.mark.parametrize("optional", [True, False])
def test_calls_and_tokens_are_counted(generator, tokenizer, optional):
    """ "in York" and one entity: prompt; in; York and OPEN; the rest of the link."""
    titles = encode_titles(tokenizer, TITLES)
    tokens = encode_source(tokenizer, "in York")
    assert len(tokens) == 2
    one = CandidateMention(3, 7, np.array([0]), np.zeros(1), np.zeros(1), optional)
    table = build_table(tokenizer, tokens, [one], titles.__getitem__, Weights())
    prompt = encode_prompt(tokenizer, "link it", "in York")
    source = [*tokens.ids.tolist(), tokenizer.eos]
    link = 2 + 1 + 1 + len(titles[0]) + 1  # { York } [ title ]
    counts = {
        (1, True): (1 + 1 + link, 1 + 2 + (link - 1)),
        (8, True): (1 + 1 + 1 + 1, 1 + 2 + (link - 1)),
        (1, False): (1 + 1 + link, 1 + link),
        (8, False): (1 + 1, 1 + link),
    }
    assert link + 1 <= 8
    for block in (1, 8):
        (path,) = beam.decode(
            *generator, [prompt], [table], [source], batch=8, block=block
        )
        calls, ran = counts[block, optional]
        assert (path.calls, path.tokens) == (calls, len(prompt) + ran)


def looser_cases(tokenizer, count):
    """Prompts, tables, sources; legal targets; what is walked into at dead ends."""
    titles = encode_titles(tokenizer, TITLES)
    rng = np.random.default_rng(1)
    for i in range(count):
        tokens = encode_source(tokenizer, TEXTS[i % len(TEXTS)])
        n, candidates = len(tokens), {}
        for start in rng.choice(n, 3, replace=False).tolist():
            end = int(rng.integers(start, n))
            span = int(tokens.starts[start]), int(tokens.ends[end])
            candidates[span] = candidate(*span, [0, 1], rng)
        candidates = list(candidates.values())
        table = build_table(
            tokenizer,
            tokens,
            candidates,
            titles.__getitem__,
            Weights(mention_bias=BIAS),
        )
        outputs = legal_outputs(tokenizer, tokens, candidates, titles, True)
        source = [*tokens.ids.tolist(), tokenizer.eos]
        dead = set()
        spans = [mention[:2] for mention in table.mentions]
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
                            for before in copies(outputs, source, p, tokenizer)
                        }
        targets = {(*ids, tokenizer.eos) for ids in outputs}
        prompt = encode_prompt(tokenizer, "link it", TEXTS[i % len(TEXTS)])
        yield prompt, table, source, targets, dead


def copies(outputs, source, p, tokenizer):
    """What legal outputs have written when all source tokens before p are, no link open."""
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


def test_the_longer_table(tokenizer):
    """Every way through it is a legal target, or with "first_token" a dead end."""
    ends = 0
    for prompt, table, source, targets, dead in looser_cases(tokenizer, 30):
        for openings, expected in (
            ("candidates", targets),
            ("first_token", targets | dead),
        ):
            longer, known = extend(table, source, openings)
            static = beam.shape(prompt, table, source, openings)
            assert static.prompt >= len(prompt)
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
                    stack.append((longer.next[edge], (*ids, int(longer.token[edge]))))
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
    """Beams walk into them and are dropped; the others, if there are any, go on."""
    *args, targets, dead = zip(*looser_cases(tokenizer, 24), strict=True)

    def search(openings):
        return [
            found
            for i in range(0, 24, 8)
            for found in beam.decode(
                *generator,
                *(x[i : i + 8] for x in args),
                batch=8,
                beams=beams,
                openings=openings,
            )
        ]

    found, plain = search("first_token"), search("candidates")
    lost = differ = 0
    for prompt, table, source, legal, ends, path, usual in zip(
        *args, targets, dead, found, plain, strict=True
    ):
        expected, target = Search(
            run_anew(generator, prompt),
            legal,
            ends,
            lambda i, t: BIAS * (t == tokenizer.open),
        ).find(beams)
        assert path.gap > 1e-4
        assert path.score == pytest.approx(expected, abs=1e-4)
        if not target:
            lost += 1
            assert not path.edges
            continue
        assert target_of(table, source, path) == target
        differ += path.edges != usual.edges
    assert lost if beams == 1 else differ > 3


def test_a_source_that_is_too_short(generator, tokenizer):
    (prompt,), (table,), (source,), _ = chunks_of(tokenizer, 0, 1)
    last = len(table.span_end) - 1
    with pytest.raises(ValueError, match="then EOS"):
        beam.decode(*generator, [prompt], [table], [source[:last]], batch=1)
    with pytest.raises(ValueError, match="first_token"):
        beam.decode(*generator, [prompt], [table], [source], batch=1, openings="any")
