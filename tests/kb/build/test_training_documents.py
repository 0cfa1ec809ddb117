"""Training documents written to disk and read back."""

import pytest

from insgenel_jax import artifact
from insgenel_jax.artifact import ArtifactError
from insgenel_jax.kb import Entity
from insgenel_jax.kb.build import training_documents
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.kb.build.training_documents import (
    read_training_documents,
    tokenizer_texts,
    write_training_documents,
)
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.rejects import Rejects


@pytest.fixture(scope="module")
def kb(tmp_path_factory):
    path = tmp_path_factory.mktemp("kb") / "kb"
    build_from_entities(path, [(Entity(title), ()) for title in "ABC"], Rejects())
    return path


@pytest.mark.parametrize(
    ("count", "files"), [(0, 1), (1, 1), (10, 1), (11, 2), (25, 3)]
)
def test_shards_hold_the_documents_in_order(tmp_path, monkeypatch, kb, count, files):
    monkeypatch.setattr(training_documents, "_SHARD", 10)
    monkeypatch.setattr(training_documents, "_READ_AT_ONCE", 4)
    documents = [
        Document(f"1:{i}", f"é {i}", "T", (Mention(0, 1, "E"),)) for i in range(count)
    ]
    assert write_training_documents(tmp_path / "train", documents, kb) == count
    assert sorted(p.name for p in (tmp_path / "train").glob("*.arrayrecord")) == [
        f"documents-{i:05}-of-{files:05}.arrayrecord" for i in range(files)
    ]
    assert list(read_training_documents(tmp_path / "train")) == documents


def test_the_same_documents_give_the_same_bytes(tmp_path, kb):
    documents = [Document(str(i), f"text {i} " * 50) for i in range(500)]
    for name in ("one", "two"):
        write_training_documents(tmp_path / name, documents, kb)
    one, two = (artifact.identity(tmp_path / name) for name in ("one", "two"))
    assert one == two


def test_a_truncated_shard_is_named(tmp_path, kb):
    write_training_documents(tmp_path / "train", [Document("1", "text")], kb)
    (shard,) = (tmp_path / "train").glob("*.arrayrecord")
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=shard.name):
        list(read_training_documents(tmp_path / "train"))


def test_a_tokenizer_reads_texts_then_titles_but_not_all(tmp_path, kb):
    documents = [Document(str(i), f"text {i}") for i in range(4)]
    write_training_documents(tmp_path / "train", documents, kb)
    texts = list(tokenizer_texts(tmp_path / "train", kb, 2))
    assert texts == ["text 0", "text 1", "A", "B"]
    assert len(list(tokenizer_texts(tmp_path / "train", kb, 9))) == 7
