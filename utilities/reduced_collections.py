"""Copy a collection into another with fewer dimensions, from its vectors alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from utilities.collection_info import CollectionInfo, check_name
from utilities.copied_collections import copy_items
from utilities.embedder import embedder_of, reduce_embedder
from utilities.errors import EmbedderMismatch, InvalidArgument, WeightsUnavailable
from utilities.exported_networks import projection_of
from utilities.locks import only_writer
from utilities.milvus_utilities import create, find_collection
from utilities.reduction import Projection, unit_length
from utilities.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
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
    if source.others:
        raise InvalidArgument(
            f"{source.name!r} holds vectors of several networks; load the tree by each alone, with --pca."
        )
    if source.augmented:
        raise InvalidArgument(
            f"The vectors of {source.name!r} were moved towards their neighbours; reduce {source.augmented_of!r}, and "
            "augment the copy."
        )
    if source.fingerprint.pca_digest:
        raise InvalidArgument(
            f"The vectors of {source.name!r} are reduced already, to {source.fingerprint.dimension:,} dimensions; "
            "reduce the collection that they were made of."
        )
    if source.fingerprint.keep_length:
        raise InvalidArgument(
            f"The vectors of {source.name!r} keep their length, and PCA is fitted to unit vectors; load without "
            "--keep-length into another collection, and reduce that."
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
        wanted = replace(source, name=name, fingerprint=fingerprint, indexed_items=0)
        target = create(client, wanted, None)

        def projected(_: Sequence[int], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
            return projection(unit_length(vectors))

        return copy_items(client, source, target, projected, settings, progress=progress)


def _projection_of(existing: CollectionInfo, settings: Settings) -> Projection:
    """The projection that an earlier copy began with."""
    projection = projection_of(existing.fingerprint, settings)
    if projection is None:
        raise WeightsUnavailable(
            f"The network of the collection {existing.name!r}, {existing.fingerprint.name}, is not in "
            f"{settings.networks}; copy it from the LOOKALIKE_HOME where it was made, or drop the collection."
        )
    return projection
