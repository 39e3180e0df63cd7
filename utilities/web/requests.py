"""Read a request that comes as a form with a file, or as JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, TypeVar

import anyio
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from utilities.errors import InvalidArgument
from utilities.web.problems import in_words, refusal

Form = TypeVar("Form", bound=BaseModel)
Body = TypeVar("Body", bound=BaseModel)

#: Seconds that an upload may take.
SECONDS_TO_UPLOAD = 60
#: Bytes of a request in JSON: a vector of 32,768 numbers has less.
MOST_JSON = 1024 * 1024
#: What may be wrong with either.
REFUSALS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
FORM, JSON = "multipart/form-data", "application/json"


@asynccontextmanager
async def read(
    request: Request, form: type[Form], body: type[Body]
) -> AsyncIterator[tuple[Form | Body, UploadFile | None]]:
    """The request's fields, and the file that came with them, which is closed afterwards.

    Args:
        request: of either content type.
        form: what the fields of a form are; its `file` stands for the upload.
        body: what a body in JSON is.

    Raises:
        HTTPException: 408 a body that does not come to its end, 413 more JSON than is taken, 415 another content type.
        InvalidArgument: other fields, or other values.
    """
    if request.query_params:
        raise InvalidArgument("This address takes nothing after a question mark; send it in the form, or in the JSON.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    content = b""
    try:
        with anyio.fail_after(SECONDS_TO_UPLOAD):
            if kind == FORM:
                await request.form(max_files=1, max_fields=16, max_part_size=64 * 1024)
            elif kind == JSON:
                content = await _json(request)
    except TimeoutError:
        raise refusal(HTTPStatus.REQUEST_TIMEOUT, f"The upload took more than {SECONDS_TO_UPLOAD} seconds.") from None
    except ClientDisconnect:
        raise refusal(HTTPStatus.BAD_REQUEST, "The upload ended before its end.") from None
    if kind == JSON:
        yield _valid(lambda: body.model_validate_json(content)), None
    elif kind == FORM:
        async with request.form() as fields:
            file = fields.get("file")
            if not isinstance(file, UploadFile):
                raise InvalidArgument("file: give a file; other pictures go in JSON.")
            yield _valid(lambda: form.model_validate({**_once(fields.multi_items()), "file": b""})), file
    else:
        raise refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Send {FORM} with a file, or {JSON}.")


async def _json(request: Request) -> bytes:
    content = bytearray()
    async for block in request.stream():
        content += block
        if len(content) > MOST_JSON:
            raise refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"JSON of more than {MOST_JSON:,} bytes is not taken.")
    return bytes(content)


def _once(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in fields]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidArgument(f"{twice}: give it once.")
    return dict(fields)


def _valid(validate: Callable[[], Body]) -> Body:
    try:
        return validate()
    except ValidationError as error:
        raise InvalidArgument(in_words(error)) from error


def documented(form: type[BaseModel], body: type[BaseModel]) -> dict[str, Any]:
    """Both content types, for the documentation."""
    reference = "#/components/schemas/{}"
    content = {
        FORM: {"schema": {"$ref": reference.format(form.__name__)}},
        JSON: {"schema": {"$ref": reference.format(body.__name__)}},
    }
    return {"requestBody": {"required": True, "content": content}}
