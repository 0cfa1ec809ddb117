"""Requests by chance, hostile and well-meant: each is answered, none with 5xx."""

from __future__ import annotations

import concurrent.futures
import json
import random
import socket
import warnings
from urllib.parse import quote_from_bytes

import pytest

from tests.helpers.fuzz import ODD, hostile_line
from tests.helpers.service import serving

schemathesis = pytest.importorskip("schemathesis")
import hypothesis
from hypothesis import HealthCheck

REQUESTS = 10_000
JSON, TURTLE = "application/json", "application/x-turtle"
KINDS = (JSON, "text/plain", TURTLE, "application/json; charset=latin-1", "\x7f")
VALUES = (
    None,
    True,
    -1,
    0.5,
    2,
    10**400,
    "insgenel",
    "step",
    "",
    ODD,
    [],
    {},
    [[0, 1]],
)
NAMES = (
    "threshold",
    "system",
    "decoder",
    "candidates",
    "unlinked",
    "mentions",
    "given",
)
CORE = "http://persistence.uni-leipzig.org/nlp2rdf/ontologies/nif-core#"
NIF = (
    f"@prefix nif: <{CORE}> ."
    + """
<http://a.org/%s> a nif:Context ; nif:isString %s ; nif:endIndex "%d" ."""
)


def hostile_request(seed):
    """A request: method, path, content type, content, and whether it must succeed."""
    chance = random.Random(seed)
    line = hostile_line(seed)
    text = "Paris " + "".join(chance.choice(ODD) for _ in range(chance.randrange(9)))
    kind = chance.random()
    if kind < 0.35:
        content = b'{"documents": [%s]}' % line.content
        return "POST", "/link", JSON, content, line.record is not None
    if kind < 0.55:
        body = {"text": text}
        for name in chance.sample(NAMES, chance.randrange(3)):
            body[name] = chance.choice(VALUES)
        path = chance.choice(("/link", "/link", "/explain"))
        return "POST", path, JSON, json.dumps(body).encode(), body.keys() == {"text"}
    if kind < 0.65:
        path = chance.choice(("/link", "/explain", "/nif"))
        return "POST", path, chance.choice(KINDS), line.content, False
    if kind < 0.8:
        content = (NIF % (chance.choice("ab<> "), json.dumps(text), seed % 40)).encode()
        if chance.random() < 0.5:
            cut = chance.randrange(len(content))
            content = (
                content[:cut]
                + chance.choice((b"", b"\xff", b'"', b"<"))
                + (content[cut + chance.randrange(9) :])
            )
        return "POST", "/nif", TURTLE, content, False
    name = quote_from_bytes(line.content[: chance.randrange(400)])
    path = chance.choice((f"/entities?q={name}", f"/{name}", f"/entities?limit={name}"))
    return chance.choice(("GET", "GET", "PUT", "DELETE")), path, JSON, b"", False


@pytest.mark.slow
def test_ten_thousand_hostile_requests(linker):
    with serving(linker, seconds=300, delay=0.002) as running:

        def send(seed):
            method, path, kind, content, good = hostile_request(seed)
            answer = running.client.request(
                method, path, content=content, headers={"content-type": kind}
            )
            assert answer.status_code < 500, (seed, answer.text)
            if good:
                assert answer.status_code == 200, (seed, answer.text)
            if answer.status_code == 200 and method == "POST" and path == "/link":
                for document in answer.json()["documents"]:
                    for m in document["mentions"]:
                        assert 0 <= m["start"] < m["end"] <= len(document["text"])
            return answer.status_code

        with concurrent.futures.ThreadPoolExecutor(16) as threads:
            statuses = list(threads.map(send, range(REQUESTS)))
        assert statuses.count(200) > REQUESTS / 4
        assert statuses.count(422) > REQUESTS / 20
        # nothing is left behind
        assert running.gate.answered == running.gate.begun
        assert running.gate._held == 0 and not running.service.batcher._queue
        assert running.client.get("/health").status_code == 200


def test_hostile_requests_in_short(running):
    """A few of them, in every run."""
    for seed in range(0, 6000, 100):
        method, path, kind, content, good = hostile_request(seed)
        answer = running.client.request(
            method, path, content=content, headers={"content-type": kind}
        )
        assert answer.status_code < 500, (seed, answer.text)
        assert answer.status_code == 200 or not good, (seed, answer.text)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /link HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /link HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /link HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"x" * 200_000,
    ],
)
def test_what_is_no_http_is_answered_or_cut_off(running, garbage):
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        try:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(100)
        except OSError:  # cut off
            answer = b""
    # parsers differ in whether they mind a version of HTTP that there is not
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200"))
    assert running.client.get("/health").status_code == 200


CHECKS = {
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
}
POSTED = ("/link", "/explain", "/nif")
PATHS = (*POSTED, "/entities", "/about", "/metrics")


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_the_openapi_says_what_is_answered(running, path):
    """Statuses, types of content and answers are those of the OpenAPI; what it does
    not allow is refused."""
    schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
    operation = schema[path]["POST" if path in POSTED else "GET"]
    checks = [c for c in schemathesis.checks.CHECKS.get_all() if c.__name__ in CHECKS]
    assert len(checks) == len(CHECKS)

    @hypothesis.settings(
        max_examples=40, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @hypothesis.given(case=operation.as_strategy())
    def check(case):
        case.call_and_validate(checks=checks)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check()
