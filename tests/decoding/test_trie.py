"""The arrays of a forest and of the title trie against tries of nested dicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insgenel_jax import artifact
from insgenel_jax.decoding import title_choice, title_trie
from insgenel_jax.decoding.title_trie import build_title_trie, children
from insgenel_jax.decoding.trie import build_forest
from tests.helpers.tries import find_title

END, VOCABULARY = 3, 50
MADE_FROM = {"knowledge-base": "a", "tokenizer": "b"}

unhurried = settings(deadline=None)  # other jobs on the machine slow single examples

# few tokens and short titles, so that some share a prefix, some are one, some are equal
TITLE = st.lists(st.sampled_from([0, 1, 2, 7, 49]), min_size=1, max_size=6)
TITLES = st.lists(TITLE, min_size=1, max_size=30)


def nest(titles):
    """The oracle: a dict from token to child, from END to the first such title."""
    root = {}
    for i, title in enumerate(titles):
        node = root
        for token in title:
            node = node.setdefault(token, {})
        node.setdefault(END, i)
    return root


def build(titles, vocabulary=VOCABULARY):
    ids = np.array([token for title in titles for token in title], np.int32)
    lengths = np.array([len(title) for title in titles])
    return build_title_trie(ids, lengths, vocabulary, END)


def as_nested(trie, node=0):
    """The title trie as nested dicts, through `children` alone."""
    tokens, nodes = children(trie, node)
    assert tokens.tolist() == sorted(set(tokens.tolist()))
    leaves = dict(zip((1 + trie.ends).tolist(), trie.entity.tolist(), strict=True))
    return {
        token: leaves[child] if token == END else as_nested(trie, child)
        for token, child in zip(tokens.tolist(), nodes, strict=True)
    }


def count_edges(nested):
    """How many edges a nested trie has, and how many its longest path has."""
    if not isinstance(nested, dict):
        return 0, 0
    edges, depths = zip(*map(count_edges, nested.values()), strict=True)
    return len(nested) + sum(edges), 1 + max(depths)


@unhurried
@given(st.lists(st.tuples(st.integers(0, 2), TITLE), max_size=30))
def test_forest_is_the_dict_tries(rows):
    """At each node: tokens, sum of weights, number of sequences, the one that ends."""
    groups = np.array([group for group, _ in rows], np.int64)
    titles = [[*title, END] for _, title in rows]
    weights = np.arange(1.0, len(rows) + 1)
    forest = build_forest(titles, groups, weights, 3)

    def check(node, prefix, group):
        below = [
            i
            for i, title in enumerate(titles)
            if groups[i] == group and title[: len(prefix)] == prefix
        ]
        assert forest.size[node] == len(below)
        assert forest.mass[node] == weights[below].sum()
        row = slice(forest.indptr[node], forest.indptr[node + 1])
        longer = [i for i in below if len(titles[i]) > len(prefix)]
        expected = sorted({titles[i][len(prefix)] for i in longer})
        assert forest.token[row].tolist() == expected
        if node >= 3:
            ending = [i for i in below if i not in longer]
            assert forest.leaf[node - 3] == (ending[0] if ending else -1)
        for edge in range(row.start, row.stop):
            check(3 + edge, [*prefix, int(forest.token[edge])], group)

    for group in range(3):
        check(group, [], group)
    assert len(forest.indptr) == 3 + len(forest.token) + 1


@unhurried
@given(TITLES)
def test_title_trie_is_the_dict_trie(titles):
    trie, expected = build(titles), nest(titles)
    assert as_nested(trie) == expected
    assert (len(trie.token), trie.longest) == count_edges(expected)
    assert len(trie.indptr) == len(trie.token) + 2
    assert trie.repeated == len(titles) - len({tuple(title) for title in titles})
    degree = np.diff(trie.indptr)
    assert trie.widest == degree[1:].max()
    root = np.full(VOCABULARY, -1)
    root[trie.token[: degree[0]]] = np.arange(degree[0])
    assert trie.root.tolist() == root.tolist()


@unhurried
@given(TITLES, TITLES)
def test_a_title_ends_at_its_entity(titles, others):
    trie = build(titles)
    for title in [*titles, *others, [], [0, END], [END], [VOCABULARY]]:
        expected = titles.index(title) if title in titles else None
        assert find_title(trie, title) == expected


def test_one_title():
    trie = build([[5]])
    assert (trie.indptr.tolist(), trie.token.tolist()) == ([0, 1, 2, 2], [5, END])
    assert (find_title(trie, [5]), find_title(trie, [4])) == (0, None)


@pytest.mark.parametrize("vocabulary, dtype", [(1 << 16, "u2"), ((1 << 16) + 1, "i4")])
def test_tokens_take_two_bytes_where_they_fit(vocabulary, dtype):
    trie = build([[vocabulary - 1, 7], [vocabulary - 1]], vocabulary)
    assert trie.token.dtype == dtype
    assert find_title(trie, [vocabulary - 1, 7]) == 0


@pytest.mark.parametrize(
    "ids, lengths, end, message",
    [
        ([], [], END, "at least one title"),
        ([1, 2], [2, 0], END, r"without tokens: \[1\]"),
        ([1, 2], [1, 2], END, "sum to 3"),
        ([1, 2, END, 4], [2, 2], END, "title 1: .* other than END .*found 3"),
        ([1, VOCABULARY], [1, 1], END, "title 1: .*found 50"),
        ([-1, 1], [1, 1], END, "title 0: .*found -1"),
        ([1], [1], VOCABULARY, "expected end in"),
    ],
)
def test_bad_titles_are_refused(ids, lengths, end, message):
    with pytest.raises(ValueError, match=message):
        build_title_trie(np.array(ids, int), np.array(lengths, int), VOCABULARY, end)


# The jitted functions


def random_titles(seed, count, vocabulary):
    rng = np.random.default_rng(seed)
    letters = [t for t in range(vocabulary) if t != END]
    lengths = rng.integers(1, 7, count)
    return [rng.choice(letters[: 3 + n], n).tolist() for n in lengths]


def wide_titles(width):
    """A node with thousands of children below the root, and another below it."""
    tokens = [t for t in range(width) if t != END]
    return [[1, t] for t in tokens] + [[1, 5, t] for t in tokens] + [[1], [9]]


CASES = {
    "one title": ([[5]], VOCABULARY),
    "random": (random_titles(0, 300, VOCABULARY), VOCABULARY),
    "wide": (wide_titles(3000), 3000),
    "tokens of four bytes": ([[69_999, 7], [69_999], [7, 7], [65_535, 7]], 70_000),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    titles, vocabulary = CASES[request.param]
    return build(titles, vocabulary), nest(titles), titles, vocabulary


def test_allowed_goes_through_all_children(case):
    trie, _, _, _ = case
    degree = np.diff(trie.indptr)
    device, width = jax.device_put(trie), max(16, int(degree.max()) // 6)
    nodes = np.array([0, *np.argsort(degree)[-3:], len(degree) - 1], np.int32)
    allowed = jax.jit(title_choice.allowed, static_argnames="width")
    found = [[] for _ in nodes]
    for skip in range(0, int(degree.max()), width):
        tokens, states, mask = allowed(device, nodes, width=width, skip=skip)
        for row in range(len(nodes)):
            kept = mask[row]
            found[row] += zip(
                tokens[row][kept].tolist(), states[row][kept].tolist(), strict=True
            )
    for node, pairs in zip(nodes.tolist(), found, strict=True):
        tokens, states = children(trie, node)
        assert pairs == list(zip(tokens.tolist(), states, strict=True))
    assert not allowed(device, -jnp.ones(1, jnp.int32), width=width)[2].any()


@pytest.mark.parametrize("draw", ["ties", "rising", "normal"])
def test_choose_is_the_best_child(case, draw):
    """In a batch of any nodes, root and leaves among them; finished rows stay.

    The same holds with logits formed as needed, and with more logits than tokens.
    """
    trie, nested, titles, vocabulary = case
    rng = np.random.default_rng(2)
    rows = [(0, nested), (-1, None)]
    for i in rng.choice(len(titles), 10):
        node, inner = 0, nested
        for token in [*titles[i], END]:
            tokens, nodes = children(trie, node)
            node, inner = nodes[tokens.tolist().index(token)], inner[token]
            rows.append((node, inner))
    states = np.array([state for state, _ in rows], np.int32)
    # whole numbers: ties, and they go to the smallest token
    logits = rng.integers(-2, 3, (len(rows), vocabulary)).astype(np.float32)
    if draw == "rising":  # each stretch of a wide node has a higher best than the last
        logits = 10 * np.arange(vocabulary, dtype=np.float32) / vocabulary + logits / 8
    if draw == "normal":  # the second best is in any stretch
        logits = rng.normal(size=logits.shape).astype(np.float32)
    device = jax.device_put(trie)
    more = np.pad(logits, ((0, 0), (0, 5)), constant_values=99)
    found = [
        jax.jit(title_choice.choose)(device, states, given) for given in (logits, more)
    ]
    found.append(jax.jit(choose_from)(device, states, logits, logits))
    for choice in found:
        for i, (state, node) in enumerate(rows):
            expected = best(trie, state, node, logits[i])
            assert choice.state[i] == expected[0]
            assert choice.log_prob[i] == pytest.approx(expected[1], abs=1e-5)
            assert choice.margin[i] == pytest.approx(expected[2], abs=1e-5)


def best(trie, state, node, logits):
    """By the oracle: the state behind the best token, ln of its p, its margin."""
    if not isinstance(node, dict):
        return state, 0, np.inf
    tokens, nodes = children(trie, state)
    assert tokens.tolist() == sorted(node)
    allowed = logits[tokens].astype(np.float64)
    i = int(np.argmax(allowed))
    margin = allowed[i] - np.delete(allowed, i).max(initial=-np.inf)
    return nodes[i], allowed[i] - np.log(np.exp(allowed).sum()), margin


def choose_from(device, states, logits, vocabulary, width=title_choice.NARROW):
    """`choose_from` with given logits, and others for the whole vocabulary."""

    def unembed(token_ids):
        if token_ids is None:
            return vocabulary
        return jnp.take_along_axis(logits, token_ids, axis=1, mode="clip")

    return title_choice.choose_from(device, states, unembed, width)


def test_narrow_states_need_no_vocabulary(case):
    """Rows of at most `width` edges never look at the vocabulary's logits."""
    trie, _, _, vocabulary = case
    degree = np.diff(trie.indptr)
    (states,) = np.nonzero(degree <= 6)
    states = states[:200].astype(np.int32)
    logits = np.random.default_rng(3).normal(size=(len(states), vocabulary))
    device, logits = jax.device_put(trie), jnp.asarray(logits, jnp.float32)
    expected = jax.jit(title_choice.choose)(device, states, logits)
    nonsense = jnp.full_like(logits, jnp.nan)
    found = jax.jit(choose_from, static_argnames="width")(
        device, states, logits, nonsense, width=6
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


# On disk


@pytest.fixture
def saved(tmp_path):
    trie = build(random_titles(1, 100, VOCABULARY))
    title_trie.save_title_trie(trie, tmp_path / "trie", MADE_FROM)
    return trie, tmp_path / "trie"


def test_round_trip_memory_mapped(saved):
    trie, path = saved
    opened = title_trie.open_title_trie(path, MADE_FROM, verify=True)
    for name in title_trie.ARRAYS:
        array = getattr(opened, name)
        np.testing.assert_array_equal(array, getattr(trie, name), strict=True)
        assert isinstance(array.base, np.memmap) and not array.flags.writeable
    for name in ("widest", "longest", "repeated"):
        assert getattr(opened, name) == getattr(trie, name)


@pytest.mark.parametrize("role", MADE_FROM)
@pytest.mark.parametrize("change", ["other", "absent", "more"])
def test_other_parts_are_refused(saved, role, change):
    parts = {**MADE_FROM, role: "c"}
    if change == "absent":
        del parts[role]
    if change == "more":
        parts = {**MADE_FROM, "retriever": "c"}
        role = "retriever"
    with pytest.raises(artifact.ArtifactError, match=f"made from the {role}"):
        title_trie.open_title_trie(saved[1], parts)


@pytest.mark.parametrize("name", title_trie.ARRAYS)
def test_damage_is_refused(saved, name):
    """Truncated, missing, altered, and rewritten with another number of rows."""
    path = saved[1]
    file = path / f"{name}.npy"
    content = file.read_bytes()

    def refuses(message, **options):
        with pytest.raises(artifact.ArtifactError, match=message):
            title_trie.open_title_trie(path, MADE_FROM, **options)

    file.write_bytes(content[:-1])
    refuses(f"{name}.npy has")
    file.unlink()
    refuses(f"{name}.npy is missing")
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refuses("another sha256", verify=True)
    file.write_bytes(b"not numpy" + content[9:])
    refuses("cannot be read")
    file.write_bytes(content)
    np.save(file, np.load(file)[:-1])
    counts = artifact.read(path).counts
    kind, version = title_trie.KIND, title_trie.VERSION
    artifact.write_manifest(path, kind, version, counts, MADE_FROM)
    refuses("do not fit")


@settings(deadline=None, max_examples=20)
@given(TITLES)
def test_round_trip(tmp_path_factory, titles):
    path = tmp_path_factory.mktemp("trie") / "trie"
    trie = build(titles)
    title_trie.save_title_trie(trie, path, {})
    assert as_nested(title_trie.open_title_trie(path, {})) == nest(titles)
