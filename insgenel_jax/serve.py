"""A web service and a page for people: python -m insgenel_jax.serve [LINKER]"""

from __future__ import annotations

import logging
import signal
import socket
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from insgenel_jax import __version__, artifact, cli
from insgenel_jax.linker.bundled import NANO, locate
from insgenel_jax.stopping import Stopped
from insgenel_jax.text.formats.names import DBPEDIA
from insgenel_jax.text.formats.rejects import InputError

if TYPE_CHECKING:
    import uvicorn

LinkerPath = Annotated[
    Path,
    typer.Argument(help="Linker directory; nano is the one that comes with it."),
]
Settings = Annotated[list[str] | None, cli.settings_option(cli.linker_settings)]
Host = Annotated[
    str,
    typer.Option(help="Address to listen at; 0.0.0.0 is reached from other machines."),
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
Origins = Annotated[
    list[str] | None,
    typer.Option(help="Site whose pages may ask, as https://example.org; repeatable."),
]
EntityUris = Annotated[
    str, typer.Option(help="What the URIs of entities begin with in NIF.")
]
Body = Annotated[int, typer.Option(help="Most bytes of a request.")]
Documents = Annotated[int, typer.Option(help="Most documents of a request.")]
Characters = Annotated[int, typer.Option(help="Most characters of a document.")]
Queue = Annotated[
    int, typer.Option(help="Most documents that wait; more are refused with 503.")
]
Seconds = Annotated[float, typer.Option(help="Most seconds until an answer.")]
Delay = Annotated[
    float,
    typer.Option(help="Seconds that a document may wait for others, to share a batch."),
]
Warm = Annotated[
    bool,
    typer.Option(help="Compile for texts of all lengths before /ready says yes."),
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Compare the hash of every file first.")
]


@cli.user_errors()
def main(
    linker: LinkerPath = Path(NANO),
    host: Host = "127.0.0.1",
    port: Port = 8000,
    set_: Settings = None,
    allow_origin: Origins = None,
    entity_uris: EntityUris = DBPEDIA,
    body: Body = 4 << 20,
    documents: Documents = 64,
    characters: Characters = 50_000,
    queue: Queue = 256,
    seconds: Seconds = 30.0,
    delay: Delay = 0.01,
    warm: Warm = True,
    verify: Verify = False,
) -> None:
    """Serve a linker over HTTP, with a page to try it. Only this machine is answered,
    unless --host says otherwise."""
    name = str(linker)
    linker = locate(linker)
    settings = cli.parse_settings(set_ or [])
    artifact.read(linker)  # before the slow imports
    cli.check_effect(settings, linker)
    limits = {"body": body, "documents": documents, "characters": characters}
    limits |= {"queue": queue}
    asked: dict[str, Any] = {**limits, "seconds": seconds, "delay": delay}
    checked = check_limits(asked)
    listener = listen(host, port)

    from insgenel_jax.linker import Linker
    from insgenel_jax.serving.app import make_app
    from insgenel_jax.serving.metrics import make_metrics
    from insgenel_jax.serving.service import Service

    console = Console(stderr=True)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with console.status("opening the linker"), cli.opening(linker, "linker"):
        opened = Linker.from_pretrained(linker, verify=verify, **settings)
    service = Service(opened, name, checked, make_metrics(), entity_uris)
    _, gate = make_app(service, __version__, allow_origin or (), warm=warm)
    server = make_server(gate, checked.connections)
    try:
        run(server, listener, console, name)
    except Stopped as stopped:
        told = f"stopped; answered {gate.answered} of {gate.begun} requests"
        raise Stopped(stopped.signal, told) from None


def check_limits(asked: dict[str, Any]) -> Any:
    """The limits of the service. Raises InputError where a library is missing."""
    try:
        import fastapi  # noqa: F401 (only looked for)
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"serve: expected the library {error.name}, found none; "
            'pip install "insgenel_jax[serve]"'
        ) from error
    from insgenel_jax.serving.limits import Limits

    try:
        return Limits(**asked)
    except ValueError as error:
        raise InputError(f"--{error}") from error


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises InputError where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise InputError(
            f"--host {host} --port {port}: expected an address to listen at, found one "
            f"that is taken or not ours ({error.strerror}); choose another, or port 0 "
            "for a free one"
        ) from error


def make_server(app: Any, connections: int) -> uvicorn.Server:
    """A server of an ASGI app, which drains when it is told to stop."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # addresses of people are nobody's business
            server_header=False,
            lifespan="on",
            limit_concurrency=connections,
        )
    )


def run(
    server: uvicorn.Server, listener: socket.socket, console: Console, name: str
) -> None:
    """Serve until a signal comes; requests that have begun are answered first.

    Raises Stopped then. The server hands a signal on when it has drained, to the
    handlers that it found.
    """
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    line = f"{name}: http://{shown}:{port} (Ctrl-C stops it)"
    console.print(Text(line, "green"), soft_wrap=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    server.run(sockets=[listener])


def stop(number: int, frame: FrameType | None) -> None:
    """Handle a signal."""
    raise Stopped(number)


if __name__ == "__main__":
    typer.run(main)
