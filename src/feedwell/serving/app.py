"""The HTTP surface. Every field is bounded; the event loop only moves bytes: the pipeline and the disk have threads.

POST /v1/recommend            GET /v1/recommend/{user}      GET /v1/explain/{request_id}
POST /v1/rank
POST /v1/events               PUT /v1/items                 PUT /v1/users
GET  /health                  GET /ready                    GET /metrics
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Query, Request, Response
from fastapi.responses import HTMLResponse
from starlette.convertors import StringConvertor, register_url_convertor

from feedwell import __version__
from feedwell.core.event import MAX_ID_BYTES, RawEvent
from feedwell.data.contracts import EventContract, RowContract
from feedwell.pipeline.path import RequestPath, Served, Wish
from feedwell.serving.answers import (
    METRICS,
    AppendAnswer,
    Explanation,
    FeedAnswer,
    HealthAnswer,
    RankAnswer,
    ReadyAnswer,
    RowsRefused,
    answers,
)
from feedwell.serving.bodies import (
    ERRORS,
    MAX_BODY_BYTES,
    MAX_ROWS,
    REQUEST_ID,
    EventBody,
    FeedQuery,
    Id,
    RankBody,
    RecommendBody,
    require_once,
)
from feedwell.serving.docs_page import HEADERS, docs_page
from feedwell.serving.fallback import BodyLimit, add_error_answers, json_response, refusal
from feedwell.serving.intake import append
from feedwell.serving.json_body import PlainJsonRoute
from feedwell.serving.metrics import MetricsBoard
from feedwell.serving.runtime import Runtime, feed_of

_PUBLISH_S = 1.0
_ID_HELP = "Any text of 1 to 512 bytes, percent-encoded; most clients resolve `.` and `..`: POST those."


class _IdConvertor(StringConvertor):
    """All that is left of the path. The `path` of Starlette ends at a line break: `u%0A` would be answered as `u`."""

    regex = r"[\s\S]*"


register_url_convertor("id", _IdConvertor())


def create_app(runtime: Runtime, board: MetricsBoard | None = None) -> FastAPI:
    """The app of one worker; it closes the runtime when it ends."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        runtime.watch()
        task = asyncio.create_task(_publish_metrics(runtime, board)) if board else None
        yield
        if task is not None and board is not None:
            task.cancel()
            board.withdraw()
        await asyncio.to_thread(runtime.close)

    app = FastAPI(title="feedwell", version=__version__, lifespan=life, docs_url=None, redoc_url=None, responses=ERRORS)
    app.add_middleware(BodyLimit, limit=MAX_BODY_BYTES)
    add_error_answers(app)
    _add_feeds(app, runtime)
    _add_writes(app, runtime)
    _add_operations(app, runtime, board)
    return app


def _add_feeds(app: FastAPI, runtime: Runtime) -> None:
    routes = APIRouter(route_class=PlainJsonRoute)

    async def feed(wish: Wish) -> Response:
        def work(left_ms: float) -> tuple[RequestPath, Served]:
            return runtime.prepare(wish, left_ms)

        def finish(made: tuple[RequestPath, Served]) -> Response:
            path, served = made
            path.keep(served)
            explained = runtime.explain(served.record.request_id) if wish.explain else None
            return json_response(feed_of(served, explained))

        answer: Response = await runtime.lane.submit(work, finish, runtime.deadline_ms)
        return answer

    @routes.post("/v1/recommend", summary="A feed", response_class=Response, responses=answers(FeedAnswer))
    async def recommend(body: RecommendBody) -> Response:
        return await feed(Wish(**body.model_dump()))

    @routes.post(
        "/v1/rank", summary="The caller's items, ranked", response_class=Response, responses=answers(RankAnswer)
    )
    async def rank(body: RankBody) -> Response:
        asked = body.model_dump()
        return await feed(Wish(among=asked.pop("items"), **asked))

    @routes.get("/v1/recommend/{user:id}", summary="A feed", response_class=Response, responses=answers(FeedAnswer))
    async def recommend_user(
        user: Annotated[Id, Path(description=_ID_HELP)],
        query: Annotated[FeedQuery, Query()],
        request: Request,
    ) -> Response:
        require_once(request.query_params.multi_items())
        return await feed(Wish(user_id=user, **query.model_dump()))

    @routes.get(
        "/v1/explain/{request_id}",
        summary="Why these items",
        response_class=Response,
        responses=answers(Explanation),
    )
    async def explain_request(request_id: Annotated[str, Path(pattern=REQUEST_ID)]) -> Response:
        explained = await asyncio.to_thread(runtime.explain, request_id)
        if explained is None:
            return refusal(404, f"no request '{request_id}' is on record; records are kept by request_id of an answer")
        return json_response(explained)

    app.include_router(routes)


def _add_writes(app: FastAPI, runtime: Runtime) -> None:
    check_event = EventContract(runtime.project)

    @app.post(
        "/v1/events",
        summary="Append events",
        response_class=Response,
        openapi_extra=_event_schema(runtime.project.entities),
        responses=answers(AppendAnswer, s422=RowsRefused),
    )
    async def events(request: Request) -> Response:
        return await asyncio.to_thread(append, runtime, await request.body(), "events", check_event)

    def put(entity: str, key: str) -> None:
        check_row = RowContract(runtime.project, entity)

        def check(row: Any, now: int) -> RawEvent | str:
            return check_row(row, now, dated=False)

        @app.put(
            f"/v1/{key}",
            summary="Whole rows",
            response_class=Response,
            openapi_extra=_row_schema(check_row.id_name, key),
            responses=answers(AppendAnswer, s422=RowsRefused),
        )
        async def rows(request: Request) -> Response:
            return await asyncio.to_thread(append, runtime, await request.body(), key, check, check_row.undeclared)

    put("item", "items")
    put("user", "users")


def _add_operations(app: FastAPI, runtime: Runtime, board: MetricsBoard | None) -> None:
    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return HTMLResponse(docs_page(app.openapi(), f"{request.url.scheme}://{request.url.netloc}"), headers=HEADERS)

    @app.get("/health", summary="The process lives", response_class=Response, responses=answers(HealthAnswer))
    async def health() -> Response:
        return json_response({"status": "ok", "version": __version__})

    @app.get(
        "/ready",
        summary="It may get traffic",
        response_class=Response,
        responses=answers(ReadyAnswer, s503=ReadyAnswer),
    )
    async def ready() -> Response:
        found = await asyncio.to_thread(runtime.readiness)
        return json_response(found, 200 if found["ready"] else 503)

    @app.get("/metrics", summary="Prometheus", response_class=Response, responses=METRICS)
    async def metrics() -> Response:
        if board is None:
            text = runtime.telemetry.prometheus()
        else:
            await asyncio.to_thread(board.publish, runtime.telemetry)
            text = await asyncio.to_thread(board.collected)
        return Response(text, media_type="text/plain; version=0.0.4")


async def _publish_metrics(runtime: Runtime, board: MetricsBoard) -> None:
    while True:
        await asyncio.to_thread(board.publish, runtime.telemetry)
        await asyncio.sleep(_PUBLISH_S)


def _event_schema(entities: Sequence[str]) -> dict[str, Any]:
    ids = {name: {"type": "string", "minLength": 1, "maxLength": MAX_ID_BYTES} for name in entities}
    schema = EventBody.model_json_schema()
    return _one_or_many(schema | {"properties": ids | schema["properties"], "additionalProperties": False}, "events")


def _row_schema(id_name: str, key: str) -> dict[str, Any]:
    id_schema = {"type": "string", "minLength": 1, "maxLength": MAX_ID_BYTES}
    schema = {
        "type": "object",
        "properties": {id_name: id_schema},
        "maxProperties": 1000,
        "additionalProperties": True,
        "description": "The whole row, its id and its columns: what is left out is gone.",
    }
    told = _one_or_many(schema, key)
    told["requestBody"]["content"]["application/json"]["example"] = {id_name: f"{key[0]}1"}
    return told


def _one_or_many(schema: dict[str, Any], key: str) -> dict[str, Any]:
    many = {"type": "array", "items": schema, "minItems": 0, "maxItems": MAX_ROWS}
    wrapped = {"type": "object", "properties": {key: many}, "required": [key], "additionalProperties": False}
    content = {"application/json": {"schema": {"anyOf": [schema, many, wrapped]}}}
    return {"requestBody": {"required": True, "content": content}}
