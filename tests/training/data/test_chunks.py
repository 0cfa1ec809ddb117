"""Examples of the generator: what prompt and target say, and how documents are cut."""

import collections
import dataclasses

from insgenel_jax import mini_world
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.linked_text import (
    encode_prompt,
    encode_source,
    encode_titles,
    parse_target,
)
from insgenel_jax.training.data.chunks import TitleIds, generator_expand
from insgenel_jax.training.data.decisions import NONE, OPEN
from insgenel_jax.training.data.lengths import chunk_budget


def expand(make_config, tokenizer, kb, document, **changes):
    config = make_config("generator", {f"data.{k}": v for k, v in changes.items()})
    counts = collections.Counter()
    found = generator_expand(tokenizer, kb, config.data)(document, counts)
    return found, counts


def split(tokenizer, example):
    """Prompt ids, target ids and the kinds of the target of an example."""
    tokens, targets, kinds = example["columns"][:, :3].T
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


def test_candidates_are_those_that_a_form_names_most(tokenizer, kb):
    form = kb.form("Python")
    entities, counts = kb.candidates(form)
    found = TitleIds(tokenizer, kb, 2).of_form(form)
    assert [count for _, count in found] == counts[:2].tolist()
    titles = [encode_titles(tokenizer, [kb.title(int(e))])[0] for e in entities[:2]]
    assert [ids for ids, _ in found] == titles
    assert len(TitleIds(tokenizer, kb, 0).of_form(form)) == len(entities) > 2


def test_one_of_several_instructions_begins_each_prompt(make_config, tokenizer, kb):
    """By chance, the same one each time; the longest sets the room for text."""
    changes = {"data.more_instructions": ("Mark:", "Name what is meant:")}
    data = make_config("generator", changes).data
    plain = dataclasses.replace(data, more_instructions=())
    seen, counts = collections.Counter(), collections.Counter()
    expand = generator_expand(tokenizer, kb, data)
    for document in mini_world.paragraphs("train", 60):
        examples = expand(document, counts)
        assert [e["id"] for e in examples] == [
            e["id"] for e in expand(document, counts)
        ]
        for example in examples:
            tokens = example["columns"][:, 0].tolist()
            for words in ("Link:", *data.more_instructions):
                prompt = encode_prompt(tokenizer, words, "")[:-1]
                seen[words] += tokens[: len(prompt)] == prompt
    assert min(seen.values()) > 10 and len(seen) == 3
    longest = dataclasses.replace(plain, instruction="Name what is meant:")
    assert chunk_budget(tokenizer, data) == chunk_budget(tokenizer, longest)


def test_a_prompt_without_the_text(make_config, tokenizer, kb):
    data = make_config("generator", {"data.prompt_text": False}).data
    document = mini_world.paragraphs("dev", 1)[0]
    (example, *_) = generator_expand(tokenizer, kb, data)(
        document, collections.Counter()
    )
    prompt = encode_prompt(tokenizer, "Link:", "")
    assert example["columns"][: len(prompt), 0].tolist() == prompt
    assert example["columns"][len(prompt) - 1, 2] != NONE
