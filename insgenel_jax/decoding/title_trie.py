"""The titles of a whole knowledge base as one prefix tree, on disk and on a device.

    root 0 --token--> node --token--> node --END--> leaf: an entity

Nodes are numbered breadth first and edge e leads to node 1 + e, so five flat arrays
hold the tree. They are memory-mapped on the host; `jax.device_put(trie)` brings them to
a device, where the jit-able functions below take states and tokens of any batch shape.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from insgenel_jax import artifact
from insgenel_jax.decoding.trie import grow

KIND = "title-trie"
VERSION = 1
MOST = np.iinfo(np.int32).max - 1  # edges that int32 can count
ARRAYS = ("indptr", "token", "root", "ends", "entity")
WIDTH = 256  # edges that `choose` looks at together
NARROW = 64  # edges of a state up to which `choose_from` asks for their logits alone

_static = functools.partial(dataclasses.field, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TitleTrie:
    """The prefix tree of N different titles: E edges over V tokens.

    The edges of node i are indptr[i]:indptr[i + 1], by token. The root is wide: `root`
    has its edge for every token, or -1. `ends` lists the edges that close a title, in
    order, `entity` whose title it is. widest: edges of the widest node below the root.
    longest: edges on the longest path. repeated: titles left out, for their tokens were
    those of an earlier one.
    """

    indptr: Int[Array | np.ndarray, " E+2"]  # int32
    token: Int[Array | np.ndarray, " E"]  # uint16 where the vocabulary fits, or int32
    root: Int[Array | np.ndarray, " V"]  # int32
    ends: Int[Array | np.ndarray, " N"]  # int32
    entity: Int[Array | np.ndarray, " N"]  # int32
    widest: int = _static()
    longest: int = _static()
    repeated: int = _static()


def build_title_trie(
    ids: Int[np.ndarray, " T"],
    lengths: Int[np.ndarray, " N"],
    vocabulary: int,
    end: int,
) -> TitleTrie:
    """Build the tree of N titles: entity i has the next lengths[i] of the tokens.

    Each title is closed by `end`, so one may be a prefix of another. Of titles with
    equal tokens the first is kept. Raises ValueError for no titles, a title of no
    tokens, and a title that holds `end` or a token outside the vocabulary.
    """
    ids, lengths = np.asarray(ids), np.asarray(lengths, np.int64)
    _check_titles(ids, lengths, vocabulary, end)
    titles = np.arange(len(lengths))
    closed = np.full(len(ids) + len(lengths), end, np.int32)
    closed[np.arange(len(ids)) + np.repeat(titles, lengths)] = ids
    node = np.zeros(len(lengths), np.int64)
    degrees, tokens = [], []
    parents = 1  # nodes of the level above
    first = 0  # the first of them
    narrow = np.uint16 if vocabulary <= 1 << 16 else np.int32
    for parent, token, _, _ in grow(closed, lengths + 1, node, 1):
        degrees.append(np.bincount(parent - first, minlength=parents))
        tokens.append(token.astype(narrow))
        first, parents = first + parents, len(token)
    edges = sum(map(len, tokens))
    if edges > MOST:
        raise ValueError(f"expected at most {MOST} edges, found {edges}; split titles")
    indptr = np.zeros(edges + 2, np.int32)
    # the nodes of the last level are leaves
    np.cumsum(np.concatenate(degrees), out=indptr[1 : edges + 2 - parents])
    indptr[edges + 2 - parents :] = edges
    root = np.full(vocabulary, -1, np.int32)
    root[tokens[0]] = np.arange(len(tokens[0]))
    leaves, entity = np.unique(node, return_index=True)
    return TitleTrie(
        indptr=indptr,
        token=np.concatenate(tokens),
        root=root,
        ends=(leaves - 1).astype(np.int32),
        entity=entity.astype(np.int32),
        widest=max(int(degree.max()) for degree in degrees[1:]),
        longest=len(tokens),
        repeated=len(lengths) - len(leaves),
    )


def _check_titles(ids, lengths, vocabulary: int, end: int) -> None:
    if not len(lengths):
        raise ValueError("expected at least one title, found none")
    if (lengths < 1).any() or lengths.sum() != len(ids):
        empty = np.flatnonzero(lengths < 1)[:5].tolist()
        raise ValueError(
            f"expected titles of at least one token, {len(ids)} in all; found lengths "
            f"that sum to {lengths.sum()}, titles without tokens: {empty}"
        )
    if not 0 <= end < vocabulary:
        raise ValueError(f"expected end in [0, {vocabulary}), found {end}")
    wrong = np.flatnonzero((ids < 0) | (ids >= vocabulary) | (ids == end))
    if len(wrong):
        title = int(np.searchsorted(np.cumsum(lengths), wrong[0], side="right"))
        raise ValueError(
            f"title {title}: expected tokens in [0, {vocabulary}) other than END "
            f"({end}), found {ids[wrong[0]]}; {len(wrong)} tokens like that in all"
        )


def save_title_trie(
    trie: TitleTrie, path: str | os.PathLike, made_from: Mapping[str, str]
) -> None:
    """Write the tree's directory. made_from: identities of knowledge base, tokenizer"""
    with artifact.create(path, KIND, VERSION) as draft:
        draft.made_from.update(made_from)
        draft.counts.update(
            titles=len(trie.ends),
            edges=len(trie.token),
            tokens=len(trie.root),
            widest=trie.widest,
            longest=trie.longest,
            repeated=trie.repeated,
        )
        for name in ARRAYS:
            np.save(draft.path / f"{name}.npy", getattr(trie, name))


def open_title_trie(
    path: str | os.PathLike, made_from: Mapping[str, str], *, verify: bool = False
) -> TitleTrie:
    """Open a tree's directory, memory-mapped.

    verify: compare the files' hashes too. Raises artifact.ArtifactError where the tree
    was made from other parts than `made_from` or is damaged.
    """
    path = Path(path)
    manifest = artifact.check(path, KIND, VERSION, verify=verify)
    for role in sorted(manifest.made_from.keys() | made_from.keys()):
        found, expected = manifest.made_from.get(role), made_from.get(role)
        if found != expected:
            raise artifact.ArtifactError(
                f"{path}: made from the {role} {found}, expected {expected}; build the "
                "title trie again with these parts"
            )
    try:
        arrays = {
            name: np.asarray(np.load(path / f"{name}.npy", mmap_mode="r"))
            for name in ARRAYS
        }
        counts = dict(manifest.counts)
        sizes = counts.pop("titles"), counts.pop("edges"), counts.pop("tokens")
        trie = TitleTrie(**arrays, **counts)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise artifact.ArtifactError(
            f"{path}: a file of the title trie cannot be read ({error}); make it again"
        ) from error
    found = len(trie.ends), len(trie.token), len(trie.root)
    rows = len(trie.entity), len(trie.indptr) - 2, int(trie.indptr[-1])
    if found != sizes or rows != (sizes[0], sizes[1], sizes[1]):
        raise artifact.ArtifactError(
            f"{path}: the files of the title trie do not fit each other: expected "
            f"titles, edges, tokens {sizes}, found {found}, rows {rows}; make it again"
        )
    return trie


def children(trie: TitleTrie, node: int) -> tuple[np.ndarray, range]:
    """On the host: the tokens of a node's edges, ascending, and the nodes behind."""
    row = range(trie.indptr[node], trie.indptr[node + 1])
    return trie.token[row.start : row.stop], range(row.start + 1, row.stop + 1)


def walk(trie: TitleTrie, tokens: Sequence[int]) -> int | None:
    """On the host: the entity whose title these tokens are (without END), or None."""
    node, end = 0, int(trie.token[trie.ends[0]])
    for token in [*tokens, end]:
        allowed, nodes = children(trie, node)
        i = int(np.searchsorted(allowed, token))
        if i == len(allowed) or allowed[i] != token:
            return None
        node = nodes[i]
    return find_leaf(trie, node - 1)


def find_leaf(trie: TitleTrie, edge: int) -> int | None:
    """On the host: the entity whose title ends with an edge, or None."""
    i = int(np.searchsorted(trie.ends, edge))
    if i == len(trie.ends) or trie.ends[i] != edge:
        return None
    return int(trie.entity[i])


def edges_of(trie: TitleTrie, state: Int[Array, "*B"]) -> tuple[Array, Array]:
    """The edges [low, high) of each state; none for -1."""
    return trie.indptr[jnp.maximum(state, 0)], trie.indptr[state + 1]


def step(
    trie: TitleTrie, state: Int[Array, "*B"], token: Int[Array, "*B"]
) -> Int[Array, "*B"]:
    """The state behind a token; -1 where it is not allowed, and from -1 on."""
    low, high = edges_of(trie, state)
    high = jnp.where(state == 0, low, high)  # not in the root's wide row
    edge = _find(trie.token, low, high, token, trie.widest.bit_length())
    edge = jnp.where(state == 0, trie.root[token], edge)
    return jnp.where(edge < 0, -1, 1 + edge)


def allowed(
    trie: TitleTrie, state: Int[Array, "*B"], width: int, skip: int = 0
) -> tuple[Int[Array, "*B W"], Int[Array, "*B W"], Bool[Array, "*B W"]]:
    """`width` edges of each state, behind its first `skip` ones.

    Their tokens, the states behind, and which of them there are; tokens ascend. A node
    may have more: go on with `skip` until none is left.
    """
    low, high = edges_of(trie, state)
    edges = (low + skip)[..., None] + jnp.arange(width)
    return trie.token[edges].astype(jnp.int32), 1 + edges, edges < high[..., None]


def choose(
    trie: TitleTrie, state: Int[Array, " B"], logits: Float[Array, "B V"]
) -> tuple[Int[Array, " B"], Float[Array, " B"], Float[Array, " B"]]:
    """The state behind the best allowed token (ties: the smallest), ln of its p, lead.

    p is the softmax over all allowed tokens, however many; the lead is that of the best
    logit over the second, inf where there is none. Where no token is allowed, the state
    stays, with ln p = 0.
    """
    at_root = state == 0
    logits = logits[:, : len(trie.root)]  # a model may have more rows than tokens

    def take_root(best: _Best) -> _Best:
        values = jnp.where((trie.root >= 0) & at_root[:, None], logits, -jnp.inf)
        return _take(best, values, lambda at: 1 + trie.root[at])

    def take_next(carry):
        skip, best = carry
        token_ids, states, mask = allowed(trie, state, WIDTH, skip)
        values = jnp.take_along_axis(logits, token_ids, axis=1, mode="clip")
        values = jnp.where(mask & ~at_root[:, None], values, -jnp.inf)
        return skip + WIDTH, _take(best, values, _pick(states))

    low, high = edges_of(trie, state)
    width = jnp.where(at_root, 0, high - low).max()
    best = jax.lax.cond(at_root.any(), take_root, lambda best: best, _none(state))
    _, best = jax.lax.while_loop(lambda carry: carry[0] < width, take_next, (0, best))
    return _finish(best)


def choose_from(
    trie: TitleTrie,
    state: Int[Array, " B"],
    unembed: Callable[[Array | None], Array],
    width: int = NARROW,
) -> tuple[Int[Array, " B"], Float[Array, " B"], Float[Array, " B"]]:
    """As `choose`, of logits that are asked for as they are needed.

    unembed: token_ids [B W] -> their logits [B W]; None -> those of the vocabulary,
    [B V], which takes place only where a state has more than `width` edges.
    """

    def take_few():
        token_ids, states, mask = allowed(trie, state, width)
        values = jnp.where(mask, unembed(token_ids), -jnp.inf)
        return _finish(_take(_none(state), values, _pick(states)))

    low, high = edges_of(trie, state)
    few = (high - low <= width).all()
    return jax.lax.cond(few, take_few, lambda: choose(trie, state, unembed(None)))


class _Best(NamedTuple):
    """Of the edges seen so far, [B] each: the best one's state, its logit, the second
    best logit, and the sum of exp(logit - best logit)."""

    state: Array
    top: Array
    second: Array
    total: Array


def _none(state: Int[Array, " B"]) -> _Best:
    nothing = jnp.full(len(state), -jnp.inf)
    return _Best(state, nothing, nothing, jnp.zeros(len(state)))


def _take(best: _Best, values: Float[Array, "B W"], states: Callable) -> _Best:
    """Take in further edges: their logits (-inf: no edge), column -> state behind."""
    at = jnp.argmax(values, -1)
    value = values[jnp.arange(len(at)), at]
    others = jnp.where(jnp.arange(values.shape[1]) == at[:, None], -jnp.inf, values)
    top = jnp.maximum(best.top, value)
    second = jnp.maximum(best.second, others.max(-1))
    # finite even where nothing is allowed so far, for a sum of 0
    base = jnp.where(jnp.isfinite(top), top, 0.0)
    total = jnp.exp(values - base[:, None]).sum(-1)
    return _Best(
        jnp.where(value > best.top, states(at), best.state),
        top,
        jnp.maximum(second, jnp.minimum(best.top, value)),
        best.total * jnp.exp(best.top - base) + total,
    )


def _pick(states: Int[Array, "B W"]) -> Callable:
    return lambda at: states[jnp.arange(len(at)), at]


def _finish(best: _Best) -> tuple[Array, Array, Array]:
    log_prob = jnp.where(best.total > 0, -jnp.log(best.total), 0.0)
    alone = jnp.isneginf(best.second)
    return best.state, log_prob, jnp.where(alone, jnp.inf, best.top - best.second)


def find_entity(trie: TitleTrie, state: Int[Array, "*B"]) -> Int[Array, "*B"]:
    """The entity of a state behind END, or -1."""
    low = jnp.zeros_like(state)
    high = low + len(trie.ends)
    i = _find(trie.ends, low, high, state - 1, len(trie.ends).bit_length())
    return jnp.where(i < 0, -1, trie.entity[i])


def _find(values: Array, low: Array, high: Array, wanted: Array, halvings: int):
    """Where `wanted` is among the ascending values[low:high], or -1."""
    stop = high

    def halve(_, bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        right = (low < high) & (values[middle] < wanted)
        left = (low < high) & ~right
        return jnp.where(right, middle + 1, low), jnp.where(left, middle, high)

    low, _ = jax.lax.fori_loop(0, halvings, halve, (low, high))
    return jnp.where((low < stop) & (values[low] == wanted), low, -1)
