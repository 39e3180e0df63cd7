"""The files of items: where they are, and how they are sent."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, HTTPException, Query, Response
from fastapi.responses import FileResponse

from utilities.collection_info import CollectionInfo
from utilities.image_files import browser_type, open_image
from utilities.milvus_utilities import find_item
from utilities.settings import Settings
from utilities.thumbnails import MOST_SIDE, as_jpeg
from utilities.videos import Still
from utilities.web.guard import FILE_POLICY, VIDEO_POLICY
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
_VIDEO: dict[int | str, dict[str, Any]] = {
    **_PICTURE,
    **{
        status: {"description": which, "content": {"video/*": {"schema": {"type": "string", "format": "binary"}}}}
        for status, which in ((200, "The file."), (206, "The bytes of it that were asked for."))
    },
    304: {"description": "The file that you have is the same."},
    **problems(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE),
}
#: Media types by extension. Not by what this machine knows of extensions: only what no browser runs is among them.
_VIDEO_TYPES = {
    ".3g2": "video/3gpp2",
    ".3gp": "video/3gpp",
    ".asf": "video/x-ms-asf",
    ".avi": "video/x-msvideo",
    ".dv": "video/dv",
    ".f4v": "video/mp4",
    ".flv": "video/x-flv",
    ".m2ts": "video/mp2t",
    ".m2v": "video/mpeg",
    ".m4v": "video/mp4",
    ".mkv": "video/matroska",
    ".mov": "video/quicktime",
    ".mp4": "video/mp4",
    ".mpeg": "video/mpeg",
    ".mpg": "video/mpeg",
    ".mts": "video/mp2t",
    ".mxf": "application/mxf",
    ".ogm": "video/ogg",
    ".ogv": "video/ogg",
    ".ts": "video/mp2t",
    ".vob": "video/mpeg",
    ".webm": "video/webm",
    ".wmv": "video/x-ms-wmv",
}
_HEADERS = {"Cache-Control": f"private, max-age={FRESH}", "Content-Security-Policy": FILE_POLICY}
_Collection = Annotated[str | None, Query(description="Where it is; may be left out if there is only one.")]
_Known = Annotated[str | None, Header(alias="If-None-Match")]


@dataclass(frozen=True)
class _Found:
    """What shows an item, and the state of its file."""

    picture: Path | Still
    status: os.stat_result

    @property
    def file(self) -> Path:
        return self.picture.file if isinstance(self.picture, Still) else self.picture

    def headers(self) -> dict[str, str]:
        """Of a picture of it."""
        frame = f"-{self.picture.time:.3f}" if isinstance(self.picture, Still) else ""
        # Weak, since a thumbnail has other bytes wherever another version makes it (RFC 9110, section 8.8.1).
        return {"ETag": f'W/"{_version(self.status)}{frame}"', **_HEADERS}


@router.get("/items/{id}/image", response_class=Response, responses=_PICTURE)
async def image(id: Id, service: Serving, collection: _Collection = None, if_none_match: _Known = None) -> Response:
    """The file of an item as it is; as a JPEG, if it is of a type that browsers do not show, or a frame of a video."""
    found = await run_sync(_found, service, collection, id)
    headers = found.headers()
    if response := _not_modified(headers, if_none_match):
        return response
    kind = None
    if isinstance(found.picture, Path):
        kind = await run_sync(browser_type, found.picture, service.settings)
    if kind is None:
        return await _jpeg(found, MOST_SIDE, service)
    return FileResponse(found.file, headers=headers, media_type=kind)


@router.get("/items/{id}/thumbnail", response_class=Response, responses=_PICTURE)
async def thumbnail(id: Id, service: Serving, collection: _Collection = None, if_none_match: _Known = None) -> Response:
    """A small JPEG of an item: upright, and at most 400 pixels wide and high."""
    found = await run_sync(_found, service, collection, id)
    return _not_modified(found.headers(), if_none_match) or await _jpeg(found, THUMBNAIL, service)


@router.get("/items/{id}/video", response_class=Response, responses=_VIDEO)
async def video(
    id: Id,
    service: Serving,
    collection: _Collection = None,
    if_none_match: _Known = None,
    range: Annotated[str | None, Header(alias="Range", description="One range of bytes.")] = None,
) -> Response:
    """The file that an item is a frame of, or shows a face in, as it is."""
    found = await run_sync(_found, service, collection, id)
    if not isinstance(found.picture, Still):
        raise refusal(HTTPStatus.NOT_FOUND, f"The item {id} is of an image; /items/{id}/image is its file.")
    # Strong, so that a player that goes on reading knows that it is the same file.
    headers = {"ETag": f'"{_version(found.status)}"', **_HEADERS, "Content-Security-Policy": VIDEO_POLICY}
    if response := _not_modified(headers, if_none_match):
        return response
    if range is not None:
        _refuse_beyond(range, found.status.st_size)
    kind = _VIDEO_TYPES.get(found.file.suffix.lower(), "application/octet-stream")
    return FileResponse(
        found.file,
        headers=headers,
        media_type=kind,
        filename=found.file.name,  # for whoever keeps what the browser cannot play
        stat_result=found.status,
        content_disposition_type="inline",
    )


def known_item(service: Service, info: CollectionInfo, id: str, fields: Sequence[str]) -> dict[str, Any]:
    """These fields of an item.

    Raises:
        HTTPException: 404, the collection does not hold it.
    """
    item = find_item(service.client, info.name, int(id), fields) if int(id) <= LARGEST_ID else None
    if item is None:
        raise refusal(HTTPStatus.NOT_FOUND, f"The collection {info.name!r} has no item {id}.")
    return item


def picture_of(service: Service, info: CollectionInfo, id: str) -> Path | Still:
    """What shows an item: its file, or the frame of that.

    Raises:
        HTTPException: 404, no such item, or its file is gone, or does not lie below the collection's root.
    """
    item = known_item(service, info, id, ["path", "time"] if info.sampling else ["path"])
    file = below(info, item["path"])
    if file is None:
        raise refusal(HTTPStatus.NOT_FOUND, f"The file {item['path']!r} of the item {id} is gone.")
    return Still(file, item["time"]) if info.sampling else file


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


def _found(service: Service, collection: str | None, id: str) -> _Found:
    picture = picture_of(service, service.collection_or_only(collection), id)
    try:
        return _Found(picture, (picture.file if isinstance(picture, Still) else picture).stat())
    except OSError:
        raise refusal(HTTPStatus.NOT_FOUND, f"The file of the item {id} is gone.") from None


def _version(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


def _not_modified(headers: dict[str, str], known: str | None) -> Response | None:
    """The answer to a browser that has the file already."""
    if known is None or headers["ETag"] not in (each.strip() for each in known.split(",")):
        return None
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)


def _refuse_beyond(range: str, size: int) -> None:
    """Refuse a range that the file does not have in our own words, which Starlette would have sent in its own."""
    asked = re.fullmatch(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", range.replace(" ", "").lower())
    if asked:
        first, last, from_end = (int(each) if each else None for each in asked.groups())
        if (from_end and size) or (first is not None and first < size and (last is None or first <= last)):
            return
    raise HTTPException(
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        f"The file has {size:,} bytes, and none in this range; ask for one, such as bytes=0-1023.",
        {"Content-Range": f"bytes */{size}"},
    )


async def _jpeg(found: _Found, side: int, service: Service) -> Response:
    draw = partial(_drawn, found, side, service.settings)
    content = await run_sync(draw, limiter=service.decoding)
    return Response(content, headers=found.headers(), media_type="image/jpeg")


def _drawn(found: _Found, side: int, settings: Settings) -> bytes:
    return as_jpeg(open_image(found.picture, settings, at_least=side, name=found.file.name), side)
