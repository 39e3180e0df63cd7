"""Augment: a copy of a collection whose vectors have moved towards their neighbours."""

from __future__ import annotations

from utilities.augmented_collections import NEIGHBOURS, copy_augmented
from utilities.milvus_utilities import connect, describe_collection
from utilities.settings import Settings


def run(
    collection: str,
    *,
    into: str,
    neighbours: int = NEIGHBOURS,
    settings: Settings | None = None,
    progress: bool = True,
) -> int:
    """Copy a collection, each vector moved towards its neighbours, or bring such a copy up to date.

    Args:
        collection: its name.
        into: the name of the copy.
        neighbours: of each item.
        settings: limits and places; from the environment by default.
        progress: whether to draw a progress bar on standard error.

    Returns:
        How many items the copy holds.

    Raises:
        LookalikeError: as for `augmented_collections.copy_augmented`; or there is no such collection.
    """
    settings = settings or Settings.load()
    client = connect(settings=settings, must_exist=True)
    return copy_augmented(
        client, describe_collection(client, collection), into, neighbours, settings, progress=progress
    )
