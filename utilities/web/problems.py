"""Errors over HTTP: problem details (RFC 9457), with the sentence that the command line would print."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException

from utilities.errors import (
    CollectionBusy,
    CollectionNotFound,
    DatabaseError,
    DatabaseLocked,
    DatabaseNotReady,
    DatabaseUnreachable,
    ImageError,
    ImageTooLarge,
    InvalidArgument,
    LookalikeError,
    MissingPackage,
)

logger = logging.getLogger(__name__)

#: Of each error, and of what is derived from it; the first that fits.
STATUS: list[tuple[type[LookalikeError], HTTPStatus]] = [
    (CollectionNotFound, HTTPStatus.NOT_FOUND),
    (ImageTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (ImageError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (InvalidArgument, HTTPStatus.UNPROCESSABLE_ENTITY),
    (CollectionBusy, HTTPStatus.SERVICE_UNAVAILABLE),
    (DatabaseUnreachable, HTTPStatus.SERVICE_UNAVAILABLE),
    (DatabaseNotReady, HTTPStatus.SERVICE_UNAVAILABLE),
    (DatabaseLocked, HTTPStatus.SERVICE_UNAVAILABLE),
    (MissingPackage, HTTPStatus.NOT_IMPLEMENTED),
]
#: Seconds after which whoever was turned away may try again.
RETRY_AFTER = 2
MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What went wrong, as RFC 9457 has it."""

    type: str = Field("about:blank", description="Nothing beyond what the status says.")
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="What was wrong, where, and what to do.")


def refusal(status: HTTPStatus, detail: str) -> HTTPException:
    """An error of HTTP's own, to be raised."""
    return HTTPException(status, detail)


def problem_response(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The answer that says it."""
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers = {"Retry-After": str(RETRY_AFTER), **(headers or {})}
    return JSONResponse(problem.model_dump(), status, headers, MEDIA_TYPE)


def problems(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """What an endpoint may answer besides, for its documentation; each may ask for the token."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    answers = (HTTPStatus.UNAUTHORIZED, *statuses)
    return {int(status): {"description": status.phrase, "content": content} for status in answers}


def install(app: FastAPI) -> None:
    """Have every error answered so."""

    # None of them is a plain function, which would wait for a thread.
    @app.exception_handler(LookalikeError)
    async def lookalike_error(_: Request, error: LookalikeError) -> JSONResponse:
        status = next((each for kind, each in STATUS if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return problem_response(status, str(error))
        logger.warning("%s", error)  # which may name places on this machine
        public = next((each for kind, each in _IN_PUBLIC if isinstance(error, kind)), FAILED)
        return problem_response(status, public)

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        detail = _WORDS.get(status, error.detail) if error.detail in _LIBRARIES_WORDS else error.detail
        return problem_response(status, detail, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, in_words(error))

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> JSONResponse:
        return problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, FAILED)


def in_words(error: RequestValidationError | ValidationError) -> str:
    """The first thing that is wrong with a request, as a sentence."""
    first = error.errors()[0]
    place = first["loc"]
    if isinstance(error, RequestValidationError):
        place = place[1:]  # without the word for the address or its query
    where = ".".join(map(str, place)) or "The request"
    return f"{where}: {str(first['msg']).removeprefix('Value error, ').rstrip('.')}."


FAILED = "The server failed; its log says why."
BUSY = "The server is busy; try again in a moment."
_IN_PUBLIC: list[tuple[type[LookalikeError], str]] = [
    (CollectionBusy, "Another process is changing the collection; try again when it has ended."),
    (DatabaseError, "Milvus does not answer as it should; the server's log says why."),
    (MissingPackage, "The server lacks a package that this needs; its log says which, and how to install it."),
]
#: What FastAPI and Starlette say where they find something wrong themselves: the status once more.
_LIBRARIES_WORDS = {"Not Found", "Method Not Allowed", "Content Too Large"}
_WORDS = {
    HTTPStatus.NOT_FOUND: "There is nothing at this address; /docs lists what there is.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address does not take this method; /docs lists what there is.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The upload is larger than this server takes; LOOKALIKE_UPLOAD_MAX_BYTES "
    "allows more.",
}
