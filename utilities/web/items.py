"""Add items to a collection, and remove them."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from http import HTTPStatus
from pathlib import Path, PurePosixPath

import anyio.to_thread
from fastapi import APIRouter, Request, Response, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.datastructures import UploadFile

from utilities.collection_info import CollectionInfo
from utilities.errors import InvalidArgument
from utilities.id_map import IdMap
from utilities.image_files import openable_extensions, read_file
from utilities.items import Item
from utilities.locks import only_writer
from utilities.milvus_utilities import delete_items, insert_items
from utilities.web.files import below, known_item
from utilities.web.models import Id, ItemModel, NewItem, NewItemForm
from utilities.web.problems import problems, refusal
from utilities.web.requests import REFUSALS, documented, read
from utilities.web.service import Service, Serving

# The guard has asked for the token already; this says so in the documentation, which then can be told it.
_TOKEN = Security(HTTPBearer(auto_error=False, description="The token that the server was started with."))
router = APIRouter(tags=["items"], prefix="/collections/{name}/items", dependencies=[_TOKEN])


@router.post(
    "",
    summary="Add an item",
    status_code=HTTPStatus.CREATED,
    response_model=ItemModel,
    responses=problems(
        *REFUSALS, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE
    ),
    openapi_extra=documented(NewItemForm, NewItem),
)
async def add(name: str, request: Request, service: Serving) -> Response:
    """Add an image: an upload, which is put into the collection's tree, or a file that lies there already."""
    _refuse_without_token(service)
    info = await anyio.to_thread.run_sync(service.collection, name)
    async with read(request, NewItemForm, NewItem) as (asked, file):
        insert = partial(_add, service, info, asked.path, file)
        item = await anyio.to_thread.run_sync(insert, limiter=service.writing)
    made = ItemModel(id=str(item.id), path=item.path, label=item.label, width=item.width, height=item.height)
    where = f"/items/{item.id}/image?collection={info.name}"
    return JSONResponse(made.model_dump(), HTTPStatus.CREATED, {"Location": where})


@router.delete(
    "/{id}",
    summary="Remove an item",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problems(
        HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE
    ),
)
async def remove(name: str, id: Id, service: Serving) -> None:
    """Remove an item. Its file is not touched; loading its tree again inserts it again."""
    _refuse_without_token(service)
    await anyio.to_thread.run_sync(partial(_remove, service, name, id), limiter=service.writing)


def _refuse_without_token(service: Service) -> None:
    """Whoever has come as far as this has shown the token, if there is one."""
    if not service.settings.api_token:
        raise refusal(
            HTTPStatus.FORBIDDEN,
            "Items are added and removed with a token only; start the server with --token or LOOKALIKE_API_TOKEN.",
        )


def _add(service: Service, info: CollectionInfo, path: str, file: UploadFile | None) -> Item:
    place = _place(info, path)
    assert info.root is not None
    embedder = service.search.embedder(info)
    with only_writer(service.settings, info.name), contextlib.ExitStack() as undo:
        if file is not None:
            _save(file, place)
            undo.callback(place.unlink, missing_ok=True)  # unless all goes well
        elif not place.is_file():
            raise InvalidArgument(f"path: there is no file {path!r} in the tree of {info.name!r}; upload it.")
        pixels, item = read_file(info.root, path, embedder.input_size, service.settings)
        insert_items(service.client, info, [item], embedder.embed(pixels[None]))
        undo.pop_all()
        IdMap(service.settings.id_map_path(info.name)).append([item])
    service.has_changed(info.name)
    return item


def _place(info: CollectionInfo, path: str) -> Path:
    """Where a file of this path lies, or is to lie; it must be one that a load would find there."""
    place = below(info, path)
    # A load passes over what is hidden; `.` and `..` begin with a dot, too.
    plain = path.isprintable() and all(part and not part.startswith(".") for part in path.split("/"))
    if place is None or not plain:
        raise InvalidArgument(
            f"path: {path!r} is no path in the tree of {info.name!r}; give folders and a name, none of them hidden, "
            "with slashes between them."
        )
    if PurePosixPath(path).suffix.lower() not in openable_extensions():
        raise InvalidArgument(f"path: {path!r} has no extension of an image, by which a load would find it.")
    return place


def _save(file: UploadFile, place: Path) -> None:
    """Write an upload to its place, whole or not at all, and over nothing."""
    unfinished = place.with_name(f".{place.name}.unfinished")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as copy:
            while block := file.file.read(1 << 20):
                copy.write(block)
        os.link(unfinished, place)
    except FileExistsError:
        raise refusal(HTTPStatus.CONFLICT, f"There is a file {place.name!r} at this path already.") from None
    except OSError as error:
        raise refusal(HTTPStatus.FORBIDDEN, f"The file cannot be written into the tree: {error.strerror}.") from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _remove(service: Service, name: str, id: str) -> None:
    info = service.collection(name)
    known_item(service, info, id, ["id"])
    with only_writer(service.settings, name):
        IdMap(service.settings.id_map_path(name)).remove([int(id)])
        delete_items(service.client, name, [int(id)])
    service.has_changed(name)
