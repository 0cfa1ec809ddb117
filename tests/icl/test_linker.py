"""The whole way against a real HTTP server: right answers give every gold mention, and
no answer gives one that it does not name."""

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from insgenel_jax import mini_world
from insgenel_jax.evaluation.scoring import score
from insgenel_jax.icl import Endpoint, IclLinker, IclSettings, endpoint_source
from insgenel_jax.icl.files import link_file
from insgenel_jax.icl.prompt import format_line
from insgenel_jax.kb import KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.linker.search import open_search
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.documents import write_documents
from insgenel_jax.text.formats.rejects import Rejects
from tests.helpers.chat_server import completion, serving

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def kb_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("icl") / "kb"
    with Rejects(None) as rejects:
        build_from_entities(path, mini_world.entities(), rejects)
    return path


@pytest.fixture(scope="module")
def kb(kb_path):
    return KnowledgeBase.open(kb_path)


@pytest.fixture(scope="module")
def gold(kb):
    """Paragraphs, two to a document, so that names occur more than once."""
    paragraphs = mini_world.paragraphs("dev", 24)
    return [join(a, b) for a, b in zip(paragraphs[::2], paragraphs[1::2], strict=True)]


def join(a, b):
    shift = len(a.text) + 1
    moved = [
        dataclasses.replace(m, start=m.start + shift, end=m.end + shift)
        for m in b.mentions
    ]
    return Document(a.id, f"{a.text}\n{b.text}", mentions=(*a.mentions, *moved))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def text_of(prompt):
    return prompt.split("\nText:\n")[-1].removesuffix("\n\nLines:")


def right(documents, settings):
    """Responses that name every gold mention of the part that they are asked about."""

    def respond(prompt, n):
        part = text_of(prompt)
        document = next(d for d in documents if part in d.text)
        first = document.text.index(part)
        lines = [
            format_line(fields(document.text, mention), settings)
            for mention in document.mentions
            if first <= mention.start and mention.end <= first + len(part)
        ]
        return 200, {}, completion("\n".join([*lines, "END"]))

    return respond


def fields(text, mention):
    before, after = text[: mention.start].split(), text[mention.end :].split()
    name = text[mention.start : mention.end]
    return name, mention.entity, " ".join([*before[-3:], name, *after[:3]])


def titles_of(kb, document, extra=30):
    """Its golds among other titles of the knowledge base."""
    golds = [mention.entity for mention in document.mentions]
    return [*(kb.title(i) for i in range(extra)), *golds]


def open_linker(kb, server, cache=None, settings=None, **options):
    options = {"tries": 2, "first_wait": 0.01, "timeout": 60.0} | options
    source = endpoint_source(Endpoint(server.url, "m", **options))
    return IclLinker(kb, source, None, settings, cache)


@pytest.mark.parametrize(
    "settings",
    [
        IclSettings(),
        IclSettings(bad_cases=False, descriptions=True, part_tokens=40),
        IclSettings(contexts=False),
    ],
    ids=["default", "short parts", "no contexts"],
)
def test_right_answers_give_all(kb, gold, settings):
    """But without contexts: a name that occurs before its mention takes its place."""
    with serving(right(gold, settings)) as server:
        linker = open_linker(kb, server, settings=settings)
        linked = linker(gold, [titles_of(kb, d) for d in gold])
    micro = score(gold, linked).micro
    assert micro == (1, 1, 1) if settings.contexts else 0.9 < micro.f1 < 1
    assert not linker.failures and not linker.unanswered
    parts, links = len(server.requests), sum(len(d.mentions) for d in gold)
    assert parts > len(gold) or settings.part_tokens > 40
    expected = {"documents": len(gold), "parts": parts, "links": links, "asked": parts}
    expected |= {"prompt tokens": 10 * parts, "answer tokens": 5 * parts}
    assert expected.items() <= dict(linker.stats).items()


HOSTILE = {
    "empty": ("", {"format": 1}),
    "HTML": ("<html><body>\n<h1>502</h1>\n</body></html>", {"format": 3}),
    "half JSON": ('{"mentions": [{"mention": "', {"format": 1}),
    "10 MB": ("x" * 10_000_000, {"no answer": 1}),
    "long line": ("x" * 500_000, {"format": 1}),
    "unknown": ("TEXT | No Such Entity | a\n" * 3, {"not a candidate": 3}),
    "elsewhere": ("Zzyzx | TITLE | in Zzyzx\n" * 2, {"not placed": 2}),
    "encoding": ("\ufffd\udcff | TITLE | \x00", {"not placed": 1}),
    "prose": ("I am sorry, but I cannot help with that.", {"format": 1}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_give_no_mention(kb, gold, name):
    content, failures = HOSTILE[name]
    document = gold[0]
    titles = titles_of(kb, document)
    content = content.replace("TITLE", titles[0]).replace("TEXT", document.text[:5])
    settings = IclSettings(part_tokens=2000)
    with serving(lambda prompt, n: (200, {}, completion(content))) as server:
        linker = open_linker(kb, server, settings=settings)
        linked = linker(document, titles)
    assert linked == dataclasses.replace(document, mentions=())
    assert linker.failures == failures


def test_repeated_and_cut_off_answers(kb, gold):
    """Each line ten times over, and the end missing: gold mentions, and no other."""
    settings = IclSettings(part_tokens=2000)
    whole = right(gold, settings)

    def respond(prompt, n):
        answer = json.loads(whole(prompt, n)[2])["choices"][0]["message"]["content"]
        lines = answer.splitlines()[:-1]
        repeated = "\n".join(line for line in lines for _ in range(10))
        return 200, {}, completion(repeated[:-3], "length")

    with serving(respond) as server:
        linker = open_linker(kb, server, settings=settings)
        linked = linker(gold, [titles_of(kb, d) for d in gold])
    for document, expected in zip(linked, gold, strict=True):
        assert {(m.start, m.entity) for m in document.mentions} <= {
            (m.start, m.entity) for m in expected.mentions
        }
    assert sum(len(d.mentions) for d in linked) > 0.8 * sum(
        len(d.mentions) for d in gold
    )
    assert linker.failures["cut off"] == len(gold)
    assert set(linker.failures) == {"cut off", "not placed"}


def test_documents_without_an_answer(kb, gold, tmp_path):
    """They stand in the rejects, the others are linked; then only they are asked."""
    settings, bad = IclSettings(), {"fail": True}
    whole = right(gold, settings)

    def respond(prompt, n):
        fails = bad["fail"] and text_of(prompt) in gold[3].text
        return (500, {}, b"busy") if fails else whole(prompt, n)

    write_documents(tmp_path / "in.jsonl", gold)
    golds = {d.id: titles_of(kb, d) for d in gold}

    def run():
        linker = open_linker(kb, server, tmp_path / "answers.jsonl")
        give(linker, golds)
        with Rejects(tmp_path / "rejects.jsonl") as rejects:
            link_file(linker, tmp_path / "in.jsonl", tmp_path / "out.jsonl", rejects)
        return rejects.count, linker.stats["asked"]

    with serving(respond) as server:
        rejected, _ = run()
        record = json.loads((tmp_path / "rejects.jsonl").read_text().splitlines()[0])
        assert record["reason"] == "no answer: HTTP 500, busy"
        assert record["content"] == gold[3].id
        out = (tmp_path / "out.jsonl").read_text().splitlines()
        assert [json.loads(line)["mentions"] == [] for line in out] == [
            d is gold[3] for d in gold
        ]
        bad["fail"] = False
        assert run() == (0, rejected)


def give(linker, titles):
    """Let `stream` take each document's titles, as a retriever would find them."""
    link = linker._link

    def with_titles(documents, given):
        return link(
            documents, linker._find_given(documents, [titles[d.id] for d in documents])
        )

    linker._link = with_titles


JOB = """
import sys
from insgenel_jax.icl import Endpoint, IclLinker, endpoint_source
from insgenel_jax.kb import KnowledgeBase
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import Rejects

url, kb, input, cache = sys.argv[1:]
source = endpoint_source(Endpoint(url, "m", concurrency=1))
linker = IclLinker(KnowledgeBase.open(kb), source, cache=cache)
documents = list(read_documents(input, Rejects()))
linked = linker(documents, [[m.entity for m in d.mentions] for d in documents])
print(sum(len(d.mentions) for d in linked), "jax" in sys.modules)
"""


def test_a_killed_job_goes_on(kb_path, gold, tmp_path):
    """No prompt that was answered is asked again. None of it needs JAX."""
    whole, cache = right(gold, IclSettings()), tmp_path / "answers.jsonl"
    write_documents(tmp_path / "in.jsonl", gold)
    state = {"answered": [], "kill": None}

    def respond(prompt, n):
        if len(state["answered"]) == 5 and state["kill"] is None:
            while not cache.exists() or cache.read_bytes().count(b"\n") < 5:
                time.sleep(0.01)
            job.kill()
            state["kill"] = n
            return None, {}, b""
        state["answered"].append(prompt)
        return whole(prompt, n)

    with serving(respond) as server:
        command = [
            sys.executable,
            "-c",
            JOB,
            server.url,
            kb_path,
            tmp_path / "in.jsonl",
        ]
        job = subprocess.Popen([*command, cache], cwd=ROOT)
        assert job.wait(120) < 0 and state["kill"] == 5
        done = subprocess.run(
            [*command, cache], cwd=ROOT, check=True, capture_output=True, text=True
        )
    assert done.stdout == f"{sum(len(d.mentions) for d in gold)} False\n"
    assert len(state["answered"]) == len(set(state["answered"])) > 6


def test_the_entities_are_those_that_the_retriever_finds(linker_path):
    """Of the windows that touch a part, the best first."""
    words = "Mercury is near. Paris and Java met. Nobody knew Jordan. "
    settings = {"k": 4, "part_tokens": 60}
    with serving(lambda prompt, n: (200, {}, completion("END"))) as server:
        source = endpoint_source(Endpoint(server.url, "m"))
        linker = IclLinker.from_pretrained(linker_path, source, **settings)
        text = words * 6
        assert linker(text) == Document("0", text)
    kb, search = open_search(linker_path)
    (retrieved,) = search([text], 4)
    parts = linker.parts([Document("0", text)])
    assert len(parts) == len(server.requests) > 1
    for part in parts:
        found = retrieved.touching(part.start, part.end)
        scores = dict(zip(found.entities.tolist(), found.scores.tolist(), strict=True))
        order = sorted(scores, key=lambda e: (-scores[e], e))[:4]
        assert part.entities == order
        listed = "".join(f"- {kb.title(e)}\n" for e in order)
        assert f"Entities:\n{listed}\nText:\n{text[part.start : part.end]}\n" in (
            part.prompt
        )


def test_redirects_are_candidates(tmp_path):
    """A model may name a candidate by another name that the knowledge base has."""
    from insgenel_jax.kb import Entity

    with Rejects(None) as rejects:
        build_from_entities(tmp_path / "kb", [(Entity("Java", "x", "Q1"), ())], rejects)
    answer = completion("Java | java | to Java\nEND")
    with serving(lambda prompt, n: (200, {}, answer)) as server:
        linker = open_linker(KnowledgeBase.open(tmp_path / "kb"), server)
        assert linker("Go to Java", ["Java"]).mentions == (
            Mention(6, 10, "Java", external_id="Q1"),
        )


def test_what_callers_give_is_checked(kb):
    with serving(lambda prompt, n: (200, {}, completion("END"))) as server:
        linker = open_linker(kb, server)
        title = kb.title(0)
        with pytest.raises(ValueError, match="this linker has no retriever"):
            linker("text")
        with pytest.raises(ValueError, match="text 1: expected titles of the know"):
            linker(["a", "b"], [[title], ["No Such Title"]])
        with pytest.raises(
            ValueError, match="a sequence of titles for each of 2 texts"
        ):
            linker(["a", "b"], [[title]])
        with pytest.raises(
            TypeError, match="text 0: expected titles, found one string"
        ):
            linker(["a"], [title])
        for documents in ("Java", {"id": "1", "text": "Java"}):
            with pytest.raises(TypeError, match="documents: expected a sequence"):
                linker.stream(documents)
        with pytest.raises(ValueError, match="group: expected at least 1, found 0"):
            linker.stream(["Java"], group=0)
        assert linker({"id": 7, "text": ""}, [title]).id == "7"
        assert linker([], []) == [] and linker("", [title]).mentions == ()
        assert linker("text", []).mentions == () and not server.requests
        with pytest.raises(ValueError, match="prompt_tokens: expected at least"):
            open_linker(kb, server, settings=IclSettings(prompt_tokens=200))
