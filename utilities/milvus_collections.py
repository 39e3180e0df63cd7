"""Which collections there are, and what each says of itself."""

from __future__ import annotations

from utilities.collection_info import CollectionInfo
from utilities.errors import CollectionNotFound
from utilities.milvus_client import MilvusClient
from utilities.milvus_connection import milvus_errors


def describe_collection(client: MilvusClient, name: str) -> CollectionInfo:
    """What a collection says of itself.

    Raises:
        CollectionNotFound: no such collection, or not one of ours; the message says which there are.
        DatabaseError: Milvus failed.
    """
    with milvus_errors(f"describe the collection {name!r}"):
        if not client.has_collection(name):
            there = list_collections(client)
            hint = f"there are: {', '.join(there)}" if there else "`lookalike load DIR` makes the first"
            raise CollectionNotFound(f"There is no collection {name!r}; {hint}.")
        info = CollectionInfo.from_properties(name, client.describe_collection(name)["properties"])
    if info is None:
        raise CollectionNotFound(f"The collection {name!r} was not made by Lookalike; choose another name.")
    return info


def find_collection(client: MilvusClient, name: str) -> CollectionInfo | None:
    """What a collection says of itself; None if there is none of that name.

    Raises:
        CollectionNotFound: one that Lookalike did not make.
        DatabaseError: Milvus failed.
    """
    with milvus_errors(f"look for the collection {name!r}"):
        return describe_collection(client, name) if client.has_collection(name) else None


def list_collections(client: MilvusClient) -> list[str]:
    """Names of the collections that Lookalike made, sorted.

    Raises:
        DatabaseError: Milvus failed.
    """
    with milvus_errors("list the collections"):
        names = sorted(client.list_collections())
        return [
            name
            for name in names
            if CollectionInfo.from_properties(name, client.describe_collection(name)["properties"])
        ]


def note(client: MilvusClient, info: CollectionInfo) -> CollectionInfo:
    """Write what a collection is to say of itself.

    Raises:
        DatabaseError: Milvus failed.
    """
    with milvus_errors(f"change the properties of {info.name!r}"):
        client.alter_collection_properties(info.name, info.properties())
    return info
