"""Manage: what collections there are, what is in them, and how to be rid of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from utilities.collection_info import CollectionInfo
from utilities.errors import InvalidArgument
from utilities.id_map import IdMap
from utilities.items import ITEM_FIELDS, item_id
from utilities.milvus_utilities import (
    connect,
    count_items,
    delete_items,
    describe_collection,
    drop_collection,
    list_collections,
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
    id_map: Path
    #: Rows of the id map; it should have as many as the collection has items.
    id_map_rows: int


def collections(settings: Settings | None = None) -> list[CollectionState]:
    """The state of every collection, sorted by name."""
    settings = settings or Settings.load()
    client = connect(settings=settings)
    return [_state(client, name, settings) for name in list_collections(client)]


def info(collection: str, settings: Settings | None = None) -> CollectionState:
    """The state of one collection."""
    settings = settings or Settings.load()
    return _state(connect(settings=settings), collection, settings)


def _state(client: MilvusClient, name: str, settings: Settings) -> CollectionState:
    id_map = IdMap(settings.id_map_path(name))
    described = describe_collection(client, name)
    return CollectionState(described, count_items(client, name), id_map.path, len(id_map.read()))


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
    client = connect(settings=settings)
    describe_collection(client, collection)
    rows = [row for page in stored_items(client, collection) for row in page]
    id_map = IdMap(output or settings.id_map_path(collection))
    id_map.write(pd.DataFrame(rows, columns=list(ITEM_FIELDS)))
    return id_map.path, len(rows)


def drop(collection: str, settings: Settings | None = None) -> None:
    """Remove a collection with its id map and its list of failures. The images themselves are not touched."""
    settings = settings or Settings.load()
    drop_collection(connect(settings=settings), collection)
    IdMap(settings.id_map_path(collection)).delete()
    settings.failures_path(collection).unlink(missing_ok=True)


def delete(collection: str, paths: Sequence[str] = (), filter: str = "", settings: Settings | None = None) -> int:
    """Remove items from a collection. The images themselves are not touched; another load inserts them again.

    Args:
        collection: its name.
        paths: as the matches show them, relative to the root; or paths of the files themselves.
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
    client = connect(settings=settings)
    described = describe_collection(client, collection)
    if filter:
        ids = [row["id"] for page in stored_items(client, collection, filter, ["id"]) for row in page]
    else:
        ids = _ids_of(client, described, paths)
    delete_items(client, collection, ids)
    IdMap(settings.id_map_path(collection)).remove(ids)
    return len(ids)


def _ids_of(client: MilvusClient, info: CollectionInfo, paths: Sequence[str]) -> list[int]:
    """Ids of paths, all of which must be there: a misspelt path must not pass for a deleted one."""
    candidates = {path: [item_id(path), item_id(_relative_to_root(info, path))] for path in paths}
    wanted = sorted({id_ for ids in candidates.values() for id_ in ids})
    there = {row["id"] for page in stored_items(client, info.name, f"id in {wanted}", ["id"]) for row in page}
    for path, ids in candidates.items():
        if not there.intersection(ids):
            raise InvalidArgument(f"The collection {info.name!r} holds no {path!r}; nothing was deleted.")
    return sorted(there)


def _relative_to_root(info: CollectionInfo, path: str) -> str:
    return Path(os.path.relpath(Path(path).resolve(), info.root)).as_posix() if info.root else path
