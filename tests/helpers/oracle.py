"""Small models and random chunks, and what brute force says of them."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from insgenel_jax import models
from insgenel_jax.decoding.forward import Model
from insgenel_jax.decoding.table import (
    Table,
    Weights,
    build_table,
)
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.text.linked_text import (
    Tokens,
    encode_prompt,
    encode_source,
    encode_titles,
)
from tests.decoding.test_table import (
    TITLES,
    candidate,
    legal_outputs,
    random_candidates,
)

TEXTS = ["New York City", "(York) New York's 1999", "in York", "York's mayor: York"]
LENGTH = 96  # of the oracle's sequences
AHEAD = 16  # of them that it runs at once


def small_config(vocabulary, family):
    return ModelConfig(
        family=family,
        vocabulary=vocabulary,
        dim=32,
        layers=2,
        heads=4,
        kv_heads=2 if family == "llama" else None,
        ffn=64,
        max_positions=512,
    )


@functools.cache  # the same functions for all parameters, so that all share programs
def small_functions(config):
    module = models.build(config)
    return Model(
        forward=lambda p, *args: module.apply({"params": p}, *args),
        unembed=functools.partial(models.unembed, config),
        init_cache=functools.partial(models.init_cache, config),
        move_slots=models.move_slots,
    )


@functools.cache
def small_model(vocabulary, scale, family="llama", seed=0):
    """Random weights; a larger scale makes decisions clearer."""
    config = small_config(vocabulary, family)
    params = models.init_params(config, jax.random.key(seed))
    return small_functions(config), jax.tree.map(lambda p: p * scale, params)


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


@functools.cache
def whole_batch(model):
    """`whole` of AHEAD sequences."""
    return jax.jit(jax.vmap(whole(model), in_axes=(None, 0, 0)))


class Oracle:
    """p(next token | what stands before it) over the legal outputs of a chunk."""

    def __init__(self, generator, prompt, outputs, bias):
        self.model, self.params = generator
        self.prompt, self.outputs, self.bias = prompt, outputs, bias
        self.choices = {}  # what stands before -> the tokens allowed next
        for output in outputs:
            for n, token in enumerate(output):
                self.choices.setdefault(output[:n], set()).add(token)
        self.known = {}

    def next(self, ids):
        """Allowed tokens, ascending, and their ln p and logits with bias."""
        if ids not in self.known:
            self._learn(ids)
        return self.known[ids]

    def _learn(self, ids):
        """Run a prefix, together with decisions below it, which are asked for next."""
        self.known[ids] = self._among(ids, None)
        if len(self.choices.get(ids, ())) < 2:
            return
        below = [
            prefix
            for prefix, allowed in self.choices.items()
            if len(allowed) > 1 and prefix[: len(ids)] == ids
        ]
        below = sorted(below, key=len)[:AHEAD]
        tokens, lengths = np.zeros((AHEAD, LENGTH), np.int32), np.ones(AHEAD, np.int32)
        for row, prefix in enumerate(below):
            sequence = [*self.prompt, *prefix]
            tokens[row, : len(sequence)], lengths[row] = sequence, len(sequence)
        found = whole_batch(self.model)(self.params, tokens, lengths)
        for prefix, logits in zip(below, np.asarray(found, np.float64), strict=False):
            self.known[prefix] = self._among(prefix, logits)

    def _among(self, ids, found):
        """What `next` says; found: logits over the vocabulary, none where forced."""
        allowed = sorted(self.choices.get(ids, ()))
        logits = np.zeros(len(allowed))
        if found is not None:
            logits = found[allowed] + [self.bias(ids, token) for token in allowed]
        log_probs = logits - np.log(np.exp(logits - logits.max(initial=0)).sum() or 1)
        log_probs -= logits.max(initial=0)
        return allowed, log_probs, logits

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


class Case(NamedTuple):
    """A chunk for brute force. outputs: the legal ones; bias: (ids, token) -> float."""

    tokens: Tokens
    table: Table
    outputs: dict
    prompt: list[int]
    bias: Callable
    weights: Weights


def varied_case(tokenizer, rng):
    """Random weights and biases; optional, given, nested and overlapping mentions."""
    titles = encode_titles(tokenizer, TITLES)
    text = TEXTS[int(rng.integers(len(TEXTS)))]
    tokens = encode_source(tokenizer, text)
    candidates = {}
    i = int(rng.integers(len(tokens)))
    for _ in range(int(rng.integers(1, 5))):
        j = int(min(len(tokens), i + rng.integers(1, 4)))
        span = int(tokens.starts[i]), int(tokens.ends[j - 1])
        entities = rng.choice(len(TITLES), int(rng.integers(1, 6)), replace=False)
        candidates[span] = candidate(
            *span, sorted(entities.tolist()), rng, optional=rng.random() < 0.75
        )
        # the next one close by, so that spans merge
        i = int(np.clip(i + rng.integers(-2, 3), 0, len(tokens) - 1))
    weights = Weights(
        mention_bias=float(rng.normal()),
        prior_weight=float(rng.choice([0, 0.5, 1])),
        retriever_weight=float(rng.choice([0, 0.5, 2])),
        rest_of_span=bool(rng.random() < 0.5),
    )
    candidates = list(candidates.values())
    table = build_table(tokenizer, tokens, candidates, titles.__getitem__, weights)
    outputs = legal_outputs(tokenizer, tokens, candidates, titles, weights.rest_of_span)
    bias = spelled_bias(tokenizer, tokens, candidates, titles, weights)
    prompt = encode_prompt(tokenizer, "link it", text)
    return Case(tokens, table, outputs, prompt, bias, weights)


def spelled_bias(tokenizer, tokens, candidates, titles, weights):
    """bias(ids, token) of DESIGN.md section 6, from a dict of all title prefixes."""
    starts, ends = tokens.starts.tolist(), tokens.ends.tolist()
    below = {}  # (mention, title prefix) -> weights of the candidates below
    for c in candidates:
        mention = starts.index(c.start), ends.index(c.end) + 1
        for entity, prior, retriever in zip(
            c.entities.tolist(), c.log_prior, c.log_retriever, strict=True
        ):
            title = (*titles[entity], tokenizer.end)
            weight = np.exp(
                weights.prior_weight * prior + weights.retriever_weight * retriever
            )
            for n in range(len(title) + 1):
                below.setdefault((mention, title[:n]), []).append(weight)

    def bias(ids, token):
        if token == tokenizer.open:
            return weights.mention_bias
        mention, title = read_place(tokenizer, ids)
        if title is None:
            return 0.0
        child, parent = below[mention, (*title, token)], below[mention, title]
        return float(np.log(np.mean(child) / np.mean(parent)))

    return bias


def read_place(tokenizer, ids):
    """Where ids end: (source tokens before the open link, before here), title so far.

    None for what there is not: an open link, a title that has begun.
    """
    pointer, opened, title = 0, None, None
    for token in ids:
        if token == tokenizer.open:
            opened = pointer
        elif token == tokenizer.entity:
            title = ()
        elif token == tokenizer.end:
            opened = title = None
        elif title is not None:
            title = (*title, token)
        elif token != tokenizer.close:
            pointer += 1
    return (opened, pointer), title


def ids_of(tokens, table, path):
    last = max(end for _, end, _ in table.mentions)
    return (*table.token[path.edges].tolist(), *tokens.ids[last:].tolist())


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


class Search:
    """Beam search as Hugging Face's, over given targets, in plain Python."""

    def __init__(self, log_probs, targets, dead=(), bias=lambda ids, token: 0.0):
        self.log_probs, self.bias = log_probs, bias
        self.targets, self.dead = targets, dead
        self.calls = self.tokens = 0  # of the prompt: one call, no tokens

    def continuations(self, ids, score):
        n = len(ids)
        ways = (t for t in (*self.targets, *self.dead) if t[:n] == ids and len(t) > n)
        for token in sorted({t[n] for t in ways}):
            gain = self.log_probs(ids)[token] + self.bias(ids, token)
            yield score + gain, (*ids, token)

    def find(self, beams):
        """-> (mean of ln p, target) of the best that finishes; (-inf, ()) if none does."""
        running, finished = [(0.0, ())], []
        while running:
            self.calls += 1
            self.tokens += len(running) if self.calls > 1 else 0
            found = [
                c for score, ids in running for c in self.continuations(ids, score)
            ]
            found = sorted(found, key=lambda c: -c[0])[: 2 * beams]
            ended = [(s / len(ids), ids) for s, ids in found[:beams] if self.ends(ids)]
            finished = sorted([*finished, *ended], reverse=True)[:beams]
            running = [c for c in found if not self.ends(c[1])][:beams]
            if running and len(finished) == beams:
                score, ids = running[0]
                if score / len(ids) <= finished[-1][0]:
                    break
        return finished[0] if finished else (-np.inf, ())

    def ends(self, ids):
        return ids in self.targets
