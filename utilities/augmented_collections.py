"""Database-side augmentation: a copy of a collection in which every vector is moved towards its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from utilities.collection_info import CollectionInfo, check_name
from utilities.copied_collections import copy_items
from utilities.errors import InvalidArgument
from utilities.locks import only_writer
from utilities.milvus_utilities import by_field, create, find_collection, move_root, nearest_that, take_vectors
from utilities.reranking import augmented
from utilities.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymilvus import MilvusClient

#: Neighbours that a vector is moved towards, and the most.
NEIGHBOURS, MOST_NEIGHBOURS = 10, 100
#: Numbers of neighbours' vectors that are read at a time: a bound on memory, where Python holds each in 32 bytes.
NUMBERS_TOGETHER = 4_000_000


def copy_augmented(
    client: MilvusClient,
    source: CollectionInfo,
    name: str,
    neighbours: int,
    settings: Settings,
    *,
    progress: bool = True,
) -> int:
    """Copy all items, each vector moved towards those of its nearest neighbours; queries are embedded as before.

    A collection of that name that was made of `source` like this is brought up to date: everything is copied again,
    since a new item moves others, and what `source` does not hold any more is removed.

    Args:
        client: from `connect`.
        source: the collection to read.
        name: of the collection to make, or to bring up to date.
        neighbours: of each item, from 1 to `MOST_NEIGHBOURS`.
        settings: where id maps lie.
        progress: whether to draw a progress bar on standard error.

    Returns:
        How many items the new collection holds.

    Raises:
        InvalidArgument: a name that Milvus does not take, a number of neighbours out of range, a collection of videos,
            one that is augmented already, or another collection of that name.
        EmbedderMismatch: the collection of that name has vectors of another embedder.
        CollectionBusy: another process is changing it.
        DatabaseError: Milvus failed.
        Stopped: Ctrl-C or SIGTERM came; the same call begins again.
    """
    check_name(name)
    if not 1 <= neighbours <= MOST_NEIGHBOURS:
        raise InvalidArgument(f"A vector is moved towards 1 to {MOST_NEIGHBOURS} neighbours, not {neighbours:,}.")
    if source.sampling:
        raise InvalidArgument(f"{source.name!r} holds videos, whose frames have each other as neighbours.")
    if source.augmented:
        raise InvalidArgument(f"The vectors of {source.name!r} were moved already; take {source.augmented_of!r}.")
    if source.fingerprint.keep_length:
        raise InvalidArgument(f"The vectors of {source.name!r} keep their length, which a mean of several has not.")
    with only_writer(settings, name):
        existing = find_collection(client, name)
        if existing and (existing.augmented, existing.augmented_of) != (neighbours, source.name):
            of = f"of {existing.augmented_of!r} moved towards {existing.augmented} neighbours"
            has = of if existing.augmented else "as they were embedded"
            raise InvalidArgument(f"The collection {name!r} holds vectors {has}; choose another name.")
        if existing and existing.root != source.root and source.root:  # The tree has moved.
            move_root(client, existing, source.root)
        wanted = replace(source, name=name, augmented=neighbours, augmented_of=source.name, indexed_items=0)
        target = create(client, wanted, None)
        convert = partial(_moved, client, source, neighbours)
        return copy_items(client, source, target, convert, settings, afresh=True, progress=progress)


def _moved(
    client: MilvusClient, source: CollectionInfo, count: int, ids: Sequence[int], vectors: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(n, dimension) vectors moved towards their `count` nearest among all items of the source."""
    moved = np.empty_like(vectors)
    step = max(1, NUMBERS_TOGETHER // ((count + 1) * source.dimension))
    for start in range(0, len(ids), step):
        own = ids[start : start + step]

        def others(number: int, rows: list[dict[str, Any]], own: Sequence[int] = own) -> list[dict[str, Any]]:
            return [row for row in rows if row["id"] != own[number]]

        some = vectors[start : start + step]
        # One more than is wanted, since an item's nearest neighbour is itself.
        found = nearest_that(others, client, source, some, count, fields=source.vector_fields, depth=count + 1)
        near = np.zeros((len(own), count, source.dimension), np.float32)
        for row, rows in enumerate(found):
            near[row, : len(rows)] = take_vectors(source, rows)
        own_parts, near_parts = by_field(source, some), by_field(source, near)
        parts = [augmented(own_parts[each], near_parts[each]) for each in source.vector_fields]
        moved[start : start + step] = np.concatenate(parts, axis=1)
    return moved
