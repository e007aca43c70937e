"""Errors as public clients read them: `{code, error, message}`, whatever went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from hooks.operations import StoppingError
from store.access import NoSuchEnvironmentError
from store.apps import NoSuchAppError
from store.errors import RefusedError, SlipwayError
from store.operations import NoSuchOperationError
from store.services import NoSuchServiceNumberError

log = structlog.get_logger()

MEDIA_TYPE = "application/hal+json"

LOGIN = "/tokens"
"""Where tokens are given out."""

MOST_TOLD = 5
"""Problems of one request that its answer names."""


class Problem(BaseModel):
    """What every answer with a status of 400 or more holds."""

    code: int
    error: str
    message: str


class ApiError(SlipwayError):
    """An answer with a status and a word of its own."""

    def __init__(self, code: HTTPStatus, error: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.error = error
        self.headers = dict(headers or {})


class InvalidTokenError(ApiError):
    """The request bears no token, or one that is good for nothing. Clients ask for a new login then."""

    def __init__(self, error: str = "invalid_token", message: str = "log in first: this takes an access token") -> None:
        # RFC 6750, section 3.
        super().__init__(HTTPStatus.UNAUTHORIZED, error, message, {"WWW-Authenticate": f'Bearer error="{error}"'})


class CommandFailedError(ApiError):
    """The command that the request stands for ended with an exit status other than 0."""

    def __init__(self, exit_status: int, message: str) -> None:
        if exit_status == RefusedError.exit_status:
            super().__init__(HTTPStatus.FORBIDDEN, "forbidden", message)
        else:
            super().__init__(HTTPStatus.UNPROCESSABLE_ENTITY, "unprocessable_entity", message)


_NOT_THERE = (NoSuchAppError, NoSuchEnvironmentError, NoSuchOperationError, NoSuchServiceNumberError)


def answer(
    request: HTTPConnection, code: int, error: str, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an error's answer to a request."""
    body = Problem(code=code, error=error, message=message)
    # RFC 6749, section 5.2: OAuth's clients read errors in plain JSON alone.
    media_type = "application/json" if request.url.path == LOGIN else MEDIA_TYPE
    return Response(body.model_dump_json(), code, dict(headers or {}), media_type)


def handle_in(app: FastAPI) -> None:
    """Let an application answer every error in this form."""
    app.add_exception_handler(SlipwayError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _defect)


async def _ours(request: Request, error: Exception) -> Response:
    message = str(error)
    if isinstance(error, ApiError):
        return answer(request, error.code, error.error, message, error.headers)
    if isinstance(error, _NOT_THERE):
        return answer(request, HTTPStatus.NOT_FOUND, "not_found", message)
    if isinstance(error, RefusedError):
        return answer(request, HTTPStatus.FORBIDDEN, "forbidden", message)
    if isinstance(error, StoppingError):
        return answer(request, HTTPStatus.SERVICE_UNAVAILABLE, "service_unavailable", message, {"Retry-After": "5"})
    return answer(request, HTTPStatus.UNPROCESSABLE_ENTITY, "unprocessable_entity", message)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  (what it was registered for)
    problems = error.errors()
    if any(problem["type"] == "json_invalid" for problem in problems):
        return answer(request, HTTPStatus.BAD_REQUEST, "invalid_json", "the body is not JSON")
    # Where and what, never the value: it may be a secret.
    told = [f"{'.'.join(map(str, problem['loc'][1:])) or 'body'}: {problem['msg']}" for problem in problems]
    return answer(request, HTTPStatus.UNPROCESSABLE_ENTITY, "unprocessable_entity", "; ".join(told[:MOST_TOLD]))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  (what it was registered for)
    status = HTTPStatus(error.status_code)
    return answer(
        request, status, status.name.lower(), f"{status.description or status.phrase}".rstrip("."), error.headers
    )


async def _defect(_request: Request, _error: Exception) -> Response:
    # The traceback goes to the log: Starlette raises the error again once this is sent.
    return JSONResponse(
        {"code": 500, "error": "internal_server_error", "message": "the server met a defect; its log tells more"},
        status_code=500,
        media_type=MEDIA_TYPE,
    )
