"""Seconds in; a protocol for uvicorn's connections, which ends those that ask nothing.

uvicorn waits without end for the head of a request, and refuses everybody when too many
connections are open: a few clients that send nothing would stop the service.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol


def make_protocol(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's protocol, with at most twice `seconds` for the head of a request."""

    class Impatient(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.timer = self.loop.call_later(seconds, self.look, None)

        def connection_lost(self, exc: Exception | None) -> None:
            self.timer.cancel()
            super().connection_lost(exc)

        def look(self, last: Any) -> None:
            """Close where nothing was asked since. last: the request answered then."""
            answered = self.cycle is None or self.cycle.response_complete
            if answered and self.cycle is last:
                self.transport.close()
                return
            seen = self.cycle if answered else self  # a request under way is no last
            self.timer = self.loop.call_later(seconds, self.look, seen)

    return Impatient
