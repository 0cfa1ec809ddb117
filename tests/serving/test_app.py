"""The HTTP interface against the linker itself, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest

from insgenel_jax.text.document import document_to_json
from tests.helpers.service import serving

TEXT = "We saw Michael Jordan in Paris. 🎉 Mercury is a planet."
MORE = "Java is an island, and Python a snake."


def rounded(record):
    """JSON with its numbers rounded: a batch changes their last digits."""
    return json.loads(json.dumps(record), parse_float=lambda s: round(float(s), 5))


def expect(linker, *texts, mentions=None):
    linked = linker(list(texts), mentions=mentions)
    return rounded([document_to_json(document) for document in linked])


def test_links_are_those_of_the_linker(running, linker):
    found = running.link(text=TEXT)
    assert found["system"] == "insgenel" and found["decoder"] == "tree"
    assert found["threshold"] == 0 and found["calibrated"] is False
    assert rounded(found["documents"]) == expect(linker, TEXT)
    assert found["documents"][0]["mentions"]
    documents = [{"id": 7, "text": TEXT}, {"id": "b", "text": MORE}, {"text": ""}]
    found = running.link(documents=documents)["documents"]
    assert [d["id"] for d in found] == [7, "b", "2"]
    plain = expect(linker, TEXT, MORE, "")
    assert [rounded(d["mentions"]) for d in found] == [d["mentions"] for d in plain]


def test_given_mentions(running, linker):
    spans = [[7, 21], [25, 30], [0, 2]]
    expected = expect(linker, TEXT, mentions=[spans])
    found = running.link(text=TEXT, mentions=spans)["documents"]
    assert rounded(found) == expected
    assert [m["entity"] is None for m in found[0]["mentions"]] == [True, False, False]
    given = [{"start": start, "end": end, "entity": "x"} for start, end in spans]
    document = {"text": TEXT, "mentions": given}
    found = running.link(documents=[document], given=True)["documents"]
    assert rounded(found[0]["mentions"]) == expected[0]["mentions"]
    scores = [m["score"] for m in expected[0]["mentions"] if m["entity"]]
    middle = sum(scores) / 2
    found = running.link(text=TEXT, mentions=spans, threshold=middle)["documents"]
    kept = [m["entity"] is not None for m in found[0]["mentions"]]
    assert kept == [False, *(score >= middle for score in scores)] and sum(kept) == 1


def test_threshold_candidates_and_links_passed_over(running, linker):
    everything = linker.with_settings(other_candidates=20, consider_unlinked=True)
    scored = everything.score(TEXT)
    record = running.link(text=TEXT, candidates=2, unlinked=True, entities=True)
    mentions = record["documents"][0]["mentions"]
    places = [(m["start"], m["end"], m["entity"], m["linked"]) for m in mentions]
    assert places == [(s.mention.start, s.mention.end, s.mention.entity, s.linked)
                      for s in scored]  # fmt: skip
    for mention, one in zip(mentions, scored, strict=True):
        others = [c.entity for c in one.mention.candidates]
        assert [c["entity"] for c in mention.get("candidates", [])] == others[:2]
    named = {m["entity"] for m in mentions}
    assert named <= record["entities"].keys()
    assert all(e["title"] == title for title, e in record["entities"].items())
    score = sorted(m["score"] for m in mentions)[len(mentions) // 2]
    found = running.link(text=TEXT, unlinked=True, threshold=score)["documents"][0]
    assert [m["start"] for m in found["mentions"]] == [
        m["start"] for m in mentions if m["score"] >= score
    ]


@pytest.mark.slow
def test_decoders_and_systems_agree_with_the_linker(running, linker):
    for decoder in ("step", "speculative"):
        other = linker.with_settings(decoder=decoder)
        found = running.link(text=TEXT, decoder=decoder)
        assert found["decoder"] == decoder
        assert rounded(found["documents"]) == expect(other, TEXT)
    status, reason = running.refused("/link", {"text": TEXT, "system": "insgenel-r"})
    assert status == 422 and "needs a retriever" in reason
    body = {"text": TEXT, "decoder": "step", "candidates": 1}
    status, reason = running.refused("/link", body)
    assert status == 422 and "decoder = 'step' cannot do other_candidates" in reason


def test_explanations_are_those_of_the_linker(running, linker):
    answer = running.client.post("/explain", json={"text": TEXT, "threshold": 0.9})
    expected = linker.with_settings(threshold=0.9).explain(TEXT)
    words = [dataclasses.asdict(word) for word in expected]
    assert rounded(answer.json()) == rounded({"text": TEXT, "words": words})


def test_entities_by_title_and_by_other_names(running, linker):
    def ask(name, **more):
        answer = running.client.get("/entities", params={"q": name, **more})
        return answer.json()["entities"]

    kb = linker.kb
    entities, counts = kb.candidates(kb.form("Mercury"))
    assert len(entities) > 2
    found = ask("mercury")
    assert {e["title"] for e in found} == {kb.title(int(e)) for e in entities}
    assert sorted(e["links"] for e in found) == sorted(counts.tolist())
    assert len(ask("mercury", limit=2)) == 2 and ask("no such thing") == []
    title = kb.title(3)
    assert ask(title)[0]["title"] == title
    assert running.client.get("/entities").status_code == 422
    assert running.client.get("/entities?q=%ff%00%ed%a0%80").status_code == 200


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "body.text.text: Field required"),
        ({"text": 7}, "body.text.text: Input should be a valid string"),
        ({"text": "a\ud800"}, "text 0: a lone surrogate"),
        ({"documents": [{"id": "\ud800", "text": ""}]}, "text 0: id: a lone surr"),
        ({"documents": [{"title": "\ud800", "text": ""}]}, "text 0: title: a lone"),
        ({"text": "a", "nonsense": 1}, "nonsense: Extra inputs are not permitted"),
        ({"text": "a", "\ud800": 1}, "body.text"),
        ({"text": "a", "threshold": 2}, "threshold: Input should be less"),
        ({"text": "a", "decoder": "x"}, "decoder: Input should be 'auto'"),
        ({"text": "a", "mentions": [[0, 2]]}, "mention [0, 2): expected 0 <= start"),
        ({"text": "a", "mentions": [[0]]}, "mentions.0: List should have at least 2"),
        ({"text": "a", "documents": []}, "text: Extra inputs are not permitted"),
        ({"documents": [{"text": "a"}, {}]}, "documents.1.text: Field required"),
        ({"documents": [{"id": True, "text": ""}]}, "documents.0.id"),
        ([], "body.text: Input should be"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(running, body, reason):
    content, headers = json.dumps(body).encode(), {"content-type": "application/json"}
    status, told = running.refused("/link", content=content, headers=headers)
    assert status == 422 and reason in told


@pytest.mark.parametrize(
    "content",
    [b"{", b"", b"\xff", b'{"text": "\xff"}', b"[" * 100_000, b"9" * 5000, b"NaN"],
)
def test_what_is_no_json_is_refused(running, content):
    headers = {"content-type": "application/json"}
    answer = running.client.post("/link", content=content, headers=headers)
    assert answer.status_code in (400, 422) and answer.json()["detail"]


def test_limits(linker):
    with serving(linker, body=2000, documents=2, characters=100) as small:
        status, reason = small.refused("/link", {"text": "x" * 101})
        assert status == 413 and "at most 100 characters, found 101" in reason
        status, reason = small.refused("/explain", {"text": "x" * 101})
        assert status == 413
        status, reason = small.refused("/link", {"documents": [{"text": "x"}] * 3})
        assert status == 413 and "at most 2, found 3" in reason
        status, reason = small.refused("/link", {"text": "x" * 2000})
        assert status == 413 and "at most 2,000 bytes" in reason
        parts = (b"x" * 500 for _ in range(10))  # without a declared length
        status, reason = small.refused("/link", content=parts)
        assert status == 413 and "at most 2,000 bytes" in reason
        assert small.link(text="x" * 100)["documents"]


@pytest.mark.slow
def test_ready_once_compiled_and_metrics(linker, monkeypatch):
    monkeypatch.setattr("insgenel_jax.serving.service.make_texts", lambda _: [TEXT])
    with serving(linker, warm=True) as running:
        first = running.client.get("/ready")
        assert first.status_code == 503 and "compiling" in first.json()["detail"]
        assert running.client.get("/health").json() == {"status": "ok"}
        while running.client.get("/ready").status_code == 503:
            time.sleep(0.05)
        assert running.client.get("/ready").json() == {"status": "ready"}
        links = running.link(text=TEXT)["documents"][0]["mentions"]
        running.client.get("/made/up")
        text = running.client.get("/metrics").text
    assert 'insgenel_requests_total{path="/link",status="200"} 1.0' in text
    assert 'insgenel_requests_total{path="other",status="404"} 1.0' in text
    assert f"insgenel_links_total {len(links)}.0" in text
    assert "made/up" not in text and "process_resident_memory_bytes" in text


def test_never_ready_where_warming_up_fails(linker, monkeypatch):
    def fail(linker):
        raise MemoryError("too little of it")

    monkeypatch.setattr("insgenel_jax.serving.service.make_texts", fail)
    with serving(linker, warm=True) as running:
        while "compiling" in (told := running.refused("/ready", method="GET")[1]):
            time.sleep(0.01)
        assert told == "warming up failed: too little of it"
        assert running.link(text=TEXT)["documents"]


def test_cors_only_where_asked(running, linker):
    origin = {"Origin": "https://example.org"}
    answer = running.client.post("/link", json={"text": ""}, headers=origin)
    assert "access-control-allow-origin" not in answer.headers
    with serving(linker, origins=["https://example.org"]) as open_to_one:
        asked = open_to_one.client.post("/link", json={"text": ""}, headers=origin)
        allowed = asked.headers["access-control-allow-origin"]
        assert allowed == "https://example.org"
        other = {"Origin": "https://example.com"}
        asked = open_to_one.client.post("/link", json={"text": ""}, headers=other)
        assert "access-control-allow-origin" not in asked.headers


def test_a_form_of_another_site_is_not_taken_for_json(running):
    content = json.dumps({"text": "a"}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = running.client.post(
            "/link", content=content, headers={"content-type": kind}
        )
        assert answer.status_code == 422


def test_the_page_may_load_nothing_from_elsewhere(running):
    page = running.client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    for name in ("page.css", "page.js"):
        file = running.client.get(f"/{name}")
        assert file.status_code == 200 and "http:" not in file.text
    assert "http" not in page.text
    assert running.client.get("/serve.py").status_code == 404
    assert running.client.get("/..%2f..%2fsetup.py").status_code == 404


def test_methods(running):
    """HEAD is GET without the body; a refused method is told which are allowed."""
    for path in ("/", "/page.js", "/health", "/entities?q=Paris"):
        head, got = running.client.head(path), running.client.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == got.headers["content-type"]
        assert head.headers["content-length"] == str(len(got.content))
    for method, path, allowed in (
        ("PUT", "/page.css", "GET"),
        ("GET", "/link", "POST"),
        ("HEAD", "/nif", "POST"),
        ("POST", "/about", "GET"),
    ):
        answer = running.client.request(method, path)
        assert (answer.status_code, answer.headers.get("allow")) == (405, allowed)


def test_about(running):
    about = running.client.get("/about").json()
    assert about["systems"] == ["insgenel"] and about["name"] == "tiny"


def test_openapi_has_every_path(running):
    schema = running.client.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        *("/link", "/explain", "/nif", "/entities"),
        *("/about", "/health", "/ready", "/metrics"),
    }
    assert running.client.get("/docs").status_code == 404
