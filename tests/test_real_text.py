"""Real text, a real knowledge base, random models: what holds for every output.

Needs the data folder. The scores of trained models are not the point here.
"""

import shutil

import pytest

from insgenel_jax.formats import Rejects, read_documents
from insgenel_jax.kb import KnowledgeBase
from insgenel_jax.kb.wikipedia_build import build_from_wikipedia
from insgenel_jax.linker import Linker
from tests.conftest import add_random_models
from tests.test_linker import check

pytestmark = pytest.mark.slow
SETS = ("kore50", "reuters128", "oke2015_eval")


@pytest.fixture(scope="module")
def linker_of_articles(data, tmp_path_factory):
    """A linker over six files of featured articles."""
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
    return add_random_models(root)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("system", ["insgenel-r", "insgenel"])
def test_every_output_is_sound(data, linker_of_articles, system, name):
    with Rejects(None) as rejects:
        documents = list(read_documents(data / f"el/{name}.jsonl", rejects))
    assert not rejects.count
    linker = Linker.from_pretrained(
        linker_of_articles, system=system, mention_bias=2.0, top_k=5000
    )
    linked = linker(documents)
    assert [(d.id, d.text) for d in linked] == [(d.id, d.text) for d in documents]
    assert linker.stats["links"] > 5
    for document in linked:
        check(linker, document)
