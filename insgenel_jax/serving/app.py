"""A service in; its HTTP interface (an ASGI app) out."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException

from insgenel_jax.serving import nif_protocol, wire
from insgenel_jax.serving.gate import Gate, problem
from insgenel_jax.serving.limits import Refusal
from insgenel_jax.serving.service import (
    Linked,
    Service,
    describe_entity,
    describe_systems,
    find_entities,
)
from insgenel_jax.serving.variants import Variant
from insgenel_jax.text.document import document_to_json

PAGE = Path(__file__).resolve().parents[1] / "assets" / "page"
FILES = {"page.css": "text/css", "page.js": "text/javascript"}
# The page runs its own script and no other, and talks to this service alone.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": wire.Problem, "description": "The body cannot be parsed."},
    408: {"model": wire.Problem, "description": "The body came too slowly."},
    413: {"model": wire.Problem, "description": "Larger than the limits."},
    422: {"model": wire.Problem, "description": "Not a valid request."},
    503: {"model": wire.Problem, "description": "Too much to do; try again later."},
}

router = APIRouter()


@router.post("/link", response_model=wire.LinkAnswer, responses=REFUSALS)
async def link(request: Request, body: wire.LinkRequest) -> Response:
    """Link a text or documents."""
    service: Service = request.app.state.service
    variant = Variant(body.system, body.decoder, body.candidates > 0, body.unlinked)
    documents, given = wire.read_documents(body)
    linked = await service.link(documents, given, variant, body.threshold)
    return answer(link_answer(service, variant, body, linked))


@router.post("/explain", response_model=wire.ExplainAnswer, responses=REFUSALS)
async def explain(request: Request, body: wire.ExplainRequest) -> Response:
    """Say for each word of a text why it is linked, or why not."""
    service: Service = request.app.state.service
    words = await service.explain(body.text, body.system, body.threshold)
    return answer({"text": body.text, "words": [wire.word_answer(w) for w in words]})


@router.get(
    "/entities",
    response_model=wire.EntitiesAnswer,
    responses={422: REFUSALS[422], 503: REFUSALS[503]},
)
async def entities(
    request: Request,
    q: Annotated[str, Query(min_length=1, max_length=500)],
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
) -> Response:
    """Look up what a title or another name may mean."""
    service: Service = request.app.state.service
    return answer({"query": q, "entities": find_entities(service.kb, q, limit)})


@router.post("/nif", responses=REFUSALS | nif_protocol.ANSWERS, **nif_protocol.OPENAPI)
async def nif(
    request: Request, threshold: nif_protocol.Threshold = None, scores: bool = False
) -> Response:
    """Link the documents of a NIF file in Turtle: GERBIL's protocol for annotators.

    Where a document comes with marked phrases, these are linked, and no others.
    """
    turtle = await nif_protocol.annotate(
        request.app.state.service, await request.body(), threshold, scores=scores
    )
    return Response(turtle, media_type=nif_protocol.TURTLE)


@router.get("/about", response_model=wire.About)
async def about(request: Request) -> Response:
    """The linker of this service."""
    service: Service = request.app.state.service
    settings = service.variants.linker.settings
    record = {
        "version": request.app.version,
        "name": service.name,
        "system": settings.system,
        "systems": describe_systems(service),
        "threshold": settings.threshold,
        "entities": len(service.kb),
        "characters": service.limits.characters,
        "ready": service.ready,
    }
    return answer(record)


@router.get("/health", response_model=wire.Health)
async def health() -> Response:
    """Whether the process is alive."""
    return answer({"status": "ok"})


@router.get("/ready", response_model=wire.Ready, responses={503: REFUSALS[503]})
async def ready(request: Request) -> Response:
    """Whether requests are answered without waiting for anything to be compiled."""
    service: Service = request.app.state.service
    if service.closing:
        raise Refusal(503, "the service is stopping")
    if not service.ready:
        raise Refusal(503, service.failed or "compiling, for texts of all lengths")
    return answer({"status": "ready"})


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """What is counted, in Prometheus's text format."""
    text = request.app.state.service.metrics.text()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """The page to try the linker."""
    headers = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
    return Response(
        (PAGE / "index.html").read_bytes(), media_type="text/html", headers=headers
    )


@router.get("/page.css", include_in_schema=False)
@router.get("/page.js", include_in_schema=False)
async def file(request: Request) -> Response:
    """The script and the style of the page."""
    name = request.url.path.rpartition("/")[2]
    return Response((PAGE / name).read_bytes(), media_type=FILES[name])


def answer(record: Any) -> Response:
    """A JSON response. All of its text has been checked to be Unicode."""
    content = json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
    return Response(content, media_type="application/json")


def link_answer(
    service: Service,
    variant: Variant,
    body: wire.LinkText | wire.LinkDocuments,
    linked: Sequence[Linked],
) -> dict[str, Any]:
    """The JSON of linked documents."""
    opened = service.variants.open(variant)
    records = []
    for one in linked:
        record = document_to_json(one.document)
        for number, mention in enumerate(record["mentions"]):
            if "candidates" in mention:
                mention["candidates"] = mention["candidates"][: body.candidates]
            if one.taken is not None:
                mention["linked"] = one.taken[number]
        records.append(record)
    own = opened.threshold
    record = {
        "system": opened.linker.settings.system,
        "decoder": opened.linker.settings.decoder_name,
        "threshold": own if body.threshold is None else body.threshold,
        "own_threshold": own,
        "calibrated": opened.linker.calibrator is not None,
        "documents": records,
    }
    if body.entities:
        titles = wire.name_entities(records)
        rows = {title: service.kb.find(title) for title in titles}
        record["entities"] = {
            title: describe_entity(service.kb, row)
            for title, row in rows.items()
            if row is not None
        }
    return record


def make_app(
    service: Service, version: str, origins: Sequence[str] = (), *, warm: bool = True
) -> tuple[FastAPI, Gate]:
    """The app of a service, and the gate around it, which is the app to serve.

    origins: the sites whose pages may ask (CORS). warm: compile before `/ready`.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(service.run(warm=warm))
        yield
        await service.close()
        await running

    # Its pages of documentation would load scripts from elsewhere.
    app = FastAPI(
        title="insgenel",
        summary="Entity linking: text in, links to a knowledge base out.",
        description="Offsets count Unicode code points; a span is [start, end).",
        version=version,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    app.include_router(router)
    app.add_exception_handler(Refusal, _on_refusal)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_bug)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["content-type"],
        )
    paths = frozenset(app.openapi()["paths"]) | {"/"}
    return app, Gate(app, service.limits, service.metrics, paths)


def _problem(status: int, reason: str) -> Response:
    body, headers = problem(status, reason)
    return Response(body, status, headers)


def _on_refusal(request: Request, error: Any) -> Response:
    return _problem(error.status, error.reason)


def _on_invalid(request: Request, error: Any) -> Response:
    """What is wrong with a request, where in it, without repeating it."""
    found = [
        f"{'.'.join(str(part) for part in e['loc'][:8])[:100]}: {e['msg'][:200]}"
        for e in error.errors()[:5]
    ]
    unparsed = any(e["type"] == "json_invalid" for e in error.errors()[:1])
    return _problem(400 if unparsed else 422, "; ".join(found))


def _on_http(request: Request, error: Any) -> Response:
    response = _problem(error.status_code, str(error.detail))
    response.headers.update(error.headers or {})  # Allow
    return response


def _on_bug(request: Request, error: Any) -> Response:
    return _problem(500, "a bug of the service; its log has what went wrong")
