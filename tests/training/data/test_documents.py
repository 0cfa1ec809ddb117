"""The stream of examples: shared by processes, counted, never endless for nothing."""

import collections
import itertools

import pytest

from insgenel_jax import artifact
from insgenel_jax.kb.build import training_documents
from insgenel_jax.training.data import documents, packing
from insgenel_jax.training.data.chunks import generator_expand
from insgenel_jax.training.data.streams import Stream
from insgenel_jax.training.settings import ConfigError


def no_example(document, counts):
    return []


def test_streams_share_the_documents(make_config):
    def ids(number, count):
        config = make_config("generator")
        dataset = documents.stream_examples(
            config.data.documents,
            lambda d, _: [{"id": d.id}],
            0,
            collections.Counter(),
            stream=Stream(number, count),
        )
        examples = itertools.islice(iter(dataset), 60 // count)
        return [example["id"] for example in examples]

    whole, first, second = ids(0, 1), ids(0, 2), ids(1, 2)
    assert len(set(whole)) == 60 and whole != sorted(whole)
    assert sorted(first + second) == sorted(whole)


def test_a_broken_record_is_counted_and_left_out(make_config):
    counts = collections.Counter()
    expanding = documents.ExpandRecords(
        lambda document, _: [{"id": document.id}], 3, counts
    )
    assert expanding.flat_map(b'{"id": "a", "text": "b"}') == [{"id": "a"}]
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
    dataset = documents.stream_examples(config.data.documents, barren, 0, counts)
    batches = iter(packing.pack(dataset, config.data, 0, counts))
    told = "data.documents: .*documents: 60; chunks over max_length: 120"
    with pytest.raises(ConfigError, match=told):
        next(batches)


def test_examples_anywhere_in_a_pass_are_enough(make_config):
    counts, config = collections.Counter(), make_config("generator")

    def rare(document, counts):
        return [{"id": document.id}] if counts["documents"] == 60 else []

    dataset = iter(documents.stream_examples(config.data.documents, rare, 0, counts))
    assert next(dataset) and counts["documents"] == 60


def test_no_documents_at_all_are_an_error(tmp_path, make_config):
    kind, version = training_documents.KIND, training_documents.VERSION
    with artifact.create(tmp_path / "none", kind, version) as draft:
        training_documents.write_shards(draft.path, [])
    with pytest.raises(ConfigError, match="none: 0 training documents"):
        documents.stream_examples(
            str(tmp_path / "none"), no_example, 0, collections.Counter()
        )
    path = make_config("generator").data.documents
    with pytest.raises(ConfigError, match="60 training documents, too few for 61"):
        documents.stream_examples(
            path, no_example, 0, collections.Counter(), stream=Stream(60, 61)
        )


def test_training_documents_of_another_kind_are_refused(prepared):
    with pytest.raises(ValueError, match=training_documents.KIND):
        documents.stream_examples(
            str(prepared / "kb"), no_example, 0, collections.Counter()
        )


def test_a_share_of_the_pages(make_config, tokenizer, kb):
    """Whole pages by a hash: a larger share holds a smaller one."""
    names = [f"{page}:{paragraph}" for page in range(2000) for paragraph in range(2)]
    shares = {
        share: {name for name in names if documents.in_share(name, share)}
        for share in (0.1, 0.5, 1.0)
    }
    assert shares[0.1] < shares[0.5] < shares[1.0] == set(names)
    assert len(shares[0.1]) == pytest.approx(400, abs=80)
    assert all(f"{name.partition(':')[0]}:0" in shares[0.1] for name in shares[0.1])
    data = make_config("generator").data
    expand, counts = generator_expand(tokenizer, kb, data), collections.Counter()
    dataset = documents.stream_examples(data.documents, expand, 0, counts, 0.5)
    read = {
        example["id"].partition("#")[0] for example in itertools.islice(dataset, 99)
    }
    assert all(documents.in_share(name, 0.5) for name in read)
    assert counts[documents.OUTSIDE] > 10
