"""Batches of the generator: whole examples in segments, weights, and resuming."""

import collections
import itertools

import grain
import numpy as np

from insgenel_jax import mini_world
from insgenel_jax.training.data import documents, packing
from insgenel_jax.training.data.chunks import NO_EDGE, OTHERS, generator_expand
from insgenel_jax.training.data.decisions import FORCED, NONE, OPEN, SKIP, SPAN, TITLE


def test_weights_follow_the_settings(make_config):
    def weights(**changes):
        config = make_config("generator", {f"data.{k}": v for k, v in changes.items()})
        found = packing.kind_weights(config.data)
        return [found[kind].item() for kind in (NONE, FORCED, SKIP, OPEN, SPAN, TITLE)]

    assert weights() == [0, 1, 1, 1, 1, 1]
    assert weights(copy_loss_weight=0.25) == [0, 0.25, 1, 1, 1, 1]
    assert weights(mask_unlabelled_matches=True) == [0, 1, 0, 1, 1, 1]
    changed = weights(open_loss_weight=0.5, span_loss_weight=0.25, title_loss_weight=2)
    assert changed == [0, 1, 0.5, 0.5, 0.25, 2]


def test_only_positions_with_another_edge_weigh_in_the_loss_of_allowed_edges(
    make_config, tokenizer, kb
):
    changes = {"data.allowed_edges": True, "data.copy_loss_weight": 0}
    data, counts = make_config("generator", changes).data, collections.Counter()
    expand = generator_expand(tokenizer, kb, data)
    found = expand(mini_world.paragraphs("dev", 1)[0], counts)
    [batch] = packing.pack_all(found, data)
    alone = batch["others"][..., 0] == NO_EDGE
    assert not batch["weights"][alone].any() and batch["weights"][~alone].all()
    assert (batch["kinds"][~alone] != FORCED).all() and (~alone).sum() > 5


def batches(make_config, tokenizer, kb, seed=0):
    config = make_config("generator")
    expanding = generator_expand(tokenizer, kb, config.data)
    counts = collections.Counter()
    dataset = documents.stream_examples(config.data.documents, expanding, seed, counts)
    return packing.pack(dataset, config.data, seed, counts), counts


def test_batches_hold_whole_examples_in_segments(make_config, tokenizer, kb):
    dataset, counts = batches(make_config, tokenizer, kb)
    rows = list(itertools.islice(iter(dataset), 6))
    for batch in rows:
        shapes = {name: batch[name].shape for name in batch if name != "ids"}
        assert shapes.pop("others") == (4, 256, OTHERS)
        assert shapes.pop("biases") == (4, 256, 1 + OTHERS)
        assert set(shapes.values()) == {(4, 256)}
        assert (batch["others"][batch["segments"] == 0] == NO_EDGE).all()
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
    expand, counts = generator_expand(tokenizer, kb, config.data), collections.Counter()
    found = expand(mini_world.paragraphs("dev", 1)[0], counts)
    dataset = grain.MapDataset.source(found).to_iter_dataset()
    [batch] = packing.pack(dataset, config.data, 0, counts)
    weighty = np.count_nonzero(batch["weights"], axis=1)
    assert (weighty > 8).any()
    assert counts["scored positions left out"] == np.maximum(weighty - 8, 0).sum()


def test_few_documents_still_fill_batches(make_config, tokenizer, kb):
    data, counts = make_config("generator").data, collections.Counter()
    expand = generator_expand(tokenizer, kb, data)
    found = expand(mini_world.paragraphs("dev", 1)[0], counts)
    [batch] = packing.pack_all(found, data)
    assert batch["tokens"].shape == (4, 256)
    assert sum(map(len, batch["ids"])) == len(found) == 2
    assert not batch["segments"][2:].any() and not batch["weights"][2:].any()


def test_rows_of_one_example_each(make_config, tokenizer, kb):
    """Unpacked, a row is an example and padding, with what it has in a packed row."""
    data = make_config("generator", {"data.packed": False}).data
    expand, counts = generator_expand(tokenizer, kb, data), collections.Counter()
    found = expand(mini_world.paragraphs("dev", 1)[0], counts)
    [batch] = packing.pack_all(found, data)
    assert batch["ids"] == [[example["id"]] for example in found]
    for row, example in enumerate(found):
        used = len(example["columns"])
        np.testing.assert_array_equal(
            np.stack([batch[x][row] for x in ("tokens", "targets", "kinds")], axis=1),
            np.pad(example["columns"][:, :3], ((0, 256 - used), (0, 0))),
        )
        np.testing.assert_array_equal(batch["biases"][row, :used], example["biases"])
        assert batch["positions"][row, :used].tolist() == list(range(used))
        assert batch["segments"][row].tolist() == [1] * used + [0] * (256 - used)
    assert not batch["segments"][len(found) :].any()
    dataset = documents.stream_examples(data.documents, expand, 0, counts)
    limited = grain.experimental.LimitIterDataset(
        packing.pack(dataset, data, 0, counts), 3
    )
    grain.experimental.assert_equal_output_after_checkpoint(limited)
