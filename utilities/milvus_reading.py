"""Read a collection: how many items it holds, what they are, and their vectors, in pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from utilities.collection_info import CollectionInfo
from utilities.filters import check_filter
from utilities.items import ITEM_FIELDS, Value
from utilities.milvus_client import MilvusClient
from utilities.milvus_collections import describe_collection
from utilities.milvus_connection import MESSAGE_BYTES, PAGE_ROWS, RETRIES
from utilities.milvus_search import by_field, loaded, take_vectors
from utilities.reduction import unit_length

if TYPE_CHECKING:
    from numpy.typing import NDArray


def count_items(client: MilvusClient, name: str) -> int:
    """How many items a collection holds, counted rather than estimated.

    Raises:
        DatabaseError: Milvus failed.
    """
    with loaded(client, name, "count"):
        rows = client.query(
            name, filter="", output_fields=["count(*)"], consistency_level="Strong", retry_times=RETRIES
        )
        return int(rows[0]["count(*)"])


def find_item(client: MilvusClient, name: str, id: int, fields: Sequence[str]) -> dict[str, Any] | None:
    """These fields of one item; None if the collection does not hold it.

    Raises:
        DatabaseError: Milvus failed.
    """
    ask = partial(client.query, name, filter=f"id == {int(id)}", output_fields=list(fields), retry_times=RETRIES)
    with loaded(client, name, "read"):
        # What another process has just inserted is seen for certain only by whoever waits for it.
        rows = ask() or ask(consistency_level="Strong")
    return dict(rows[0]) if rows else None


def stored_items(
    client: MilvusClient,
    name: str,
    filter: str = "",
    fields: Sequence[str] = ITEM_FIELDS,
    page_rows: int = PAGE_ROWS,
) -> Iterator[list[dict[str, Any]]]:
    """Read a collection in pages, whatever its size.

    Args:
        client: from `connect`.
        name: a collection.
        filter: a Milvus expression; empty for everything.
        fields: what to read of each item.
        page_rows: the most rows of a page, at most `PAGE_ROWS`.

    Raises:
        InvalidArgument: an expression that Milvus cannot read, or that names a field which the collection has not.
        DatabaseError: Milvus failed.
    """
    if filter:
        check_filter(filter, describe_collection(client, name).filter_fields, name)
    with loaded(client, name, "read", filter):
        pages = client.query_iterator(
            name, batch_size=page_rows, filter=filter, output_fields=list(fields), consistency_level="Strong"
        )
        while page := pages.next():
            yield page
        pages.close()


def read_items(client: MilvusClient, name: str, attributes: Sequence[str] = ()) -> pd.DataFrame:
    """All items of a collection, without their vectors, in the columns of `Item`; as `stored_items` otherwise.

    Args:
        client: from `connect`.
        name: a collection.
        attributes: further columns.
    """
    fields = [*ITEM_FIELDS, *attributes]
    rows = [row for page in stored_items(client, name, fields=fields) for row in page]
    return pd.DataFrame(rows, columns=fields)


def stored_columns(
    client: MilvusClient, info: CollectionInfo, filter: str = ""
) -> Iterator[tuple[int, str, dict[str, Value]]]:
    """What CSVs have said of a collection's files.

    Args:
        client: from `connect`.
        info: the collection.
        filter: a Milvus expression; empty for everything.

    Yields:
        Of each item of which something was said: its id, its path, and the values by their columns.

    Raises:
        DatabaseError: Milvus failed.
    """
    names = [name for name, _ in info.columns]
    if not names:
        return
    for page in stored_items(client, info.name, filter, ["id", "path", *names]):
        for row in page:
            if values := {name: row[name] for name in names if row.get(name) is not None}:
                yield row["id"], row["path"], values


def columns_of(
    client: MilvusClient, info: CollectionInfo, ids: Sequence[int]
) -> Iterator[tuple[int, str, dict[str, Value]]]:
    """As `stored_columns`, of items by their ids; one that is not there is no error."""
    for start in range(0, len(ids), PAGE_ROWS):
        yield from stored_columns(client, info, f"id in {list(ids[start : start + PAGE_ROWS])}")


def stored_embeddings(
    client: MilvusClient, info: CollectionInfo, fields: Sequence[str] = ("id",), filter: str = ""
) -> Iterator[tuple[list[dict[str, Any]], NDArray[np.float32]]]:
    """Read a collection's vectors in pages of at most `MESSAGE_BYTES`, whatever its size.

    Args:
        client: from `connect`.
        info: the collection.
        fields: what to read of each item beside its vector.
        filter: a Milvus expression; empty for everything.

    Yields:
        These fields of n items, and their vectors, (n, dimension) float32; of an ensemble each item's side by side.

    Raises:
        DatabaseError: Milvus failed.
    """
    page_rows = min(PAGE_ROWS, max(1, MESSAGE_BYTES // (4 * info.dimension)))
    for page in stored_items(client, info.name, filter, [*fields, *info.vector_fields], page_rows):
        yield page, take_vectors(info, page)


def read_embeddings(client: MilvusClient, info: CollectionInfo, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """All vectors of some items, in their order, in memory, made of length 1 if they are not; of an ensemble the cosine
    of two rows is the mean of the networks' cosines.

    Args:
        client: from `connect`.
        info: the collection.
        ids: (n,) of its items.

    Returns:
        (n, dimension) float32.

    Raises:
        DatabaseError: Milvus failed.
    """
    place = {int(each): row for row, each in enumerate(ids)}
    embeddings = np.zeros((len(ids), info.dimension), np.float32)
    for page, vectors in stored_embeddings(client, info):
        wanted = [row for row, each in enumerate(page) if each["id"] in place]
        embeddings[[place[page[row]["id"]] for row in wanted]] = vectors[wanted]
    parts = [unit_length(part) for part in by_field(info, embeddings).values()]
    return unit_length(np.concatenate(parts, axis=1))
