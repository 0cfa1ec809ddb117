"""The decoders against each other. test_brute_force.py says what the answer must be."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from insgenel_jax.decoding import beam, blocks, forward, speculative, step, tree
from insgenel_jax.decoding.mentions import CandidateMention, merge_spans
from insgenel_jax.decoding.options import Options
from insgenel_jax.decoding.path import follow, read_links
from insgenel_jax.decoding.table import Weights
from insgenel_jax.text.linked_text import encode_titles
from tests.helpers.marks import slow
from tests.helpers.oracle import Oracle
from tests.helpers.random_chunks import TITLES, cases, make_chunk, random_chunk
from tests.helpers.small_models import LENGTH, small_model, whole


@pytest.fixture(scope="module")
def generator(tokenizer):
    return small_model(tokenizer.size, 8.0)


def test_marginal_is_not_greedy(tokenizer):
    """A mention whose mass is split over its extents wins by the sum."""
    generator = small_model(tokenizer.size, 2.0)
    chunks = [case.chunk for case in cases(tokenizer, np.random.default_rng(2), 64)]
    greedy, marginal = (
        tree.decode(*generator, chunks, batch=64, options=Options(selection=selection))
        for selection in ("greedy", "marginal")
    )
    differ = sum(a.edges != b.edges for a, b in zip(greedy, marginal, strict=True))
    assert differ > 2


# How far log-probabilities may differ. At scale 8 attention scores reach 350, where two
# float32 numbers are 3e-5 apart; a score off by that puts exp(score) off by that share.
# So float32 itself says no more there: on these chunks `step` is up to 1.3e-4 away from
# a forward in float64, and its batches of 1 and 64 are 1.9e-4 apart
# (test_precision.py).
DIFFER = {2: 1e-5, 4: 1e-5, 8: 2e-4}


@pytest.mark.parametrize(
    ("family", "scales", "seeds"),
    [("llama", (2, 8), 1), slow("llama", (2, 8), 4), slow("opt", (2, 4), 4)],
)
def test_all_decoders_give_the_same_answer(tokenizer, family, scales, seeds):
    """On 64 random chunks of each scale and seed, where no margin is below 1e-4."""
    rng = np.random.default_rng(3)
    ties = links = 0
    for scale, seed in itertools.product(scales, range(seeds)):
        generator = small_model(tokenizer.size, scale, family, seed)
        chunks = [random_chunk(tokenizer, rng) for _ in range(64)]
        expected = step.decode(*generator, chunks, batch=64, options=Options())
        for decoder in (tree, speculative):
            found = decoder.decode(*generator, chunks, batch=64, options=Options())
            for a, b, chunk in zip(expected, found, chunks, strict=True):
                if min(a.margin, b.margin) < 1e-4:
                    ties += 1
                    continue
                assert a.edges == b.edges
                np.testing.assert_allclose(a.log_probs, b.log_probs, atol=DIFFER[scale])
                margins = max(1e-4, 5 * DIFFER[scale])
                assert a.margin == pytest.approx(b.margin, abs=margins)
                assert b.calls <= a.calls
                links += len(read_links(chunk.table, b.edges, b.log_probs))
    assert ties < 4
    assert links > 125 * seeds


@pytest.mark.slow
def test_each_option_has_its_decoder(generator, tokenizer):
    """HONOURS names fields of Options, and all of them; the others change nothing."""
    fields = {field.name for field in dataclasses.fields(Options)}
    decoders = (step, beam, tree, speculative)
    assert set().union(*(decoder.HONOURS for decoder in decoders)) == fields
    chunks = [case.chunk for case in cases(tokenizer, np.random.default_rng(10), 4)]
    other = Options("marginal", True, True, True, 3, "first_token", "never")
    for decoder in decoders:
        own = {name: getattr(Options(), name) for name in decoder.HONOURS}
        found = [
            decoder.decode(*generator, chunks, batch=4, options=options)
            for options in (Options(), dataclasses.replace(other, **own))
        ]
        assert found[0] == found[1]
        if decoder in (step, beam):
            assert decoder.shape(chunks[0], Options()) == decoder.shape(
                chunks[0], dataclasses.replace(other, **own)
            )


def test_calls_and_tokens_are_counted(generator, tokenizer):
    """One decision span with one mention of one entity takes one call.

    It runs the prompt and "in", which is forced.
    """
    titles = encode_titles(tokenizer, TITLES)
    one = CandidateMention(3, 7, np.array([0]), np.zeros(1), np.zeros(1))
    chunk = make_chunk(tokenizer, "in York", [one], titles, Weights())
    for decoder in (step, tree, speculative):
        (path,) = decoder.decode(*generator, [chunk], batch=1, options=Options())
        assert (path.calls, path.tokens) == (1, len(chunk.prompt) + 1)


@pytest.mark.parametrize("decoder", [tree, speculative])
def test_a_call_reads_back_once_and_gives_its_cache_on(
    generator, tokenizer, monkeypatch, decoder
):
    calls, reads, run, get = [], [], forward.run, jax.device_get

    def run_counted(model, params, cache, *args, **options):
        calls.append(cache)
        return run(model, params, cache, *args, **options)

    def get_counted(arrays):
        reads.append(arrays)
        return get(arrays)

    chunks = [case.chunk for case in cases(tokenizer, np.random.default_rng(7), 6)]
    monkeypatch.setattr(forward, "run", run_counted)
    monkeypatch.setattr(jax, "device_get", get_counted)
    paths = decoder.decode(*generator, chunks, batch=8, options=Options())
    assert len(calls) == max(path.calls for path in paths) > 1
    assert len(reads) == len(calls)
    assert all(cache[name].is_deleted() for cache in calls for name in "kv")


@pytest.mark.parametrize("decoder", [step, beam])
def test_a_loop_reads_back_once(generator, tokenizer, monkeypatch, decoder):
    reads, get = [], jax.device_get
    ((chunk, *_),) = cases(tokenizer, np.random.default_rng(8), 1)
    monkeypatch.setattr(jax, "device_get", lambda x: reads.append(x) or get(x))
    (path,) = decoder.decode(*generator, [chunk], batch=1, options=Options())
    assert path.calls > len(reads) == 1


@pytest.mark.parametrize("decoder", [step, tree, speculative])
def test_batch_and_padding_change_nothing(generator, tokenizer, decoder):
    chunks = [case.chunk for case in cases(tokenizer, np.random.default_rng(1), 6)]
    together = decoder.decode(*generator, chunks, batch=8, options=Options())
    for chunk, expected in zip(chunks, together, strict=True):
        (alone,) = decoder.decode(*generator, [chunk], batch=1, options=Options())
        assert alone.edges == expected.edges
        np.testing.assert_allclose(alone.log_probs, expected.log_probs, atol=1e-5)
        assert (alone.calls, alone.tokens) == (expected.calls, expected.tokens)


@pytest.mark.parametrize("decoder", [slow(step), slow(beam), tree, speculative])
def test_padding_needs_no_positions(tokenizer, decoder):
    """Positions behind the last one that a chunk needs are not used: here they are NaN.

    OPT's position embeddings are a table, so that they can be.
    """
    chunks = [case.chunk for case in cases(tokenizer, np.random.default_rng(9), 6)]
    most = max(
        len(chunk.prompt) + chunk.table.longest + len(chunk.source) * (decoder is beam)
        for chunk in chunks
    )
    model, params = small_model(tokenizer.size, 8.0, "opt")
    table = params["embed_position"]["embedding"]
    found = []
    for last in (len(table), most + 2):  # OPT's first two are no positions
        some = params | {"embed_position": {"embedding": table.at[last:].set(np.nan)}}
        with jax.debug_nans(last < len(table)):
            paths = decoder.decode(model, some, chunks, batch=8, options=Options())
        found.append([(path.edges, path.log_probs) for path in paths])
    assert found[0] == found[1]


@pytest.mark.parametrize("decoder", [step, tree, speculative])
def test_forced_chunks_cost_no_call(generator, tokenizer, decoder):
    """A given mention with one candidate leaves nothing to decide."""
    titles = encode_titles(tokenizer, TITLES)
    one = np.zeros(1)
    mention = CandidateMention(3, 7, np.array([2]), one, one, optional=False)
    chunk = make_chunk(tokenizer, "in York", [mention], titles, Weights())
    (path,) = decoder.decode(*generator, [chunk], batch=1, options=Options())
    assert path.calls == 0
    assert sum(path.log_probs) == 0
    assert chunk.table.value[path.edges[-1]] == 2


@pytest.mark.parametrize("selection", ["greedy", "marginal"])
@pytest.mark.parametrize("kept", [None, slow("unlinked"), slow("vocabulary")])
def test_a_block_over_the_limits_takes_several_calls(
    generator, tokenizer, monkeypatch, selection, kept
):
    """The answer is the same as in a single call: nothing is left out."""
    rng = np.random.default_rng(4)
    chunks = [random_chunk(tokenizer, rng) for _ in range(24)]
    options = Options(selection=selection, **({kept: True} if kept else {}))
    expected = tree.decode(*generator, chunks, batch=32, options=options)
    monkeypatch.setattr(tree, "NODES", 4)
    monkeypatch.setattr(tree, "EDGES", 3)
    found = tree.decode(*generator, chunks, batch=32, options=options)
    for a, b in zip(expected, found, strict=True):
        if a.margin > 1e-4:
            assert a.edges == b.edges
            np.testing.assert_allclose(a.log_probs, b.log_probs, atol=1e-5)
            if kept == "vocabulary":  # less near: see DIFFER
                np.testing.assert_allclose(a.vocabulary, b.vocabulary, atol=DIFFER[8])
            assert len(a.unlinked) == len(b.unlinked)
            for one, other in zip(a.unlinked, b.unlinked, strict=True):
                assert one[0].tolist() == other[0].tolist()
    if kept == "unlinked":
        assert any(path.unlinked for path in found)
    assert sum(p.calls for p in found) > 1.5 * sum(p.calls for p in expected)


def test_pieces_cover_a_block(tokenizer):
    """Each decided edge is scored once, in a piece that runs all edges above it."""
    rng = np.random.default_rng(5)
    for _ in range(50):
        table = random_chunk(tokenizer, rng).table
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
    """ln p of each edge of a link over the vocabulary, against a run without cache."""
    model, params = small_model(tokenizer.size, 3.0)
    ((chunk, *_),) = cases(
        tokenizer, np.random.default_rng(6), 1, Weights(mention_bias=9.0)
    )
    options, table = Options(vocabulary=True), chunk.table
    (path,) = tree.decode(model, params, [chunk], batch=1, options=options)
    ids, linking, total = [*chunk.prompt], False, 0.0
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
    """For a block that links nothing it is the best mention with its best entity."""
    generator = small_model(tokenizer.size, 3.0)
    weights = Weights(mention_bias=-30.0)
    seen = 0
    for case in cases(tokenizer, np.random.default_rng(7), 8, weights):
        chunk, table, outputs = case.chunk, case.chunk.table, case.outputs
        options = Options(unlinked=True)
        (path,) = tree.decode(*generator, [chunk], batch=1, options=options)
        assert not read_links(table, path.edges, path.log_probs)
        oracle = Oracle(generator, chunk.prompt, outputs, case.bias)
        spans = merge_spans([mention[:2] for mention in table.mentions])
        assert len(path.unlinked) == len(spans)
        for (begin, _), (edges, log_probs, _) in zip(spans, path.unlinked, strict=True):
            (link,) = read_links(table, edges, log_probs)
            before = tuple(chunk.source[:begin])
            outcomes = {}
            for output in outputs:
                if output[:begin] == before:
                    key, cut = oracle.cut_block(output, begin, tokenizer, spans)
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


def test_the_scores_of_all_titles(tokenizer):
    """Without biases, of every mention in the first decision span: nothing is linked
    before it where its block begins."""
    generator = small_model(tokenizer.size, 3.0)
    weights = Weights(mention_bias=1.0, length_bias=-1.0, prior_weight=3.0)
    titles = dict(enumerate(encode_titles(tokenizer, TITLES)))
    seen = 0
    for case in cases(tokenizer, np.random.default_rng(11), 12, weights):
        chunk, table = case.chunk, case.chunk.table
        options = Options(titles_scored=True)
        (path,) = tree.decode(*generator, [chunk], batch=1, options=options)
        (plain,) = tree.decode(*generator, [chunk], batch=1, options=Options())
        assert path.edges == plain.edges and not plain.titles
        oracle = Oracle(generator, chunk.prompt, case.outputs, lambda ids, token: 0.0)
        reached = merge_spans([mention[:2] for mention in table.mentions])[0][1]
        first = {}
        for scores in path.titles:
            first.setdefault(scores.mention, scores)
        for number, (start, end, candidate) in enumerate(table.mentions):
            if start >= reached:
                continue
            scores = first[number]
            assert sorted(scores.entities) == sorted(candidate.entities)
            copied = (*chunk.source[:start], tokenizer.open, *chunk.source[start:end])
            linked = (*copied, tokenizer.close, tokenizer.entity)
            for entity, log_prob in zip(
                scores.entities.tolist(), scores.unbiased, strict=True
            ):
                ids = (*linked, *titles[entity], tokenizer.end)
                expected = oracle.log_prob(ids, len(linked))
                assert log_prob == pytest.approx(expected, abs=1e-4)
                seen += len(scores.entities) > 1
    assert seen > 10
