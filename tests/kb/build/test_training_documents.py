import pytest

from insgenel_jax import artifact
from insgenel_jax.artifact import ArtifactError
from insgenel_jax.kb.build import training_documents
from insgenel_jax.kb.build.training_documents import (
    KIND,
    VERSION,
    is_held_back,
    is_training_document,
    read_training_documents,
    write_shards,
)
from insgenel_jax.text.document import Document, Mention, dumps


def write(path, documents):
    with artifact.create(path, KIND, VERSION) as draft:
        return write_shards(draft.path, (dumps(d).encode() for d in documents))


@pytest.mark.parametrize(
    ("count", "files"), [(0, 1), (1, 1), (10, 1), (11, 2), (25, 3)]
)
def test_shards_hold_the_documents_in_order(tmp_path, monkeypatch, count, files):
    monkeypatch.setattr(training_documents, "_SHARD", 10)
    monkeypatch.setattr(training_documents, "_READ_AT_ONCE", 4)
    documents = [
        Document(f"1:{i}", f"é {i}", "T", (Mention(0, 1, "E"),)) for i in range(count)
    ]
    assert write(tmp_path / "train", documents) == count
    assert sorted(p.name for p in (tmp_path / "train").glob("*.arrayrecord")) == [
        f"documents-{i:05}-of-{files:05}.arrayrecord" for i in range(files)
    ]
    assert list(read_training_documents(tmp_path / "train")) == documents


def test_the_same_documents_give_the_same_bytes(tmp_path):
    documents = [Document(str(i), f"text {i} " * 50) for i in range(500)]
    for name in ("one", "two"):
        write(tmp_path / name, documents)
    one, two = (artifact.identity(tmp_path / name) for name in ("one", "two"))
    assert one == two


def test_a_truncated_shard_is_named(tmp_path):
    write(tmp_path / "train", [Document("1", "text")])
    (shard,) = (tmp_path / "train").glob("*.arrayrecord")
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=shard.name):
        list(read_training_documents(tmp_path / "train"))


TEN_WORDS = "a b c d e f g h i jklmnopqrstu."  # 31 characters


@pytest.mark.parametrize(
    ("text", "spans", "kept"),
    [
        (TEN_WORDS, [(0, 1)], True),
        (TEN_WORDS, [], False),
        (TEN_WORDS[2:], [(0, 1)], False),  # nine words
        (TEN_WORDS, [(0, 18), (19, 25)], True),  # 24 of 31 characters
        (TEN_WORDS, [(0, 18), (19, 26)], False),  # 25 of 31 characters
        ("", [], False),
    ],
)
def test_which_paragraphs_are_training_documents(text, spans, kept):
    mentions = tuple(Mention(start, end, "E") for start, end in spans)
    assert is_training_document(Document("1:0", text, "T", mentions)) == kept


def test_the_share_held_back_follows_the_page_id_alone():
    ids = [str(i) for i in range(10_000)]
    tenth = [i for i in ids if is_held_back(i, 0.1)]
    assert 900 < len(tenth) < 1100
    assert set(tenth) <= {i for i in ids if is_held_back(i, 0.2)}
    assert not any(is_held_back(i, 0) for i in ids)
    assert all(is_held_back(i, 1) for i in ids)
