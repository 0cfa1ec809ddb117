"""Prompts in; the answers of an OpenAI-compatible endpoint (chat completions) out.

    POST URL/chat/completions {"model", "messages", "temperature": 0, ...}

A request that fails in a way that may pass (429, 5xx, a time-out, a broken connection,
a response that is no chat completion) is repeated after a growing, random wait. Where
it keeps failing, or is refused for its content, its answer has an `error`. A refusal
that would meet every prompt (401, 404, ...) raises EndpointError.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import email.utils
import json
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx2

from insgenel_jax.icl.answers import Answer, Source

# (*paper*, appendix A)
PARAMETERS = {"temperature": 0, "top_p": 1}
MOST_BYTES = 1 << 20  # of a response; 300 tokens take a few thousand
LONGEST_WAIT = 60.0  # seconds between two tries, unless the endpoint asks for more
LONGEST_EXCERPT = 200  # characters of a response in an error

ABOUT_THE_PROMPT = {400, 413, 422}
MAY_PASS = {408, 409, 425, 429}


class EndpointError(OSError):
    """An endpoint refuses every request; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """Where a model is asked, and how patiently.

    url: for example https://host/v1, to which /chat/completions is added. key_variable:
    the environment variable that has the API key; where it is unset, none is sent.
    timeout: seconds for a whole request. tries: requests in all for a prompt.
    first_wait: seconds before the second try, doubled with each further one.
    patience: the longest wait, in seconds, that the endpoint may ask for (Retry-After).
    per_minute: the most requests a minute, if there is a limit. concurrency: the most
    requests at a time.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    timeout: float = 60.0
    tries: int = 6
    first_wait: float = 1.0
    patience: float = 600.0
    per_minute: float | None = None
    concurrency: int = 4

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(
                f"endpoint: expected a URL with http:// or https://, found {self.url!r}"
            )
        if not self.model:
            raise ValueError("model: expected the name of a model, found none")
        limits: dict[str, float] = {"tries": 1, "concurrency": 1, "first_wait": 0}
        for name, least in (limits | {"patience": 0}).items():
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name}: expected at least {least}, found {value}")
        for name in ("timeout", "per_minute"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ValueError(f"{name}: expected more than 0, found {value}")


def endpoint_source(endpoint: Endpoint) -> Source:
    """The source of answers that asks an endpoint.

    `Source.stats` counts the "requests" and those that were a second try or a later one
    ("repeated").
    """
    stats: collections.Counter[str] = collections.Counter()
    turns = _Turns(endpoint.per_minute)

    def ask(prompts: Sequence[str], max_tokens: int) -> Iterator[tuple[int, Answer]]:
        if prompts:
            yield from _ask_all(_Asker(endpoint, max_tokens, turns, stats), prompts)

    name = json.dumps({"model": endpoint.model} | PARAMETERS)
    return Source(ask=ask, name=name, stats=stats)


def _ask_all(asker: _Asker, prompts: Sequence[str]) -> Iterator[tuple[int, Answer]]:
    """Ask several prompts at a time; the first error stops all that has not begun."""
    pool = concurrent.futures.ThreadPoolExecutor(asker.endpoint.concurrency)
    with asker.http:
        try:
            numbers = {pool.submit(asker.ask, p): i for i, p in enumerate(prompts)}
            for done in concurrent.futures.as_completed(numbers):
                yield numbers[done], done.result()
        finally:
            asker.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


class _MayPass(Exception):
    """A request failed, but may succeed later. wait: seconds that were asked for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _Turns:
    """When the next request may be sent, over all calls and threads."""

    def __init__(self, per_minute: float | None) -> None:
        self._apart = 60 / per_minute if per_minute else 0.0
        self._next = 0.0  # of time.monotonic()
        self._lock = threading.Lock()

    def wait(self, stop: threading.Event) -> bool:
        """Wait for a turn; false to stop instead."""
        with self._lock:
            turn = max(time.monotonic(), self._next)
            self._next = turn + self._apart
        return not stop.wait(max(turn - time.monotonic(), 0))

    def pause(self, seconds: float) -> None:
        """Let no turn begin for some seconds."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class _Asker:
    """What the threads of one call share: connections, turns, counts, a stop."""

    def __init__(
        self,
        endpoint: Endpoint,
        max_tokens: int,
        turns: _Turns,
        stats: collections.Counter[str],
    ) -> None:
        self.endpoint = endpoint
        self.stop = threading.Event()
        self._key = os.environ.get(endpoint.key_variable, "").strip()
        self._body = {"model": endpoint.model, "max_tokens": max_tokens} | PARAMETERS
        self._turns = turns
        self._stats = stats
        self._lock = threading.Lock()
        url = endpoint.url.rstrip("/")
        ending = "/chat/completions"
        self._url = url if url.endswith(ending) else url + ending
        headers = {"Accept-Encoding": "identity"}
        if self._key:
            if not self._key.isascii() or not self._key.isprintable():
                raise EndpointError(
                    f"{endpoint.key_variable}: expected an API key of printable ASCII "
                    "characters, found others; set it anew"
                )
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            httpx2.URL(self._url)
        except httpx2.InvalidURL as error:
            raise EndpointError(f"{endpoint.url}: {error}; check the URL") from None
        self.http = httpx2.Client(headers=headers, timeout=endpoint.timeout)

    def ask(self, prompt: str) -> Answer:
        """The answer to a prompt, after as many tries as it takes or as are allowed."""
        reason = "stopped"
        for number in range(self.endpoint.tries):
            if not self._turns.wait(self.stop):
                break
            with self._lock:
                self._stats["requests"] += 1
                self._stats["repeated"] += number > 0
            try:
                return self._ask_once(prompt)
            except _MayPass as error:
                reason = str(error)
                if number + 1 == self.endpoint.tries:
                    break
                if error.wait is None:
                    wait = min(self.endpoint.first_wait * 2**number, LONGEST_WAIT)
                    self.stop.wait(wait * random.uniform(0.5, 1))
                elif error.wait > self.endpoint.patience:
                    reason += f"; it asks to wait {error.wait:.0f} seconds"
                    break
                else:  # the limit is on all requests, so all of them wait
                    self._turns.pause(error.wait)
            except EndpointError:
                self.stop.set()
                raise
        return Answer("", error=reason)

    def _ask_once(self, prompt: str) -> Answer:
        """The answer to one request. Raises _MayPass or EndpointError."""
        body = self._body | {"messages": [{"role": "user", "content": prompt}]}
        deadline = time.monotonic() + self.endpoint.timeout
        try:
            with self.http.stream("POST", self._url, json=body) as response:
                content = _read(response, deadline)
        except httpx2.RequestError as error:
            what = self._hide(str(error)) or type(error).__name__
            raise _MayPass(f"no response ({what})") from None
        status = response.status_code
        if status == 200:
            return self._read_answer(content)
        said = f"HTTP {status}, {self._excerpt(content)}"
        if status in ABOUT_THE_PROMPT:
            return Answer("", error=said)
        if status in MAY_PASS or status >= 500:
            raise _MayPass(said, _retry_after(response.headers.get("Retry-After")))
        raise EndpointError(
            f"{self.endpoint.url}: expected an answer of {self.endpoint.model}, found "
            f"{said}; check the URL, the model's name and the key in "
            f"{self.endpoint.key_variable}"
        )

    def _read_answer(self, content: bytes) -> Answer:
        """The answer of a chat completion."""
        try:
            record = json.loads(content)
            choice = record["choices"][0]
            text, usage = choice["message"]["content"], record.get("usage")
            if text is not None and not isinstance(text, str):
                raise TypeError
            cut_off = choice.get("finish_reason") == "length"
        except (LookupError, ValueError, TypeError, AttributeError, RecursionError):
            said = self._excerpt(content)
            raise _MayPass(f"expected a chat completion, found {said}") from None
        tokens = (_count(usage, f"{of}_tokens") for of in ("prompt", "completion"))
        return Answer(text or "", cut_off, *tokens)

    def _excerpt(self, content: bytes) -> str:
        """The beginning of a response, in one line, without the key."""
        text = " ".join(content[:2000].decode(errors="replace").split())
        return self._hide(text)[:LONGEST_EXCERPT] or "an empty response"

    def _hide(self, text: str) -> str:
        """A text without the API key, which an endpoint may repeat."""
        return text.replace(self._key, "***") if self._key else text


def _read(response: httpx2.Response, deadline: float) -> bytes:
    """The body of a response that is neither too long nor too slow."""
    content = bytearray()
    for piece in response.iter_bytes():
        content += piece
        if len(content) > MOST_BYTES:
            raise _MayPass(f"a response of more than {MOST_BYTES:,} bytes")
        if time.monotonic() > deadline:
            raise _MayPass("no complete response in time")
    return bytes(content)


def _retry_after(value: str | None) -> float | None:
    """The seconds that a Retry-After header asks for; they may be given as a date."""
    if not value:
        return None
    try:
        seconds = float(value)
        return seconds if seconds >= 0 else None  # it may be "nan"
    except ValueError:
        pass
    try:
        at = email.utils.parsedate_to_datetime(value)
        return max(at.timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


def _count(usage: Any, name: str) -> int:
    """A count of tokens; 0 where it is missing or is none."""
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if type(count) is int and count >= 0 else 0
