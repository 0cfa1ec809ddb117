"""A service over a linker, on a port of its own, in a thread."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2

from insgenel_jax.linker import Linker
from insgenel_jax.serve import listen, make_server
from insgenel_jax.serving.app import make_app
from insgenel_jax.serving.gate import Gate
from insgenel_jax.serving.limits import Limits
from insgenel_jax.serving.metrics import make_metrics
from insgenel_jax.serving.service import Service
from insgenel_jax.text.formats.names import DBPEDIA


@dataclasses.dataclass(frozen=True)
class Running:
    """url: where it is. client: asks it. schema: its OpenAPI."""

    url: str
    client: httpx2.Client
    service: Service
    gate: Gate

    def link(self, **body: Any) -> Any:
        """The JSON of an answer to POST /link."""
        answer = self.client.post("/link", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, body: Any = None, **more: Any) -> tuple[int, str]:
        """The status and the reason of a refusal."""
        method = more.pop("method", "POST")
        answer = self.client.request(method, path, json=body, **more)
        assert answer.headers["content-type"] == "application/json"
        return answer.status_code, answer.json()["detail"]


@contextlib.contextmanager
def serving(linker: Linker, *, warm: bool = False, **options: Any) -> Iterator[Running]:
    """A service that runs while the context is open. options: its limits, `origins`,
    `entity_uris`."""
    origins = options.pop("origins", ())
    uris = options.pop("entity_uris", DBPEDIA)
    limits = Limits(**options)
    service = Service(linker, "tiny", limits, make_metrics(), uris)
    _, gate = make_app(service, "1.2.3", origins, warm=warm)
    server = make_server(gate, limits.connections)
    listener = listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    while not server.started:
        assert thread.is_alive(), "the service ended while it started"
        time.sleep(0.01)
    try:
        with httpx2.Client(base_url=url, timeout=300, trust_env=False) as client:
            yield Running(url, client, service, gate)
    finally:
        server.should_exit = True
        thread.join()
