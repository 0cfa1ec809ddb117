"""Random chunks with candidate mentions, and every output that is legal for them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from insgenel_jax.decoding.build import build_table
from insgenel_jax.decoding.chunk import Chunk
from insgenel_jax.decoding.mentions import CandidateMention, merge_spans
from insgenel_jax.decoding.table import Weights
from insgenel_jax.text.linked_text import (
    Tokens,
    encode_prompt,
    encode_source,
    encode_titles,
)

TITLES = ["York", "New York", "New York City", "New York (state)", "City", "York City"]
TEXTS = ["New York City", "(York) New York's 1999", "in York", "York's mayor: York"]


def candidate(start, end, entities, rng, optional=True):
    n = len(entities)
    prior, retriever = (np.log(rng.dirichlet(np.ones(n))) for _ in range(2))
    seen = int(rng.integers(0, 30))
    return CandidateMention(
        start,
        end,
        np.array(entities, np.int32),
        prior,
        retriever,
        optional,
        linked=int(rng.integers(0, seen + 1)),
        seen=seen,
    )


def random_candidates(tokens: Tokens, rng, count):
    """Random, overlapping candidate mentions on token boundaries."""
    candidates = {}
    for _ in range(count):
        i = int(rng.integers(len(tokens)))
        j = int(min(len(tokens), i + rng.integers(1, 4)))
        span = int(tokens.starts[i]), int(tokens.ends[j - 1])
        entities = rng.choice(len(TITLES), int(rng.integers(1, 4)), replace=False)
        candidates[span] = candidate(*span, sorted(entities.tolist()), rng)
    return list(candidates.values())


def legal_outputs(tokenizer, tokens, candidates, titles, rest_of_span):
    """Every legal output, straight from section 6 of the design: {ids: links}."""
    source = tokens.ids.tolist()
    starts, ends = tokens.starts.tolist(), tokens.ends.tolist()
    spans = [(starts.index(c.start), ends.index(c.end) + 1, c) for c in candidates]
    merged = merge_spans([span[:2] for span in spans])

    def outputs(p):
        if p == len(source):
            yield (), ()
            return
        here = [(end, c) for start, end, c in spans if start == p]
        if all(c.optional for _, c in here):
            for ids, links in outputs(p + 1):
                yield (source[p], *ids), links
        for end, c in here:
            resume = end
            if not rest_of_span:
                resume = next(b for a, b in merged if a <= p < b)
            for entity in c.entities.tolist():
                link = (
                    tokenizer.open,
                    *source[p:end],
                    tokenizer.close,
                    tokenizer.entity,
                    *titles[entity],
                    tokenizer.end,
                )
                for ids, links in outputs(resume):
                    yield (
                        (*link, *source[end:resume], *ids),
                        ((p, end, entity), *links),
                    )

    return dict(outputs(0))


class Case(NamedTuple):
    """A chunk for brute force. outputs: the legal ones; bias: (ids, token) -> float."""

    chunk: Chunk
    tokens: Tokens
    outputs: dict
    bias: Callable
    weights: Weights


def make_case(tokenizer, text, candidates, weights):
    """The case of a text over TITLES."""
    titles = encode_titles(tokenizer, TITLES)
    tokens = encode_source(tokenizer, text)
    return Case(
        make_chunk(tokenizer, text, candidates, titles, weights),
        tokens,
        legal_outputs(tokenizer, tokens, candidates, titles, weights.rest_of_span),
        spelled_bias(tokenizer, tokens, candidates, titles, weights),
        weights,
    )


def make_chunk(tokenizer, text, candidates, titles, weights):
    """A text ready to decode. titles: the title tokens of each entity."""
    tokens = encode_source(tokenizer, text)
    return Chunk(
        encode_prompt(tokenizer, "link it", text),
        [*tokens.ids.tolist(), tokenizer.eos],
        build_table(tokenizer, tokens, candidates, titles.__getitem__, weights),
    )


def cases(tokenizer, rng, count, weights=None):
    """Cases with one to three optional mentions."""
    for i in range(count):
        text = TEXTS[i % len(TEXTS)]
        tokens = encode_source(tokenizer, text)
        candidates = random_candidates(tokens, rng, int(rng.integers(1, 4)))
        yield make_case(
            tokenizer, text, candidates, weights or Weights(mention_bias=0.5)
        )


def targets_of(case, tokenizer):
    """Every legal output of a case, with EOS."""
    return {(*ids, tokenizer.eos) for ids in case.outputs}


def chunks_with_targets(tokenizer, seed, count, weights=None):
    """Chunks and the legal targets of each. Without `weights` there are no biases."""
    rng = np.random.default_rng(seed)
    found = list(cases(tokenizer, rng, count, weights or Weights()))
    return [case.chunk for case in found], [
        targets_of(case, tokenizer) for case in found
    ]


def target_of(chunk, path):
    """The tokens up to EOS that a path stands for."""
    last = len(chunk.table.span_end) - 1
    return (*chunk.table.token[path.edges].tolist(), *chunk.source[last:])


def varied_case(tokenizer, rng):
    """Random weights and biases; optional, given, nested and overlapping mentions."""
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
        length_bias=float(rng.normal()),
        link_weight=float(rng.choice([0, -0.5, 1])),
        rest_of_span=bool(rng.random() < 0.5),
    )
    return make_case(tokenizer, text, list(candidates.values()), weights)


def spelled_bias(tokenizer, tokens, candidates, titles, weights):
    """bias(ids, token), straight from section 6 of the design.

    That of title edges comes from a dict of all title prefixes. In dead ends OPEN has
    mention_bias alone, and other tokens have none.
    """
    starts, ends = tokens.starts.tolist(), tokens.ends.tolist()
    odds = {}  # mention -> s
    below = {}  # (mention, title prefix) -> weights of the candidates below
    for c in candidates:
        mention = starts.index(c.start), ends.index(c.end) + 1
        probability = (c.linked + 1 / 2) / (c.seen + 1)
        odds[mention] = np.log(probability / (1 - probability))
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
        mention, title = read_place(tokenizer, ids)
        start, here = mention
        if token == tokenizer.open:
            best = max((s for (p, _), s in odds.items() if p == here), default=0.0)
            return weights.mention_bias + weights.link_weight * best
        if title is None:
            longer = [s for (p, q), s in odds.items() if p == start and q > here]
            ends = token in (tokenizer.close, tokenizer.entity)
            if mention not in odds or not longer or ends:
                return 0.0
            gain = max(longer) - odds[mention]
            return weights.length_bias + weights.link_weight * gain
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


def random_chunk(tokenizer, rng):
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
        length_bias=float(rng.normal()),
        link_weight=float(rng.choice([0, 1])),
        rest_of_span=bool(rng.random() < 0.7),
    )
    return make_chunk(tokenizer, text, list(candidates.values()), ids, weights)
