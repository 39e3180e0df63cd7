"""Search over HTTP, and show what is searched with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus

import anyio.to_thread
import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import Gauge
from starlette.datastructures import UploadFile

from utilities.download import is_url
from utilities.errors import InvalidArgument
from utilities.image_files import ImageSource, open_image, read_pixels
from utilities.items import printable
from utilities.similar_images import Match
from utilities.thumbnails import as_jpeg
from utilities.web.files import file_of, known_item
from utilities.web.models import MatchModel, PictureAddress, PictureForm, Query, SearchForm, SearchResult
from utilities.web.problems import problems, refusal
from utilities.web.requests import REFUSALS, documented, read
from utilities.web.service import Service, Serving

router = APIRouter(tags=["search"])

#: Pictures in hand at once; whoever comes then is asked to come again. So many take a few seconds.
MOST_IN_HAND = 128
IN_HAND = Gauge("lookalike_pictures_in_hand", "Pictures that came and are not answered", multiprocess_mode="livesum")
#: Longest side of a preview in pixels.
PREVIEW = 1_024


@router.post(
    "/collections/{name}/search",
    response_model=SearchResult,
    responses=problems(*REFUSALS, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE),
    openapi_extra=documented(SearchForm, Query),
)
async def search(name: str, request: Request, service: Serving) -> Response:
    """The nearest neighbours of a picture: an upload, a URL, an item of the collection, or a vector."""
    with _room(service):
        async with read(request, SearchForm, Query) as (asked, file):
            submit = partial(_submit, service, name, asked, file)
            future = await anyio.to_thread.run_sync(submit, limiter=service.decoding)
            matches = await asyncio.wrap_future(future)
    query = _called(file) if file else asked.url or asked.id or "vector" if isinstance(asked, Query) else ""
    return JSONResponse({"query": query, "matches": [MatchModel.of(match, name) for match in matches]})


@router.post(
    "/preview",
    response_class=Response,
    responses={
        200: {"description": "A JPEG.", "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
        **problems(*REFUSALS, HTTPStatus.SERVICE_UNAVAILABLE),
    },
    openapi_extra=documented(PictureForm, PictureAddress),
)
async def preview(request: Request, service: Serving) -> Response:
    """A picture as a JPEG that a browser shows: upright, and at most 1,024 pixels wide and high."""
    with _room(service):
        async with read(request, PictureForm, PictureAddress) as (asked, file):

            def draw() -> bytes:
                source, name = _picture(asked.url if isinstance(asked, PictureAddress) else None, file)
                return as_jpeg(open_image(source, service.settings, at_least=PREVIEW, name=name), PREVIEW)

            content = await anyio.to_thread.run_sync(draw, limiter=service.decoding)
    return Response(content, media_type="image/jpeg")


@contextmanager
def _room(service: Service) -> Iterator[None]:
    """A place among the pictures in hand."""
    if service.in_hand >= MOST_IN_HAND:
        raise refusal(HTTPStatus.SERVICE_UNAVAILABLE, "The server is busy; try again in a moment.")
    service.in_hand += 1
    IN_HAND.inc()
    try:
        yield
    finally:
        service.in_hand -= 1
        IN_HAND.dec()


def _submit(service: Service, name: str, asked: SearchForm | Query, file: UploadFile | None) -> Future[list[Match]]:
    """Decode what is searched with, and have it searched for."""
    info = service.collection(name)
    if isinstance(asked, Query) and asked.vector is not None:
        return service.search.by_vector(info, np.array(asked.vector, np.float32), asked.selection)
    if isinstance(asked, Query) and asked.id is not None and asked.part is None:
        item = known_item(service, info, asked.id, [info.vector_field])
        return service.search.by_vector(info, np.array(item[info.vector_field], np.float32), asked.selection)
    if isinstance(asked, Query) and asked.id is not None:
        picture: tuple[ImageSource, str] = file_of(service, info, asked.id), f"The file of the item {asked.id}"
    else:
        picture = _picture(asked.url if isinstance(asked, Query) else None, file)
    source, called = picture
    size = service.search.embedder(info).input_size
    pixels, _ = read_pixels(source, size, service.settings, crop=asked.part, name=called)
    return service.search.by_pixels(info, pixels, asked.selection)


def _picture(url: str | None, file: UploadFile | None) -> tuple[ImageSource, str]:
    """An upload or an address as `open_image` takes it, and what errors call it."""
    if file is not None:
        return file.file.read(), _called(file)
    if url is None or not is_url(url):  # A path would be opened on this machine.
        raise InvalidArgument("url: give an address that begins with http:// or https://.")
    return url, url


def _called(file: UploadFile) -> str:
    return printable(file.filename or "") or "the upload"
