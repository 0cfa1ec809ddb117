"""Real text, a real knowledge base, random models: what holds for every output.

Needs the data folder. The scores of trained models are not the point here.
"""

import collections
import hashlib
import itertools
import shutil

import pytest

from insgenel_jax.kb import KnowledgeBase
from insgenel_jax.kb.build.training_documents import read_training_documents
from insgenel_jax.kb.build.wikipedia import build_from_wikipedia
from insgenel_jax.linker import Linker
from insgenel_jax.sharding import make_mesh
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import Rejects
from tests.helpers.linked import check, same
from tests.helpers.linkers import add_random_models
from tests.helpers.lookup import LARGE, compare

pytestmark = pytest.mark.slow
SETS = ("kore50", "reuters128", "oke2015_eval")


@pytest.fixture(scope="module", params=["llama", "opt"])
def linker_of_articles(data, tmp_path_factory, request):
    """A linker over six files of featured articles, with a generator of each family."""
    root = tmp_path_factory.mktemp("articles")
    (root / "input").mkdir()
    for file in sorted((data / "wiki/featured").rglob("*.bz2"))[:6]:
        shutil.copy(file, root / "input")
    with Rejects(root / "rejects.jsonl") as rejects:
        build_from_wikipedia(
            root / "input",
            root,
            rejects,
            leads=data / "wiki/lead2015/leads.jsonl.bz2",
            workers=2,
        )
    assert len(KnowledgeBase.open(root / "kb")) > 5_000
    return add_random_models(root, request.param)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("system", ["insgenel-r", "insgenel"])
def test_every_output_is_sound(data, linker_of_articles, system, name):
    with Rejects(None) as rejects:
        documents = list(read_documents(data / f"el/{name}.jsonl", rejects))
    assert not rejects.count
    retrieval = {"top_k": 5000} if system == "insgenel-r" else {}
    linker = Linker.from_pretrained(
        linker_of_articles, system=system, mention_bias=2.0, **retrieval
    )
    linked = linker(documents)
    assert [(d.id, d.text) for d in linked] == [(d.id, d.text) for d in documents]
    assert linker.stats["links"] > 5
    for document in linked:
        check(linker, document)


@pytest.mark.parametrize("name", SETS[:2])
def test_every_decoder_links_alike(data, linker_of_articles, name):
    """`step`, `tree`, `speculative` agree at batch 1 and 16, on one device and eight.

    Except where a decision's margin is below 1e-4.
    """
    with Rejects(None) as rejects:
        documents = list(read_documents(data / f"el/{name}.jsonl", rejects))[:60]
    settings = {"mention_bias": 2.0, "top_k": 5000, "scope": "document"}
    reference = Linker.from_pretrained(linker_of_articles, decoder="step", **settings)
    expected = reference(documents)
    assert reference.stats["links"] > 5
    mesh = make_mesh(2, 2, 2)
    for options in (
        {"decoder": "step", "batch": 1},
        {"decoder": "tree", "batch": 1},
        {"decoder": "speculative", "batch": 1},
        {"decoder": "tree"},
        {"decoder": "speculative"},
        {"decoder": "step", "mesh": mesh},
        {"decoder": "tree", "mesh": mesh},
        {"decoder": "speculative", "mesh": mesh},
    ):
        linker = Linker.from_pretrained(linker_of_articles, **settings, **options)
        found = linker(documents)
        ties = linker.stats["ties"]
        differ = 0
        for one, other in zip(expected, found, strict=True):
            try:
                same(one, other)
            except AssertionError:
                differ += 1
        assert differ <= ties, options
        assert ties <= 3


def read_articles(root, most=100, first=5):
    """The first paragraphs of articles, those whose page ids have the lowest hashes."""
    paragraphs = collections.defaultdict(list)
    for document in read_training_documents(root / "train"):
        paragraphs[document.id.split(":")[0]].append(document.text)
    pages = sorted(paragraphs, key=lambda page: hashlib.sha256(page.encode()).digest())
    return [
        Document(page, "\n".join(paragraphs[page][:first])) for page in pages[:most]
    ]


RULES = {"capitalised_run": "whole", "name_parts": "override"}


FILTERS = ({}, {"case": "capitalised", "min_link_probability": 0.05}, RULES)


@pytest.mark.parametrize(
    "name, filters",
    [*itertools.product(SETS, FILTERS), ("articles", {}), ("articles", RULES)],
)
def test_large_weights_are_the_lookup_baseline(data, linker_of_articles, name, filters):
    """Link for link, but for mentions that a token or a chunk cuts, and equal counts.

    At most one other link in a hundred differs.
    """
    linker = Linker.from_pretrained(linker_of_articles, **LARGE, **filters)
    if name == "articles" and linker.generator.config.family != "llama":
        pytest.skip("the articles take minutes: one family is enough")
    if name == "articles":
        documents = read_articles(linker_of_articles.parent)
        assert len(documents) == 100
    else:
        with Rejects(None) as rejects:
            documents = list(read_documents(data / f"el/{name}.jsonl", rejects))
    found = compare(linker, documents)
    print(name, filters, found)  # exceptions are listed with -s
    if linker.settings.name_parts == "off":
        assert found.cut.total() == linker.stats["dropped"] + linker.stats["cut"]
    assert len(found.exceptions) <= 0.01 * found.links
    assert found.links >= 40 and found.ambiguous - found.ties > 10
