"""The files of items: where they are, and how they are sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import FileResponse

from utilities.collection_info import CollectionInfo
from utilities.image_files import browser_type, open_image
from utilities.milvus_utilities import find_item
from utilities.thumbnails import as_jpeg
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
    **problems(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE),
}
_Collection = Annotated[str | None, Query(description="Where it is; may be left out if there is only one.")]
_Known = Annotated[str | None, Header(alias="If-None-Match")]


@router.get("/items/{id}/image", response_class=Response, responses=_PICTURE)
def image(id: Id, service: Serving, collection: _Collection = None, if_none_match: _Known = None) -> Response:
    """The file of an item as it is; as a JPEG, if it is of a type that browsers do not show."""
    file = file_of(service, service.collection_or_only(collection), id)
    kind = browser_type(file, service.settings)
    if kind is None:
        return _sent(file, if_none_match, lambda headers: _jpeg(file, None, service, headers))
    return _sent(file, if_none_match, lambda headers: FileResponse(file, headers=headers, media_type=kind))


@router.get("/items/{id}/thumbnail", response_class=Response, responses=_PICTURE)
def thumbnail(id: Id, service: Serving, collection: _Collection = None, if_none_match: _Known = None) -> Response:
    """A small JPEG of an item: upright, and at most 400 pixels wide and high."""
    file = file_of(service, service.collection_or_only(collection), id)
    return _sent(file, if_none_match, lambda headers: _jpeg(file, THUMBNAIL, service, headers))


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
    if file is None or not file.is_file():
        raise refusal(HTTPStatus.NOT_FOUND, f"The file {path!r} of the item {id} is gone.")
    return file


def below(info: CollectionInfo, path: str) -> Path | None:
    """`root / path` without links; None if it leads out of the root."""
    if info.root is None or "\0" in path:
        return None
    root = info.root.resolve()
    file = (root / path).resolve()
    return file if file.is_relative_to(root) else None


def _sent(file: Path, known: str | None, send: Callable[[dict[str, str]], Response]) -> Response:
    """A file, unless it is the one that the browser has."""
    status = file.stat()
    # Weak, since a thumbnail has other bytes wherever another version makes it (RFC 9110, section 8.8.1).
    tag = f'W/"{status.st_mtime_ns:x}-{status.st_size:x}"'
    headers = {
        "ETag": tag,
        "Cache-Control": f"private, max-age={FRESH}",
        "Content-Security-Policy": FILE_POLICY,
    }
    if known is not None and tag in (each.strip() for each in known.split(",")):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return send(headers)


def _jpeg(file: Path, side: int | None, service: Service, headers: dict[str, str]) -> Response:
    picture = open_image(file, service.settings, at_least=side, name=file.name)
    return Response(as_jpeg(picture, side), headers=headers, media_type="image/jpeg")
