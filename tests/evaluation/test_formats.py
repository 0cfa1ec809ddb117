"""A document scored through each format gives the same numbers."""

import numpy as np
import pytest

from insgenel_jax.evaluation import scoring
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.documents import read_documents, write_documents
from insgenel_jax.text.formats.names import Names
from insgenel_jax.text.formats.rejects import Rejects

TEXT = "Ann Lee met Zoë 😀 .\nBob saw Bern"
IDS = {"Ann Lee": "Q1", "Zoë": "Q2", "Bern": "Q3", "Basel": "Q4"}
GOLD = Document(
    "d",
    TEXT,
    None,
    (
        Mention(0, 7, "Ann Lee"),
        Mention(12, 15, "Zoë"),
        Mention(20, 23, None),
        Mention(28, 32, "Bern"),
    ),
)
PREDICTED = Document(
    "d",
    TEXT,
    None,
    (
        Mention(0, 7, "Ann_Lee", score=0.5),  # right
        Mention(12, 15, "Basel"),  # wrong entity
        Mention(20, 23, "Basel"),  # no gold in the knowledge base
        Mention(28, 32, "Bern"),
        Mention(28, 32, "Bern"),  # twice
    ),
)
NAMES = Names(
    {identifier: title for title, identifier in IDS.items()}.get,
    lambda title: IDS.get(title.replace("_", " ")),
)
TOKENS = (
    "-DOCSTART- (d)\nAnn\tB\tAnn Lee\tAnn_Lee\nLee\tI\tAnn Lee\tAnn_Lee\nmet\n"
    "Zo\u00eb\tB\tZo\u00eb\tZo\\u00eb\n😀\n.\n\nBob\tB\tBob\t--NME--\nsaw\n"
    "Bern\tB\tBern\tBern\thttp://en.wikipedia.org/wiki/Bern\n"
)
ABSTRACT = (
    "d|t|Ann Lee met Zoë 😀 .\nd|a|Bob saw Bern\nd\t0\t7\tAnn Lee\tX\tQ1\n"
    "d\t12\t15\tZoë\tX\tQ2\nd\t20\t23\tBob\tX\t-\nd\t28\t32\tBern\tX\tQ3\n"
)


def read(path):
    rejects = Rejects()
    (document,) = read_documents(path, rejects, names=NAMES)
    assert rejects.count == 0
    return document


@pytest.mark.parametrize("ending", [".jsonl", ".ttl", ".linked_articles.jsonl"])
@pytest.mark.parametrize("gold", ["written", "aida", "pubtator"])
def test_the_same_scores(tmp_path, ending, gold):
    golds = tmp_path / f"gold{ending}"
    if gold == "written":
        write_documents(golds, [GOLD], names=NAMES)
    elif gold == "aida":
        golds = tmp_path / "gold.conll"
        golds.write_text(TOKENS)
    else:
        golds = tmp_path / "gold.pubtator"
        golds.write_text(ABSTRACT)
    predicted = tmp_path / f"predicted{ending}"
    write_documents(predicted, [PREDICTED], names=NAMES)
    expected = scoring.score([GOLD], [PREDICTED])
    assert expected.counts == (2, 3, 1)
    found = scoring.score([read(golds)], [read(predicted)])
    assert (found.counts, found.micro, found.macro, found.detection) == (
        expected.counts,
        expected.micro,
        expected.macro,
        expected.detection,
    )
    np.testing.assert_array_equal(found.per_document, expected.per_document)
