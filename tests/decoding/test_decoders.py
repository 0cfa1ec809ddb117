"""The decoders against each other, and against brute force over legal outputs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax import models
from insgenel_jax.decoding import blocks, step, tree, verify
from insgenel_jax.decoding.call import Model
from insgenel_jax.decoding.decisions import (
    Weights,
    build_table,
    follow,
    read_links,
)
from insgenel_jax.decoding.spans import CandidateMention, merge_spans
from insgenel_jax.linked_text import encode_prompt, encode_source, encode_titles
from insgenel_jax.models.config import ModelConfig
from tests.decoding.test_decisions import (
    TITLES,
    candidate,
    legal_outputs,
    random_candidates,
)

TEXTS = ["New York City", "(York) New York's 1999", "in York", "York's mayor: York"]
LENGTH = 96  # of the oracle's sequences


@functools.cache
def small_model(vocabulary, scale):
    """Random weights; a larger scale makes decisions clearer."""
    config = ModelConfig(
        family="llama",
        vocabulary=vocabulary,
        dim=32,
        layers=2,
        heads=4,
        kv_heads=2,
        ffn=64,
        max_positions=512,
    )
    params = models.init_params(config, jax.random.key(0))
    params = jax.tree.map(lambda p: p * scale, params)
    module = models.build(config)
    model = Model(
        forward=lambda p, *args: module.apply({"params": p}, *args),
        unembed=functools.partial(models.unembed, config),
        init_cache=functools.partial(models.init_cache, config),
        move_slots=models.move_slots,
    )
    return model, params


@pytest.fixture(scope="module")
def generator(tokenizer):
    return small_model(tokenizer.size, 8.0)


@functools.cache
def whole(model):
    """Logits of the last of `length` tokens: the sequence run anew, without a cache."""

    @jax.jit
    def run(params, tokens, length):
        positions = jnp.arange(LENGTH)[None]
        mask = jnp.tril(jnp.ones((1, LENGTH, LENGTH), bool))
        hidden, _ = model.forward(params, tokens[None], positions, mask, None)
        return model.unembed(params, hidden[0, length - 1], None)

    return run


class Oracle:
    """p(next token | what stands before it) over the legal outputs of a chunk."""

    def __init__(self, generator, prompt, outputs, bias):
        self.model, self.params = generator
        self.prompt, self.outputs, self.bias = prompt, outputs, bias
        self.known = {}

    def next(self, ids):
        """Allowed tokens, ascending, and their ln p and logits with bias."""
        if ids in self.known:
            return self.known[ids]
        n = len(ids)
        allowed = sorted({o[n] for o in self.outputs if o[:n] == ids and len(o) > n})
        logits = np.zeros(len(allowed))
        if len(allowed) > 1:
            tokens = np.zeros(LENGTH, np.int32)
            sequence = [*self.prompt, *ids]
            tokens[: len(sequence)] = sequence
            found = whole(self.model)(self.params, tokens, len(sequence))
            logits = np.asarray(found, np.float64)[allowed]
            logits = logits + [self.bias(ids, token) for token in allowed]
        log_probs = logits - np.log(np.exp(logits - logits.max(initial=0)).sum() or 1)
        log_probs -= logits.max(initial=0)
        self.known[ids] = allowed, log_probs, logits
        return self.known[ids]

    def greedy(self):
        ids, total = (), 0.0
        while True:
            allowed, log_probs, logits = self.next(ids)
            if not allowed:
                return ids, total
            best = int(np.argmax(logits))
            ids, total = (*ids, allowed[best]), total + log_probs[best]

    def log_prob(self, ids, begin):
        total = 0.0
        for n in range(begin, len(ids)):
            allowed, log_probs, _ = self.next(ids[:n])
            total += log_probs[allowed.index(ids[n])]
        return total

    def marginal(self, tokenizer, spans):
        """Block by block: the best of no mention and each mention, then its entity."""
        ids, sums = (), []
        while True:
            allowed, *_ = self.next(ids)
            if len(allowed) < 2:
                if not allowed:
                    return ids, sums
                ids = (*ids, *allowed)
                continue
            outcomes = {}
            for output in self.outputs:
                if output[: len(ids)] == ids:
                    key, cut = self._cut(output, len(ids), tokenizer, spans)
                    outcomes[cut] = key
            probs = {cut: np.exp(self.log_prob(cut, len(ids))) for cut in outcomes}
            sums.append(sum(probs.values()))
            groups = {}
            for cut, key in outcomes.items():
                groups[key] = groups.get(key, 0.0) + probs[cut]
            best = max(groups, key=lambda key: groups[key])
            ids = max((c for c in probs if outcomes[c] == best), key=probs.get)

    def _cut(self, output, begin, tokenizer, spans):
        """Which mention an output's next block links, and where that block ends."""
        pointer, inside, first, n = 0, False, None, 0
        for n, token in enumerate(output):
            if n == begin:
                stop = next((e for s, e in spans if s <= pointer < e), None)
            if token == tokenizer.open:
                inside, first = True, pointer
            elif token == tokenizer.end:
                inside = False
                if n >= begin:
                    return (first, pointer), output[: n + 1]
            elif not inside or token not in (tokenizer.close, tokenizer.entity):
                pointer += not inside or not self._titled(output, n, tokenizer)
                if n >= begin and not inside and pointer == stop:
                    return None, output[: n + 1]
        raise AssertionError(output)

    @staticmethod
    def _titled(output, n, tokenizer):
        """Does a token within a link belong to the title?"""
        opened = max(i for i in range(n) if output[i] == tokenizer.open)
        return tokenizer.entity in output[opened:n]


def cases(tokenizer, rng, count, weights=None):
    titles = encode_titles(tokenizer, TITLES)
    for i in range(count):
        text = TEXTS[i % len(TEXTS)]
        tokens = encode_source(tokenizer, text)
        candidates = random_candidates(tokens, rng, int(rng.integers(1, 4)))
        table = build_table(
            tokenizer,
            tokens,
            candidates,
            titles.__getitem__,
            weights or Weights(mention_bias=0.5),
        )
        outputs = legal_outputs(tokenizer, tokens, candidates, titles, True)
        prompt = encode_prompt(tokenizer, "link it", text)
        yield tokens, table, outputs, prompt


def open_bias(tokenizer):
    return lambda ids, token: 0.5 * (token == tokenizer.open)


def ids_of(tokens, table, path):
    last = max(end for _, end, _ in table.mentions)
    return (*table.token[path.edges].tolist(), *tokens.ids[last:].tolist())


DECODERS = {
    "step of 1": functools.partial(step.decode, block=1),
    "step of 3": functools.partial(step.decode, block=3),
    "step": step.decode,
    "tree": tree.decode,
    "tree, whole": functools.partial(tree.decode, vocabulary=True),
    "verify": verify.decode,
}


@pytest.mark.parametrize("name", DECODERS)
def test_greedy_over_legal_outputs(generator, tokenizer, name):
    chunks = list(cases(tokenizer, np.random.default_rng(0), 8))
    paths = DECODERS[name](
        *generator,
        [prompt for _, _, _, prompt in chunks],
        [table for _, table, _, _ in chunks],
        batch=8,
    )
    decided = 0
    for (tokens, table, outputs, prompt), path in zip(chunks, paths, strict=True):
        oracle = Oracle(generator, prompt, outputs, open_bias(tokenizer))
        expected, log_prob = oracle.greedy()
        assert ids_of(tokens, table, path) == expected
        assert sum(path.log_probs) == pytest.approx(log_prob, abs=1e-4)
        decided += np.count_nonzero(path.log_probs)
    assert decided > 8


@pytest.mark.parametrize("scale", [3.0, 6.0])
def test_marginal_over_legal_outputs(tokenizer, scale):
    generator = small_model(tokenizer.size, scale)
    chunks = list(cases(tokenizer, np.random.default_rng(1), 12))
    args = [prompt for *_, prompt in chunks], [table for _, table, *_ in chunks]
    paths = tree.decode(*generator, *args, batch=16, selection="marginal")
    for (tokens, table, outputs, prompt), path in zip(chunks, paths, strict=True):
        oracle = Oracle(generator, prompt, outputs, open_bias(tokenizer))
        spans = merge_spans([mention[:2] for mention in table.mentions])
        expected, sums = oracle.marginal(tokenizer, spans)
        np.testing.assert_allclose(sums, 1, atol=1e-6)
        if path.gap > 1e-4:
            assert ids_of(tokens, table, path) == expected
            assert sum(path.log_probs) == pytest.approx(
                oracle.log_prob(expected, 0), abs=1e-4
            )


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


def random_case(tokenizer, rng):
    """A chunk of random words, with nested and overlapping candidate mentions."""
    words = ["York", "New", "City", "mayor", "in", "the", "1999", "'s", ",", "of"]
    text = " ".join(rng.choice(words, int(rng.integers(1, 14))))
    titles = [
        " ".join(rng.choice(words[:5], int(rng.integers(1, 4)))) for _ in range(12)
    ]
    ids = encode_titles(tokenizer, titles)
    tokens = encode_source(tokenizer, text)
    candidates = {}
    for _ in range(int(rng.integers(1, 7))):
        i = int(rng.integers(len(tokens)))
        j = int(min(len(tokens), i + rng.integers(1, 5)))
        span = int(tokens.starts[i]), int(tokens.ends[j - 1])
        entities = rng.choice(len(ids), int(rng.integers(1, 7)), replace=False)
        candidates[span] = candidate(
            *span, sorted(entities.tolist()), rng, optional=rng.random() < 0.9
        )
    weights = Weights(
        mention_bias=float(rng.normal()),
        prior_weight=float(rng.choice([0, 1])),
        retriever_weight=float(rng.choice([0, 0.5])),
        rest_of_span=bool(rng.random() < 0.7),
    )
    table = build_table(
        tokenizer, tokens, list(candidates.values()), ids.__getitem__, weights
    )
    return encode_prompt(tokenizer, "link it", text), table


def test_all_decoders_give_the_same_answer(tokenizer):
    """On 512 random chunks, but where a decision's gap is below 1e-4."""
    rng = np.random.default_rng(3)
    ties = links = 0
    for scale in (2.0, 8.0):
        generator = small_model(tokenizer.size, scale)
        for _ in range(4):
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
def test_a_block_over_the_limits_takes_several_calls(
    generator, tokenizer, monkeypatch, selection
):
    """Nothing is cut off: the answer is the one of a single call."""
    rng = np.random.default_rng(4)
    prompts, tables = zip(
        *(random_case(tokenizer, rng) for _ in range(24)), strict=True
    )
    run = functools.partial(
        tree.decode, *generator, prompts, tables, batch=32, selection=selection
    )
    expected = run()
    monkeypatch.setattr(tree, "NODES", 4)
    monkeypatch.setattr(tree, "EDGES", (64, 3))
    found = run()
    for a, b in zip(expected, found, strict=True):
        if a.gap > 1e-4:
            assert a.edges == b.edges
            np.testing.assert_allclose(a.log_probs, b.log_probs, atol=1e-5)
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
        (path,) = tree.decode(*generator, [prompt], [table], batch=1)
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
