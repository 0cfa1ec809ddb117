"""What tells how sure a link is: `Linker.score` against the model run anew."""

import functools
import itertools
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax import mini_world
from insgenel_jax.linker import Linker
from insgenel_jax.linker.batches import decoder_model
from insgenel_jax.retrieval.scope import retrieve
from insgenel_jax.text.linked_text import (
    encode_prompt,
    encode_source,
    encode_titles,
    find_tokens,
    format_target,
)

pytestmark = pytest.mark.slow
LENGTH = 384  # tokens of a sequence that is run anew


@pytest.fixture(scope="module")
def texts():
    """Texts that are one chunk each."""
    return [d.text for d in mini_world.paragraphs("dev", 5)][1:]


@pytest.fixture(scope="module")
def linker(linker_path):
    return Linker.from_pretrained(linker_path, batch=4)


@pytest.fixture(scope="module")
def scored(linker, texts):
    return linker.score(texts, vocabulary_scores=True)


def place(link):
    return link.mention.start, link.mention.end


def linked(links):
    return tuple(link.mention for link in links if link.linked)


def alike(a, b, features=range(10)):
    """Two lists hold the same links, with equal features up to float32 rounding."""
    assert [(place(x), x.mention.entity, x.linked) for x in a] == [
        (place(x), x.mention.entity, x.linked) for x in b
    ]
    for x, y in zip(a, b, strict=True):
        pairs = [np.array(link.features)[list(features)] for link in (x, y)]
        np.testing.assert_allclose(*pairs, rtol=3e-6, atol=1e-5)


def test_features_of_every_link(linker, texts, scored):
    """Features sum to the score and repeat the knowledge base and the retriever."""
    links = [link for links in scored for link in links]
    assert len(links) > 8
    assert {link.linked for link in links} == {True, False}
    for text, links in zip(texts, scored, strict=True):
        (windows,) = retrieve(linker.retriever, linker.index, [text], top_k=100)
        retrieved = windows.touching(0, len(text))  # one chunk: its scope
        for mention, _, features in links:
            assert sum(features[:3]) == pytest.approx(math.log(mention.score))
            form = linker.kb.form(text[mention.start : mention.end])
            entity = linker.kb.find(mention.entity)
            entities, counts = linker.kb.candidates(form)
            kept = np.isin(entities, retrieved.entities)
            prior = counts[entities == entity] / counts[kept].sum()
            assert features.prior == pytest.approx(math.log(prior[0]))
            scores = dict(zip(*retrieved, strict=True))
            total = sum(math.exp(scores[e]) for e in entities[kept].tolist())
            assert features.retriever_score == pytest.approx(scores[entity])
            assert features.retriever == pytest.approx(
                scores[entity] - math.log(total), abs=1e-5
            )
            (expected,) = linker.kb.link_probability([form])
            assert features.link_probability == expected


def test_the_vocabulary_is_a_wider_choice(scored):
    for links in scored:
        for link in links:
            allowed, whole = link.features[:3], link.features[3:6]
            assert all(w <= a + 1e-5 for a, w in zip(allowed, whole, strict=True))
            assert sum(whole) < sum(allowed)


def test_the_vocabulary_as_a_sequence_run_anew(linker, texts, scored):
    """Vocabulary scores equal those of the whole sequence run by itself."""
    generator = linker.generator
    model = decoder_model(generator.config)

    @jax.jit
    def run(tokens):
        mask = jnp.tril(jnp.ones((1, LENGTH, LENGTH), bool))
        positions = jnp.arange(LENGTH)[None]
        hidden, _ = model.forward(generator.params, tokens[None], positions, mask, None)
        logits = model.unembed(generator.params, hidden[0], None)
        return jax.nn.log_softmax(logits)

    encode = functools.partial(encode_titles, generator.tokenizer)
    for text, links in zip(texts, scored, strict=True):
        tokens = encode_source(generator.tokenizer, text)
        prompt = encode_prompt(generator.tokenizer, generator.instruction, text)
        before = []
        for link in links:
            span = find_tokens(tokens, *place(link))
            (title,) = encode([link.mention.entity])
            one = (*span, title)
            ids = format_target(generator.tokenizer, tokens, [*before, one])
            ids = np.array([*prompt, *ids])
            begin = np.flatnonzero(ids == generator.tokenizer.open)[-1]
            padded = np.zeros(LENGTH, np.int32)
            padded[: len(ids)] = ids
            log_probs = np.asarray(run(padded))
            each = log_probs[np.arange(len(ids) - 1), ids[1:]][begin - 1 :]
            closed = 1 + span[1] - span[0] + 1  # OPEN, the mention, CLOSE
            end = closed + 1 + len(title) + 1  # ENTITY, the title, END
            sums = each[0], each[1:closed].sum(), each[closed:end].sum()
            np.testing.assert_allclose(link.features[3:6], sums, rtol=1e-5, atol=1e-4)
            before += [one] if link.linked else []


def test_batches_change_no_feature(linker_path, texts, scored):
    alone = Linker.from_pretrained(linker_path, batch=1)
    for text, expected in zip(texts[:2], scored, strict=False):
        alike(alone.score(text, vocabulary_scores=True), expected)


def test_every_decoder_explains_alike(linker_path, texts, scored):
    """Other decoders score alike; links taken and passed over do not overlap."""
    verify = Linker.from_pretrained(
        linker_path, decoder="speculative", threshold=0.1, batch=4
    )
    for links, expected in zip(verify.score(texts), scored, strict=True):
        alike(links, expected, [0, 1, 2, 6, 7, 8, 9])
        assert all(np.isnan(link.features[3:6]).all() for link in links)
        for one, after in itertools.pairwise(links):
            assert one.mention.end <= after.mention.start


@pytest.mark.parametrize("consider_unlinked", [False, True])
def test_what_is_linked_of_it(linker_path, texts, scored, consider_unlinked):
    """Linking gives the links taken, or all of them, that reach the threshold."""
    for threshold in (0.0, 0.1):
        other = Linker.from_pretrained(
            linker_path,
            threshold=threshold,
            consider_unlinked=consider_unlinked,
            decoder="tree",
            batch=4,
        )
        for document, links in zip(other(texts), scored, strict=True):
            expected = [
                link.mention
                for link in links
                if (link.linked or consider_unlinked)
                and link.mention.score >= threshold
            ]
            assert [(m.start, m.end, m.entity) for m in document.mentions] == [
                (m.start, m.end, m.entity) for m in expected
            ]
            for found, mention in zip(document.mentions, expected, strict=True):
                assert found.score == pytest.approx(mention.score, abs=1e-5)


def test_given_mentions(linker):
    """A given mention is always opened: ln p of OPEN is 0."""
    text, spans = "Nobody met Paris.", [(11, 16)]
    (link,) = linker.score(text, mentions=spans, vocabulary_scores=True)
    assert (place(link), link.linked) == ((11, 16), True)
    assert link.features.open == 0 > link.features.vocabulary_open
    assert linker.score([]) == []
    assert linker.score("") == []


def test_names_linked_before(linker_path):
    """Chunks are explained with the parts of names as candidate mentions."""
    linker = Linker.from_pretrained(
        linker_path, system="insgenel", mention_bias=40.0, name_parts="new"
    )
    text = "Leonhard Euler. Leonhard left."
    links = linker.score(text)
    assert [(place(link), link.linked) for link in links] == [
        ((0, 14), True),
        ((16, 24), True),
    ]
    assert linked(links) == linker(text).mentions
    assert math.isnan(links[0].features.retriever_score)


def test_beams_pass_nothing_over(linker_path):
    """Beam search scores whole targets, so that no link is passed over."""
    linker = Linker.from_pretrained(
        linker_path, system="insgenel", mention_bias=3.0, decoder="beam", beams=1
    )
    links = linker.score("Paris, where Jordan met Apollo")
    assert links
    assert all(link.linked for link in links)
    assert not np.isnan([link.features[:6] for link in links]).any()


def test_the_step_decoder_has_no_vocabulary_scores(linker_path, tmp_path):
    copy = tmp_path / "linker"
    shutil.copytree(linker_path, copy)
    linker = Linker.from_pretrained(copy, system="insgenel", titles="all")
    assert linker.score("Paris", vocabulary_scores=True)
    with pytest.raises(ValueError, match="vocabulary_scores: .* step decoder"):
        linker.score("Paris", mentions=[(0, 5)], vocabulary_scores=True)
