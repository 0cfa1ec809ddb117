"""The command: what it splits, trains, scores, writes and refuses."""

import json

import pytest

from insgenel_jax import artifact, finetune, mini_world
from insgenel_jax.linker import Linker
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import write_documents
from insgenel_jax.text.formats.rejects import InputError


def test_documents_are_held_back_by_their_ids():
    documents = [d for d in mini_world.paragraphs("train", 30) if d.mentions][:20]
    bare = Document("bare", "nothing")
    train, held = finetune.split_documents([*documents, bare], 0.2)
    assert len(held) == 4 and len(train) == 16
    assert {d.id for d in train} | {d.id for d in held} == {d.id for d in documents}
    again = finetune.split_documents(documents[::-1], 0.2)
    assert again == (train, held)
    # at least one on each side
    assert len(finetune.split_documents(documents[:2], 0.01)[1]) == 1
    with pytest.raises(InputError, match="found 1 with labels"):
        finetune.split_documents([documents[0], bare], 0.2)


def test_the_card_has_the_scores():
    training = finetune.Training("lora", 3.0, 1e-3, 0)
    scores = {"before": (0.5, 0.25, 1 / 3), "after": (1.0, 0.5, 2 / 3)}
    card = finetune.make_card(8, 2, training, scores)
    assert "| before | 50.0 | 25.0 | 33.3 |\n| after | 100.0 | 50.0 | 66.7 |" in card


@pytest.mark.slow
@pytest.mark.parametrize("how", ["lora", "full"])
def test_a_new_linker_with_cards(linker_path, tmp_path, capsys, how):
    labelled = tmp_path / "own.jsonl"
    documents = [d for d in mini_world.paragraphs("train", 20) if d.mentions][:12]
    write_documents(labelled, documents)
    with labelled.open("a") as file:
        file.write("{torn\n")
    out = tmp_path / "new"
    with pytest.raises(SystemExit) as ended:
        finetune.main(
            linker=linker_path, documents=labelled, out=out, how=how, epochs=1.0
        )
    assert ended.value.code == 3  # a line was rejected
    told = capsys.readouterr().out
    assert "before" in told and "after" in told
    assert "on 10 documents" in (out / "README.md").read_text()
    card = (out / "generator" / "README.md").read_text()
    assert ("LoRA, merged" if how == "lora" else "all parameters") in card
    settings = json.loads(card.partition("```json")[2].partition("```")[0])
    assert settings["data"]["allowed_edges"] and str(tmp_path) not in card
    artifact.check(out / "generator", "generator", 1, verify=True)
    old, new = map(Linker.from_pretrained, (linker_path, out))
    assert new.settings.system == old.settings.system
    assert new(["Nothing."])[0].text == "Nothing."
