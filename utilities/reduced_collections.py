"""Copy a collection into another with fewer dimensions, from its vectors alone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tqdm import tqdm

from utilities.collection_info import CollectionInfo, check_name
from utilities.embedder import embedder_of, reduce_embedder
from utilities.errors import EmbedderMismatch
from utilities.exported_networks import find_by_fingerprint
from utilities.id_map import IdMap
from utilities.items import ITEM_FIELDS, Item
from utilities.locks import only_writer
from utilities.milvus_utilities import (
    count_items,
    create_collection,
    find_collection,
    flush_and_index,
    insert_items,
    read_items,
    stored_embeddings,
)
from utilities.patience import patiently
from utilities.reduction import Projection
from utilities.settings import Settings

if TYPE_CHECKING:
    from pymilvus import MilvusClient


def copy_reduced(
    client: MilvusClient,
    source: CollectionInfo,
    name: str,
    projection: Projection,
    settings: Settings,
    *,
    progress: bool = True,
) -> int:
    """Copy all items, with their vectors projected, and make the network that embeds queries for them.

    What is there already is left: a copy that was interrupted goes on, with the projection that it began with.

    Args:
        client: from `connect`.
        source: the collection to read.
        name: of the collection to make or to complete.
        projection: fitted to the vectors of `source`.
        settings: where networks and id maps lie.
        progress: whether to draw a progress bar on standard error.

    Returns:
        How many items the new collection holds.

    Raises:
        InvalidArgument: a name that Milvus does not take.
        EmbedderMismatch: the collection there is not one that was made of `source` with so many dimensions.
        CollectionBusy: another process is changing it.
        WeightsUnavailable: the network that made the vectors of `source` is not here.
        DatabaseError: Milvus failed.
    """
    check_name(name)
    with only_writer(settings, name):
        existing = find_collection(client, name)
        if existing:
            projection = _projection_of(existing, source, projection, settings)
            fingerprint = existing.fingerprint
        else:
            embedder = embedder_of(source.fingerprint, settings)
            fingerprint = reduce_embedder(embedder, projection, settings).fingerprint
        target = create_collection(
            client,
            name,
            dimension=fingerprint.dimension,
            metric=source.metric,
            fingerprint=fingerprint,
            root=source.root,
            index=None if existing else source.index,
        )
        attempt = partial(patiently, seconds=settings.server_patience_seconds)
        there = set(read_items(client, name)["id"])
        id_map = IdMap(settings.id_map_path(name))
        with tqdm(total=count_items(client, source.name), unit="item", desc=name, disable=not progress) as bar:
            for page, vectors in stored_embeddings(client, source, ITEM_FIELDS):
                missing = [row for row, each in enumerate(page) if each["id"] not in there]
                items = [Item(**page[row]) for row in missing]
                insert_items(client, target, items, projection(vectors[missing]), attempt)
                bar.update(len(page))
        items_there = count_items(client, name)
        id_map.write(read_items(client, name))
        flush_and_index(client, target, items_there)
    return items_there


def _projection_of(
    existing: CollectionInfo, source: CollectionInfo, wanted: Projection, settings: Settings
) -> Projection:
    """The projection that an earlier copy began with."""
    made_of = replace(existing.fingerprint, pca_digest="", dimension=source.fingerprint.dimension)
    network = find_by_fingerprint(existing.fingerprint, settings)
    projection = network.projection() if network else None
    if made_of != source.fingerprint or projection is None or projection.axes.shape != wanted.axes.shape:
        raise EmbedderMismatch(
            f"The collection {existing.name!r} holds vectors of {existing.fingerprint}, not of {source.name!r} reduced "
            f"to {len(wanted.axes):,} dimensions; choose another name."
        )
    return projection
