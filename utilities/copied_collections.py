"""Copy a collection's items into another, from its vectors alone: nothing is embedded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from tqdm import tqdm

from utilities.collection_info import CollectionInfo
from utilities.errors import Stopped
from utilities.id_map import IdMap
from utilities.items import ITEM_FIELDS, Item
from utilities.milvus_utilities import (
    count_items,
    delete_items,
    flush_and_index,
    insert_items,
    read_items,
    stored_embeddings,
)
from utilities.patience import patiently
from utilities.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pymilvus import MilvusClient


def copy_items(
    client: MilvusClient,
    source: CollectionInfo,
    target: CollectionInfo,
    convert: Callable[[Sequence[int], NDArray[np.float32]], NDArray[np.float32]],
    settings: Settings,
    *,
    afresh: bool = False,
    progress: bool = True,
) -> int:
    """Copy all items, with their vectors converted, and whatever else is known of them.

    Args:
        client: from `connect`.
        source: the collection to read.
        target: the collection to fill, which nobody else changes meanwhile.
        convert: given the ids of n items and their vectors, (n, dimension), returns those of the copy, (n, another).
        settings: where id maps lie.
        afresh: whether to copy what is there already once more, and to remove what the source does not hold; by default
            what is there is left, so that a copy that was interrupted goes on.
        progress: whether to draw a progress bar on standard error.

    Returns:
        How many items the target holds.

    Raises:
        Stopped: Ctrl-C or SIGTERM came; the same call goes on from there, or `afresh` begins again.
        DatabaseError: Milvus failed.
    """
    attempt = partial(patiently, seconds=settings.server_patience_seconds)
    there = set(read_items(client, target.name)["id"])
    copied: set[int] = set() if afresh else set(there)
    id_map = IdMap(settings.id_map_path(target.name))
    total = count_items(client, source.name)
    try:
        with tqdm(total=total, unit="item", desc=target.name, disable=not progress) as bar:
            for page, vectors in stored_embeddings(client, source, [*ITEM_FIELDS, *source.attributes]):
                missing = [row for row, each in enumerate(page) if each["id"] not in copied]
                items = [Item.of_row(page[row]) for row in missing]
                if items:
                    converted = convert([item.id for item in items], vectors[missing])
                    insert_items(client, target, items, converted, attempt)
                copied.update(item.id for item in items)
                bar.update(len(page))
    except Stopped as stopped:  # What it leaves is a part of a collection, which looks like a whole one.
        begins = "the same command begins again" if afresh else "the same command goes on from there"
        message = f"Stopped with {len(copied):,} of {total:,} items copied to {target.name!r}; {begins}."
        raise Stopped(message, stopped.exit_status - 128) from None
    if afresh:
        delete_items(client, target.name, sorted(there - copied), attempt)
    items_there = count_items(client, target.name)
    id_map.write(read_items(client, target.name))
    flush_and_index(client, target, items_there)
    return items_there
