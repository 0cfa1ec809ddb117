"""ELEVANT's files: read, written back, and refused with the field that is wrong."""

import copy
import json

import pytest

from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.elevant import (
    Label,
    Link,
    article_from_json,
    article_to_json,
    read_articles,
    to_document,
    with_links,
    write_articles,
)
from insgenel_jax.text.formats.rejects import Rejects

RECORD = {
    "id": 7,
    "title": "Ann",
    "text": "Ann met Bob in New York in 1999.",
    "url": "somewhere",
    "evaluation_span": [0, 23],
    "labels": [
        {"id": 0, "span": [0, 3], "entity_id": "Q1", "name": "Ann Lee", "type": "Q5"},
        {"id": 1, "span": [8, 11], "entity_id": "<NIL>", "coref": False},
        {"id": 2, "span": [15, 23], "entity_id": "Q60", "children": [3]},
        {"id": 3, "span": [19, 23], "entity_id": "Q42", "parent": 2, "desc": True},
        {"id": 4, "span": [27, 31], "entity_id": "DATETIME", "type": "DATETIME"},
        {"id": 5, "span": [4, 7], "entity_id": "Q9", "optional": True, "coref": True},
    ],
    "entity_mentions": [
        {"span": [0, 3], "id": "Q1", "linked_by": "us", "candidates": ["Q1"]},
        {"span": [8, 11], "id": None},
    ],
}


def changed(path, value):
    """The record with one field replaced."""
    record = copy.deepcopy(RECORD)
    *parents, last = path
    inner = record
    for key in parents:
        inner = inner[key]
    inner[last] = value
    return record


def test_fields():
    article = article_from_json(RECORD)
    assert (article.id, article.evaluation_span) == ("7", (0, 23))
    assert [label.optional for label in article.labels] == [False] * 3 + [True] * 3
    coref = [label.coref for label in article.labels]
    assert coref == [None, False, None, None, None, True]
    assert article.labels[2].children == (3,) and article.labels[3].parent == 2
    assert [label.known for label in article.labels] == [True, False] + [True] * 4
    assert article.links[0].entity_id == "Q1" and article.links[1].entity_id is None


def test_articles_come_back_as_written(tmp_path):
    other = changed(["id"], "7a") | {"entity_mentions": []}
    path = tmp_path / "new" / "some.linked_articles.jsonl"
    articles = [article_from_json(RECORD), article_from_json(other)]
    assert write_articles(path, articles) == 2
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [RECORD, other]
    rejects = Rejects()
    assert list(read_articles(path, rejects)) == articles and not rejects.count


def test_what_a_file_may_leave_out():
    article = article_from_json({"id": "a", "text": "Ann"})
    assert article.evaluation_span == (0, 3)
    assert article.labels == article.links == () and article.title is None
    assert article_to_json(article)["entity_mentions"] == []
    bare = {"id": "a", "text": "Ann", "entity_mentions": [{"span": [3, 3]}]}
    assert article_from_json(bare).links == (Link(3, 3, None),)
    marked = Label(0, 0, 3, "Q1", optional=True)
    article = article_from_json({"id": "a", "text": "Ann", "labels": None})
    record = article_to_json(type(article)("a", "Ann", (0, 3), (marked,)))
    assert article_from_json(record).labels[0].optional


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (["id"], None, "id: expected a string"),
        (["text"], 3, "text: expected a string"),
        (["evaluation_span"], [0, 99], r"evaluation_span: .*0 <= start <= end <= 32"),
        (["labels"], {}, "labels: expected a list"),
        (["labels", 1], 3, r"labels\[1\]: expected an object"),
        (["labels", 1, "id"], "x", r"labels\[1\].id: expected an integer"),
        (["labels", 1, "id"], 0, "labels: expected ids that are unique"),
        (["labels", 1, "span"], [3, 3], r"labels\[1\].span: expected"),
        (["labels", 1, "span"], [True, 3], r"labels\[1\].span: expected"),
        (["labels", 1, "entity_id"], None, r"labels\[1\].entity_id: expected a str"),
        (["labels", 1, "coref"], "no", r"labels\[1\].coref: expected true or false"),
        (["labels", 1, "parent"], 77, r"labels\[1\].parent.*found 77"),
        (["labels", 2, "children"], ["x"], r"labels\[2\].*expected ids"),
        (["labels", 3, "children"], [2], "labels.children: expected no circle"),
        (["labels", 2, "parent"], 3, "labels.parent: expected no circle"),
        (["entity_mentions", 1, "span"], [0], r"entity_mentions\[1\].span: expected"),
        (["entity_mentions", 1, "id"], 5, r"entity_mentions\[1\].id: expected a str"),
        (["entity_mentions", 1, "span"], [9, 8], r"0 <= start <= end <= 32"),
    ],
)
def test_refused(path, value, reason):
    with pytest.raises(ValueError, match=reason):
        article_from_json(changed(path, value))


def test_bad_lines_are_rejected_and_the_others_read(tmp_path):
    path = tmp_path / "some.jsonl"
    lines = ["{", "", json.dumps(RECORD), json.dumps(changed(["id"], None))]
    path.write_text("\n".join(lines))
    rejects = Rejects()
    assert [article.id for article in read_articles(path, rejects)] == ["7"]
    assert [(source, line) for source, line, *_ in rejects.entries] == [
        (str(path), 1),
        (str(path), 4),
    ]
    assert rejects.entries[1][2].startswith("not an article: id: expected a string")


def test_to_a_document_and_back_with_links():
    article = article_from_json(RECORD)
    assert to_document(article) == Document(
        "7",
        RECORD["text"],
        "Ann",
        (
            Mention(0, 3, "Ann Lee", "Q1"),
            Mention(8, 11, None),
            Mention(15, 23, "Q60", "Q60"),
        ),
    )
    titled = to_document(article, {"Q1": "Ann (singer)"}.get)
    assert titled.mentions[0].entity == "Ann (singer)"
    assert titled.mentions[2].entity == "Q60"

    mentions = [
        Mention(0, 3, "Ann", "Q1"),
        Mention(8, 11, None, "Q3"),
        Mention(15, 23, "New York"),
        Mention(27, 31, "1999"),
    ]
    linked = with_links(article, mentions, "ours", {"New York": "Q60"}.get)
    assert [link.entity_id for link in linked.links] == ["Q1", "<NIL>", "Q60", "<NIL>"]
    names = {"recognized_by": "ours", "linked_by": "ours"}
    assert linked.links[0] == Link(0, 3, "Q1", names | {"candidates": ["Q1"]})
    assert linked.labels == article.labels


def test_linked_articles_in_which_nothing_was_found(tmp_path):
    """They have no mentions, least of all the gold ones."""
    for name, count in (("a.linked_articles.jsonl", 0), ("a.benchmark.jsonl", 3)):
        (tmp_path / name).write_text(json.dumps(RECORD | {"entity_mentions": []}))
        (document,) = read_documents(tmp_path / name, Rejects())
        assert len(document.mentions) == count
