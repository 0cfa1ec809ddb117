"""Given mentions that may take any title of the knowledge base, end to end."""

import dataclasses
import math
import shutil

import numpy as np
import pytest

from insgenel_jax import artifact, mini_world
from insgenel_jax.decoding import title_trie
from insgenel_jax.linker import Linker, bundled
from insgenel_jax.linker.titles import make_titles
from insgenel_jax.sharding import make_mesh
from insgenel_jax.text.linked_text import encode_titles
from tests.helpers.tries import find_title

pytestmark = pytest.mark.slow

TEXT = "Jordan met an unknown in Paris."
SPANS = [(0, 6), (14, 21), (25, 30)]  # the dictionary does not know the second


@pytest.fixture(scope="module")
def path(linker_path, tmp_path_factory):
    """A copy of the linker, to which titles/ is added."""
    path = tmp_path_factory.mktemp("titles") / "linker"
    shutil.copytree(linker_path, path)
    return path


@pytest.fixture(scope="module")
def linker(path):
    return Linker.from_pretrained(path, system="insgenel", titles="all")


def test_mentions_without_candidates_are_linked(path, linker):
    known = Linker.from_pretrained(path, system="insgenel", decoder="step")
    before, after = (one(TEXT, mentions=SPANS).mentions for one in (known, linker))
    assert [m.entity is None for m in before] == [False, True, False]
    assert after[0] == before[0]  # the third sees another link before it
    found = after[1]
    assert (found.start, found.end) == SPANS[1] and 0 < found.score < 1
    assert linker.kb.title(linker.kb.find(found.entity)) == found.entity
    assert found.external_id == linker.kb.external_id(linker.kb.find(found.entity))
    links = linker.score(TEXT, mentions=SPANS)
    assert [link.mention for link in links] == list(after)
    features = links[1].features
    assert math.isnan(features.prior) and math.isnan(features.retriever)
    total = features.open + features.span + features.title
    assert math.exp(total) == pytest.approx(found.score)


def test_every_title_is_in_the_tree(linker):
    titles = [linker.kb.title(entity) for entity in range(len(linker.kb))]
    for entity, ids in enumerate(encode_titles(linker.generator.tokenizer, titles)):
        assert find_title(linker.titles, ids) == entity


def test_only_given_mentions_may(path, linker):
    """Without given mentions the setting changes nothing."""
    plain = Linker.from_pretrained(path, system="insgenel")
    texts = [document.text for document in mini_world.paragraphs("dev", 2)]
    for one, other in zip(linker(texts), plain(texts), strict=True):
        assert one.mentions == other.mentions
    assert len(linker.score(texts[0])) == len(plain.score(texts[0]))


def test_chunks_hold_the_longest_title(path):
    """Prompt and longest path fit the model's positions, with many given mentions."""
    # so many tokens that positions are what is scarce
    linker = Linker.from_pretrained(
        path, system="insgenel", titles="all", chunk_tokens=1000
    )
    text = "unknown Paris nobody Jordan " * 100
    spans = [(m, m + 7) for m in range(0, len(text), 28)]
    spans += [(m + 8, m + 13) for m in range(0, len(text), 28)]
    (document,) = linker([text], mentions=[spans])
    assert all(mention.entity for mention in document.mentions)
    chunks = linker.chunks([document], [spans])
    assert len(chunks) > 1
    for chunk in chunks:
        size = len(chunk.chunk.prompt) + chunk.chunk.table.longest
        assert size <= linker.generator.max_positions


def test_titles_are_made_once_and_checked(path, linker, tmp_path, monkeypatch):
    monkeypatch.setattr("insgenel_jax.linker.titles.make_titles", None)
    again = Linker.from_pretrained(path, system="insgenel", titles="all")
    for name in title_trie.ARRAYS:
        one, two = (getattr(x.titles, name) for x in (linker, again))
        np.testing.assert_array_equal(one, two)
    shutil.copytree(path, tmp_path / "linker")
    title_trie.save_title_trie(
        linker.titles, tmp_path / "linker" / "titles", {"kb": "other"}
    )
    with pytest.raises(artifact.ArtifactError, match="titles: made from the"):
        Linker.from_pretrained(tmp_path / "linker", titles="all")


def test_verify_compares_the_hashes_of_the_titles(path, linker, tmp_path):
    shutil.copytree(path, tmp_path / "linker")
    file = tmp_path / "linker/titles/entity.npy"
    content = bytearray(file.read_bytes())
    content[-4] ^= 1  # another entity
    file.write_bytes(content)
    with pytest.raises(artifact.ArtifactError, match="entity.npy has another sha256"):
        Linker.from_pretrained(
            tmp_path / "linker", system="insgenel", titles="all", verify=True
        )


def test_a_directory_that_cannot_be_written_to(path, tmp_path, monkeypatch):
    shutil.copytree(path, tmp_path / "linker", ignore=lambda *_: ["titles"])

    def refuse(*args):
        raise PermissionError

    monkeypatch.setattr("insgenel_jax.linker.titles.save_title_trie", refuse)
    linker = Linker.from_pretrained(tmp_path / "linker", titles="all")
    assert linker(TEXT, mentions=SPANS).mentions[1].entity


def test_the_bundled_linker_is_not_written_to(path, tmp_path, monkeypatch):
    shutil.copytree(path, tmp_path / "box", ignore=lambda *_: ["titles"])
    monkeypatch.setattr(bundled, "BUNDLED", tmp_path / "box")
    monkeypatch.chdir(tmp_path)
    linker = Linker.from_pretrained("nano", titles="all")
    assert linker(TEXT, mentions=SPANS).mentions[1].entity
    assert not (tmp_path / "box/titles").exists()


def test_titles_without_tokens_or_too_long_are_left_out(linker):
    """The entities that are left keep their numbers."""
    tokenizer = dataclasses.replace(
        linker.generator.tokenizer,
        has_unknown=lambda texts: [text.startswith(" A") for text in texts],
    )
    titles, short = make_titles(linker.kb, tokenizer, 6), 0
    for entity in range(len(linker.kb)):
        title = linker.kb.title(entity)
        (ids,) = encode_titles(linker.generator.tokenizer, [title])
        kept = not title.startswith("A") and len(ids) <= 6
        assert find_title(titles, ids) == (entity if kept else None)
        short += kept
    assert 0 < short < len(linker.kb)


@pytest.mark.parametrize(
    "settings", [{"decoder": "tree"}, {"decoder": "beam"}, {"selection": "marginal"}]
)
def test_only_step_can(path, settings):
    with pytest.raises(ValueError, match="cannot do .*titles = 'all'"):
        Linker.from_pretrained(path, titles="all", **settings)


def test_on_eight_devices(path, linker):
    other = Linker.from_pretrained(
        path, system="insgenel", titles="all", mesh=make_mesh(2, 2, 2)
    )
    one, two = (x(TEXT, mentions=SPANS).mentions for x in (linker, other))
    assert [m.entity for m in one] == [m.entity for m in two]
