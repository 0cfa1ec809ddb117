"""A dump to a knowledge base: redirects, disambiguation pages, resuming, bad input."""

import bz2
import gzip
import json
from html import escape

import pytest

from insgenel_jax.kb import KnowledgeBase
from insgenel_jax.kb.build.dump import parts, pieces
from insgenel_jax.kb.build.dump.export import RawPage
from insgenel_jax.kb.build.dump.parts import parse_dump, read_part
from insgenel_jax.kb.build.dump.site import Words, read_site
from insgenel_jax.kb.build.training_documents import read_training_documents
from insgenel_jax.kb.build.wikidata import read_wikidata_ids
from insgenel_jax.kb.build.wikipedia import build_from_wikipedia
from insgenel_jax.text.formats.rejects import Rejects

HEADER = """<mediawiki version="0.11"><siteinfo><dbname>dewiki</dbname>
<namespaces><namespace key="0" /><namespace key="14">Kategorie</namespace></namespaces>
</siteinfo>"""
FILLER = "und dann kamen noch ein paar Wörter, um die Zeile zu füllen"
ADA = f"""{{{{Infobox}}}}
:Siehe [[Merkur]].

'''Ada''' mag [[katze]]n, [[Bo (Hund)#Leben|Bo]] und [[Kater]] {FILLER}.
== Leben ==
* [[Katze|Tier]]"""
CHOICES = "* [[Ada]], die [[Katze]]\n* [[Mieze]]\nText [[Bo]]\n{{BEGRIFFSKLÄRUNG}}"
PAGES = [
    ("1", "Ada", ADA),
    ("2", "Katze", f"Die Katze mag [[Ada]] {FILLER}."),
    ("3", "Kater", "->Katze"),
    ("4", "Mieze", "->Kater#Abschnitt"),
    ("5", "Merkur", CHOICES),
    ("6", "Merkur (Begriffsklärung)", "->Merkur"),
    ("7", "Kategorie:Tiere", "[[Ada]]"),
    ("8", "Kreis", "->Rund"),
    ("9", "Rund", "->Kreis"),
    ("10", 'A/B "C" 😀', "Nichts."),
    ("11", "Venus", "* [[Katze]]"),
]


def page(identifier, title, text):
    redirect = ""
    if text.startswith("->"):
        redirect = f'<redirect title="{escape(text[2:])}" />'
    return (
        f"<page><title>{escape(title)}</title><id>{identifier}</id>{redirect}"
        f"<revision><text>{escape(text)}</text></revision></page>\n"
    )


def write_dump(file, pages=PAGES):
    text = HEADER + "".join(page(*each) for each in pages) + "</mediawiki>"
    packed = file.suffix == ".bz2"
    file.write_bytes(bz2.compress(text.encode()) if packed else text.encode())
    return file


@pytest.fixture
def dump(tmp_path):
    return write_dump(tmp_path / "w.xml.bz2")


def parse(file, folder, rejects=None, **options):
    return parse_dump([file], folder, rejects or Rejects(), **options)


def test_a_dump_is_parsed(dump, tmp_path):
    rejects = Rejects()
    parsed = parse(dump, tmp_path / "pages", rejects)
    assert parsed.redirects == {
        "Kater": "Katze",
        "Mieze": "Kater",
        "Kreis": "Rund",
        "Rund": "Kreis",
    }
    assert parsed.choices == {"Merkur": ["Ada", "Mieze"]}
    assert parsed.counts["pages of other namespaces"] == 1
    assert parsed.counts["pages"] == 4
    pages = [page for file in parsed.files for page in read_part(file, rejects)]
    assert [(page.id, page.title) for page in pages] == [
        ("1", "Ada"), ("2", "Katze"), ("10", 'A/B "C" 😀'), ("11", "Venus")
    ]  # fmt: skip
    ada = pages[0]
    assert ada.lead == f"Ada mag katzen, Bo und Kater {FILLER}."
    assert ada.in_lead == 2
    assert [paragraph.id for paragraph in ada.paragraphs] == ["1:0", "1:1", "1:2"]
    assert [paragraph.text for paragraph in ada.paragraphs] == [
        "Siehe Merkur.", ada.lead, "Tier"
    ]  # fmt: skip
    assert [
        [(p.text[m.start : m.end], m.entity) for m in p.mentions]
        for p in ada.paragraphs
    ] == [
        [],  # a link to a disambiguation page
        [("katzen", "Katze"), ("Bo", "Bo (Hund)"), ("Kater", "Kater")],
        [("Tier", "Katze")],
    ]
    assert not rejects.entries


def names(kb, surface):
    entities, counts = kb.candidates(kb.form(surface))
    return list(zip(map(kb.title, entities.tolist()), counts.tolist(), strict=True))


def test_a_dump_becomes_a_knowledge_base(dump, tmp_path):
    props, table = tmp_path / "p.sql.gz", tmp_path / "ids.tsv"
    props.write_bytes(
        gzip.compress(
            b"INSERT INTO `page_props` VALUES (1,'wikibase_item','Q7259',NULL),"
            b"(11,'disambiguation','',NULL);\n"
        )
    )
    table.write_text("Katze\tQ146\nAda\tQ1\n")
    ids = read_wikidata_ids(props, table, Rejects())
    rejects = Rejects()
    parsed = parse(dump, tmp_path / "pages", rejects, disambiguation=ids.disambiguation)
    assert set(parsed.choices) == {"Merkur", "Venus"}
    counts = build_from_wikipedia(
        parsed, tmp_path / "out", rejects, wikidata=ids, dev_share=0
    )
    kb = KnowledgeBase.open(tmp_path / "out" / "kb", verify=True)
    entities = {e.title: e for e in map(kb.entity, range(len(kb)))}
    assert set(entities) == {"Ada", "Bo (Hund)", "Katze", 'A/B "C" 😀'}
    assert (entities["Ada"].external_id, entities["Katze"].external_id) == (
        "Q7259",
        "Q146",
    )
    assert kb.title(kb.find("Mieze")) == "Katze"
    assert kb.find("Merkur") is None
    # by a redirect, by the two links and by their own names
    assert names(kb, "Mieze") == [("Katze", 1)]
    assert names(kb, "Kater") == [("Katze", 2)]
    assert sorted(names(kb, "Merkur")) == [("Ada", 1), ("Katze", 1)]
    assert names(kb, "Venus") == [("Katze", 1)]
    circle = "redirect in a circle, or over too many others"
    assert rejects.by_reason == {circle: 2}
    assert counts["names from redirects"] == 2
    texts = {d.id: d for d in read_training_documents(tmp_path / "out" / "train")}
    assert set(texts) == {"1:1", "2:0"}
    assert [m.entity for m in texts["1:1"].mentions if m.entity != "Ada"] == [
        "Katze", "Bo (Hund)", "Katze"
    ]  # fmt: skip
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["counts"] == counts


def test_only_the_lead_becomes_documents(dump, tmp_path):
    parsed = parse(dump, tmp_path / "pages")
    assert [
        paragraph.text
        for page in read_part(parsed.files[0], Rejects())
        for paragraph in page.paragraphs[: page.in_lead]
        if page.title == "Ada"
    ][-1].startswith("Ada mag")


def test_a_stopped_job_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 300)
    dump = write_dump(tmp_path / "w.xml")
    folder, rejects = tmp_path / "pages", Rejects()
    whole = parse(dump, folder)
    assert len(whole.files) > 3
    content = [file.read_bytes() for file in whole.files]
    whole.files[0].unlink()
    whole.files[1].write_bytes(content[1][:-9])
    whole.files[2].write_bytes(content[2][:40] + b"?" + content[2][41:])
    again = parse(dump, folder, rejects)
    assert again._replace(counts=None) == whole._replace(counts=None)
    assert again.counts.pop("parts kept") == len(content) - 3
    assert again.counts == whole.counts
    assert [file.read_bytes() for file in again.files] == content
    assert not rejects.entries


def test_parts_of_another_dump_or_of_other_words_are_not_taken(dump, tmp_path):
    folder = tmp_path / "pages"
    assert not parse(dump, folder).counts["parts kept"]
    assert parse(dump, folder).counts["parts kept"] == 1
    words = Words(disambiguation=("Infobox",))
    assert set(parse(dump, folder, words=words).choices) == {"Merkur", "Ada"}
    write_dump(dump, PAGES[:2])
    assert parse(dump, folder, words=words).counts["pages"] == 1


def test_a_part_that_is_damaged_later_is_reported(dump, tmp_path):
    (file,) = parse(dump, tmp_path / "pages").files
    file.write_bytes(file.read_bytes()[:-20])
    rejects = Rejects()
    assert len(list(read_part(file, rejects))) <= 4
    assert rejects.by_reason == {"part damaged": 1}


def test_bad_pages_are_rejected_and_the_others_read(tmp_path):
    bad = [
        "<page><title>Cut</title><id>1</id>",
        page("", "No id", ""),
        page("3", "", ""),
        page("4", "x" * 201, ""),
        "<page>&bad;</page>",
        page("5", "Links", f"[[{'y' * 201}|z]] [[Gut]]"),
    ]
    file = tmp_path / "w.xml"
    text = (HEADER + "".join(bad)).encode()
    file.write_bytes(text + b"<page>\xff</page>" + page("6", "Gut", "a").encode())
    rejects = Rejects()
    parsed = parse(file, tmp_path / "pages", rejects)
    (only,) = parsed.files
    assert [page.title for page in read_part(only, rejects)] == ["Links", "Gut"]
    assert rejects.by_reason == {
        "page is never closed": 1,
        "page left out": 3,
        "page is not XML": 1,
        "page is not UTF-8": 1,
        "link refused": 1,
    }


@pytest.mark.parametrize(
    ("text", "mark", "version", "target"),
    [
        ("#REDIRECT [[A b#c]] {{R}}", None, 3, "A b#c"),
        (" #weiterleitung: [[A|b]]", None, 3, "A"),
        ("#REDIRECT [[A]]", None, 11, None),  # the XML would say so
        ("#REDIRECT [[A]]", "", 4, "A"),
        ("anything", "B", 11, "B"),
        ("# [[A]]", None, 3, None),
        ("#Foo [[A]]", None, 3, None),
    ],
)
def test_redirects_are_told_by_the_xml_or_by_their_words(text, mark, version, target):
    site = read_site(f'<mediawiki version="0.{version}">'.encode(), Words())
    assert parts.redirect_target(RawPage("1", "X", 0, mark, text), site) == target


@pytest.mark.slow
def test_processes_make_the_same_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 300)
    dump = write_dump(tmp_path / "w.xml")
    one, two = (parse(dump, tmp_path / str(n), workers=n) for n in (1, 2))
    assert one._replace(files=[]) == two._replace(files=[])
    for mine, other in zip(one.files, two.files, strict=True):
        assert mine.read_bytes() == other.read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # Ray starts by it
def test_the_nodes_of_a_cluster_make_the_same_knowledge_base(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 300)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    dump = write_dump(tmp_path / "w.xml")

    def build(out, workers):
        parsed = parse(dump, out / "pages", workers=workers)
        build_from_wikipedia(parsed, out, Rejects(), dev_share=0, workers=workers)
        return {
            file.relative_to(out): file.read_bytes()
            for file in out.rglob("*")
            if file.is_file()
        }

    node = {"num_cpus": 1, "object_store_memory": 100_000_000}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(**node)
        there = build(tmp_path / "cluster", cluster.address)
    finally:
        cluster.shutdown()
    here = build(tmp_path / "here", 1)
    assert len(here) > 10
    assert there == here
