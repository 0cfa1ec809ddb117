import collections
import dataclasses
import itertools

import grain
import numpy as np
import pytest

from insgenel_jax import artifact, mini_world
from insgenel_jax.kb import KnowledgeBase
from insgenel_jax.kb.build import training_documents
from insgenel_jax.text.document import Document, Mention, normalise
from insgenel_jax.text.linked_text import (
    Tokens,
    align,
    encode_prompt,
    encode_source,
    encode_titles,
    parse_target,
)
from insgenel_jax.tokenizer import load_tokenizer, load_wordpiece
from insgenel_jax.training.config import ConfigError
from insgenel_jax.training.data import examples
from insgenel_jax.training.data import windows as window_examples
from insgenel_jax.training.data.examples import FORCED, NONE, OPEN, SKIP, SPAN, TITLE


@pytest.fixture(scope="module")
def kb(prepared):
    return KnowledgeBase.open(prepared / "kb")


@pytest.fixture(scope="module")
def tokenizer(prepared):
    return load_tokenizer(prepared / "generator")


@pytest.fixture(scope="module")
def wordpiece(prepared):
    return load_wordpiece(prepared / "retriever")


def expand(make_config, tokenizer, kb, document, **changes):
    config = make_config("generator", {f"data.{k}": v for k, v in changes.items()})
    counts = collections.Counter()
    found = examples.generator_expand(tokenizer, kb, config.data)(document, counts)
    return found, counts


def split(tokenizer, example):
    """Prompt ids, target ids and the kinds of the target of an example."""
    tokens, targets, _, kinds = example["columns"].T
    ids = [int(tokens[0]), *targets.tolist()]
    start = ids.index(tokenizer.eos) + 1
    assert not kinds[: start - 1].any()
    return ids[:start], ids[start:], kinds[start - 1 :].tolist()


def test_target_says_the_links_and_the_prompt_only_the_text(make_config, tokenizer, kb):
    seen = 0
    for document in mini_world.paragraphs("train", 30):
        [example], _ = expand(make_config, tokenizer, kb, document, max_length=1024)
        prompt, target, kinds = split(tokenizer, example)
        assert prompt == encode_prompt(tokenizer, "Link:", document.text)
        unlabelled = dataclasses.replace(document, mentions=())
        [bare], _ = expand(make_config, tokenizer, kb, unlabelled, max_length=1024)
        assert split(tokenizer, bare)[0] == prompt
        tokens = encode_source(tokenizer, document.text)
        links = parse_target(tokenizer, tokens, target)
        found = [(tokens.starts[i], tokens.ends[j - 1]) for i, j, _ in links]
        assert found == [(m.start, m.end) for m in document.mentions]
        assert [i == tokenizer.open for i in target] == [k == OPEN for k in kinds]
        seen += len(links)
    assert seen > 50


def test_decisions_of_a_target(tokenizer):
    # a b c d e with a link on b c; the dictionary also has b, b c d and e
    a, b, c, d, e = range(100, 105)
    at, cuts = np.arange(5, dtype=np.int32), np.ones(5, bool)
    ids = np.array([a, b, c, d, e], np.int32)
    tokens = Tokens(ids, at, at + 1, cuts, cuts)
    matches = {1: {2: 0, 3: 1, 4: 2}, 4: {5: 3}}
    titles = {None: [], 1: [[7, 8], [7, 8, 9], [7, 6]]}.get
    links = [(1, 3, [7, 8])]
    found = examples.target_decisions(tokenizer, tokens, links, matches, titles)
    forced = (FORCED, -1)
    assert found == [
        *(forced, (OPEN, b), forced, (SPAN, tokenizer.close), (SPAN, d), forced),
        *(forced, (TITLE, -1), (TITLE, -1)),  # 7 of all three; then 8 or 6; END or 9
        *(forced, (SKIP, tokenizer.open), forced),
    ]
    # a mention that the dictionary does not know has all its title to be learnt
    found = examples.target_decisions(tokenizer, tokens, links, {}, titles)
    assert [kind for kind, _ in found[6:9]] == [TITLE] * 3
    assert [kind for kind, _ in found[:6]] == [FORCED, OPEN, *[FORCED] * 4]


def test_weights_follow_the_settings(make_config):
    def weights(**changes):
        config = make_config("generator", {f"data.{k}": v for k, v in changes.items()})
        found = examples.kind_weights(config.data)
        return [found[kind].item() for kind in (NONE, FORCED, SKIP, OPEN, SPAN, TITLE)]

    assert weights() == [0, 1, 1, 1, 1, 1]
    assert weights(copy_loss_weight=0.25) == [0, 0.25, 1, 1, 1, 1]
    assert weights(mask_unlabelled_matches=True) == [0, 1, 0, 1, 1, 1]


@pytest.mark.parametrize("measured", [10, 256])
def test_what_fills_a_chunk_is_measured(
    make_config, prepared, tokenizer, kb, monkeypatch, measured
):
    """Against counting in the documents: whole here, each a chunk."""
    monkeypatch.setattr(examples, "MEASURED", measured)
    data = make_config("generator", {"data.max_length": 512}).data
    expand = examples.generator_expand(tokenizer, kb, data)
    source = filled = rows = 0
    instruction = len(encode_prompt(tokenizer, data.instruction, "")) - 2
    documents = mini_world.paragraphs("train", 60)
    for document in documents[:measured]:
        text = encode_source(tokenizer, document.text)
        links, _ = align(text, [m for m in document.mentions if m.entity is not None])
        titles = encode_titles(tokenizer, [m.entity for _, _, m in links])
        source += len(text)
        prompt = encode_prompt(tokenizer, data.instruction, document.text)
        target = len(text) + sum(4 + len(title) for title in titles) + 1
        filled += len(prompt) - 2 - instruction + target - 1
        rows += (len(prompt) + target - 1) / 512
    budget = 512 + 1 - instruction - 3
    steps = rows * 60 / min(measured, 60) / data.batch
    found = examples.measure(tokenizer, expand, data)
    assert found == (int(budget * source / filled), round(steps))
    assert 50 < found[0] < 256 and steps > 1


def test_mentions_that_cannot_be_taught_are_counted(make_config, tokenizer, kb):
    title = kb.title(0)
    document = Document(
        "d",
        f"{title} met nobody.",
        mentions=(
            Mention(0, len(title), title),
            Mention(1, 3, title),
            Mention(len(title) + 1, len(title) + 4, "Nowhere to be found"),
            Mention(len(title) + 1, len(title) + 4, None),
        ),
    )
    [example], counts = expand(make_config, tokenizer, kb, document)
    assert split(tokenizer, example)[1].count(tokenizer.open) == 1
    assert counts["mentions"] == 3
    assert counts["mentions that start or end inside a token"] == 1
    assert counts["mentions of no known entity"] == 1


def test_a_long_document_is_cut_into_chunks_that_fit(make_config, tokenizer, kb):
    parts = mini_world.paragraphs("train", 12)
    text, mentions = "", []
    for part in parts:
        mentions += [
            dataclasses.replace(m, start=m.start + len(text), end=m.end + len(text))
            for m in part.mentions
        ]
        text += part.text.rstrip(".") + ". "
    document = Document("long", text, mentions=tuple(mentions))
    found, counts = expand(make_config, tokenizer, kb, document, max_length=128)
    assert len(found) > 10 and counts["chunks over max_length"] == 0
    assert max(len(example["columns"]) for example in found) <= 128
    opened = sum(split(tokenizer, e)[1].count(tokenizer.open) for e in found)
    assert opened == len(mentions) - counts["mentions cut by a chunk"]
    assert opened >= len(mentions) - 1
    assert [e["id"] for e in found] == [f"long#{i}" for i in range(len(found))]


def batches(make_config, tokenizer, kb, seed=0):
    config = make_config("generator")
    expanding = examples.generator_expand(tokenizer, kb, config.data)
    counts = collections.Counter()
    dataset = examples.examples(config.data.documents, expanding, seed, counts)
    return examples.generator_batches(dataset, config.data, seed, counts), counts


def test_batches_hold_whole_examples_in_segments(make_config, tokenizer, kb):
    dataset, counts = batches(make_config, tokenizer, kb)
    rows = list(itertools.islice(iter(dataset), 6))
    for batch in rows:
        assert {batch[name].shape for name in batch if name != "ids"} == {(4, 256)}
        for b, ids in enumerate(batch["ids"]):
            segments, positions = batch["segments"][b], batch["positions"][b]
            assert len(ids) == segments.max()
            for segment in range(1, segments.max() + 1):
                at = np.flatnonzero(segments == segment)
                assert positions[at].tolist() == list(range(len(at)))
                assert batch["tokens"][b, at[0]] == tokenizer.bos
                assert batch["targets"][b, at[-1]] == tokenizer.eos
            assert not batch["weights"][b, segments == 0].any()
    seen = [i for batch in rows for ids in batch["ids"] for i in ids]
    assert any("#" in name for name in seen) and counts["unreadable documents"] == 0


def test_the_iterator_goes_on_where_it_was_saved(make_config, tokenizer, kb):
    dataset, _ = batches(make_config, tokenizer, kb)
    limited = grain.experimental.LimitIterDataset(dataset, 5)
    grain.experimental.assert_equal_output_after_checkpoint(limited)


def test_positions_past_the_scored_are_counted(make_config, tokenizer, kb):
    config = make_config("generator", {"data.scored": 8})
    found, counts = expand(
        make_config, tokenizer, kb, mini_world.paragraphs("dev", 1)[0]
    )
    dataset = grain.MapDataset.source(found).to_iter_dataset()
    [batch] = examples.generator_batches(dataset, config.data, 0, counts)
    weighty = np.count_nonzero(batch["weights"], axis=1)
    assert (weighty > 8).any()
    assert counts["scored positions left out"] == np.maximum(weighty - 8, 0).sum()


def test_processes_share_the_documents(make_config, monkeypatch):
    def ids(process, processes):
        monkeypatch.setattr(examples.jax, "process_index", lambda: process)
        monkeypatch.setattr(examples.jax, "process_count", lambda: processes)
        config = make_config("generator")
        dataset = examples.examples(
            config.data.documents, lambda d, _: [d.id], 0, collections.Counter()
        )
        return list(itertools.islice(iter(dataset), 60 // processes))

    whole, first, second = ids(0, 1), ids(0, 2), ids(1, 2)
    assert len(set(whole)) == 60 and whole != sorted(whole)
    assert sorted(first + second) == sorted(whole)


def test_a_broken_record_is_counted_and_left_out(make_config):
    counts = collections.Counter()
    expanding = examples._Expand(lambda document, _: [document.id], 3, counts)
    assert expanding.flat_map(b'{"id": "a", "text": "b"}') == ["a"]
    assert expanding.flat_map(b'{"id": "a"') == []
    assert expanding.flat_map(b'{"id": "a"}') == []
    assert counts == {"documents": 1, "unreadable documents": 2, "examples": 1}


def test_a_whole_pass_without_an_example_is_an_error(make_config):
    counts = collections.Counter()

    def barren(document, counts):
        assert counts["documents"] <= 60, "read on past the first pass"
        counts["chunks over max_length"] += 2
        return []

    config = make_config("generator")
    dataset = examples.examples(config.data.documents, barren, 0, counts)
    batches = iter(examples.generator_batches(dataset, config.data, 0, counts))
    told = "data.documents: .*documents: 60; chunks over max_length: 120"
    with pytest.raises(ConfigError, match=told):
        next(batches)


def test_examples_anywhere_in_a_pass_are_enough(make_config):
    counts, config = collections.Counter(), make_config("generator")

    def rare(document, counts):
        return [document.id] if counts["documents"] == 60 else []

    dataset = iter(examples.examples(config.data.documents, rare, 0, counts))
    assert next(dataset) and counts["documents"] == 60


def test_no_documents_at_all_are_an_error(tmp_path, monkeypatch, make_config):
    kind, version = training_documents.KIND, training_documents.VERSION
    with artifact.create(tmp_path / "none", kind, version) as draft:
        training_documents.write_shards(draft.path, [])
    with pytest.raises(ConfigError, match="none: 0 training documents"):
        examples.examples(str(tmp_path / "none"), None, 0, collections.Counter())
    documents = make_config("generator").data.documents
    monkeypatch.setattr(examples.jax, "process_count", lambda: 61)
    monkeypatch.setattr(examples.jax, "process_index", lambda: 60)
    with pytest.raises(ConfigError, match="60 training documents, too few for 61"):
        examples.examples(documents, None, 0, collections.Counter())


def test_an_instruction_that_leaves_no_room_is_an_error(make_config, tokenizer, kb):
    room = len(encode_prompt(tokenizer, "Link:", "")) - 2 + 3 - 1 + 2
    config = make_config("generator", {"data.max_length": room})
    examples.generator_expand(tokenizer, kb, config.data)
    config = make_config("generator", {"data.max_length": room - 1})
    with pytest.raises(ConfigError, match="data.max_length = .* no room"):
        examples.generator_expand(tokenizer, kb, config.data)


def test_windows_know_their_golds(make_config, wordpiece, kb):
    config = make_config("retriever")
    text = " ".join(["Python"] + ["word"] * 47 + ["Python"])
    titles = [kb.title(int(e)) for e in kb.candidates(kb.form("Python"))[0][:2]]
    document = Document(
        "d",
        text,
        mentions=(
            Mention(0, 6, titles[0]),
            Mention(len(text) - 6, len(text), titles[1]),
            Mention(7, 11, "Nowhere to be found"),
        ),
    )
    counts = collections.Counter()
    found = window_examples.retriever_expand(wordpiece, kb, config.data)(
        document, counts
    )
    golds = [[kb.title(int(e)) for e in window["golds"]] for window in found]
    assert golds == [[titles[0]], [titles[1]]]
    first = "Python" + " word" * 31
    np.testing.assert_array_equal(found[0]["window"], wordpiece.encode([first], 32)[0])
    assert counts["windows without a mention"] == 1  # words 16 to 48 of 49
    assert counts["mentions of no known entity"] == 1


def test_entity_tokens_are_made_once(tmp_path, wordpiece, kb):
    cache = tmp_path / "deep" / "entities.npy"
    table = window_examples.entity_tokens(wordpiece, kb, 16, cache)
    assert table.shape == (len(kb), 16)
    texts = [normalise(text) for text in (kb.title(5), kb.description(5))]
    expected = wordpiece.encode(texts[:1], 16, texts[1:])
    np.testing.assert_array_equal(table[5:6], expected)
    again = window_examples.entity_tokens(None, None, 16, cache)
    np.testing.assert_array_equal(table, again)


def test_training_documents_of_another_kind_are_refused(prepared):
    with pytest.raises(ValueError, match=training_documents.KIND):
        examples.examples(str(prepared / "kb"), None, 0, collections.Counter())


def test_few_documents_still_fill_batches(make_config, tokenizer, kb):
    found, _ = expand(make_config, tokenizer, kb, mini_world.paragraphs("dev", 1)[0])
    [batch] = examples.fixed_generator_batches(found, make_config("generator").data)
    assert batch["tokens"].shape == (4, 256)
    assert sum(map(len, batch["ids"])) == len(found) == 2
    assert not batch["segments"][2:].any() and not batch["weights"][2:].any()
