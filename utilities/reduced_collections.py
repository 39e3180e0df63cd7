"""Copy a collection into another with fewer dimensions, from its vectors alone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tqdm import tqdm

from utilities.collection_info import CollectionInfo, check_name
from utilities.embedder import embedder_of, reduce_embedder
from utilities.errors import EmbedderMismatch, InvalidArgument, Stopped, WeightsUnavailable
from utilities.exported_networks import projection_of
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
from utilities.reduction import Projection, unit_length
from utilities.settings import Settings

if TYPE_CHECKING:
    from pymilvus import MilvusClient


def check_copy(
    client: MilvusClient, source: CollectionInfo, name: str, dimension: int | None, settings: Settings, *, whiten: bool
) -> CollectionInfo | None:
    """Refuse, before anything is measured, a copy that cannot be made.

    Args:
        client: from `connect`.
        source: the collection to read.
        name: of the collection to make or to complete.
        dimension: of its vectors; None if that is not known yet.
        settings: where networks lie.
        whiten: whether its vectors are to be whitened.

    Returns:
        The collection to complete; None if there is none of that name.

    Raises:
        InvalidArgument: a name that Milvus does not take, or a source that is itself reduced.
        EmbedderMismatch: the collection there is not one that was made of `source` like this.
        WeightsUnavailable: the network that made the vectors of `source`, or the one of the copy, is not here.
        DatabaseError: Milvus failed.
    """
    check_name(name)
    if source.fingerprint.pca_digest:
        raise InvalidArgument(
            f"The vectors of {source.name!r} are reduced already, to {source.fingerprint.dimension:,} dimensions; "
            "reduce the collection that they were made of."
        )
    existing = find_collection(client, name)
    if existing is None:
        embedder_of(source.fingerprint, settings)
        return None
    known = existing.fingerprint
    made_of = replace(known, pca_digest="", dimension=source.fingerprint.dimension)
    alike = known.pca_digest and source.fingerprint.matches(made_of) and dimension in (None, known.dimension)
    if not alike or _projection_of(existing, settings).whitened != whiten:
        wanted = f"to {dimension:,} dimensions" if dimension else "to fewer dimensions"
        raise EmbedderMismatch(
            f"The collection {name!r} holds vectors of {known}, not of {source.name!r} reduced {wanted}"
            f"{' and whitened' if whiten else ''}; choose another name."
        )
    return existing


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
        InvalidArgument, EmbedderMismatch, WeightsUnavailable: as `check_copy` does.
        CollectionBusy: another process is changing it.
        DatabaseError: Milvus failed.
    """
    with only_writer(settings, name):
        existing = check_copy(client, source, name, len(projection.axes), settings, whiten=projection.whitened)
        if existing:
            projection, fingerprint = _projection_of(existing, settings), existing.fingerprint
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
            sampling=source.sampling,
            columns=source.columns,
        )
        attempt = partial(patiently, seconds=settings.server_patience_seconds)
        there = set(read_items(client, name)["id"])
        id_map = IdMap(settings.id_map_path(name))
        total = count_items(client, source.name)
        try:
            with tqdm(total=total, unit="item", desc=name, disable=not progress) as bar:
                for page, vectors in stored_embeddings(client, source, [*ITEM_FIELDS, *source.attributes]):
                    missing = [row for row, each in enumerate(page) if each["id"] not in there]
                    items = [Item.of_row(page[row]) for row in missing]
                    insert_items(client, target, items, projection(unit_length(vectors[missing])), attempt)
                    there.update(item.id for item in items)
                    bar.update(len(page))
        except Stopped as stopped:  # What it leaves is a part of a collection, which looks like a whole one.
            message = (
                f"Stopped with {len(there):,} of {total:,} items in {name!r}; the same command goes on from there."
            )
            raise Stopped(message, stopped.exit_status - 128) from None
        items_there = count_items(client, name)
        id_map.write(read_items(client, name))
        flush_and_index(client, target, items_there)
    return items_there


def _projection_of(existing: CollectionInfo, settings: Settings) -> Projection:
    """The projection that an earlier copy began with."""
    projection = projection_of(existing.fingerprint, settings)
    if projection is None:
        raise WeightsUnavailable(
            f"The network of the collection {existing.name!r}, {existing.fingerprint.name}, is not in "
            f"{settings.networks}; copy it from the LOOKALIKE_HOME where it was made, or drop the collection."
        )
    return projection
