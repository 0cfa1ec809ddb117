"""The client against a real HTTP server that answers badly, late, or not at all."""

import email.utils
import gzip
import json
import threading
import time

import pytest

from insgenel_jax.icl.answers import Answer, Cache, answer_prompts
from insgenel_jax.icl.client import (
    MOST_BYTES,
    Endpoint,
    EndpointError,
    endpoint_source,
)
from tests.helpers.chat_server import completion, serving

GOOD = (200, {}, completion("fine"))


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("TEST_KEY", "sk-secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def ask(server, prompts=("a prompt",), cache=None, **options):
    options = {"timeout": 30.0, "tries": 3, "first_wait": 0.01} | options
    endpoint = Endpoint(server.url, "a-model", key_variable="TEST_KEY", **options)
    source = endpoint_source(endpoint)
    answers = answer_prompts(source, cache or Cache(), list(prompts), 300)
    return answers, source.stats


def test_what_is_asked():
    """The paper's parameters; the key in a header; no body of the response needed."""
    with serving(lambda prompt, n: GOOD) as server:
        (answer,), stats = ask(server)
    assert answer == Answer("fine", False, 10, 5)
    assert server.requests == [
        {
            "model": "a-model",
            "max_tokens": 300,
            "temperature": 0,
            "top_p": 1,
            "messages": [{"role": "user", "content": "a prompt"}],
        }
    ]
    assert server.headers[0]["Authorization"] == "Bearer sk-secret"
    assert stats == {
        "requests": 1,
        "repeated": 0,
        "asked": 1,
        "from cache": 0,
        "prompt tokens": 10,
        "answer tokens": 5,
    }


def test_without_a_key_none_is_sent(monkeypatch):
    monkeypatch.delenv("TEST_KEY")
    with serving(lambda prompt, n: GOOD) as server:
        ask(server)
    assert "Authorization" not in server.headers[0]
    monkeypatch.setenv("TEST_KEY", "sk\u2013secret")
    with pytest.raises(EndpointError, match="^TEST_KEY: expected an API key") as raised:
        ask(server)
    assert "secret" not in str(raised.value)


NO_COMPLETION = "expected a chat completion, found "
BAD = {
    "500": ((500, {}, b"oops"), "HTTP 500, oops"),
    "429": ((429, {}, b""), "HTTP 429, an empty response"),
    "no response": ((None, {}, b""), "no response"),
    "cut": ((200, {"Content-Length": "999"}, b"{"), "no response"),
    "HTML": ((200, {}, b"<html>\n hello"), NO_COMPLETION + "<html> hello"),
    "empty": ((200, {}, b""), NO_COMPLETION + "an empty response"),
    "half JSON": ((200, {}, completion("fine")[:40]), NO_COMPLETION + '{"choices"'),
    "encoding": ((200, {}, b'{"choices": "\xff\xfe"}'), NO_COMPLETION),
    "deep": ((200, {}, b"[" * 200_000), NO_COMPLETION + "[[["),
    "no choices": ((200, {}, b'{"choices": []}'), NO_COMPLETION),
    "an array": ((200, {}, b"[1]"), NO_COMPLETION + "[1]"),
    "no text": ((200, {}, completion(["fine"])), NO_COMPLETION),
    "not zipped": ((200, {"Content-Encoding": "gzip"}, GOOD[2]), "no response"),
    "10 MB": ((200, {}, completion("x" * 10_000_000)), "a response of more than 1,048"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_response_is_asked_again(name):
    """Where it stays bad, there is a reason; where it passes, there is an answer."""
    response, reason = BAD[name]
    with serving(lambda prompt, n: response) as server:
        (answer,), stats = ask(server)
    assert answer.text == "" and answer.error.startswith(reason)
    assert len(server.requests) == stats["requests"] == 3 and stats["repeated"] == 2
    with serving(lambda prompt, n: GOOD if n else response) as server:
        (answer,), _ = ask(server)
    assert answer.text == "fine" and len(server.requests) == 2


def test_odd_but_good_responses():
    odd = completion("fi\ud800ne", "length", (None, -3))
    for content, answer in (
        (odd, Answer("fi\ud800ne", True)),
        (completion(None), Answer("", False, 10, 5)),  # a refusal has no text
        (json.dumps(json.loads(completion("\u00fc"))).encode("utf-16"), None),
    ):
        with serving(lambda prompt, n, body=content: (200, {}, body)) as server:
            (found,), _ = ask(server)
        assert found == (answer or Answer("\u00fc", False, 10, 5))
    zipped = (200, {"Content-Encoding": "gzip"}, gzip.compress(completion("fine")))
    with serving(lambda prompt, n: zipped) as server:
        assert ask(server)[0][0].text == "fine"


def test_a_server_that_hangs():
    """Before the response, or in the middle of it: the time is limited in all."""
    over = threading.Event()

    def hang(prompt, n):
        over.wait(60)
        return GOOD

    with serving(hang) as server:
        began = time.monotonic()
        (answer,), _ = ask(server, timeout=0.2, tries=2)
        assert time.monotonic() - began < 50
        over.set()
    assert answer.error.startswith("no response (") and len(server.requests) == 2

    def drip():
        for byte in GOOD[2].ljust(500):
            yield bytes([byte])
            time.sleep(0.02)

    slow = {"Content-Length": "500"}
    with serving(lambda prompt, n: (200, slow, drip())) as server:
        (answer,), _ = ask(server, timeout=0.3, tries=1)
    # a machine that is busy may also be late with a byte
    assert answer.error in ("no complete response in time", "no response (timed out)")


def test_retry_after():
    """In seconds or as a date; all requests wait; a wait beyond patience is none."""
    for by_date in (False, True):
        times = []

        def respond(prompt, n, by_date=by_date, times=times):
            times.append(time.monotonic())
            date = email.utils.formatdate(time.time() + 2, usegmt=True)
            value = date if by_date else "1"
            return GOOD if n else (429, {"Retry-After": value}, b"slow down")

        with serving(respond) as server:
            answers, _ = ask(server, ("one", "two"), concurrency=1)
        assert [a.text for a in answers] == ["fine", "fine"]
        assert len(times) == 3 and times[1] - times[0] >= 0.9
    for value, tries in (("7200", 1), ("inf", 1), ("nonsense", 3), ("-1", 3)):
        limited = (429, {"Retry-After": value}, b"")
        with serving(lambda prompt, n, response=limited: response) as server:
            (answer,), _ = ask(server)
        assert len(server.requests) == tries
        assert ("asks to wait" in answer.error) == (tries == 1)


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_a_refusal_of_all_requests_ends_the_job(status):
    """It names the variable of the key, never the key, which the server repeats."""
    response = (status, {"Location": "http://127.0.0.1:9/"}, b"bad key sk-secret")
    raises = pytest.raises(EndpointError)
    with serving(lambda prompt, n: response) as server, raises as raised:
        ask(server, map(str, range(50)), concurrency=2)
    assert f"HTTP {status}, bad key ***; check" in str(raised.value)
    assert "TEST_KEY" in str(raised.value) and "secret" not in str(raised.value)
    assert len(server.requests) <= 4


def test_a_refusal_of_one_prompt_is_its_own():
    def respond(prompt, n):
        return (400, {}, b"too long") if prompt == "2" else GOOD

    with serving(respond) as server:
        answers, _ = ask(server, ("1", "2", "3"))
    assert [a.error for a in answers] == [None, "HTTP 400, too long", None]
    assert len(server.requests) == 3


def test_concurrency_and_rate_are_bounded():
    def respond(prompt, n):
        time.sleep(0.02)
        return (200, {}, completion(prompt))

    prompts = [str(i) for i in range(12)]
    with serving(respond) as server:
        answers, _ = ask(server, prompts, concurrency=3)
        assert [a.text for a in answers] == prompts and 1 < server.most <= 3
        began = time.monotonic()
        ask(server, prompts[:6], per_minute=600)
        assert time.monotonic() - began >= 0.45


def test_what_is_cached_is_not_asked_again(tmp_path):
    """Not even by another process, after one that was killed while it wrote."""
    file = tmp_path / "deep" / "answers.jsonl"
    with serving(lambda prompt, n: (200, {}, completion(prompt + "\ud800"))) as server:
        first, _ = ask(server, ("a", "b", "a"), Cache(file))
        assert len(server.requests) == 2
        cut = file.read_bytes()[:-20]
        file.write_bytes(b'{"key": 1}\n\xff\n[[\n' + cut)
        second, stats = ask(server, ("a", "b", "a"), Cache(file))
        assert first == second and first[0].text == "a\ud800"
        assert len(server.requests) == 3 and stats["from cache"] == 1
        assert ask(server, ("a", "b"), Cache(file))[1]["asked"] == 0
    assert b"secret" not in file.read_bytes()


def test_errors_are_not_cached(tmp_path):
    with serving(lambda prompt, n: GOOD if n > 2 else (500, {}, b"")) as server:
        assert ask(server, cache=Cache(tmp_path / "answers"))[0][0].error
        assert ask(server, cache=Cache(tmp_path / "answers"))[0][0].text == "fine"


def test_bad_endpoints():
    for url, options, message in (
        ("localhost:80", {}, "endpoint: expected a URL"),
        ("http://x", {"tries": 0}, "tries: expected at least 1, found 0"),
        ("http://x", {"timeout": 0.0}, "timeout: expected more than 0"),
        ("http://x", {"per_minute": -1.0}, "per_minute: expected more than 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Endpoint(url, "m", **options)
    source = endpoint_source(Endpoint("http://[::1", "m"))
    with pytest.raises(EndpointError, match="check the URL"):
        answer_prompts(source, Cache(), ["p"], 1)
    closed = endpoint_source(
        Endpoint("http://127.0.0.1:9/v1", "m", tries=2, first_wait=0.01)
    )
    (answer,) = answer_prompts(closed, Cache(), ["p"], 1)
    assert answer.error.startswith("no response (")
    assert MOST_BYTES < 10_000_000
