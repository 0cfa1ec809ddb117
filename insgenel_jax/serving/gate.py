"""Every request passes here first: its body within the limits, counted, and answered.

    client -> Gate -> routes

A body is read whole, within the limits of bytes and time, before the routes see it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from insgenel_jax.serving.limits import Limits, Refusal
from insgenel_jax.serving.metrics import Metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Gate:
    """An ASGI app around another.

    begun, answered: requests so far. paths: what the metrics name; all other paths
    count as "other", so that clients cannot make names up.
    """

    def __init__(
        self, app: App, limits: Limits, metrics: Metrics, paths: frozenset[str]
    ) -> None:
        self.app = app
        self.limits = limits
        self.metrics = metrics
        self.paths = paths
        self.begun = self.answered = 0
        self._held = 0  # bytes of bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # the server leaves the body of the answer out
            scope = {**scope, "method": "GET"}
        self.begun += 1
        began = time.monotonic()
        status = 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *SAFE]
            await send(message)
            if message["type"] == "http.response.body":
                self.answered += not message.get("more_body", False)

        body = bytearray()
        try:
            await self._read(scope, receive, body)
            await self.app(scope, _replay(bytes(body), receive), watch)
        except Refusal as refusal:
            await _refuse(refusal, watch)
        except ConnectionError:  # the client has gone
            pass
        finally:
            self._held -= len(body)
            path = scope["path"] if scope["path"] in self.paths else "other"
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.seconds.labels(path).observe(time.monotonic() - began)

    async def _read(self, scope: Scope, receive: Receive, body: bytearray) -> None:
        """Read a body into `body`. Raises Refusal, and ConnectionError."""
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared[:20]) > self.limits.body:
            raise self._too_large()
        try:
            async with asyncio.timeout(self.limits.seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionError
                    part = message.get("body", b"")
                    if len(body) + len(part) > self.limits.body:
                        raise self._too_large()
                    if self._held + len(part) > self.limits.bodies:
                        raise Refusal(503, "too many large requests at one time")
                    body += part
                    self._held += len(part)
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            raise Refusal(
                408, f"the request did not come within {self.limits.seconds:g} seconds"
            ) from None

    def _too_large(self) -> Refusal:
        return Refusal(
            413,
            f"expected a request of at most {self.limits.body:,} bytes; send less at "
            "one time",
        )


# on every answer: a browser takes nothing for what it does not say it is
SAFE = [(b"x-content-type-options", b"nosniff")]


def problem(status: int, reason: str) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of a refusal."""
    headers = {"content-type": "application/json"}
    if status == 503:
        headers["retry-after"] = "1"
    # ASCII holds whatever a client has put into the names that a reason quotes
    return json.dumps({"detail": reason[:1000]}).encode(), headers


async def _refuse(refusal: Refusal, send: Send) -> None:
    """Answer a request whose body may not have been read: the connection ends."""
    body, headers = problem(refusal.status, refusal.reason)
    headers |= {"connection": "close", "content-length": str(len(body))}
    await send(
        {
            "type": "http.response.start",
            "status": refusal.status,
            "headers": _encode(headers),
        }
    )
    await send({"type": "http.response.body", "body": body})


def _encode(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body, and then what else comes."""
    read = False

    async def replay() -> Message:
        nonlocal read
        if read:
            return await receive()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
