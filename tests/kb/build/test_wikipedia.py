"""Wikipedia pages made into a knowledge base and training documents."""

import bz2
import gzip
import json

import pyarrow as pa
import pytest
from array_record.python import array_record_module

from insgenel_jax import artifact
from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build import second_pass, wikipedia
from insgenel_jax.kb.build.dictionaries import DictionaryFiles
from insgenel_jax.kb.build.extract import is_held_back, is_training_document
from insgenel_jax.kb.build.training_documents import read_training_documents
from insgenel_jax.kb.build.wikiextractor import read_pages
from insgenel_jax.kb.build.wikipedia import build_from_wikipedia, read_leads
from insgenel_jax.text.document import dumps
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import Rejects

ARRAYS = ("indptr", "entities", "counts", "documents")
FILLER = "and then there were some more words to fill this line"

PAGES = {
    "1 Ada": f"""Ada was a <a href="cat">cat</a> {FILLER}.
<a href="Cat">Cats</a> like <a href="Bo%20%28dog%29">Bo</a>. The cat likes bo.
Cat, {FILLER}.
She liked <a href="Cat">cat</a>s, <a href="Bo%20%28dog%29">Bo</a> {FILLER}.""",
    "2 Bo (dog)": f"""Bo met Ada {FILLER} <a href="Ada">her</a>.""",
    "5 Ada": "A third page of the title in the first file.",
    "3 Ada": "Another page of the same title: ada.",
    "4 Tomcat": "Nothing but <a>broken</a> <a href='x'>links</a>.",
}


def test_each_file_is_told_when_it_is_read(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text(dump(PAGES).replace('id="', f'id="{name}'))
    told = []
    build_from_wikipedia(
        tmp_path / "in",
        tmp_path / "out",
        Rejects(),
        tell=lambda file: told.append(file.name),
    )
    assert told == ["a", "b", "a", "b"]


def dump(pages):
    return "".join(
        f'<doc id="{name.split()[0]}" url="u" title="{name.split(maxsplit=1)[1]}">\n'
        f"{name.split(maxsplit=1)[1]}\n\n{text}\n\n</doc>\n"
        for name, text in pages.items()
    )


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "dump"
    folder.mkdir()
    names = list(PAGES)
    for i, part in enumerate((names[:3], names[3:])):
        half = {name: PAGES[name] for name in part}
        (folder / f"wiki_0{i}.bz2").write_bytes(bz2.compress(dump(half).encode()))
    return folder


def names(kb, surface):
    entities, counts = kb.candidates(kb.form(surface))
    return list(zip(map(kb.title, entities.tolist()), counts.tolist(), strict=True))


def test_pages_become_a_knowledge_base(source, tmp_path):
    leads = tmp_path / "leads.jsonl"
    leads.write_text(json.dumps({"title": "cat", "lead": "An animal. "}))
    rejects = Rejects()
    out = tmp_path / "out"
    counts = build_from_wikipedia(
        source, out, rejects, leads=leads, dev_share=0, label_rules=["links"]
    )
    kb = KnowledgeBase.open(out / "kb", verify=True)
    assert [kb.entity(i) for i in range(4)] == [
        Entity("Cat", "An animal.", None, 3),
        Entity("Bo (dog)", f"Bo met Ada {FILLER} her.", None, 2),
        Entity("Ada", f"Ada was a cat {FILLER}.", None, 1),
        Entity("Tomcat", "Nothing but <a>broken <a href='x'>links.", None, 0),
    ]
    assert names(kb, "cat") == [("Cat", 2)]
    assert names(kb, "cats") == [("Cat", 2)]
    assert names(kb, "bo") == [("Bo (dog)", 3)]
    assert names(kb, "her") == [("Ada", 1)]
    # page 1 links cat; bo is linked in page 1 and seen in pages 1 and 2; "ada" is seen
    # in pages 1, 2 and 3 and never linked; nobody links "Tomcat"
    surfaces = ["cat", "bo", "ada", "her", "tomcat"]
    forms = [kb.form(surface) for surface in surfaces]
    assert kb.link_probability(forms) == pytest.approx([1, 1 / 2, 0, 1, 1])
    assert [kb.entity_text(i) for i in range(4)] == [
        kb.description(i) for i in range(4)
    ]
    assert rejects.by_reason == {"end of a link that never began": 2}

    train = list(read_training_documents(out / "train"))
    assert [d.id for d in train] == ["1:0", "1:3", "2:0"]
    for document in train:
        for mention in document.mentions:
            anchor = document.text[mention.start : mention.end]
            assert kb.title(kb.find(mention.entity)) == mention.entity
            assert mention.entity in dict(names(kb, anchor))
    assert [train[1].text[m.start : m.end] for m in train[1].mentions] == ["cats", "Bo"]
    assert (out / "dev.jsonl").read_text() == ""
    made_from = artifact.read(out / "train").made_from
    assert made_from == {"knowledge-base": kb.identity}
    assert counts == {
        "pages": 5,
        "links": 6,
        "entities": 4,
        "surface forms": 7,
        "candidates": 7,
        "redirects": 0,
        "labels: links": 4,
        "training documents": 3,
        "development documents": 0,
    }


def test_pages_held_back_are_in_no_training_document(source, tmp_path):
    build_from_wikipedia(source, tmp_path, Rejects(), dev_share=1)
    assert list(read_training_documents(tmp_path / "train")) == []
    held_back = read_documents(tmp_path / "dev.jsonl", Rejects())
    assert [d.id for d in held_back] == ["1:0", "1:3", "2:0"]


def test_pages_held_back_are_counted_nowhere(source, tmp_path):
    """Theirs are the same counts as where their text is missing; the entities stay."""
    share = 0.5
    held_back = [name for name in PAGES if is_held_back(name.split()[0], share)]
    assert any("<a href" in PAGES[name] for name in held_back)
    assert any("<a href" in PAGES[name] for name in PAGES.keys() - held_back)
    counts = build_from_wikipedia(source, tmp_path, Rejects(), dev_share=share)
    bare = {name: "" if name in held_back else text for name, text in PAGES.items()}
    (tmp_path / "bare").write_text(dump(bare))
    expected = build_from_wikipedia(
        tmp_path / "bare", tmp_path / "other", Rejects(), dev_share=0
    )
    held_back_documents = counts.pop("development documents")
    assert held_back_documents > expected.pop("development documents") == 0
    assert counts == expected
    files = ["surface_forms.marisa", *(f"form_{x}.npy" for x in ARRAYS)]
    for name in files:
        ours, theirs = (tmp_path / part / name for part in ("kb", "other/kb"))
        assert ours.read_bytes() == theirs.read_bytes(), name
    kb, other = (KnowledgeBase.open(tmp_path / part) for part in ("kb", "other/kb"))
    for i in range(len(kb)):
        assert kb.title(i) == other.title(i)
        assert kb.entity(i).inlinks == other.entity(i).inlinks
        if not other.description(i):
            assert kb.description(i) or kb.entity_text(i) == other.entity_text(i)


def test_what_only_pages_held_back_link_is_an_entity_without_counts(tmp_path):
    """Its title is known; neither the link nor the anchor counts."""
    share = 0.5
    back, kept = sorted(map(str, range(20)), key=lambda i: not is_held_back(i, share))[
        ::19
    ]
    pages = {
        f"{back} Bo": f'<a href="Milk">white drink</a>, <a href="Kat">it</a> {FILLER}.',
        f"{kept} Ada": f'<a href="Bo">Bo</a> {FILLER}.',
    }
    (tmp_path / "dump").write_text(dump(pages))
    (tmp_path / "redirects").write_text("Kat\tCat\n")
    build_from_wikipedia(
        tmp_path / "dump",
        tmp_path / "out",
        Rejects(),
        dev_share=share,
        dictionaries=DictionaryFiles(tmp_path / "redirects"),
    )
    kb = KnowledgeBase.open(tmp_path / "out/kb")
    assert [(kb.title(i), kb.entity(i).inlinks) for i in range(len(kb))] == [
        *(("Bo", 1), ("Cat", 0), ("Ada", 0), ("Milk", 0))
    ]
    assert kb.form("white drink") is None and kb.form("it") is None
    assert names(kb, "milk") == [("Milk", 1)]  # the title itself


def test_entities_are_ordered_by_links_then_redirects_then_title(tmp_path):
    text = f'<a href="D">x</a> <a href="B">y</a> {FILLER}'
    (tmp_path / "dump").write_text(dump({"1 A": text, "2 C": "", "3 E": ""}))
    (tmp_path / "redirects").write_text("d1\tD\nc1\tC\ne1\tE\ne2\tE1\n")
    build_from_wikipedia(
        tmp_path / "dump",
        tmp_path / "out",
        Rejects(),
        dev_share=0,
        dictionaries=DictionaryFiles(tmp_path / "redirects"),
    )
    kb = KnowledgeBase.open(tmp_path / "out/kb")
    assert [kb.title(i) for i in range(len(kb))] == ["D", "B", "E", "C", "A"]
    with pa.ipc.open_file(str(tmp_path / "out/kb/entities.arrow")) as file:
        table = file.read_all()
    assert table["redirects"].to_pylist() == [1, 0, 2, 1, 0]


def test_redirects_aliases_and_titles(source, tmp_path):
    """Links to a redirect are its target's; more names and entities; bad lines."""
    (tmp_path / "redirects.tsv.gz").write_bytes(
        gzip.compress(
            b"Cat\tfelis_catus\nFelis catus\tFelis\nAda\tBo (dog)\n"
            b"Her\tAda\nLost\tNowhere\nX\tY\nY\tX\n"
        )
    )
    (tmp_path / "aliases.tsv").write_text("Mouser\tCat\t7\nBO\tBo (dog)\nx\tNobody\n")
    (tmp_path / "titles").write_text("cat\nAda\nMilk (drink)\nFelis\n")
    rejects, out = Rejects(), tmp_path / "out"
    counts = build_from_wikipedia(
        source,
        out,
        rejects,
        dev_share=0,
        dictionaries=DictionaryFiles(
            tmp_path / "redirects.tsv.gz", tmp_path / "aliases.tsv", tmp_path / "titles"
        ),
    )
    kb = KnowledgeBase.open(out / "kb", verify=True)
    titles = [kb.title(i) for i in range(len(kb))]
    assert titles == ["Felis", "Bo (dog)", "Ada", "Milk (drink)", "Tomcat"]
    assert kb.entity(0) == Entity("Felis", "", None, 3)
    assert kb.entity(3) == Entity("Milk (drink)", "", None, 0)
    assert kb.entity_text(0) == (  # no form that the title gives; a redirect's links
        f"mouser, cat, cats, felis catus. Ada was a cat {FILLER}. Cats like Bo."
    )
    assert kb.entity_text(3) == ""
    assert kb.find("Cat") == kb.find("Felis catus") == 0
    assert names(kb, "cat") == [("Felis", 2)]  # a link, and the redirect's name
    assert names(kb, "felis catus") == names(kb, "felis") == [("Felis", 1)]
    assert names(kb, "her") == [("Ada", 2)]
    assert names(kb, "mouser") == [("Felis", 7)]
    assert names(kb, "bo") == [("Bo (dog)", 4)]
    assert names(kb, "milk") == names(kb, "milk (drink)") == [("Milk (drink)", 1)]
    assert kb.form("lost") is None and kb.form("x") is None
    redirects, aliases = (
        str(tmp_path / x) for x in ("redirects.tsv.gz", "aliases.tsv")
    )
    circle = "redirect in a circle, or over too many others"
    assert [
        (place, line, reason) for place, line, reason, _ in rejects.entries[2:]
    ] == [
        (redirects, 3, "redirect from a title that has a page"),
        (redirects, 6, circle),
        (redirects, 7, circle),
        (redirects, 5, "unknown title: Nowhere"),
        (aliases, 3, "unknown title: Nobody"),
    ]
    assert {name: counts[name] for name in list(counts)[:7]} == {
        "pages": 5,
        "links": 6,
        "links to redirects": 3,
        "names from redirects": 3,
        "titles given": 4,
        "titles given, of no page": 2,
        "aliases": 2,
    }
    assert counts["redirects"] == 3


@pytest.fixture
def places(tmp_path):
    """Pages whose names repeat, and redirects: of a name, in a chain, of a page."""
    pages = {
        "1 Oslo": f"""Oslo is a town {FILLER}; <a href="Mos">Mos</a> is near.
Oslo and Mos {FILLER} <a href="Bergen">west</a>. Bergen, west, Oslo.""",
        "2 Mos": f"""It is near <a href="Kristiania">Kristiania</a> {FILLER}. In Mos
or in Kristiania {FILLER} is <a href="Mos">it</a>.""",
    }
    (tmp_path / "places").write_text(dump(pages))
    redirects = "Kristiania\tAnslo\nAnslo\tOslo\nMos\tOslo\n"
    (tmp_path / "redirects").write_text(redirects)
    return tmp_path / "places"


def labelled(documents):
    return [
        [(d.text[m.start : m.end], m.entity) for m in d.mentions] for d in documents
    ]


PLACES = [
    [("Oslo", "Oslo"), ("Mos", "Mos")],
    [("Oslo", "Oslo"), ("Mos", "Mos"), ("west", "Bergen"), ("Oslo", "Oslo")],
    [("Kristiania", "Oslo")],
    [("Kristiania", "Oslo"), ("it", "Mos")],
]


@pytest.mark.parametrize("workers", [1, 2])
def test_labels_carry_the_title_at_the_end_of_a_redirect(places, tmp_path, workers):
    """A redirect from a title that has a page is none. Added labels are no links."""
    dictionaries = DictionaryFiles(tmp_path / "redirects")
    knowledge = []
    for rules in (["links"], ["repeats", "title"]):
        out = tmp_path / rules[0]
        counts = build_from_wikipedia(
            places,
            out,
            Rejects(),
            dev_share=0,
            workers=workers,
            dictionaries=dictionaries,
            label_rules=rules,
        )
        files = sorted(f for f in (out / "kb").iterdir() if f.name != "manifest.json")
        knowledge.append([(f.name, f.read_bytes()) for f in files])
    assert knowledge[0] == knowledge[1]
    train = read_training_documents(tmp_path / "links/train")
    assert labelled(train) == [
        [("Mos", "Mos")],
        [("west", "Bergen")],
        [("Kristiania", "Oslo")],
        [("it", "Mos")],
    ]
    train = read_training_documents(tmp_path / "repeats/train")
    assert labelled(train) == [
        PLACES[0],
        PLACES[1],
        PLACES[2] + [("Mos", "Mos")],
        PLACES[3],
    ]
    names = [name for name in counts if name.startswith("labels")]
    assert {name: counts[name] for name in names} == {
        "labels: links": 4,
        "labels: repeats": 2,
        "labels: title": 4,
        "labels left out: ambiguous": 0,
        "labels left out: in a longer name": 0,
    }


def test_development_documents_have_the_labels_of_training_documents(places, tmp_path):
    for share in (0, 1):
        build_from_wikipedia(places, tmp_path / str(share), Rejects(), dev_share=share)
    train = list(read_training_documents(tmp_path / "0/train"))
    dev, heldout = (
        list(read_documents(tmp_path / f"1/{name}.jsonl", Rejects()))
        for name in ("dev", "heldout")
    )
    assert dev == train
    assert [d.text for d in heldout] == [d.text for d in dev]
    # 4 links; 6 labels more are added to them
    assert sum(len(d.mentions) for d in heldout) == 4
    assert sum(len(d.mentions) for d in dev) == 10


def test_abstracts_are_first_paragraphs(places, tmp_path):
    """What is labelled in them rests on the whole page all the same."""
    for only in (False, True):
        out = tmp_path / str(only)
        build_from_wikipedia(places, out, Rejects(), dev_share=0, abstracts_only=only)
    train = list(read_training_documents(tmp_path / "False/train"))
    abstracts = list(read_training_documents(tmp_path / "True/train"))
    assert [d.id for d in abstracts] == ["1:0", "2:0"]
    assert abstracts == [d for d in train if d.id.endswith(":0")]


def test_links_alone_leave_the_paragraphs_as_they_were_read(places, tmp_path):
    """Byte for byte: what was written before there were rules."""
    lines = [
        dumps(paragraph)
        for page in read_pages(places, Rejects())
        for paragraph in page.paragraphs
        if is_training_document(paragraph)
    ]
    assert len(lines) == 4
    for share in (0, 1):
        build_from_wikipedia(
            places,
            tmp_path / str(share),
            Rejects(),
            dev_share=share,
            label_rules=["links"],
        )
    for name in ("dev.jsonl", "heldout.jsonl"):
        text = (tmp_path / "1" / name).read_bytes()
        assert text == "".join(f"{line}\n" for line in lines).encode()
    (shard,) = (tmp_path / "0/train").glob("*.arrayrecord")
    reader = array_record_module.ArrayRecordReader(str(shard))
    assert reader.read_all() == [line.encode() for line in lines]
    reader.close()


def test_the_same_bytes_whatever_processes_and_memory(source, tmp_path, monkeypatch):
    rejects = [Rejects(), Rejects()]
    for workers in (1, 2):
        out = tmp_path / str(workers)
        build_from_wikipedia(source, out, rejects[workers - 1], workers=workers)
    for module in (wikipedia, second_pass):  # sum the counts after every file
        monkeypatch.setattr(module, "_COMPACT", 0)
    build_from_wikipedia(source, tmp_path / "summed", Rejects())
    one, two, summed = (
        {
            file.relative_to(tmp_path / name): file.read_bytes()
            for file in sorted((tmp_path / name).rglob("*"))
            if file.is_file()
        }
        for name in ("1", "2", "summed")
    )
    assert one == two == summed
    assert rejects[0].entries == rejects[1].entries


def test_a_page_that_occurs_twice_counts_once(source, tmp_path):
    """Whether twice in one file or in two, the output is that of the page once."""
    again = tmp_path / "again"
    again.mkdir()
    for file in source.iterdir():
        (again / file.name).write_bytes(file.read_bytes())
    text = dump({"6 New": PAGES["1 Ada"], **PAGES})
    twice = text + dump({"6 New": "Another text."})
    (source / "wiki_02").write_text(dump({"6 New": PAGES["1 Ada"]}))
    (again / "wiki_02").write_text(twice)
    results, rejects = [], [Rejects(), Rejects(), Rejects()]
    for i, (folder, workers) in enumerate([(source, 1), (again, 1), (again, 2)]):
        out = tmp_path / str(i)
        counts = build_from_wikipedia(folder, out, rejects[i], workers=workers)
        files = (file for file in sorted(out.rglob("*")) if file.is_file())
        content = {file.relative_to(out): file.read_bytes() for file in files}
        results.append((counts, content))
    assert results[0] == results[1] == results[2]
    assert rejects[1].entries == rejects[2].entries
    lines = twice.split("\n")
    seen = [entry for entry in rejects[1].entries if "seen" in entry[2]]
    assert seen == [
        (str(again / "wiki_02"), i + 1, f"page seen before: id {page}", title)
        for i, line in enumerate(lines)
        if line.startswith("<doc ") and i > 0
        for page, title in [(line.split('"')[1], line.split('"')[5])]
    ]
    assert rejects[1].by_reason["page seen before"] == 6


def test_a_damaged_file_costs_only_its_pages(source, tmp_path):
    cut = source / "wiki_01.bz2"
    cut.write_bytes(cut.read_bytes()[:-20])
    rejects = Rejects()
    build_from_wikipedia(source, tmp_path / "out", rejects)
    kb = KnowledgeBase.open(tmp_path / "out/kb")
    assert kb.find("Ada") is not None
    assert kb.find("Tomcat") is None
    assert rejects.by_reason["file cut short or damaged"] == 1


def test_bad_leads_are_rejected(tmp_path):
    path = tmp_path / "leads.jsonl"
    rows = ['{"title": "a b", "lead": "one"}', '{"title": "A_b", "lead": "two"}']
    bad = ["{", "[]", '{"title": "A"}', '{"title": "A", "lead": "\\ud800"}']
    long = json.dumps({"title": "B", "lead": "word " * 200})
    path.write_text("\n".join([*rows, "", *bad, long]))
    rejects = Rejects()
    leads = read_leads(path, rejects)
    assert leads == {"A b": "one", "B": ("word " * 120).rstrip()}
    assert [line for _, line, _, _ in rejects.entries] == [4, 5, 6, 7]


@pytest.mark.slow
def test_real_pages(data, tmp_path):
    """One real file: every mention is its anchor, and a candidate of its form where it
    was counted."""
    source = data / "wiki/featured/AA/wiki_00.bz2"
    build_from_wikipedia(source, tmp_path, Rejects(), dev_share=0.1)
    kb = KnowledgeBase.open(tmp_path / "kb", verify=True)
    assert len(kb) > 1000
    counted = list(read_training_documents(tmp_path / "train"))
    held_back = list(read_documents(tmp_path / "dev.jsonl", Rejects()))
    assert len(counted) > 100 and held_back
    for document in held_back:
        for mention in document.mentions:
            surface = document.text[mention.start : mention.end]
            assert surface == surface.strip() != ""
    for document in counted:
        matches = kb.matches(document.text)
        spans = set(zip(matches.starts.tolist(), matches.ends.tolist(), strict=True))
        for mention in document.mentions:
            surface = document.text[mention.start : mention.end]
            assert surface == surface.strip() != ""
            entities, _ = kb.candidates(kb.form(surface))
            assert kb.find(mention.entity) in entities
            if surface.isalnum() and surface.isascii():
                before = document.text[: mention.start][-1:]
                after = document.text[mention.end :][:1]
                if not before.isalnum() and not after.isalnum():
                    assert (mention.start, mention.end) in spans
