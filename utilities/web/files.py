"""The files of items: where they are, and how they are sent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import FileResponse

from utilities.collection_info import CollectionInfo
from utilities.image_files import browser_type, open_image
from utilities.milvus_utilities import find_item
from utilities.settings import Settings
from utilities.thumbnails import MOST_SIDE, as_jpeg
from utilities.web.guard import FILE_POLICY
from utilities.web.models import LARGEST_ID, Id
from utilities.web.problems import problems, refusal
from utilities.web.service import Service, Serving

router = APIRouter(tags=["items"])

#: Longest side of a thumbnail in pixels: a tile of the page, on a display of twice the resolution.
THUMBNAIL = 400
#: Seconds for which a browser need not ask again.
FRESH = 3_600

_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The picture.", "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "The picture that you have is the same."},
    **problems(
        HTTPStatus.NOT_FOUND,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
}
_Collection = Annotated[str | None, Query(description="Where it is; may be left out if there is only one.")]
_Known = Annotated[str | None, Header(alias="If-None-Match")]


@router.get("/items/{id}/image", response_class=Response, responses=_PICTURE)
async def image(id: Id, service: Serving, collection: _Collection = None, if_none_match: _Known = None) -> Response:
    """The file of an item as it is; as a JPEG, if it is of a type that browsers do not show."""
    file, status = await run_sync(_found, service, collection, id)
    if response := _known(status, if_none_match):
        return response
    kind = await run_sync(browser_type, file, service.settings)
    if kind is None:
        return await _jpeg(file, status, MOST_SIDE, service)
    return FileResponse(file, headers=_headers(status), media_type=kind)


@router.get("/items/{id}/thumbnail", response_class=Response, responses=_PICTURE)
async def thumbnail(id: Id, service: Serving, collection: _Collection = None, if_none_match: _Known = None) -> Response:
    """A small JPEG of an item: upright, and at most 400 pixels wide and high."""
    file, status = await run_sync(_found, service, collection, id)
    return _known(status, if_none_match) or await _jpeg(file, status, THUMBNAIL, service)


def known_item(service: Service, info: CollectionInfo, id: str, fields: Sequence[str]) -> dict[str, Any]:
    """These fields of an item.

    Raises:
        HTTPException: 404, the collection does not hold it.
    """
    item = find_item(service.client, info.name, int(id), fields) if int(id) <= LARGEST_ID else None
    if item is None:
        raise refusal(HTTPStatus.NOT_FOUND, f"The collection {info.name!r} has no item {id}.")
    return item


def file_of(service: Service, info: CollectionInfo, id: str) -> Path:
    """The file of an item.

    Raises:
        HTTPException: 404, no such item, or its file is gone, or does not lie below the collection's root.
    """
    path = known_item(service, info, id, ["path"])["path"]
    file = below(info, path)
    if file is None:
        raise refusal(HTTPStatus.NOT_FOUND, f"The file {path!r} of the item {id} is gone.")
    return file


def below(info: CollectionInfo, path: str) -> Path | None:
    """The file `root / path`, without links; None if there is none, or if it lies elsewhere."""
    if info.root is None or "\0" in path:
        return None
    try:
        root = info.root.resolve()
        file = (root / path).resolve()
        return file if file.is_relative_to(root) and file.is_file() else None
    except (OSError, RuntimeError):  # It may not be looked at, or its links go round in a circle.
        return None


def _found(service: Service, collection: str | None, id: str) -> tuple[Path, os.stat_result]:
    file = file_of(service, service.collection_or_only(collection), id)
    try:
        return file, file.stat()
    except OSError:
        raise refusal(HTTPStatus.NOT_FOUND, f"The file of the item {id} is gone.") from None


def _headers(status: os.stat_result) -> dict[str, str]:
    return {
        # Weak, since a thumbnail has other bytes wherever another version makes it (RFC 9110, section 8.8.1).
        "ETag": f'W/"{status.st_mtime_ns:x}-{status.st_size:x}"',
        "Cache-Control": f"private, max-age={FRESH}",
        "Content-Security-Policy": FILE_POLICY,
    }


def _known(status: os.stat_result, known: str | None) -> Response | None:
    """The answer to a browser that has the file already."""
    headers = _headers(status)
    if known is None or headers["ETag"] not in (each.strip() for each in known.split(",")):
        return None
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)


async def _jpeg(file: Path, status: os.stat_result, side: int, service: Service) -> Response:
    draw = partial(_drawn, file, side, service.settings)
    content = await run_sync(draw, limiter=service.decoding)
    return Response(content, headers=_headers(status), media_type="image/jpeg")


def _drawn(file: Path, side: int, settings: Settings) -> bytes:
    return as_jpeg(open_image(file, settings, at_least=side, name=file.name), side)
