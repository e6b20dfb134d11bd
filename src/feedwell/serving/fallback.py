"""What a caller hears when there is no feed: a status, a plain reason, and when to come back. Never a stack trace."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from feedwell.core.errors import DataError, FeedwellError, Unavailable, UsageError
from feedwell.serving.bodies import PROBLEMS_LISTED, Refused
from feedwell.serving.json_body import NotPlainJson

RETRY_AFTER_S = "1"
_PROBLEMS_SHOWN = 3
_log = logging.getLogger("feedwell.serving")


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    return Response(orjson.dumps(content, option=option), status, headers, "application/json")


def refusal(status: int, reason: str) -> Response:
    headers = {"Retry-After": RETRY_AFTER_S} if status == 503 else None
    return json_response({"error": reason, "problems": []}, status, headers)


def invalid(found: Sequence[Mapping[str, Any]]) -> Response:
    """422 with each problem's place and reason. What was sent is never repeated: it may not even be JSON."""
    problems = [{"at": _place(one["loc"]), "problem": _printable(one["msg"])} for one in found]
    text = "; ".join(f"{p['at']}: {p['problem']}" for p in problems[:_PROBLEMS_SHOWN])
    body = {"error": f"the request is not valid: {text}", "problems": problems[:PROBLEMS_LISTED]}
    return json_response(body, 422)


def _place(parts: Sequence[Any]) -> str:
    return _printable(".".join(str(part) for part in parts))[:200]


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def add_error_answers(app: FastAPI) -> None:
    """Expected errors become 400, 422 or 503 with their message; anything else 500, logged and without detail."""

    @app.exception_handler(FeedwellError)
    async def expected(request: Request, error: FeedwellError) -> Response:
        status = 503 if isinstance(error, Unavailable) else 422 if isinstance(error, DataError) else 500
        return refusal(400 if isinstance(error, UsageError) else status, str(error))

    @app.exception_handler(RequestValidationError)
    async def not_valid(request: Request, error: RequestValidationError) -> Response:
        return invalid(error.errors())

    @app.exception_handler(NotPlainJson)
    async def not_plain(request: Request, error: NotPlainJson) -> Response:
        return invalid(error.problems)

    @app.exception_handler(HTTPException)
    async def by_http(request: Request, error: HTTPException) -> Response:
        response = refusal(error.status_code, str(error.detail))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return refusal(422, str(error))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return refusal(500, "an internal error; it was logged")


class BodyLimit:
    """ASGI middleware: a body larger than `limit` bytes is answered 413 before it is held in memory."""

    def __init__(self, app: Any, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._limit:
            await self._refuse(scope, receive, send)
            return
        got, begun = 0, False

        async def counted() -> Any:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self._limit:
                raise _TooLarge
            return message

        async def watched(message: Any) -> None:
            nonlocal begun
            if got > self._limit:  # the framework's own answer to the failed read: 413 takes its place
                return
            begun = True
            await send(message)

        with suppress(_TooLarge):
            await self._app(scope, counted, watched)
        if got > self._limit and not begun:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Any, receive: Any, send: Any) -> None:
        response = refusal(413, f"the body is larger than {self._limit} bytes: send less at a time")
        await response(scope, receive, send)


class _TooLarge(Exception):
    pass
