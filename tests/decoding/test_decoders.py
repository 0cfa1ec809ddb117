"""The decoders against each other; test_brute_force.py has what they must say."""

import functools
import itertools

import jax
import numpy as np
import pytest

from insgenel_jax.decoding import beam, blocks, step, tree
from insgenel_jax.decoding import forward as call
from insgenel_jax.decoding import speculative as verify
from insgenel_jax.decoding.mentions import CandidateMention, merge_spans
from insgenel_jax.decoding.table import (
    Weights,
    build_table,
    follow,
    read_links,
)
from insgenel_jax.text.linked_text import encode_prompt, encode_source, encode_titles
from tests.decoding.test_table import (
    TITLES,
)
from tests.helpers.marks import slow
from tests.helpers.oracle import (
    LENGTH,
    Oracle,
    cases,
    random_case,
    small_model,
    whole,
)


@pytest.fixture(scope="module")
def generator(tokenizer):
    return small_model(tokenizer.size, 8.0)


def test_marginal_is_not_greedy(tokenizer):
    """A mention whose mass is split over its extents wins by the sum."""
    generator = small_model(tokenizer.size, 2.0)
    chunks = list(cases(tokenizer, np.random.default_rng(2), 64))
    args = [prompt for *_, prompt in chunks], [table for _, table, *_ in chunks]
    greedy, marginal = (
        tree.decode(*generator, *args, batch=64, selection=selection)
        for selection in ("greedy", "marginal")
    )
    differ = sum(a.edges != b.edges for a, b in zip(greedy, marginal, strict=True))
    assert differ > 2


@pytest.mark.parametrize(("family", "scales"), [("llama", (2, 8)), slow("opt", (2, 4))])
def test_all_decoders_give_the_same_answer(tokenizer, family, scales):
    """On 512 random chunks of each, but where a decision's gap is below 1e-4."""
    rng = np.random.default_rng(3)
    ties = links = 0
    for scale, seed in itertools.product(scales, range(4)):
        generator = small_model(tokenizer.size, scale, family, seed)
        prompts, tables = zip(
            *(random_case(tokenizer, rng) for _ in range(64)), strict=True
        )
        expected = step.decode(*generator, prompts, tables, batch=64)
        for decoder in (tree, verify):
            found = decoder.decode(*generator, prompts, tables, batch=64)
            for a, b, table in zip(expected, found, tables, strict=True):
                if min(a.gap, b.gap) < 1e-4:
                    ties += 1
                    continue
                assert a.edges == b.edges
                np.testing.assert_allclose(a.log_probs, b.log_probs, atol=1e-5)
                assert a.gap == pytest.approx(b.gap, abs=1e-4)
                assert b.calls <= a.calls
                links += len(read_links(table, b.edges, b.log_probs))
    assert ties < 4
    assert links > 500


def test_calls_and_tokens_are_counted(generator, tokenizer):
    """One decision span with one mention of one entity: one call, the prompt alone."""
    titles = encode_titles(tokenizer, TITLES)
    tokens = encode_source(tokenizer, "in York")
    one = CandidateMention(3, 7, np.array([0]), np.zeros(1), np.zeros(1))
    table = build_table(tokenizer, tokens, [one], titles.__getitem__, Weights())
    prompt = encode_prompt(tokenizer, "link it", "in York")
    for decoder in (step, tree, verify):
        (path,) = decoder.decode(*generator, [prompt], [table], batch=1)
        assert (path.calls, path.tokens) == (1, len(prompt) + 1)


@pytest.mark.parametrize("decoder", [tree, verify])
def test_a_call_reads_back_once_and_gives_its_cache_on(
    generator, tokenizer, monkeypatch, decoder
):
    calls, reads, run, get = [], [], call.run, jax.device_get

    def run_counted(model, params, cache, *args, **options):
        calls.append(cache)
        return run(model, params, cache, *args, **options)

    def get_counted(arrays):
        reads.append(arrays)
        return get(arrays)

    chunks = list(cases(tokenizer, np.random.default_rng(7), 6))
    monkeypatch.setattr(call, "run", run_counted)
    monkeypatch.setattr(jax, "device_get", get_counted)
    paths = decoder.decode(
        *generator,
        [prompt for *_, prompt in chunks],
        [table for _, table, *_ in chunks],
        batch=8,
    )
    assert len(calls) == max(path.calls for path in paths) > 1
    assert len(reads) == len(calls)
    assert all(cache[name].is_deleted() for cache in calls for name in "kv")


@pytest.mark.parametrize("decoder", [step, beam])
def test_a_loop_reads_back_once(generator, tokenizer, monkeypatch, decoder):
    reads, get = [], jax.device_get
    ((tokens, table, _, prompt),) = cases(tokenizer, np.random.default_rng(8), 1)
    source = [*tokens.ids.tolist(), tokenizer.eos]
    args = [prompt], [table], *([[source]] if decoder is beam else [])
    monkeypatch.setattr(jax, "device_get", lambda x: reads.append(x) or get(x))
    (path,) = decoder.decode(*generator, *args, batch=1)
    assert path.calls > len(reads) == 1


@pytest.mark.parametrize("decoder", [step, tree, verify])
def test_batch_and_padding_change_nothing(generator, tokenizer, decoder):
    chunks = list(cases(tokenizer, np.random.default_rng(1), 6))
    prompts = [prompt for _, _, _, prompt in chunks]
    tables = [table for _, table, _, _ in chunks]
    together = decoder.decode(*generator, prompts, tables, batch=8)
    for i, expected in enumerate(together):
        (alone,) = decoder.decode(
            *generator, prompts[i : i + 1], tables[i : i + 1], batch=1
        )
        assert alone.edges == expected.edges
        np.testing.assert_allclose(alone.log_probs, expected.log_probs, atol=1e-5)
        assert (alone.calls, alone.tokens) == (expected.calls, expected.tokens)


@pytest.mark.parametrize("decoder", [step, beam, tree, verify])
def test_padding_needs_no_positions(tokenizer, decoder):
    """Those behind the last that a chunk takes have no say. OPT's are a table."""
    chunks = list(cases(tokenizer, np.random.default_rng(9), 6))
    prompts = [prompt for *_, prompt in chunks]
    tables = [table for _, table, *_ in chunks]
    sources = [[*tokens.ids.tolist(), tokenizer.eos] for tokens, *_ in chunks]
    most = max(
        len(prompt) + table.longest + (len(source) * (decoder is beam))
        for prompt, table, source in zip(prompts, tables, sources, strict=True)
    )
    model, params = small_model(tokenizer.size, 8.0, "opt")
    table = params["embed_position"]["embedding"]
    args = prompts, tables, *([sources] if decoder is beam else [])
    found = []
    for last in (len(table), most + 2):  # OPT's first two are no positions
        some = params | {"embed_position": {"embedding": table.at[last:].set(np.nan)}}
        with jax.debug_nans(last < len(table)):
            paths = decoder.decode(model, some, *args, batch=8)
        found.append([(path.edges, path.log_probs) for path in paths])
    assert found[0] == found[1]


@pytest.mark.parametrize("decoder", [step, tree, verify])
def test_forced_chunks_cost_no_call(generator, tokenizer, decoder):
    """A given mention with one candidate leaves nothing to decide."""
    titles = encode_titles(tokenizer, TITLES)
    tokens = encode_source(tokenizer, "in York")
    one = np.zeros(1)
    mention = CandidateMention(3, 7, np.array([2]), one, one, optional=False)
    table = build_table(tokenizer, tokens, [mention], titles.__getitem__, Weights())
    (path,) = decoder.decode(*generator, [[1]], [table], batch=1)
    assert path.calls == 0
    assert sum(path.log_probs) == 0
    assert table.value[path.edges[-1]] == 2


@pytest.mark.parametrize("selection", ["greedy", "marginal"])
@pytest.mark.parametrize("kept", [None, slow("unlinked"), slow("vocabulary")])
def test_a_block_over_the_limits_takes_several_calls(
    generator, tokenizer, monkeypatch, selection, kept
):
    """Nothing is cut off: the answer is the one of a single call."""
    rng = np.random.default_rng(4)
    prompts, tables = zip(
        *(random_case(tokenizer, rng) for _ in range(24)), strict=True
    )
    run = functools.partial(
        tree.decode, *generator, prompts, tables, batch=32, selection=selection
    )
    if kept:
        run = functools.partial(run, **{kept: True})
    expected = run()
    monkeypatch.setattr(tree, "NODES", 4)
    monkeypatch.setattr(tree, "EDGES", (64, 3))
    found = run()
    for a, b in zip(expected, found, strict=True):
        if a.gap > 1e-4:
            assert a.edges == b.edges
            np.testing.assert_allclose(a.log_probs, b.log_probs, atol=1e-5)
            if kept == "vocabulary":
                np.testing.assert_allclose(a.vocabulary, b.vocabulary, atol=1e-5)
            assert len(a.unlinked) == len(b.unlinked)
            for one, other in zip(a.unlinked, b.unlinked, strict=True):
                assert one[0].tolist() == other[0].tolist()
    if kept == "unlinked":
        assert any(path.unlinked for path in found)
    assert sum(p.calls for p in found) > 1.5 * sum(p.calls for p in expected)


def test_pieces_cover_a_block(tokenizer):
    """Each decided edge is scored once, with all that is above it run before it."""
    rng = np.random.default_rng(5)
    for _ in range(50):
        _, table = random_case(tokenizer, rng)
        state, _ = follow(table, 0)
        if not table.degree(state):
            continue
        block = blocks.find_block(table, state)
        seen = []
        for asked, scored in blocks.pieces(block, 5, 4):
            assert len(scored) <= 4
            assert (np.diff(asked) > 0).all() and (np.diff(scored) > 0).all()
            for i in [*asked, *scored]:
                assert block.parent[i] < 0 or block.parent[i] in asked
            seen += scored.tolist()
        assert seen == np.flatnonzero(block.decided).tolist()


def test_scores_over_the_vocabulary(tokenizer):
    """ln p of each edge of a link among all tokens, as a sequence run anew has it."""
    model, params = small_model(tokenizer.size, 3.0)
    ((_, table, _, prompt),) = cases(
        tokenizer, np.random.default_rng(6), 1, Weights(mention_bias=9.0)
    )
    (path,) = tree.decode(model, params, [prompt], [table], batch=1, vocabulary=True)
    ids, linking, total = [*prompt], False, 0.0
    for edge, found in zip(path.edges, path.vocabulary, strict=True):
        token = int(table.token[edge])
        linking |= token == tokenizer.open
        if linking:
            padded = np.zeros(LENGTH, np.int32)
            padded[: len(ids)] = ids
            logits = whole(model)(params, padded, len(ids))
            expected = float(jax.nn.log_softmax(logits)[token])
            assert found == pytest.approx(expected, abs=1e-4)
            total += found
        linking &= token != tokenizer.end
        ids.append(token)
    links = read_links(table, path.edges, path.log_probs, path.vocabulary)
    assert links
    assert sum(sum(link.vocabulary) for link in links) == pytest.approx(total)


def test_the_best_unlinked_mention(tokenizer):
    """Of a block that links nothing: the best mention, then its best entity."""
    generator = small_model(tokenizer.size, 3.0)
    weights = Weights(mention_bias=-30.0)
    seen = 0
    for tokens, table, outputs, prompt in cases(
        tokenizer, np.random.default_rng(7), 8, weights
    ):
        (path,) = tree.decode(*generator, [prompt], [table], batch=1, unlinked=True)
        assert not read_links(table, path.edges, path.log_probs)
        oracle = Oracle(
            generator, prompt, outputs, lambda i, t: -30.0 * (t == tokenizer.open)
        )
        spans = merge_spans([mention[:2] for mention in table.mentions])
        assert len(path.unlinked) == len(spans)
        for (begin, end), (edges, log_probs, _) in zip(
            spans, path.unlinked, strict=True
        ):
            (link,) = read_links(table, edges, log_probs)
            before = tuple(tokens.ids[:begin].tolist())
            outcomes = {}
            for output in outputs:
                if output[:begin] == before:
                    key, cut = oracle._cut(output, begin, tokenizer, spans)
                    if key is not None:
                        outcomes[cut] = key
            probs = {c: np.exp(oracle.log_prob(c, begin)) for c in outcomes}
            groups = {}
            for cut, key in outcomes.items():
                groups[key] = groups.get(key, 0.0) + probs[cut]
            best = max(groups, key=groups.get)
            mention = next(m[2] for m in table.mentions if m[:2] == best)
            assert link.mention is mention
            cut = max((c for c in probs if outcomes[c] == best), key=probs.get)
            opened = cut.index(tokenizer.open, begin)
            assert link.log_prob == pytest.approx(
                oracle.log_prob(cut, opened), abs=1e-4
            )
            seen += 1
    assert seen > 8
