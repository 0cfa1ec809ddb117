"""The decoders against `generate(prefix_allowed_tokens_fn=...)` of transformers."""

import functools

import pytest

from insgenel_jax import models
from insgenel_jax.decoding import beam, speculative, step, tree
from insgenel_jax.decoding.forward import Model
from insgenel_jax.decoding.options import Options
from insgenel_jax.decoding.path import read_links
from tests.helpers.random_chunks import chunks_with_targets, target_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
write = pytest.importorskip("tests.helpers.torch_models").write

pytestmark = pytest.mark.torch

CHUNKS = 48
SHARP = 4  # factor of the logits: hypotheses finish late, and are lost


@pytest.fixture(scope="module")
def chunks(tokenizer):
    """Chunks without biases, and all legal targets of each."""
    return chunks_with_targets(tokenizer, 0, CHUNKS)


@pytest.fixture(scope="module")
def generators(tokenizer, tmp_path_factory):
    """A random LLaMA that transformers wrote: its model, and ours with params."""
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=tokenizer.eos,
        pad_token_id=tokenizer.eos,
    )
    theirs, _, config, params = write(
        transformers.LlamaForCausalLM(config), tmp_path_factory.mktemp("llama")
    )
    with torch.no_grad():
        theirs.lm_head.weight *= SHARP
    params["unembed"] = params["unembed"] * SHARP
    module = models.build(config)
    ours = Model(
        forward=lambda p, *args: module.apply({"params": p}, *args),
        unembed=functools.partial(models.unembed, config),
        init_cache=functools.partial(models.init_cache, config),
        move_slots=models.move_slots,
        tiles=models.Tiles,
    )
    return theirs, (ours, params)


# our names of what transformers calls early_stopping
STOPPING = {"heuristic": False, "never": "never"}


@pytest.fixture(scope="module")
def generated(tokenizer, chunks, generators):
    """Number of beams -> for each chunk their target and score (None for one)."""
    tries = list(map(_trie, chunks[1]))
    longest = max(len(target) for targets in chunks[1] for target in targets)

    @functools.cache
    def generate(beams, early_stopping="heuristic"):
        found = []
        for i in range(0, CHUNKS, 16):
            part = slice(i, i + 16)
            found += _generate(
                generators[0],
                [chunk.prompt for chunk in chunks[0][part]],
                tries[part],
                eos_token_id=tokenizer.eos,
                max_new_tokens=longest,
                num_beams=beams,
                early_stopping=STOPPING[early_stopping],
            )
        return found

    return generate


def _trie(targets):
    trie = {}
    for target in targets:
        node = trie
        for token in target:
            node = node.setdefault(token, {})
    return trie


def _generate(model, prompts, tries, *, eos_token_id, num_beams, **options):
    """What `generate` gives for prompts, padded on the left as transformers expects."""
    width, eos = max(map(len, prompts)), eos_token_id
    real = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])

    def allowed(row, ids):
        node = tries[row]
        for token in ids[width:].tolist():
            node = node.get(token, {})
        return list(node) or [eos]  # behind EOS, and in empty beams

    out = model.generate(
        torch.tensor([[eos] * (width - len(p)) + p for p in prompts]),
        attention_mask=real,
        prefix_allowed_tokens_fn=allowed,
        num_beams=num_beams,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )
    scores = out.sequences_scores.tolist() if num_beams > 1 else [None] * len(prompts)
    targets = out.sequences[:, width:].tolist()
    return [
        (tuple(target[: target.index(eos) + 1]), score)
        for target, score in zip(targets, scores, strict=True)
    ]


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("decoder", [step, tree, speculative])
def test_greedy(chunks, generators, generated, decoder, batch):
    """Without biases a decoder gives what greedy `generate` does, token for token."""
    chunks, _ = chunks
    links = 0
    for i in range(0, CHUNKS, batch):
        paths = decoder.decode(
            *generators[1], chunks[i : i + batch], batch=batch, options=Options()
        )
        for j, path in enumerate(paths, i):
            assert path.margin > 1e-4
            target, _ = generated(1)[j]
            assert target_of(chunks[j], path) == target
            links += len(read_links(chunks[j].table, path.edges, path.log_probs))
    assert links > CHUNKS / 2


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize(
    "beams, early_stopping", [*((2, name) for name in STOPPING), (6, "heuristic")]
)
def test_beam(chunks, generators, generated, beams, early_stopping, batch):
    """`beam` gives the tokens of `generate(num_beams=...)`, and its scores to 1e-4."""
    searched = Options(beams=beams, early_stopping=early_stopping)
    chunks, _ = chunks
    differ = links = 0
    for i in range(0, CHUNKS, batch):
        part = chunks[i : i + batch]
        found = beam.decode(*generators[1], part, batch=batch, options=searched)
        for j, path in enumerate(found, i):
            assert path.margin > 1e-4
            target, expected = generated(beams, early_stopping)[j]
            assert target_of(chunks[j], path) == target
            assert path.score == pytest.approx(expected, abs=1e-4)
            differ += target != generated(1)[j][0]
            links += len(read_links(chunks[j].table, path.edges, path.log_probs))
    assert differ > CHUNKS / 8
    assert links > CHUNKS / 8
