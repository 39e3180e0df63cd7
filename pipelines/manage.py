"""Manage: what collections there are, what is in them, and how to be rid of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from utilities.collection_info import CollectionInfo
from utilities.errors import CollectionNotFound, IdMapError, InvalidArgument
from utilities.id_map import Differences, IdMap
from utilities.items import printable
from utilities.locks import only_writer
from utilities.milvus_utilities import (
    connect,
    count_items,
    current_index,
    delete_items,
    describe_collection,
    drop_collection,
    list_collections,
    read_items,
    stored_items,
)
from utilities.settings import Settings

if TYPE_CHECKING:
    from pymilvus import MilvusClient


@dataclass(frozen=True)
class CollectionState:
    """A collection, and the id map beside it."""

    info: CollectionInfo
    items: int
    #: The index that Milvus searches with now, such as `ivf_flat`; None where a load died while it was exchanged.
    index: str | None
    id_map: Path
    #: Where the id map and Milvus disagree; None if the id map cannot be read.
    differences: Differences | None


def collections(settings: Settings | None = None) -> list[tuple[CollectionInfo, int]]:
    """Every collection and how many items it holds, sorted by name."""
    try:
        client = connect(settings=settings or Settings.load(), must_exist=True)
    except CollectionNotFound:
        return []
    return [(describe_collection(client, name), count_items(client, name)) for name in list_collections(client)]


def info(collection: str, settings: Settings | None = None) -> CollectionState:
    """The state of one collection."""
    settings = settings or Settings.load()
    client = connect(settings=settings, must_exist=True)
    described = describe_collection(client, collection)
    id_map = IdMap(settings.id_map_path(collection))
    try:
        differences = id_map.compare(read_items(client, collection))
    except IdMapError:
        differences = None
    return CollectionState(
        described, count_items(client, collection), current_index(client, described), id_map.path, differences
    )


def count(collection: str, settings: Settings | None = None) -> int:
    """How many items a collection holds."""
    client = connect(settings=settings or Settings.load(), must_exist=True)
    describe_collection(client, collection)
    return count_items(client, collection)


def export(collection: str, output: Path | None = None, settings: Settings | None = None) -> tuple[Path, int]:
    """Write the id map anew from what Milvus holds.

    Args:
        collection: its name.
        output: where to; by default the id map's own place.
        settings: limits and places; from the environment by default.

    Returns:
        The file, and how many rows it has.
    """
    settings = settings or Settings.load()
    client = connect(settings=settings, must_exist=True)
    describe_collection(client, collection)
    if output is not None and output.is_dir():
        raise InvalidArgument(f"{str(output)!r} is a directory; give the name of the file to write.")
    with only_writer(settings, collection):
        items = read_items(client, collection)
        id_map = IdMap(output or settings.id_map_path(collection))
        id_map.write(items)
    return id_map.path, len(items)


def drop(collection: str, settings: Settings | None = None) -> None:
    """Remove a collection with its id map and its lists of failures and of images without a face; no image itself."""
    settings = settings or Settings.load()
    client = connect(settings=settings, must_exist=True)
    describe_collection(client, collection)
    with only_writer(settings, collection):
        IdMap(settings.id_map_path(collection)).delete()
        drop_collection(client, collection)
        settings.failures_path(collection).unlink(missing_ok=True)
        settings.without_faces_path(collection).unlink(missing_ok=True)


def delete(collection: str, paths: Sequence[str] = (), filter: str = "", settings: Settings | None = None) -> int:
    """Remove items from a collection. The images themselves are not touched; another load inserts them again.

    Args:
        collection: its name.
        paths: as the matches show them, relative to the root; a path that is none of these is taken as a file's own.
        filter: a Milvus expression; whatever satisfies it is removed.
        settings: limits and places; from the environment by default.

    Returns:
        How many items were removed.

    Raises:
        InvalidArgument: neither paths nor a filter, or a path that the collection does not hold.
    """
    settings = settings or Settings.load()
    if bool(paths) == bool(filter):
        raise InvalidArgument("Say which items to delete: either paths or --filter EXPR.")
    client = connect(settings=settings, must_exist=True)
    described = describe_collection(client, collection)
    with only_writer(settings, collection):
        if filter:
            ids = [row["id"] for page in stored_items(client, collection, filter, ["id"]) for row in page]
        else:
            ids = _ids_of(client, described, paths)
        # The id map first, so that it never names an item that Milvus does not hold.
        IdMap(settings.id_map_path(collection)).remove(ids)
        delete_items(client, collection, ids)
    return len(ids)


def _ids_of(client: MilvusClient, info: CollectionInfo, paths: Sequence[str]) -> list[int]:
    """Ids of the items at some paths, all of which must be there: a misspelt path must not pass for a deleted one."""
    items = read_items(client, info.name)
    by_path: dict[str, list[int]] = {}
    for path, each in zip(items["path"], items["id"], strict=True):
        by_path.setdefault(path, []).append(each)
    ids: list[int] = []
    for path in paths:
        found = by_path.get(path) or by_path.get(_relative_to_root(info, path))
        if not found:
            raise InvalidArgument(f"The collection {info.name!r} holds no {printable(path)!r}; nothing was deleted.")
        ids += found
    return ids


def _relative_to_root(info: CollectionInfo, path: str) -> str:
    # Only the folder is freed of links: a link that was loaded is an item of its own.
    file = Path(path).parent.resolve() / Path(path).name
    return Path(os.path.relpath(file, info.root)).as_posix() if info.root else path
