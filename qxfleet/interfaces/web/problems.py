"""What goes wrong, as RFC 9457 has it: every answer that is no success is one problem document."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from qxfleet.api.asking import UnknownTarget
from qxfleet.errors import Forbidden, OrderError, OrderNotSupported, QxfleetError, StoreError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
TYPES = "https://qxfleet.readthedocs.io/http-api/#"
"""Where each type is explained; its code stands behind."""


class Problem(Exception):
    """An answer that is no success: ``code`` names its type for programs, ``detail`` is a sentence for people,
    ``facts`` are further members."""

    def __init__(
        self, status: int, code: str, detail: str, facts: Mapping[str, Any] | None = None, *, headers: Any = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers
        self.facts = facts or {}


class Mistake(BaseModel):
    """One thing that is wrong with a request."""

    where: str = Field(description="The part of the request, from the outside in.", examples=["query.limit"])
    detail: str = Field(examples=["Input should be greater than or equal to 1"])


class ProblemDocument(BaseModel):
    """RFC 9457. Further members depend on ``type``."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="What kind of problem, for programs.", examples=[f"{TYPES}unknown-ups"])
    title: str = Field(description="The status in words.", examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(description="What is wrong and what to do, for people.", examples=["no UPS is named 'rack9-z'"])
    instance: str = Field(description="The path that was asked for.", examples=["/api/v1/ups/rack9-z"])
    errors: list[Mistake] | None = Field(None, description="Every mistake of a request that could not be read.")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """``responses`` of an operation: these problems, described."""
    return {
        status: {
            "model": ProblemDocument,
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
        for status in statuses
    }


def handle_problems(app: FastAPI) -> None:
    """Have every error of an application answered as a problem."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_exception_handler(QxfleetError, _ours)
    app.add_exception_handler(Exception, _bug)


def answer(
    request: Request, status: int, code: str, detail: str, facts: Mapping[str, Any] | None = None, headers: Any = None
) -> JSONResponse:
    """The response of one problem."""
    document = {
        "type": f"{TYPES}{code}", "title": HTTPStatus(status).phrase, "status": status, "detail": detail,
        "instance": request.url.path, **(facts or {}),
    }  # fmt: skip
    return JSONResponse(document, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def _problem(request: Request, error: Exception) -> Any:
    assert isinstance(error, Problem)
    return answer(request, error.status, error.code, error.detail, error.facts, error.headers)


def _http(request: Request, error: Exception) -> Any:
    """What the framework refuses by itself: unknown paths, methods, bodies that are too long."""
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-").replace("'", "")
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        code = "content-too-large"  # whose phrase depends on the version of Python
    headers = {"Allow": _methods(request)} if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED else error.headers
    return answer(request, error.status_code, code, str(error.detail), None, headers)


def _methods(request: Request) -> str:
    """Every method of a path; the framework names those of the first route only."""
    path, found = {**request.scope}, set()
    for method in ("DELETE", "GET", "HEAD", "POST", "PUT"):
        path["method"] = method
        if any(route.matches(path)[0] is Match.FULL for route in request.app.router.routes):
            found.add(method)
    return ", ".join(sorted(found))


def _unreadable(request: Request, error: Exception) -> Any:
    assert isinstance(error, RequestValidationError)
    mistakes = [{"where": ".".join(map(str, each["loc"])), "detail": str(each["msg"])} for each in error.errors()]
    detail = "; ".join(f"{each['where']}: {each['detail']}" for each in mistakes)
    return answer(request, 422, "unreadable", detail, {"errors": mistakes})


def _ours(request: Request, error: Exception) -> Any:
    if isinstance(error, UnknownTarget):
        return answer(request, 404, "unknown-target", str(error))
    if isinstance(error, Forbidden):
        return answer(request, 403, "forbidden", str(error))
    if isinstance(error, OrderNotSupported):
        return answer(request, 404, "not-supported", str(error))
    if isinstance(error, OrderError):
        return answer(request, 409, "not-possible", str(error))
    if isinstance(error, StoreError):
        return answer(request, 503, "database", str(error))
    return answer(request, 409, "failed", str(error))


def _bug(request: Request, error: Exception) -> Any:
    log.error("%s %s failed by an error that is ours", request.method, request.url.path, exc_info=error)
    return answer(request, 500, "bug", "an error of qxfleet's own; the agent's log has more")
