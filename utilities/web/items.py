"""Add items to a collection, and remove them."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path, PurePosixPath

import anyio.to_thread
from fastapi import APIRouter, Request, Response, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.datastructures import UploadFile

from utilities.collection_info import CollectionInfo
from utilities.embedder import embed_in_batches
from utilities.errors import DatabaseError, InvalidArgument
from utilities.faces import no_face
from utilities.id_map import IdMap
from utilities.image_files import openable_extensions
from utilities.item_streams import read_content
from utilities.items import Item
from utilities.locks import only_writer
from utilities.milvus_utilities import (
    delete_items,
    describe_collection,
    insert_items,
    path_is,
    stored_columns,
    stored_items,
)
from utilities.web.files import below, known_item
from utilities.web.models import AddedItems, Id, ItemModel, NewItem, NewItemForm
from utilities.web.problems import problems, refusal
from utilities.web.requests import REFUSALS, documented, read
from utilities.web.service import Service, Serving
from utilities.without_faces import WithoutFaces

# The guard has asked for the token already; this says so in the documentation, which then can be told it.
_TOKEN = Security(HTTPBearer(auto_error=False, description="The token that the server was started with."))
router = APIRouter(tags=["items"], prefix="/collections/{name}/items", dependencies=[_TOKEN])


@router.post(
    "",
    summary="Add an image",
    status_code=HTTPStatus.CREATED,
    response_model=AddedItems,
    responses=problems(
        *REFUSALS,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.CONFLICT,
        HTTPStatus.NOT_IMPLEMENTED,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
    openapi_extra=documented(NewItemForm, NewItem),
)
async def add(name: str, request: Request, service: Serving) -> Response:
    """Add an image: an upload, which is put into the collection's tree, or a file that lies there already.

    Of a file that was added before and has changed the new content stands for the old. In a collection of faces every
    face of the image is added; an image without one is refused. Videos are added by `lookalike load` alone.
    """
    _refuse_without_token(service)
    async with read(request, NewItemForm, NewItem) as (asked, file):
        insert = partial(_add, service, name, asked.path, file)
        items, info = await anyio.to_thread.run_sync(insert, limiter=service.writing)
    made = AddedItems(items=[ItemModel.of(item, info) for item in items])
    where = f"/items/{items[0].id}/image?collection={name}"
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
    """Remove an item: an image, or one face; of a video, all of its items. Its file is not touched; the next load of
    its tree inserts it again.
    """
    _refuse_without_token(service)
    await anyio.to_thread.run_sync(partial(_remove, service, name, id), limiter=service.writing)


def _refuse_without_token(service: Service) -> None:
    """Whoever has come as far as this has shown the token, if there is one."""
    if not service.settings.api_token:
        raise refusal(
            HTTPStatus.FORBIDDEN,
            "Items are added and removed with a token only; start the server with --token or LOOKALIKE_API_TOKEN.",
        )


def _add(service: Service, name: str, path: str, file: UploadFile | None) -> tuple[list[Item], CollectionInfo]:
    with only_writer(service.settings, service.collection(name).name), contextlib.ExitStack() as undo:
        info = describe_collection(service.client, name)  # as it is now that nobody else changes it
        if info.sampling:
            raise InvalidArgument(
                f"{name!r} holds videos, which are not added here; put the file into the tree, and load that again."
            )
        info.refuse_new_items()
        place = _place(info, path)
        assert info.root is not None
        embedder = service.search.embedder(info)
        if file is not None:
            _save(file, place)
            undo.callback(place.unlink, missing_ok=True)  # unless all goes well
        elif below(info, path) is None:
            raise InvalidArgument(f"path: there is no file {path!r} in the tree of {name!r}; upload it.")
        content = read_content(info.root, path, embedder, service.settings, name=path)
        if content.without_face:
            if file is None:  # It may have shown some before it changed.
                _forget_earlier(service, info, path, [])
            raise no_face(path)
        said = {of: values for _, of, values in stored_columns(service.client, info, path_is(path))}
        items = [item.having(said.get(path, {})) for item in content.items]
        # They may have been taken although no answer came.
        undo.callback(_forget, service, info, items)
        insert_items(service.client, info, items, embed_in_batches(embedder, content.pixels))
        undo.pop_all()
        IdMap(service.settings.id_map_path(name)).append(items)
        if info.of_faces:
            _forget_earlier(service, info, path, items)
    service.has_changed(name)
    return items, info


def _forget(service: Service, info: CollectionInfo, items: Sequence[Item]) -> None:
    with contextlib.suppress(DatabaseError):
        delete_items(service.client, info.name, [item.id for item in items])


def _forget_earlier(service: Service, info: CollectionInfo, path: str, items: Sequence[Item]) -> None:
    """Remove the faces that the file showed before it changed, and the note that it shows none."""
    now = {item.id for item in items}
    _delete(service, info.name, [each for each in _ids_of(service, info, path) if each not in now])
    WithoutFaces(service.settings.without_faces_path(info.name)).remove({path})


def _ids_of(service: Service, info: CollectionInfo, path: str) -> list[int]:
    """Of the items of a file."""
    pages = stored_items(service.client, info.name, path_is(path), ["id"])
    return [row["id"] for page in pages for row in page]


def _place(info: CollectionInfo, path: str) -> Path:
    """Where a file of this path lies, or is to lie; it must be one that a load would find there, by this path."""
    # A load passes over what is hidden; `.` and `..` begin with a dot, too.
    plain = path.isprintable() and all(part and not part.startswith(".") for part in path.split("/"))
    try:
        if info.root is None or not info.root.is_dir():
            raise refusal(HTTPStatus.CONFLICT, f"The tree of {info.name!r} is not where it was loaded from.")
        place = info.root.resolve() / path
        place.exists()  # which a name that is too long cannot be asked
        plain = plain and place.resolve() == place  # A load does not follow links either.
    except (OSError, RuntimeError):
        plain = False
    if not plain:
        raise InvalidArgument(
            f"path: {path!r} is no path in the tree of {info.name!r}; give folders and a name, none of them hidden, "
            "too long, or a link, with slashes between them."
        )
    if PurePosixPath(path).suffix.lower() not in openable_extensions():
        raise InvalidArgument(f"path: {path!r} has no extension of an image, by which a load would find it.")
    return place


def _save(file: UploadFile, place: Path) -> None:
    """Write an upload to its place, over nothing."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as copy:
            try:
                shutil.copyfileobj(file.file, copy)
                copy.flush()
                os.fsync(copy.fileno())
            except OSError:
                place.unlink()
                raise
    except FileExistsError:
        raise refusal(
            HTTPStatus.CONFLICT,
            f"There is a file {place.name!r} at this path already; its path alone, in JSON, adds it.",
        ) from None
    except OSError as error:
        raise refusal(HTTPStatus.FORBIDDEN, f"The file cannot be written into the tree: {error.strerror}.") from error


def _remove(service: Service, name: str, id: str) -> None:
    info = service.collection(name)
    path = known_item(service, info, id, ["path"])["path"]
    with only_writer(service.settings, name):
        # A video of which a frame is missing would go on being found by the next.
        _delete(service, name, _ids_of(service, info, path) if info.sampling else [int(id)])
    service.has_changed(name)


def _delete(service: Service, name: str, ids: Sequence[int]) -> None:
    # The id map first: it never names an item that Milvus does not hold.
    IdMap(service.settings.id_map_path(name)).remove(ids)
    delete_items(service.client, name, ids)
