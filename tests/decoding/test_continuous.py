"""Continuous batching: what is beside a row changes nothing; no seat stays empty."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax.decoding import continuous, forward, speculative, tree
from insgenel_jax.decoding.continuous import Usage
from insgenel_jax.decoding.options import Options
from insgenel_jax.decoding.packing import (
    PAGE,
    QUERIES,
    Pool,
    Request,
    Seat,
    pack,
    packed_length,
)
from insgenel_jax.models.tiles import Tiles
from tests.helpers.marks import slow
from tests.helpers.random_chunks import random_chunk
from tests.helpers.small_models import small_model

INSTRUCTION = list(range(10, 50))  # 40 tokens: two pages and a half


@pytest.fixture(scope="module")
def generator(tokenizer):
    return small_model(tokenizer.size, 3.0)


@pytest.fixture(scope="module")
def chunks(tokenizer):
    """Random ones, whose prompts begin with the same 41 tokens."""
    rng = np.random.default_rng(0)
    made = [random_chunk(tokenizer, rng) for _ in range(20)]
    return [
        dataclasses.replace(c, prompt=[c.prompt[0], *INSTRUCTION, *c.prompt[1:]])
        for c in made
    ]


def decode(decoder, generator, chunks, batch, **seats):
    return decoder.decode(
        *generator, iter(chunks), batch=batch, options=Options(), **seats
    )


@pytest.mark.parametrize("decoder", [tree, slow(speculative)])
def test_what_is_beside_a_row_changes_nothing(generator, chunks, monkeypatch, decoder):
    """Nor in which order chunks come, how many seats and tokens there are, or that the
    keys and values of the instruction are another row's."""
    alone = [decode(decoder, generator, [chunk], 1)[0] for chunk in chunks]
    assert sum(path.calls > 1 for path in alone) > 5
    rng = np.random.default_rng(1)
    for batch, tokens, slots in ((4, 128, None), (7, 16, None), (4, 128, 300)):
        monkeypatch.setattr(continuous, "TOKENS", tokens)
        order = rng.permutation(len(chunks))
        found = decode(
            decoder, generator, [chunks[i] for i in order], batch, slots=slots
        )
        for i, path in zip(order, found, strict=True):
            assert path.margin < 1e-4 or path.edges == alone[i].edges
            np.testing.assert_allclose(path.log_probs, alone[i].log_probs, atol=1e-5)
            assert path.calls == alone[i].calls
            assert alone[i].tokens - path.tokens in (0, 32)


def test_seats_are_taken_again_at_once(generator, chunks):
    """All seats have a row until the last chunk has one; the chunks come as needed."""
    usage, came = Usage(), []

    def coming():
        for chunk in chunks * 3:
            came.append(usage["calls"])
            yield chunk

    paths = decode(tree, generator, coming(), 4, usage=usage)
    assert len(paths) == len(came) == 60
    assert usage.rows_live > 0.9
    assert usage["rows"] == sum(path.calls for path in paths)
    assert usage["tokens"] == sum(path.tokens for path in paths)
    assert came[3] == 0 and came[7] == 1 and came[-1] > usage["calls"] / 2
    assert usage["host"] and usage["overlapped"] and usage["waited"]
    assert 0 < usage.host_share < 1


def test_the_instruction_is_run_once(generator, chunks):
    """Two whole pages of it, for all rows that the device ever runs."""
    alone = [decode(tree, generator, [chunk], 1)[0].tokens for chunk in chunks]
    usage = Usage()
    decode(tree, generator, chunks, 4, usage=usage)
    rows = sum(tokens > 0 for tokens in alone)
    assert rows > 15
    assert sum(alone) - usage["tokens"] == 2 * PAGE * (rows - 1)


@pytest.mark.slow
def test_pages_are_used_again(generator, chunks, monkeypatch):
    caches = []

    class Watched(forward.Cache):
        def __init__(self, packs):
            super().__init__(packs)
            caches.append(self)

    monkeypatch.setattr(continuous, "Cache", Watched)
    for some in (chunks, chunks * 3):
        decode(tree, generator, some, 4)
    few, many = (cache.pools[0].made for cache in caches)
    assert many <= few + 4
    assert many * PAGE <= 2 + 4 * (96 + 128)  # the instruction's, and four rows'


def test_a_pool_gives_what_it_was_given_back():
    pool = Pool()
    assert [pool.take() for _ in range(4)] == [0, 1, 2, 3]
    pool.give_back([2, 0])
    assert [pool.take() for _ in range(3)] == [0, 2, 4]
    assert pool.made == 5


def test_few_static_lengths():
    lengths = {packed_length(n) for n in range(1, 2049)}
    assert len(lengths) == 27
    assert all(
        n <= packed_length(n) <= max(16, n + 8, 1.25 * n) for n in range(1, 2049)
    )


def test_a_packed_call_sees_what_each_row_sees():
    """The mask and the places of two packs, token by token, against brute force."""
    rng = np.random.default_rng(2)
    pools, asked = [Pool(), Pool()], []
    for d, length, n in ((0, 20, 70), (1, 0, 33), (0, 3, 5), (0, 40, 1)):
        ends = [int(rng.integers(i + 1, n + 1)) for i in range(n)]
        moved = [1] if length else []
        pages = [pools[d].take() for _ in range(-(-(length + n) // PAGE))]
        r = Request(
            length, rng.integers(0, 99, n).tolist(), range(n), ends, [n - 1], [7], moved
        )
        asked.append((Seat(d, pages[::-1]), r))
    slots = 512
    packed = pack(asked, 2, slots)
    inputs = packed.inputs
    seen = np.asarray(forward.tree_mask(inputs))
    queries = np.minimum(
        inputs.begin[..., None] + np.arange(QUERIES), inputs.count[..., None] - 1
    )
    tiles = Tiles(
        inputs.pages, inputs.first[..., None] + queries, seen, inputs.place, PAGE
    )
    numbers = np.broadcast_to(np.arange(slots), (2, slots))
    keys = np.asarray(tiles.keys(jnp.asarray(numbers)))
    back = np.asarray(tiles.packed(tiles.queries(jnp.asarray(inputs.tokens))))
    firsts = [0, 0]
    for (seat, r), (d, edges) in zip(asked, packed.edges, strict=True):
        own = [page * PAGE + i for page in seat.pages for i in range(PAGE)]
        n = len(r.tokens)
        for j in range(n):
            token = firsts[d] + j
            assert inputs.tokens[d, token] == back[d, token] == r.tokens[j]
            assert inputs.positions[d, token] == r.length + j
            assert inputs.slots[d, token] == own[r.length + j]
            tile, query = divmod(int(inputs.place[d, token]), QUERIES)
            visible = keys[d, tile][seen[d, tile, query]].tolist()
            new = [r.length + i for i in range(j + 1) if j < r.ends[i]]
            assert visible == [own[i] for i in [*range(r.length), *new]]
        assert inputs.at[d, edges].tolist() == [firsts[d] + n - 1]
        firsts[d] += n
    assert inputs.moves[0, 0, 0] == asked[0][0].pages[0] * PAGE + 1
    assert (inputs.slots[1, firsts[1] :] == slots).all()
