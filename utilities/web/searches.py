"""Search over HTTP, and show what is searched with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias

import numpy as np
from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile

from utilities.collection_info import CollectionInfo
from utilities.download import download, is_url
from utilities.errors import InvalidArgument
from utilities.faces import DETECTION_SIDE, find_faces, no_face
from utilities.image_files import ImageSource, open_image
from utilities.items import printable
from utilities.milvus_utilities import take_vectors
from utilities.similar_images import Match, checked_face
from utilities.thumbnails import as_jpeg
from utilities.videos import is_video
from utilities.web import clips
from utilities.web.files import known_item, picture_of
from utilities.web.models import FoundFace, MatchModel, PictureAddress, PictureForm, Query, SearchForm, SearchResult
from utilities.web.problems import BUSY, problems, refusal
from utilities.web.requests import REFUSALS, documented, read
from utilities.web.service import Service, Serving

router = APIRouter(tags=["search"])

#: Pictures in hand at once; whoever comes then is asked to come again. So many take a few seconds, or up to a minute if
#: faces are looked for in large ones.
MOST_IN_HAND = 128
#: Longest side of a preview in pixels.
PREVIEW = 1_024

#: What gives a picture to whoever decodes it, and what errors call it.
_Picture: TypeAlias = tuple[Callable[[], ImageSource], str]


@router.post(
    "/collections/{name}/search",
    response_model=SearchResult,
    responses=problems(*REFUSALS, HTTPStatus.NOT_FOUND, HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.SERVICE_UNAVAILABLE),
    openapi_extra=documented(SearchForm, Query),
)
async def search(name: str, request: Request, service: Serving) -> Response:
    """The nearest neighbours of a picture: an upload, a URL, an item of the collection, or a vector.

    In a collection of faces, of one face in the picture; of several faces in one image the nearest is a match. In a
    collection of videos, the videos that show the picture, or what an uploaded clip shows, and where.
    """
    async with read(request, SearchForm, Query) as (asked, file):
        with _room(service):
            # As searched by the networks in use, of which alone a picture's vectors are wanted.
            info = asked.selection.check(await run_sync(service.collection, name))
            sought = await _submitted(service, info, asked, file)
            matches = await asyncio.wrap_future(sought.matches)
    query = _called(file) if isinstance(asked, SearchForm) else asked.url or asked.id or "vector"
    return JSONResponse(
        {
            "query": query,
            "matches": [MatchModel.of(match, name) for match in matches],
            "faces": [face.model_dump() for face in sought.faces],
            "face": sought.face,
        }
    )


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
    """A picture, or the first frame of a clip, as a JPEG: upright, and at most 1,024 pixels wide and high."""
    async with read(request, PictureForm, PictureAddress) as (asked, file):
        with _room(service):
            if clips.is_clip(file):
                content = await clips.first_frame(service, file, _called(file), PREVIEW)
                return Response(content, media_type="image/jpeg")
            url = asked.url if isinstance(asked, PictureAddress) else None
            async with _picture(service, url, file) as (give, called):

                def draw() -> bytes:
                    return as_jpeg(open_image(give(), service.settings, at_least=PREVIEW, name=called), PREVIEW)

                content = await run_sync(draw, limiter=service.decoding)
    return Response(content, media_type="image/jpeg")


@dataclass(frozen=True)
class _Sought:
    """A search under way."""

    matches: Future[list[Match]]
    #: Those of the picture, where faces were looked for, and the number of the one that is searched with.
    faces: Sequence[FoundFace] = ()
    face: int | None = None


@contextmanager
def _room(service: Service) -> Iterator[None]:
    """A place among the pictures in hand."""
    if service.in_hand >= MOST_IN_HAND:
        raise refusal(HTTPStatus.SERVICE_UNAVAILABLE, BUSY)
    service.in_hand += 1
    try:
        yield
    finally:
        service.in_hand -= 1


async def _submitted(
    service: Service, info: CollectionInfo, asked: SearchForm | Query, file: UploadFile | None
) -> _Sought:
    """The search, once what is searched with is decoded, if it has to be."""
    if asked.face is not None and not info.of_faces:
        raise InvalidArgument(f"face: {info.name!r} holds {info.what}, which are searched as a whole; leave out face.")
    if clips.is_clip(file):
        matches: Future[list[Match]] = Future()
        matches.set_result(await clips.search_with(service, info, asked, file, _called(file)))
        return _Sought(matches)
    if isinstance(asked, Query):
        if asked.vector is not None:
            return _Sought(service.search.by_vector(info, np.array(asked.vector), asked.selection))
        if asked.id is not None and asked.part is None:
            item = await run_sync(known_item, service, info, asked.id, info.vector_fields)
            (vector,) = take_vectors(info, [item])
            return _Sought(service.search.by_vector(info, vector, asked.selection))
        if asked.id is not None:
            stored = await run_sync(picture_of, service, info, asked.id)
            return await _decoded(service, info, asked, (lambda: stored, f"The file of the item {asked.id}"))
    url = asked.url if isinstance(asked, Query) else None
    async with _picture(service, url, file) as picture:
        return await _decoded(service, info, asked, picture)


async def _decoded(service: Service, info: CollectionInfo, asked: SearchForm | Query, picture: _Picture) -> _Sought:
    give, called = picture

    def submit() -> _Sought:
        embedder, crop = service.search.embedder(info), asked.part
        side = DETECTION_SIDE if info.of_faces else embedder.input_size
        # A part that is small needs more of the whole's pixels.
        at_least = crop.whole_side(side) if crop else side
        image = open_image(give(), service.settings, at_least=at_least, name=called)
        if crop:
            image = crop.of(image)
        if not info.of_faces:
            return _Sought(service.search.by_pixels(info, embedder.see(image), asked.selection))
        faces, chips = find_faces(image, embedder.input_size)
        if not faces:
            raise no_face(called)
        number = checked_face(asked.face, faces, called)
        matches = service.search.by_pixels(info, chips[number - 1], asked.selection)
        return _Sought(matches, [FoundFace.of(face, image.size, crop) for face in faces], number)

    return await run_sync(submit, limiter=service.decoding)


@asynccontextmanager
async def _picture(service: Service, url: str | None, file: UploadFile | None) -> AsyncIterator[_Picture]:
    """An upload, or what lies at an address: fetched before a thread that decodes is taken, and kept until it is."""
    if file is not None:
        yield file.file.read, _called(file)
        return
    if url is None or not is_url(url):  # A path would be opened on this machine.
        raise InvalidArgument("url: give an address that begins with http:// or https://.")
    if is_video(url):
        raise InvalidArgument("url: this is the address of a video, which is not fetched; upload the file.")
    async with service.fetching:
        content = await run_sync(download, url, service.settings, limiter=service.unlimited)
        yield lambda: content, url


def _called(file: UploadFile | None) -> str:
    return printable((file and file.filename) or "") or "the upload"
